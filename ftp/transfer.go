package ftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// chunkSize is what is moved at once, in bytes.
const chunkSize = 256 << 10

// transfer is a data transfer in progress. Its goroutine writes the replies; run looks after the control connection.
type transfer struct {
	name   string
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the last reply is written
	bytes  atomic.Int64

	mu   sync.Mutex // guards what follows
	data net.Conn

	// Owned by run: the command that waits for the end of the transfer.
	behind    bool
	verb, arg string
}

// abort ends the transfer from any goroutine.
func (x *transfer) abort(cause error) {
	x.cancel(cause)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.data != nil {
		x.data.Close()
	}
}

func (x *transfer) isDone() bool {
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

// begin runs work beside the control connection, with what the transfer commands have set. Its error is answered.
func (c *conn) begin(verb string, writing bool, work func(ctx context.Context, x *transfer) error) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	x := &transfer{name: verb, cancel: cancel, done: make(chan struct{})}
	c.x = x
	c.offset, c.ranged, c.allo = 0, false, 0
	go func() { // endTransfer or end waits for it
		defer func() {
			if r := recover(); r != nil {
				c.log.Error("panic", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
				c.cancel(errors.New("ftp: internal error"))
			}
			cancel(nil)
			close(x.done)
			c.poke() // after it, so that whoever wakes sees the end
		}()
		err := work(ctx, x)
		if err == nil {
			c.reply(226, "Transfer complete")
			return
		}
		if cause := context.Cause(ctx); cause != nil && c.ctx.Err() == nil {
			err = cause
		}
		if _, ok := errors.AsType[net.Error](err); ok && !answered(err) {
			err = fmt.Errorf("%w: %w", errAborted, err)
		}
		c.failed(verb, err, writing)
	}()
	return nil
}

// answered reports whether err has a reply of its own.
func answered(err error) bool {
	_, _, known := replyFor(err, false)
	return known
}

// endTransfer takes up what waited behind the transfer.
func (c *conn) endTransfer() {
	x := c.x
	c.x = nil
	c.source = nil
	if x.behind {
		c.next = &[2]string{x.verb, x.arg}
	}
}

// connect says 150, makes the data connection and gives it to abort's hand.
func (c *conn) connect(ctx context.Context, x *transfer, src source, private bool, text string) (*link, error) {
	if err := c.reply(150, text); err != nil {
		return nil, err
	}
	l, err := c.openData(ctx, src, private)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	x.data = l.Conn
	if l.wire != nil {
		x.data = l.wire.Conn // close_notify would wait for a peer that does not read
	}
	x.mu.Unlock()
	if ctx.Err() != nil {
		x.abort(nil)
	}
	return l, nil
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
	src, off, last, ranged, ascii, private := c.take(), c.offset, c.last, c.ranged, c.ascii, c.private
	return c.begin("RETR", false, func(ctx context.Context, x *transfer) error {
		if src != nil {
			defer src.close()
		}
		h, err := c.s.OpenFile(ctx, p, session.Flags{Read: true, Offset: off})
		if err != nil {
			return err
		}
		err = c.send(ctx, x, h, src, off, last, ranged, ascii, private)
		if err != nil {
			h.Abort(context.WithoutCancel(ctx), err)
			return err
		}
		return h.Close(ctx)
	})
}

func (c *conn) send(ctx context.Context, x *transfer, h *session.Handle, src source, off, last int64, ranged, ascii, private bool) error {
	i, err := h.Stat(ctx)
	if err != nil {
		return err
	}
	if off > i.Size && !ranged {
		return fail(554, "The restart point is past the end")
	}
	l, err := c.connect(ctx, x, src, private, fmt.Sprintf("Opening data connection (%d bytes)", max(0, i.Size-off)))
	if err != nil {
		return err
	}
	defer l.Conn.Close()
	buf := c.srv.buffers.Get().(*[]byte)
	defer c.srv.buffers.Put(buf)
	var text []byte
	var before byte
	for !ranged || off <= last {
		b := *buf
		if ranged && int64(len(b)) > last-off+1 {
			b = b[:last-off+1]
		}
		n, rerr := h.ReadAt(b, off)
		out := b[:n]
		if ascii {
			text, before = toNetwork(text[:0], out, before)
			out = text
		}
		if len(out) > 0 {
			if _, err := l.Write(out); err != nil {
				return fmt.Errorf("%w: %w", errAborted, err)
			}
		}
		off += int64(n)
		x.bytes.Add(int64(n))
		if rerr == io.EOF || rerr == nil && n == 0 {
			break
		}
		if rerr != nil {
			return rerr
		}
	}
	if err := l.finish(); err != nil {
		return fmt.Errorf("%w: %w", errAborted, err)
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
	src, allo, ascii, private := c.take(), c.allo, c.ascii, c.private
	if allo > 0 && !ascii {
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
		err = c.receive(ctx, x, h, src, f, allo, ascii, private, text)
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

func (c *conn) receive(ctx context.Context, x *transfer, h *session.Handle, src source, f session.Flags, allo int64, ascii, private bool, text string) error {
	l, err := c.connect(ctx, x, src, private, text)
	if err != nil {
		return err
	}
	defer l.Conn.Close()
	buf := c.srv.buffers.Get().(*[]byte)
	defer c.srv.buffers.Put(buf)
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
	for {
		b := *buf
		n, rerr := 0, error(nil)
		for rerr == nil && n < len(b) { // TLS gives 16 KiB at a time
			var m int
			m, rerr = l.Read(b[n:])
			n += m
			if l.tls == nil || m < 16<<10 {
				break
			}
		}
		p := b[:n]
		if ascii {
			plain = conv.convert(plain[:0], p)
			if rerr == io.EOF {
				plain = conv.end(plain)
			}
			p = plain
		}
		if err := write(p); err != nil {
			return err
		}
		switch {
		case rerr == nil:
			continue
		case rerr == errTruncated && c.srv.cfg.AllowTruncatedTLS:
		case rerr != io.EOF:
			if errors.Is(rerr, errTruncated) {
				return rerr
			}
			return fmt.Errorf("%w: %w", errAborted, rerr)
		}
		if allo > 0 && !ascii && x.bytes.Load() < allo {
			return errIncomplete
		}
		l.finish()
		return nil
	}
}

// list streams a listing: format appends one entry.
func (c *conn) list(verb, arg string, list func(ctx context.Context, put func([]byte) error) error) error {
	src, private := c.take(), c.private
	return c.begin(verb, false, func(ctx context.Context, x *transfer) error {
		if src != nil {
			defer src.close()
		}
		var l *link
		buf := c.srv.buffers.Get().(*[]byte)
		defer c.srv.buffers.Put(buf)
		b := (*buf)[:0]
		open := func() (err error) {
			if l == nil {
				l, err = c.connect(ctx, x, src, private, "Here comes the listing")
			}
			return err
		}
		err := list(ctx, func(line []byte) error {
			if len(b)+len(line) > 64<<10 {
				if err := open(); err != nil {
					return err
				}
				if _, err := l.Write(b); err != nil {
					return fmt.Errorf("%w: %w", errAborted, err)
				}
				b = b[:0]
			}
			b = append(b, line...)
			return nil
		})
		if err == nil {
			err = open()
		}
		if l != nil {
			defer l.Conn.Close()
		}
		if err != nil {
			return err
		}
		if len(b) > 0 {
			if _, err := l.Write(b); err != nil {
				return fmt.Errorf("%w: %w", errAborted, err)
			}
		}
		if err := l.finish(); err != nil {
			return fmt.Errorf("%w: %w", errAborted, err)
		}
		return nil
	})
}

// abor ends a transfer: 426 for it, 226 for ABOR (RFC 959 4.1.3).
func (c *conn) abor(context.Context, string) error {
	if c.x != nil {
		c.x.abort(errAborted)
		<-c.x.done
		c.endTransfer()
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
	for i, err := range c.s.List(ctx, dir) {
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
