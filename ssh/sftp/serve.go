package sftp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// Bounds of a connection. DefaultMaxHandles is also what limits@openssh.com reports.
const (
	DefaultMaxHandles = 256
	// maxData is the most that one READ gives or one WRITE takes, in bytes, as OpenSSH's server has it: what
	// is left of a packet after a generous header.
	maxData = MaxPacket - 1024
	// widenAfter bytes of WRITE make an upload a sustained one: half the window of a usual SSH channel.
	widenAfter = 1 << 20
	// maxOffset ends every file: 1 PiB. A client that writes one byte at 2^62 makes no use of it (SFTP-1).
	maxOffset = 1 << 50
)

// Options of Serve. The zero value serves with defaults.
type Options struct {
	Log *slog.Logger // nil: nowhere
	// MaxHandles is how many files and directories may be open at once; 0 means DefaultMaxHandles.
	MaxHandles int
	// Workers is how many requests that wait on something may run beside the packet loop; 0 means 8.
	Workers int
	// Widen is called at most once, from the goroutine of Serve, when an upload is sustained: time to let
	// the peer have more bytes on the way. Nil: nothing to widen.
	Widen func()
	// Buffers is shared between connections. Nil: this one's own.
	Buffers *Buffers
}

// errDisconnected is why what was open has been aborted at the end.
var errDisconnected = errors.New("client disconnected")

// Serve speaks SFTP on rwc for s until the peer ends the stream between two packets, which is no error, or
// ctx ends, which closes rwc, or a packet is malformed. Open files are aborted, as after a lost connection:
// a client that wants its upload kept closes it. Serve returns when nothing of it runs any more. It closes
// neither s nor, but for the end of ctx, rwc.
func Serve(ctx context.Context, rwc io.ReadWriteCloser, s *session.Session, opt Options) error {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.MaxHandles <= 0 {
		opt.MaxHandles = DefaultMaxHandles
	}
	if opt.Workers <= 0 {
		opt.Workers = 8
	}
	if opt.Buffers == nil {
		opt.Buffers = new(Buffers)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c := &conn{
		ctx:     ctx,
		cancel:  cancel,
		rwc:     rwc,
		s:       s,
		opt:     opt,
		log:     opt.Log,
		start:   s.StartDir(),
		in:      newInput(rwc, opt.Buffers),
		handles: make(map[handleID]*handle),
	}
	c.out.pool, c.out.send = opt.Buffers, c.send
	c.jobs.init(c)
	stop := context.AfterFunc(ctx, func() { rwc.Close() })
	err := c.loop()
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("sftp: %w", cause)
	}
	stop()
	c.end(err)
	return err
}

// conn is one SFTP session.
type conn struct {
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	rwc    io.ReadWriteCloser // read by the serve goroutine; written under wmu
	s      *session.Session
	opt    Options
	log    *slog.Logger
	start  vfs.Path

	// Owned by the serve goroutine.
	in       *input
	out      output
	packet   Packet  // of the request that is handled
	request  request // the same, with what it names looked up
	greeted  bool
	received int64 // bytes of WRITE
	widened  bool

	// fault ends the session: a job panicked or could not send. Set once with cancel.
	jobs jobs

	wmu sync.Mutex // held while rwc is written

	hmu      sync.Mutex // guards the fields below
	handles  map[handleID]*handle
	reserved int // handles of requests in progress

	queued atomic.Int32 // jobs that have not ended
}

// send writes packets to the peer.
func (c *conn) send(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, err := c.rwc.Write(b)
	return err
}

// loop reads packets and answers them, in order unless a request is slow. Replies are gathered until no
// complete request waits.
func (c *conn) loop() error {
	for {
		if err := c.in.fill(); err != nil {
			if err == io.EOF {
				return nil
			}
			if errors.Is(err, ErrMalformed) {
				return c.malformed(err)
			}
			return fmt.Errorf("sftp: read: %w", err)
		}
		for c.out.err == nil {
			b, err := c.in.next()
			if err != nil {
				return c.malformed(err)
			}
			if b == nil {
				break
			}
			if err := c.serve(b); err != nil {
				return err
			}
			if len(c.out.b) >= gatherSize {
				c.out.flush()
			}
		}
		c.out.flush()
		if c.out.err != nil {
			return fmt.Errorf("sftp: write: %w", c.out.err)
		}
		c.s.Touch()
	}
}

// malformed ends the session after a packet that makes no sense: what follows it makes none either. What was
// asked before gets its answer.
func (c *conn) malformed(err error) error {
	c.out.flush()
	c.log.Warn("sftp session ended", "reason", "malformed packet", "err", err)
	return fmt.Errorf("sftp: %w", err)
}

