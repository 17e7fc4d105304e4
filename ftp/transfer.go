package ftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// transfer is a data transfer in progress, on a goroutine of its own beside the control connection.
type transfer struct {
	name   string
	c      *conn
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the data connection and the file are done with
	bytes  atomic.Int64

	aborted bool   // by ABOR, which is owed a reply; owned by the connection's turn
	hello   string // of a 150 that goes out with the end; owned by the transfer's goroutine until it posts that

	mu   sync.Mutex // guards what follows
	data *engine.Stream
}

// abort ends the transfer from any goroutine.
func (x *transfer) abort(cause error) {
	x.cancel(cause)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.data != nil {
		x.data.Cut()
	}
}

// begin runs work beside the control connection, with what the transfer commands have set. Its error is answered.
func (c *conn) begin(verb string, writing bool, work func(ctx context.Context, x *transfer) error) error {
	whole := c.context()
	ctx, cancel := context.WithCancelCause(whole)
	x := &transfer{name: verb, c: c, cancel: cancel, done: make(chan struct{})}
	c.x = x
	c.offset, c.ranged, c.allo = 0, false, 0
	c.srv.engine.Go(func() { // Closed waits for it
		err := x.run(ctx, work)
		if cause := context.Cause(ctx); err != nil && cause != nil && whole.Err() == nil {
			err = cause
		}
		if _, ok := errors.AsType[net.Error](err); ok && !answered(err) {
			err = fmt.Errorf("%w: %w", errAborted, err)
		}
		cancel(nil)
		close(x.done)
		c.post(func() engine.Verdict {
			c.x, c.source = nil, nil
			if x.hello != "" {
				c.reply(150, x.hello)
			}
			if err != nil {
				c.failed(verb, err, writing)
			} else {
				c.reply(226, "Transfer complete")
			}
			if x.aborted {
				c.reply(226, "ABOR command successful")
			}
			return c.goOn()
		})
	})
	return nil
}

// run stands at the boundary: a panic ends the transfer.
func (x *transfer) run(ctx context.Context, work func(ctx context.Context, x *transfer) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			x.c.log().Error("panic", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = errors.New("ftp: internal error")
		}
	}()
	return work(ctx, x)
}

// answered reports whether err has a reply of its own.
func answered(err error) bool {
	_, _, known := replyFor(err, false)
	return known
}

// smallSize is what a transfer may have, in bytes, to be done before its 150 is said: it fits into any socket, so that
// it does not wait for its peer.
const smallSize = 8 << 10

// connect says 150, makes the data connection and gives it to abort's hand. If the connection is there already, 150 of
// a small transfer goes out together with its end: each reply by itself costs as much as the transfer does.
func (c *conn) connect(ctx context.Context, x *transfer, src source, private, small bool, text string) (*engine.Stream, error) {
	if src == nil {
		return nil, errNoSource
	}
	nc := src.try()
	if x.hello = text; nc == nil || !small || private {
		x.say()
	}
	l, err := c.openData(ctx, src, nc, private)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	x.data = l
	x.mu.Unlock()
	if ctx.Err() != nil {
		x.abort(nil)
	}
	return l, nil
}

// say says 150 if that has not been done.
func (x *transfer) say() {
	if x.hello == "" {
		return
	}
	text := x.hello
	x.hello = ""
	x.c.post(func() engine.Verdict {
		x.c.reply(150, text)
		return engine.Keep()
	})
}

// take gives the data source to a transfer.
func (c *conn) take() source {
	s := c.source
	c.source = nil
	return s
}

func (c *conn) retr(_ context.Context, arg string) error {
	p, err := c.resolve(arg)
	if err != nil {
		c.dropSource()
		return err
	}
	src, off, last, ranged, how := c.take(), c.offset, c.last, c.ranged, c.wire()
	return c.begin("RETR", false, func(ctx context.Context, x *transfer) error {
		if src != nil {
			defer src.close()
		}
		h, err := c.s.OpenFile(ctx, p, session.Flags{Read: true, Offset: off})
		if err != nil {
			return err
		}
		err = c.send(ctx, x, h, src, off, last, ranged, how)
		if err != nil {
			h.Abort(context.WithoutCancel(ctx), err)
			return err
		}
		return h.Close(ctx)
	})
}

