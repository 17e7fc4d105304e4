package sftpfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/gantryhq/gantry/vfs"
)

// chunk is what one READ or WRITE moves, in bytes: what every server takes.
const chunk = 32 << 10

// errLost says that the connection ended. What was asked may have been done or not.
var errLost = errors.New("sftpfs: the connection to the server is lost")

// packets hold what READ and WRITE move.
var packets = sync.Pool{New: func() any { b := make([]byte, 0, chunk+1<<10); return &b }}

// client speaks the protocol over one channel. Many requests are under way at once; nobody waits for another's.
// Safe for concurrent use.
type client struct {
	rw   io.ReadWriteCloser
	out  chan *[]byte  // to the writer; a packet is its own until it is sent
	done chan struct{} // closed when the channel has ended
	ext  map[string]string

	mu    sync.Mutex // guards the fields below
	next  uint32
	calls map[uint32]*call
	err   error // why done is closed
}

// call is one request under way. answer is called once, by the reader, and must not wait; it owns the packet.
type call struct{ answer func(reply) }

// reply is an answer: the packet's type and body, or what went wrong with the connection.
type reply struct {
	typ  byte
	body parser
	buf  *[]byte
	err  error
}

// free gives the packet back. The body is gone then.
func (r *reply) free() {
	if r.buf != nil {
		putPacket(r.buf)
		r.buf = nil
	}
}

func putPacket(b *[]byte) {
	if cap(*b) <= chunk+1<<10 {
		*b = (*b)[:0]
		packets.Put(b)
	}
}

// newClient begins the protocol on a channel, which it owns. The peer's answer is waited for until the channel
// is closed.
func newClient(rw io.ReadWriteCloser) (*client, error) {
	c := &client{rw: rw, out: make(chan *[]byte, 16), done: make(chan struct{}), calls: map[uint32]*call{}, ext: map[string]string{}}
	if _, err := rw.Write([]byte{0, 0, 0, 5, fxpInit, 0, 0, 0, 3}); err != nil {
		return nil, fmt.Errorf("sftpfs: %w", err)
	}
	typ, body, buf, err := c.readPacket()
	if err != nil {
		return nil, err
	}
	defer putPacket(buf)
	if v := body.u32(); typ != fxpVersion || v < 3 {
		return nil, fmt.Errorf("sftpfs: the server speaks version %d of SFTP, 3 is needed", v)
	}
	for len(body.b) > 0 && !body.bad && len(c.ext) < 64 {
		name := body.str()
		c.ext[name] = body.str()
	}
	go c.write()
	go c.read()
	return c, nil
}

// has reports whether the server offers an extension.
func (c *client) has(extension string) bool {
	_, ok := c.ext[extension]
	return ok
}

// write sends packets, until the channel ends.
func (c *client) write() {
	for {
		select {
		case b := <-c.out:
			_, err := c.rw.Write(*b)
			putPacket(b)
			if err != nil {
				c.fail(fmt.Errorf("%w: %w", errLost, err))
				return
			}
		case <-c.done:
			return
		}
	}
}

// read hands out answers, until the channel ends.
func (c *client) read() {
	for {
		typ, body, buf, err := c.readPacket()
		if err != nil {
			c.fail(err)
			return
		}
		id := body.u32()
		c.mu.Lock()
		k := c.calls[id]
		delete(c.calls, id)
		c.mu.Unlock()
		if k == nil || body.bad {
			putPacket(buf)
			c.fail(errMalformed)
			return
		}
		k.answer(reply{typ: typ, body: body, buf: buf})
	}
}