// serve handles one packet, inline or by a job. An error ends the session.
func (c *conn) serve(b []byte) error {
	q := &c.packet
	if err := Parse(b, q); err != nil {
		if hasID(q.Type) && len(b) >= 5 {
			st, _ := statusFor(err)
			c.out.status(q.ID, st)
		}
		return c.malformed(err)
	}
	if !c.greeted {
		if q.Type != TypeInit {
			return c.malformed(fmt.Errorf("%w: %s before INIT", ErrMalformed, q.Type))
		}
		c.greeted = true
		c.version()
		return nil
	}
	if q.Type == TypeInit || len(b) < 5 {
		return c.malformed(fmt.Errorf("%w: %s after INIT", ErrMalformed, q.Type))
	}
	r := &c.request
	*r = request{Packet: q, command: commandOf(q)}
	if err := c.lookUp(r); err != nil {
		c.fail(&c.out, r, err)
		return nil
	}
	if slow := c.slow(r); slow || c.queued.Load() > 0 && c.jobs.conflict(r) {
		c.out.flush() // whoever waits for these replies must not wait for the job
		return c.enqueue(r, b)
	}
	c.run(r, &c.out)
	if r.Type == TypeWrite {
		c.sustained(len(r.Data))
	}
	return nil
}

// run handles r and writes its one reply to w.
func (c *conn) run(r *request, w *output) {
	before := len(w.b)
	sent := w.flushes
	err := r.command.run(c, r, w)
	if err != nil {
		if w.flushes == sent {
			w.b = w.b[:before]
		}
		c.fail(w, r, err)
		return
	}
	if len(w.b) == before && w.flushes == sent {
		w.status(r.ID, success)
	}
}

// fail replies with the status for err. An error that has no status of its own is logged here, once.
func (c *conn) fail(w *output, r *request, err error) {
	if c.ctx.Err() != nil && errors.Is(err, c.ctx.Err()) {
		err = errSessionIsEnding
	}
	st, known := statusFor(err)
	if !known {
		c.log.Error("sftp request failed", "op", r.command.name, "path", r.name(), "err", err)
	}
	w.status(r.ID, st)
}

// end aborts what is open because of err, waits for the jobs and frees everything.
func (c *conn) end(err error) {
	cause := err
	if cause == nil {
		cause = errDisconnected
	}
	c.cancel(cause)
	c.hmu.Lock()
	open := c.handles
	c.handles = nil // no job adds to it any more
	c.hmu.Unlock()
	for _, h := range open {
		if h.file != nil {
			c.abort(h, cause)
		}
	}
	c.jobs.wait()
	for _, h := range open {
		if h.dir != nil {
			h.dir.stop()
		}
	}
	c.in.release()
	c.out.drop()
}

// abort ends a transfer that its client has not closed. The context is new: the connection's has ended, and
// what the upload mode says must still happen.
func (c *conn) abort(h *handle, cause error) {
	if err := h.file.Abort(context.WithoutCancel(c.ctx), cause); err != nil && !errors.Is(err, cause) {
		c.log.Error("sftp transfer could not be aborted cleanly", "path", h.path.String(), "err", err)
	}
}

// recovered turns a panic of a job into the end of its session (SSH-1). The serve goroutine has no such net:
// its caller has.
func (c *conn) recovered(r *request) {
	if p := recover(); p != nil {
		c.log.Error("sftp request panicked", "op", r.command.name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		c.cancel(fmt.Errorf("sftp: %s panicked", r.command.name))
	}
}

// handleID is a handle's name on the wire: random, so that it says nothing and none can be guessed (SFTP-1).
type handleID [16]byte

// handle is an open file or directory. Immutable but for what dir holds.
type handle struct {
	id   handleID
	file *session.Handle // nil for a directory
	dir  *dirStream      // owned by whoever runs a request on it; jobs keeps them apart
	path vfs.Path
}

// where is the path of the handle, which may have been renamed since.
func (h *handle) where() vfs.Path {
	if h.file != nil {
		return h.file.Path()
	}
	return h.path
}

// reserve takes room for one more handle; unreserve gives it back where none was added.
func (c *conn) reserve() error {
	c.hmu.Lock()
	defer c.hmu.Unlock()
	if len(c.handles)+c.reserved >= c.opt.MaxHandles {
		return errTooManyHandles
	}
	c.reserved++
	return nil
}

func (c *conn) unreserve() {
	c.hmu.Lock()
	c.reserved--
	c.hmu.Unlock()
}

// add gives h its name, in the room that reserve took. It fails once the session is ending.
func (c *conn) add(h *handle) error {
	rand.Read(h.id[:]) // never fails
	c.hmu.Lock()
	defer c.hmu.Unlock()
	c.reserved--
	if c.handles == nil {
		return errSessionIsEnding
	}
	c.handles[h.id] = h
	return nil
}

// handle finds an open handle.
func (c *conn) handle(name []byte) (*handle, error) {
	if len(name) != len(handleID{}) {
		return nil, errBadHandle
	}
	c.hmu.Lock()
	h := c.handles[handleID(name)]
	c.hmu.Unlock()
	if h == nil {
		return nil, errBadHandle
	}
	return h, nil
}

// forget makes h's name invalid.
func (c *conn) forget(h *handle) {
	c.hmu.Lock()
	delete(c.handles, h.id)
	c.hmu.Unlock()
}
