package ssh

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/ssh/command"
)

// killPatience is how long the peer of a killed channel has to confirm before its connection is cut.
const killPatience = 5 * time.Second

// channel is one session channel. With its subsystem it is a session of its own (protocols.md 1).
type channel struct {
	conn *conn // these are immutable
	ch   gossh.Channel
	id   string        // set by run before the session begins, under conn.mu
	done chan struct{} // closed when run has ended

	widened int64 // bytes of the window budget; owned by the goroutine of serve
}

// run answers the channel's requests until it is closed. The sftp subsystem or one enabled command is granted,
// once; no shell, pty, env, agent or X11 (SSH-7).
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
	var words []string // of a command
	protocol := protocolSFTP
	switch {
	case started:
	case r.Type == "subsystem" && nameIn(r.Payload) == "sftp":
		words = sftpWords
	case r.Type == "exec":
		words = h.command(nameIn(r.Payload))
		protocol = protocolOf(words)
	}
	if len(words) == 0 {
		r.Reply(false, nil)
		return false
	}
	h.rename(protocol)
	s, sctx, cancel, err := h.open(ctx, protocol)
	if err != nil {
		h.conn.log.Warn("session refused", "conn", h.id, "err", err)
		r.Reply(false, nil)
		h.ch.Close()
		return true
	}
	r.Reply(true, nil)
	h.conn.w.Flush()
	if r.Type == "exec" {
		serving.Go(func() { h.exec(sctx, cancel, s, words) }) // run waits for it
	} else {
		serving.Go(func() { h.serve(sctx, cancel, s) }) // the same
	}
	return true
}

// sftpWords stand for the subsystem.
var sftpWords = []string{"sftp"}

// nameIn is the one string of a subsystem or exec request.
func nameIn(payload []byte) string {
	var m struct{ Name string }
	if gossh.Unmarshal(payload, &m) != nil {
		return ""
	}
	return m.Name
}

func (h *channel) open(ctx context.Context, protocol string) (subsystem, context.Context, context.CancelCauseFunc, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	sc := h.conn.describe(h.id, protocol)
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

// exec is serve for a command.
func (h *channel) exec(ctx context.Context, cancel context.CancelCauseFunc, s subsystem, words []string) {
	c := h.conn
	defer c.recover()
	defer cancel(nil)
	defer s.close()
	status := s.exec(ctx, &stream{h.ch, c.w}, &errStream{h.ch.Stderr(), c.w}, words)
	h.ch.CloseWrite()
	h.ch.SendRequest("exit-status", false, gossh.Marshal(&struct{ Status uint32 }{status}))
	h.ch.Close()
	c.w.Flush()
}

// command splits the line of an exec request. It is nil for what is not enabled.
func (h *channel) command(line string) []string {
	words, err := command.Split(line)
	if err != nil {
		h.conn.log.Info("command refused", "conn", h.id, "err", err)
		return nil
	}
	if len(words) == 0 || !h.conn.srv.cfg.commandEnabled(words[0]) {
		h.conn.log.Info("command refused", "conn", h.id, "command", strings.Join(words[:min(1, len(words))], ""))
		return nil
	}
	return words
}

func protocolOf(words []string) string {
	if len(words) > 0 && words[0] == "scp" {
		return protocolSCP
	}
	return protocolSSH
}

// rename gives the channel the id of the protocol that it runs (protocols.md 1).
func (h *channel) rename(protocol string) {
	_, rest, _ := strings.Cut(h.id, "_")
	h.conn.mu.Lock()
	h.id = protocol + "_" + rest
	h.conn.mu.Unlock()
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

// errStream is a channel's standard error.
type errStream struct {
	io.Writer
	w *wire
}

func (s *errStream) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
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
