package sftp_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh/sftp"
)

// raw is a client that sends packets as they are and reads replies one by one.
type raw struct {
	t    testing.TB
	conn net.Conn
	id   uint32
	done chan error
	in   chan *sftp.Packet       // what the server sent; closed at its end
	late map[uint32]*sftp.Packet // replies that were read while another was waited for
}

// newRaw serves s and has said INIT.
func newRaw(t testing.TB, s *session.Session) *raw {
	t.Helper()
	here, there := net.Pipe()
	c := &raw{t: t, conn: here, done: make(chan error, 1), in: make(chan *sftp.Packet, 10_000), late: map[uint32]*sftp.Packet{}}
	go c.receive() // ends with the pipe
	go func() {    // ends when the test closes the pipe
		c.done <- sftp.Serve(context.Background(), there, s, sftp.Options{})
		there.Close()
	}()
	t.Cleanup(func() {
		here.Close()
		<-c.done
	})
	c.write(sftp.Append(nil, &sftp.Packet{Type: sftp.TypeInit, Version: 3}))
	if p := c.read(); p.Type != sftp.TypeVersion || p.Version != 3 {
		t.Fatalf("got %s %d, want VERSION 3", p.Type, p.Version)
	}
	return c
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	c.conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// receive takes what the server sends, so that it never waits for the test.
func (c *raw) receive() {
	defer close(c.in)
	for {
		var n [4]byte
		if _, err := io.ReadFull(c.conn, n[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(n[:]))
		if _, err := io.ReadFull(c.conn, b); err != nil {
			return
		}
		p := new(sftp.Packet)
		if err := sftp.Parse(b, p); err != nil {
			c.t.Errorf("reply: %v", err)
			return
		}
		c.in <- p
	}
}

// read gives the next packet of the server.
func (c *raw) read() *sftp.Packet {
	c.t.Helper()
	select {
	case p := <-c.in:
		if p == nil {
			c.t.Fatal("the server ended the session")
		}
		return p
	case <-time.After(20 * time.Second):
		c.t.Fatal("no reply")
	}
	return nil
}

// send sends packets in one write and gives their ids.
func (c *raw) send(ps ...*sftp.Packet) []uint32 {
	c.t.Helper()
	var b []byte
	var ids []uint32
	for _, p := range ps {
		c.id++
		p.ID = c.id
		ids = append(ids, c.id)
		b = sftp.Append(b, p)
	}
	c.write(b)
	return ids
}

// reply waits for the answer to id.
func (c *raw) reply(id uint32) *sftp.Packet {
	c.t.Helper()
	for c.late[id] == nil {
		p := c.read()
		if c.late[p.ID] != nil {
			c.t.Fatalf("two replies to %d", p.ID)
		}
		c.late[p.ID] = p
	}
	p := c.late[id]
	delete(c.late, id)
	return p
}

// ask sends one packet and gives its reply.
func (c *raw) ask(p *sftp.Packet) *sftp.Packet {
	c.t.Helper()
	return c.reply(c.send(p)[0])
}

// ok asks and wants a STATUS of OK.
func (c *raw) ok(p *sftp.Packet) {
	c.t.Helper()
	c.want(sftp.CodeOK, p)
}

func (c *raw) want(code sftp.Code, p *sftp.Packet) {
	c.t.Helper()
	if r := c.ask(p); r.Type != sftp.TypeStatus || sftp.Code(r.Code) != code {
		c.t.Errorf("%s %s: got %s %d %q, want status %d", p.Type, p.Extension, r.Type, r.Code, r.Message, code)
	}
}

func (c *raw) open(name string, flags uint32) []byte {
	c.t.Helper()
	r := c.ask(&sftp.Packet{Type: sftp.TypeOpen, Path: []byte(name), Flags: flags})
	if r.Type != sftp.TypeHandle {
		c.t.Fatalf("open %q: %s %d %q", name, r.Type, r.Code, r.Message)
	}
	return r.Handle
}

func (c *raw) close(h []byte) { c.t.Helper(); c.ok(&sftp.Packet{Type: sftp.TypeClose, Handle: h}) }

// make writes a file.
func (c *raw) make(name, content string) {
	c.t.Helper()
	h := c.open(name, sftp.FlagWrite|sftp.FlagCreate|sftp.FlagTruncate)
	for off := 0; off < len(content); off += 100_000 {
		c.ok(writeTo(h, uint64(off), content[off:min(off+100_000, len(content))]))
	}
	c.close(h)
}

// content reads a file.
func (c *raw) content(name string) string {
	c.t.Helper()
	h := c.open(name, sftp.FlagRead)
	defer c.close(h)
	var out []byte
	for {
		r := c.ask(&sftp.Packet{Type: sftp.TypeRead, Handle: h, Offset: uint64(len(out)), Length: 1 << 16})
		if r.Type != sftp.TypeData {
			return string(out)
		}
		out = append(out, r.Data...)
	}
}

func writeTo(h []byte, off uint64, s string) *sftp.Packet {
	return &sftp.Packet{Type: sftp.TypeWrite, Handle: h, Offset: off, Data: []byte(s)}
}

func extended(name string, p sftp.Packet) *sftp.Packet {
	p.Type, p.Extension = sftp.TypeExtended, []byte(name)
	return &p
}