func (c *conn) send(ctx context.Context, x *transfer, h *session.Handle, src source, off, last int64, ranged bool, how wire) error {
	i, err := h.Opened(ctx)
	if err != nil {
		return err
	}
	if off > i.Size && !ranged {
		return fail(554, "The restart point is past the end")
	}
	n := int64(-1)
	if ranged {
		n = last - off + 1
	}
	size := max(0, i.Size-off)
	small := size <= smallSize && how == wire{} && n < 0
	l, err := c.connect(ctx, x, src, how.private, small, "Opening data connection ("+strconv.FormatInt(size, 10)+" bytes)")
	if err != nil {
		return err
	}
	defer l.Cut()
	switch {
	case small:
		err = sendSmall(l, h, off, size, x)
	case how.deflate > 0:
		d := c.srv.deflaters.deflater(l, how.deflate)
		err = sendThrough(d, h, off, n, how.ascii, x)
		err = errors.Join(err, c.srv.deflaters.finish(d, how.deflate))
	case how.ascii:
		err = sendThrough(l, h, off, n, true, x)
	default:
		if n < 0 {
			n = size
		}
		_, err = l.Send(h, off, n, func(n int) { x.bytes.Add(int64(n)) })
	}
	if err != nil {
		return lost(err)
	}
	return lost(l.Finish())
}

// wire is how a transfer's bytes look on the data connection.
type wire struct {
	ascii, private bool
	deflate        int // the level of MODE Z, 0 in MODE S
}

func (c *conn) wire() wire {
	w := wire{ascii: c.ascii, private: c.private}
	if c.deflates {
		w.deflate = int(c.level)
	}
	return w
}

// sendSmall sends what one write and the goodbye carry together.
func sendSmall(l *engine.Stream, h io.ReaderAt, off, size int64, x *transfer) error {
	buf, give := engine.Buffer()
	defer give()
	n, err := h.ReadAt(buf[:size], off)
	if err != nil && err != io.EOF { // the file may have become shorter
		return err
	}
	m, err := l.WriteLast(buf[:n])
	x.bytes.Add(int64(m))
	return err
}

// lost makes an error of the network that of an aborted transfer.
func lost(err error) error {
	if _, ok := errors.AsType[net.Error](err); ok {
		return fmt.Errorf("%w: %w", errAborted, err)
	}
	return err
}

