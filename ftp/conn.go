package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// protocol is FTP's name in records, logs and events.
const protocol = "FTP"

// Bounds of a connection.
const (
	writeWait     = 30 * time.Second // for a reply to be taken
	handshakeWait = 10 * time.Second
	commandWait   = 10 * time.Minute // for a command without transfer
	byeWait       = 5 * time.Second
	maxTries      = 3 // of PASS (RFC 2577 5)
)

// conn is one control connection.
type conn struct {
	srv           *Server // these are immutable
	b             *binding
	nc            net.Conn
	remote, local netip.AddrPort
	id            string
	log           *slog.Logger
	ctx           context.Context
	cancel        context.CancelCauseFunc
	begun         time.Time

	// Owned by run.
	in       lines
	r        io.Reader
	tlsConf  *tls.Config
	secure   bool
	user     string
	client   string
	tries    int
	login    *session.Login
	s        *session.Session
	cwd      vfs.Path
	start    vfs.Path
	ascii    bool
	pbsz     bool
	private  bool // PROT P
	epsvAll  bool
	offset   int64 // of REST
	ranged   bool  // RANG has set offset and last
	last     int64 // last byte of RANG, inclusive
	allo     int64
	from     *vfs.Path // of RNFR
	copyFrom *vfs.Path // of SITE CPFR
	facts    facts
	hash     string
	source   source // of the next data connection
	quit     bool

	x    *transfer  // nil when idle; owned by run
	next *[2]string // verb and argument that waited behind a transfer

	wmu sync.Mutex // held while w is written; guards w
	w   io.Writer

	draining atomic.Bool
	killed   atomic.Pointer[error]
}

func newConn(s *Server, b *binding, nc net.Conn) *conn {
	c := &conn{
		srv: s, b: b, nc: nc, remote: addrOf(nc.RemoteAddr()), local: addrOf(nc.LocalAddr()),
		id: fmt.Sprintf("%s_%d_%d", protocol, b.index, s.count.Add(1)), begun: time.Now(),
		r: nc, w: nc, facts: factsDefault, hash: "SHA-256",
	}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.log = s.log.With("proto", protocol, "conn", c.id, "remote", c.remote.Addr().String())
	return c
}

func addrOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// run serves the connection to its end.
func (c *conn) run() {
	defer c.nc.Close()
	defer c.cancel(nil)
	defer context.AfterFunc(c.ctx, func() { c.nc.Close() })()
	defer c.recover()
	if c.srv.gate != nil {
		release, err := c.srv.gate.Admit(c.ctx, c.remote.Addr())
		if err != nil {
			c.log.Warn("connection refused", "err", err)
			c.reply(500, "Connection refused")
			return
		}
		defer release()
	}
	err := c.serve()
	c.end(err)
}

// end sees a transfer and the session out.
func (c *conn) end(err error) {
	if x := c.x; x != nil {
		x.abort(errControl)
		<-x.done
		c.x = nil
	}
	c.dropSource()
	if t, ok := c.r.(*tls.Conn); ok && c.ctx.Err() == nil {
		c.nc.SetWriteDeadline(time.Now().Add(byeWait))
		t.CloseWrite()
	}
	if c.s != nil {
		c.s.Close()
		return
	}
	if c.tries == 0 {
		if err == nil {
			err = errors.New("left without a login")
		}
		c.srv.sessions.Abandoned(c.describe(), "", nil, err)
	}
}

func (c *conn) describe() session.Conn {
	return session.Conn{ID: c.id, Protocol: protocol, Remote: c.remote, Local: c.local, Client: c.client, Kill: c.kill}
}

// kill ends the connection from any goroutine, with a last reply if the peer takes it.
func (c *conn) kill(reason error) {
	if reason == nil {
		reason = errShutdown
	}
	if c.killed.CompareAndSwap(nil, &reason) {
		c.poke()
		time.AfterFunc(byeWait, func() { c.cancel(reason) })
	}
}

// drain has the connection end once it is idle.
func (c *conn) drain() {
	c.draining.Store(true)
	c.poke()
}

// poke wakes run from its read.
func (c *conn) poke() { c.nc.SetReadDeadline(time.Unix(1, 0)) }

// ending is why the connection must end now, or nil.
func (c *conn) ending() error {
	if e := c.killed.Load(); e != nil {
		return *e
	}
	if c.draining.Load() && c.x == nil {
		return errShutdown
	}
	return nil
}

func (c *conn) serve() error {
	if c.b.TLSMode == 2 {
		if err := c.startTLS(); err != nil {
			return err
		}
		c.private, c.pbsz = true, true
	}
	if err := c.reply(220, c.srv.banner); err != nil {
		return err
	}
	for !c.quit || c.x != nil {
		verb, arg, err := c.command()
		if err != nil {
			if errors.Is(err, errLineTooLong) {
				c.reply(500, "Command line too long")
			}
			return err
		}
		if verb == "" {
			continue
		}
		if isHTTP(verb) {
			return fmt.Errorf("ftp: the peer speaks HTTP: %s", verb) // FTP-6
		}
		if err := c.handle(verb, arg); err != nil {
			return err
		}
	}
	return nil
}