func (c *client) readPacket() (typ byte, body parser, buf *[]byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(c.rw, head[:]); err != nil {
		return 0, body, nil, fmt.Errorf("%w: %w", errLost, err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 5 || n > maxPacket {
		return 0, body, nil, errMalformed
	}
	buf = packets.Get().(*[]byte)
	if uint32(cap(*buf)) < n {
		packets.Put(buf)
		big := make([]byte, n)
		buf = &big
	}
	*buf = (*buf)[:n]
	if _, err := io.ReadFull(c.rw, *buf); err != nil {
		putPacket(buf)
		return 0, body, nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return (*buf)[0], parser{b: (*buf)[1:]}, buf, nil
}

// fail ends the channel and every call on it.
func (c *client) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	close(c.done)
	c.rw.Close()
	for _, k := range calls {
		k.answer(reply{err: err})
	}
}

// close ends the channel.
func (c *client) close() { c.fail(fmt.Errorf("%w: %w", errLost, fs.ErrClosed)) }

// begin makes a packet for a request; send gives it its id and sends it.
func begin(typ byte) (*[]byte, builder) {
	buf := packets.Get().(*[]byte)
	w := builder{b: append((*buf)[:0], 0, 0, 0, 0, typ, 0, 0, 0, 0)}
	return buf, w
}

// send starts a request. answer is called once, unless send gives an error.
// The packet is the client's. It waits for the connection to take it, until ctx ends.
func (c *client) send(ctx context.Context, buf *[]byte, w builder, answer func(reply)) error {
	*buf = w.b
	binary.BigEndian.PutUint32(w.b, uint32(len(w.b)-4))
	k := &call{answer}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		putPacket(buf)
		return c.err
	}
	c.next++
	id := c.next
	c.calls[id] = k
	c.mu.Unlock()
	binary.BigEndian.PutUint32(w.b[5:], id)
	select {
	case c.out <- buf:
		return nil
	case <-c.done:
		putPacket(buf)
		return nil // fail answers
	case <-ctx.Done():
		putPacket(buf)
		c.mu.Lock()
		mine := c.calls[id] == k
		delete(c.calls, id)
		c.mu.Unlock()
		if !mine {
			return nil // fail has answered
		}
		return ctx.Err()
	}
}

// ask sends a request and waits for its answer, which the caller frees.
func (c *client) ask(ctx context.Context, buf *[]byte, w builder) (reply, error) {
	got := make(chan reply, 1)
	if err := c.send(ctx, buf, w, func(r reply) { got <- r }); err != nil {
		return reply{}, err
	}
	select {
	case r := <-got:
		return r, r.err
	case <-ctx.Done():
		go func() { // the answer comes, or the connection's end
			r := <-got
			r.free()
		}()
		return reply{}, ctx.Err()
	}
}

// want turns an answer that is not of the type into an error.
func (r *reply) want(typ byte) error {
	switch {
	case r.err != nil:
		return r.err
	case r.typ == typ && typ != fxpStatus:
		return nil
	case r.typ == fxpStatus:
		err := r.body.status()
		if err == nil && typ != fxpStatus {
			return errMalformed
		}
		return err
	}
	return errMalformed
}

// do is a request whose answer is STATUS.
func (c *client) do(ctx context.Context, typ byte, build func(w *builder)) error {
	buf, w := begin(typ)
	build(&w)
	r, err := c.ask(ctx, buf, w)
	if err != nil {
		return err
	}
	defer r.free()
	return r.want(fxpStatus)
}

// extended is do for an extension, vfs.ErrUnsupported if the server does not offer it.
func (c *client) extended(ctx context.Context, name string, build func(w *builder)) error {
	if !c.has(name) {
		return fmt.Errorf("%w: the server does not offer %s", vfs.ErrUnsupported, name)
	}
	return c.do(ctx, fxpExtended, func(w *builder) {
		w.str(name)
		build(w)
	})
}

// attrs is a request whose answer is ATTRS.
func (c *client) attrs(ctx context.Context, typ byte, arg, name string) (vfs.FileInfo, error) {
	buf, w := begin(typ)
	w.str(arg)
	r, err := c.ask(ctx, buf, w)
	if err != nil {
		return vfs.FileInfo{}, err
	}
	defer r.free()
	if err := r.want(fxpAttrs); err != nil {
		return vfs.FileInfo{}, err
	}
	i := r.body.info(name)
	return i, r.body.err()
}

// handle is a request whose answer is HANDLE.
func (c *client) handle(ctx context.Context, typ byte, build func(w *builder)) (string, error) {
	buf, w := begin(typ)
	build(&w)
	got := make(chan reply, 1)
	if err := c.send(ctx, buf, w, func(r reply) { got <- r }); err != nil {
		return "", err
	}
	read := func(r reply) (string, error) {
		defer r.free()
		if err := r.want(fxpHandle); err != nil {
			return "", err
		}
		h := r.body.str()
		if r.body.bad || len(h) > maxHandle {
			return "", errMalformed
		}
		return h, nil
	}
	select {
	case r := <-got:
		return read(r)
	case <-ctx.Done():
		go func() { // what is opened for nobody must be closed
			if h, err := read(<-got); err == nil {
				c.closeHandle(h)
			}
		}()
		return "", ctx.Err()
	}
}

// closeHandle closes without waiting for the answer.
func (c *client) closeHandle(h string) {
	buf, w := begin(fxpClose)
	w.str(h)
	_ = c.send(context.Background(), buf, w, func(r reply) { r.free() }) // ends with the connection
}

// text is a request whose answer is NAME with one name.
func (c *client) text(ctx context.Context, typ byte, name string) (string, error) {
	buf, w := begin(typ)
	w.str(name)
	r, err := c.ask(ctx, buf, w)
	if err != nil {
		return "", err
	}
	defer r.free()
	if err := r.want(fxpName); err != nil {
		return "", err
	}
	if n := r.body.u32(); n != 1 {
		return "", errMalformed
	}
	s := r.body.str()
	return s, r.body.err()
}

// names asks for a piece of a directory. io.EOF is its end.
func (c *client) names(ctx context.Context, h string) ([]vfs.FileInfo, error) {
	buf, w := begin(fxpReaddir)
	w.str(h)
	r, err := c.ask(ctx, buf, w)
	if err != nil {
		return nil, err
	}
	defer r.free()
	if err := r.want(fxpName); err != nil {
		if s, ok := errors.AsType[*statusError](err); ok && s.code == fxEOF {
			return nil, io.EOF
		}
		return nil, err
	}
	return r.body.names()
}

// names reads the rest of NAME. An entry takes 12 bytes at the least.
func (r *parser) names() ([]vfs.FileInfo, error) {
	n := r.u32()
	if int64(n) > int64(len(r.b))/12+1 {
		return nil, errMalformed
	}
	list := make([]vfs.FileInfo, 0, n)
	for ; n > 0; n-- {
		name := r.str()
		r.bytes() // the long form
		i := r.info(name)
		if r.bad {
			return nil, errMalformed
		}
		list = append(list, i)
	}
	return list, nil
}