// sendThrough sends a file whose bytes are changed on their way, n of them or to its end if n is negative.
func sendThrough(l io.Writer, h io.ReaderAt, off, n int64, ascii bool, x *transfer) error {
	buf, give := engine.Buffer()
	defer give()
	var text []byte
	var before byte
	for n != 0 {
		b := buf
		if n > 0 {
			b = b[:min(n, int64(len(b)))]
		}
		m, rerr := h.ReadAt(b, off)
		b = b[:m]
		if ascii {
			text, before = toNetwork(text[:0], b, before)
			b = text
		}
		if len(b) > 0 {
			if _, err := l.Write(b); err != nil {
				return err
			}
		}
		off += int64(m)
		if n > 0 {
			n -= int64(m)
		}
		x.bytes.Add(int64(m))
		if rerr == io.EOF || rerr == nil && m == 0 {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
	return nil
}

func (c *conn) stor(_ context.Context, arg string) error {
	return c.store("STOR", arg, session.Flags{Truncate: c.offset == 0})
}

func (c *conn) appe(_ context.Context, arg string) error {
	c.offset = 0
	return c.store("APPE", arg, session.Flags{Append: true})
}

func (c *conn) store(verb, arg string, f session.Flags) error {
	p, err := c.resolve(arg)
	if err == nil && c.ranged {
		err = fail(501, "RANG is for RETR")
	}
	if err != nil {
		c.dropSource()
		return err
	}
	f.Write, f.Create = true, true
	f.Offset, f.Size = c.offset, -1
	src, allo, how := c.take(), c.allo, c.wire()
	if allo > 0 && !how.ascii {
		f.Size = f.Offset + allo
	}
	return c.begin(verb, true, func(ctx context.Context, x *transfer) error {
		if src != nil {
			defer src.close()
		}
		h, err := c.s.OpenFile(ctx, p, f)
		if err != nil {
			return err
		}
		text := "Opening data connection"
		if verb == "STOU" {
			text = "FILE: " + p.Base() // RFC 1123 4.1.2.9
		}
		err = c.receive(ctx, x, h, src, f, allo, how, text)
		if err == nil {
			err = context.Cause(ctx) // ABOR, or the control connection has gone
		}
		if err != nil {
			h.Abort(context.WithoutCancel(ctx), err)
			return err
		}
		return h.Close(ctx)
	})
}

func (c *conn) receive(ctx context.Context, x *transfer, h *session.Handle, src source, f session.Flags, allo int64, how wire, text string) error {
	l, err := c.connect(ctx, x, src, how.private, false, text)
	if err != nil {
		return err
	}
	defer l.Cut()
	in := c.srv.intakes.Begin()
	defer in.End()
	defer l.ReadAhead()()
	off := f.Offset
	if f.Append {
		if i, err := h.Stat(ctx); err == nil {
			off = i.Size
		}
	}
	var conv fromNetwork
	var plain []byte
	write := func(p []byte) error {
		if len(p) == 0 {
			return nil
		}
		n, err := h.WriteAt(p, off)
		off += int64(n)
		x.bytes.Add(int64(n))
		return err
	}
	var from interface{ Fill(p []byte) (int, error) } = l
	if how.deflate > 0 {
		from = newInflater(l)
	}
	for {
		buf := in.Buffer()
		buf = buf[:min(len(buf), h.Chunk())]
		n, rerr := from.Fill(buf)
		p := buf[:n]
		if how.ascii {
			plain = conv.convert(plain[:0], p)
			if rerr == io.EOF {
				plain = conv.end(plain)
			}
			p = plain
		}
		if err := write(p); err != nil {
			return err
		}
		in.Took(n)
		switch {
		case rerr == nil:
			continue
		case errors.Is(rerr, engine.ErrTruncated) && c.srv.cfg.AllowTruncatedTLS:
		case errors.Is(rerr, engine.ErrTruncated):
			return rerr
		case errors.Is(rerr, errDeflate):
			return rerr
		case rerr != io.EOF:
			return fmt.Errorf("%w: %w", errAborted, rerr)
		}
		if allo > 0 && !how.ascii && x.bytes.Load() < allo {
			return errIncomplete
		}
		l.Finish()
		return nil
	}
}

// list streams a listing: format appends one entry.
func (c *conn) list(verb, arg string, list func(ctx context.Context, put func([]byte) error) error) error {
	src, how := c.take(), c.wire()
	return c.begin(verb, false, func(ctx context.Context, x *transfer) error {
		if src != nil {
			defer src.close()
		}
		var l *engine.Stream
		buf, give := engine.Buffer()
		defer give()
		b := buf[:0]
		var out io.Writer
		var d *deflater
		open := func(whole bool) (err error) {
			if l != nil {
				return nil
			}
			small := whole && len(b) <= smallSize && how.deflate == 0
			if l, err = c.connect(ctx, x, src, how.private, small, "Here comes the listing"); err != nil {
				return err
			}
			if out = l; how.deflate > 0 {
				d = c.srv.deflaters.deflater(l, how.deflate)
				out = d
			}
			return nil
		}
		err := list(ctx, func(line []byte) error {
			if len(b)+len(line) > 64<<10 {
				if err := open(false); err != nil {
					return err
				}
				if _, err := out.Write(b); err != nil {
					return lost(err)
				}
				b = b[:0]
			}
			b = append(b, line...)
			return nil
		})
		if err == nil {
			err = open(true)
		}
		if l != nil {
			defer l.Cut()
		}
		if err != nil {
			return err
		}
		if len(b) > 0 && d == nil {
			if _, err := l.WriteLast(b); err != nil {
				return lost(err)
			}
		}
		if d != nil {
			if _, err := d.Write(b); err != nil {
				return lost(err)
			}
			if err := c.srv.deflaters.finish(d, how.deflate); err != nil {
				return lost(err)
			}
		}
		return lost(l.Finish())
	})
}

// abor ends a transfer: 426 for it, 226 for ABOR (RFC 959 4.1.3).
func (c *conn) abor(context.Context, string) error {
	if c.x != nil {
		c.x.aborted, c.waits = true, true
		c.x.abort(errAborted)
		return nil
	}
	c.dropSource()
	return c.reply(226, "ABOR command successful")
}

// each yields the entries of what a listing names: a directory, a file, or the names in a directory that match.
func (c *conn) each(ctx context.Context, arg string, yield func(name string, i *vfs.FileInfo) error) error {
	dirName, pattern, globbed := splitGlob(arg)
	dir, err := c.resolve(dirName)
	if err != nil {
		return err
	}
	if !globbed && arg != "" {
		if i, err := c.s.Lstat(ctx, dir); err == nil && !i.IsDir() {
			if t, err := c.s.Stat(ctx, dir); err != nil || !t.IsDir() {
				i.Name = dir.Base()
				return yield(arg, &i)
			}
		}
	}
	var i vfs.FileInfo // one for all: its address goes to yield
	for info, err := range c.s.List(ctx, dir) {
		i = info
		if err != nil {
			if i.Name != "" {
				continue
			}
			return err
		}
		name := i.Name
		if globbed {
			if !match(pattern, name) {
				continue
			}
			name = dirName + name
		}
		if err := yield(name, &i); err != nil {
			return err
		}
	}
	return nil
}