// command waits for the next command that may run now: any when idle; while a transfer runs those that are made for
// that. An empty verb means that there is none yet.
func (c *conn) command() (verb, arg string, err error) {
	if c.x != nil {
		select {
		case <-c.x.done:
			c.endTransfer()
			return "", "", nil
		default:
		}
	}
	if err := c.ending(); err != nil {
		c.reply(421, "Service closing the connection")
		return "", "", err
	}
	if n := c.next; n != nil {
		c.next = nil
		return n[0], n[1], nil
	}
	if c.x == nil || !c.x.behind {
		line, ok, err := c.in.next()
		if errors.Is(err, errBadLine) {
			c.reply(501, "The command has bytes that cannot stand in it")
			return "", "", nil
		}
		if err != nil {
			return "", "", err
		}
		if ok {
			verb, arg = parseCommand(line)
			if c.b.Debug {
				c.debug(verb, arg)
			}
			if c.x == nil || verb == "NOOP" || verb == "STAT" && arg == "" || verb == "ABOR" {
				return verb, arg, nil
			}
			c.x.behind, c.x.verb, c.x.arg = true, verb, arg // its turn comes after the transfer
			return "", "", nil
		}
	}
	return "", "", c.fill()
}

// fill reads more of the peer's bytes, or waits for what ends the wait: the end of the transfer, a kill, a deadline.
func (c *conn) fill() error {
	room := c.in.room()
	if len(room) == 0 { // a transfer runs and a whole line waits behind it
		select {
		case <-c.x.done:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
		return nil
	}
	deadline := time.Time{}
	if c.s == nil {
		deadline = c.begun.Add(time.Duration(c.srv.cfg.LoginGraceTime) * time.Second) // RES-2
	}
	c.nc.SetReadDeadline(deadline)
	if c.ending() != nil || c.x != nil && c.x.isDone() { // told before the deadline was set
		return nil
	}
	n, err := c.r.Read(room)
	c.in.got(n)
	if n > 0 || err == nil {
		if c.s != nil {
			c.s.Touch()
		}
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if c.x == nil && c.ending() == nil && c.s == nil && !time.Now().Before(deadline) {
			c.reply(421, "No login in time")
			return errors.New("ftp: no login within login_grace_time")
		}
		return nil
	}
	if err == io.EOF && c.x != nil && c.x.behind && c.x.verb == "QUIT" {
		<-c.x.done // it has said that it goes when the transfer is over
		return nil
	}
	if err == io.EOF {
		return errControl
	}
	return fmt.Errorf("%w: %w", errControl, err)
}

// handle runs a command. An error ends the connection; failures of the command have been answered.
func (c *conn) handle(verb, arg string) error {
	cmd, ok := c.srv.commands[verb]
	switch {
	case !ok || cmd.on != nil && !cmd.on(c):
		c.offset, c.ranged = 0, false
		return c.reply(500, "Unknown command")
	case cmd.needs&anyone == 0 && c.s == nil:
		return c.reply(530, "Log in first") // FTP-7
	case cmd.needs&argument != 0 && arg == "":
		return c.reply(501, "The command needs a parameter")
	case cmd.needs&data != 0 && c.x == nil && c.mustBePrivate() && !c.private:
		c.dropSource()
		return c.reply(522, "Data connections must be private: PBSZ 0 and PROT P")
	}
	if verb != "RNTO" {
		c.from = nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, commandWait)
	err := cmd.run(c, ctx, arg)
	cancel()
	if cmd.needs&keeps == 0 && c.x == nil {
		c.offset, c.ranged, c.allo = 0, false, 0
	}
	if err != nil {
		return c.failed(verb, err, cmd.needs&stores != 0)
	}
	return nil
}

// failed answers an error.
func (c *conn) failed(verb string, err error, writing bool) error {
	code, text, known := replyFor(err, writing)
	if !known {
		c.log.Error("command failed", "cmd", verb, "err", err)
	}
	return c.reply(code, text)
}

// reply writes a reply.
func (c *conn) reply(code int, text string) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.nc.SetWriteDeadline(time.Now().Add(writeWait))
	_, err := c.w.Write(appendReply(nil, code, text))
	return err
}

// debug logs a command without its secrets (LOG-1).
func (c *conn) debug(verb, arg string) {
	if verb == "PASS" || verb == "ACCT" || !isVerb(verb) {
		arg = "[redacted]"
	}
	if !isVerb(verb) {
		verb = "?"
	}
	c.log.Debug("command", "cmd", verb, "arg", arg)
}

// startTLS makes the control connection a TLS one.
func (c *conn) startTLS() error {
	c.tlsConf = c.b.tlsConfig()
	t := tls.Server(c.nc, c.tlsConf)
	ctx, cancel := context.WithTimeout(c.ctx, handshakeWait)
	defer cancel()
	c.nc.SetDeadline(time.Time{})
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("ftp: TLS handshake: %w", err)
	}
	c.wmu.Lock()
	c.w = t
	c.wmu.Unlock()
	c.r, c.secure = t, true
	return nil
}

// mustBePrivate reports whether data connections must have TLS.
func (c *conn) mustBePrivate() bool {
	return c.b.TLSMode > 0 || c.login != nil && c.login.NeedsTLS()
}

// resolve makes a path of a peer's name.
func (c *conn) resolve(name string) (vfs.Path, error) { return c.cwd.Resolve(name) }

// recover stands at the boundary of each goroutine that handles a peer's bytes.
func (c *conn) recover() {
	if r := recover(); r != nil {
		c.log.Error("panic", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		c.end(errors.New("ftp: internal error"))
	}
}
