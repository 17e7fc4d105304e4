package ssh

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// killPatience is how long the peer of a killed channel has to confirm before its connection is cut.
const killPatience = 5 * time.Second

// channel is one session channel. With its subsystem it is a session of its own (protocols.md 1).
type channel struct {
	conn *conn // these are immutable
	ch   gossh.Channel
	id   string
	done chan struct{} // closed when run has ended

	widened int64 // bytes of the window budget; owned by the goroutine of serve
}

// run answers the channel's requests until it is closed. Only the sftp subsystem is granted, once; no shell,
// exec, pty, env, agent or X11 (SSH-7).
func (h *channel) run(ctx context.Context, reqs <-chan *gossh.Request) {
	var serving sync.WaitGroup
	defer close(h.done)
	defer h.conn.ended(h)
	defer serving.Wait()
	defer h.conn.recover()
	started := false
	for r := range reqs {
		started = h.request(ctx, r, started, &serving) || started
		h.conn.w.Flush()
	}
}

// request answers one request and reports whether it started the session.
func (h *channel) request(ctx context.Context, r *gossh.Request, started bool, serving *sync.WaitGroup) bool {
	if r.Type != "subsystem" || started || subsystemName(r.Payload) != "sftp" {
		r.Reply(false, nil)
		return false
	}
	s, sctx, cancel, err := h.open(ctx)
	if err != nil {
		h.conn.log.Warn("session refused", "conn", h.id, "err", err)
		r.Reply(false, nil)
		h.ch.Close()
		return true
	}
	r.Reply(true, nil)
	h.conn.w.Flush()
	serving.Go(func() { h.serve(sctx, cancel, s) }) // run waits for it
	return true
}

func subsystemName(payload []byte) string {
	var m struct{ Name string }
	if gossh.Unmarshal(payload, &m) != nil {
		return ""
	}
	return m.Name
}

func (h *channel) open(ctx context.Context) (subsystem, context.Context, context.CancelCauseFunc, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	sc := h.conn.describe(h.id, protocolSFTP)
	sc.Kill = func(reason error) {
		cancel(reason)
		h.kill(reason)
	}
	s, err := h.conn.srv.backend.open(ctx, h.conn.login, sc)
	if err != nil {
		cancel(err)
		return nil, nil, nil, err
	}
	return s, ctx, cancel, nil
}

// serve runs the session and closes the channel after it. Its frame lies below an idle session's for hours:
// what it needs before and after stands elsewhere.
func (h *channel) serve(ctx context.Context, cancel context.CancelCauseFunc, s subsystem) {
	defer h.unwiden()
	defer h.conn.recover()
	defer cancel(nil)
	defer s.close()
	h.conn.w.Gather()
	h.finished(s.serve(ctx, &stream{h.ch, h.conn.w}, h.widen))
}

// finished tells the peer how its session ended.
func (h *channel) finished(err error) {
	c := h.conn
	status := struct{ Status uint32 }{0}
	if err != nil && !errors.Is(err, io.EOF) {
		c.log.Debug("session ended", "conn", h.id, "err", err)
		status.Status = 1
	}
	h.ch.SendRequest("exit-status", false, gossh.Marshal(&status))
	h.ch.Close()
	c.w.Flush()
}

// unwiden gives the budget back what widen took.
func (h *channel) unwiden() {
	if h.widened > 0 {
		h.conn.srv.window.give(h.widened)
	}
}

// widen is called by SFTP when an upload is sustained.
func (h *channel) widen() {
	c := h.conn
	if h.widened > 0 || c.rtt < widenFrom || !c.srv.window.take(widenBy) {
		return
	}
	if !widen(h.ch, widenBy) {
		c.srv.window.give(widenBy)
		return
	}
	h.widened = widenBy
	c.w.Flush()
	c.log.Debug("window widened", "conn", h.id, "bytes", widenBy, "rtt", c.rtt)
}

// kill ends the channel; the connection with it if this is its only one, or if the peer does not confirm.
func (h *channel) kill(reason error) {
	if len(h.conn.sessionIDs()) <= 1 {
		h.conn.close(reason)
		return
	}
	h.ch.Close()
	h.conn.w.Flush()
	time.AfterFunc(killPatience, func() {
		select {
		case <-h.done:
		default:
			h.conn.close(reason)
		}
	})
}

// stream is a channel whose writes leave in one piece. Close ends both directions for this side.
type stream struct {
	gossh.Channel
	w *wire
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.Channel.Write(p)
	if ferr := s.w.Flush(); err == nil {
		err = ferr
	}
	return n, err
}

func (s *stream) Close() error {
	err := s.Channel.Close()
	s.w.Flush()
	return err
}
