package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/valyala/bytebufferpool"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/life"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// protocol is FTP's name in records, logs and events.
const protocol = "FTP"

// Bounds of a connection.
const (
	commandWait = 10 * time.Minute // for a command without transfer
	byeWait     = 5 * time.Second
	maxTries    = 3 // of PASS (RFC 2577 5)
)

// conn is one control connection, the engine's Handler of it.
type conn struct {
	srv *Server // these are immutable
	b   *binding
	ec  *engine.Conn

	// Owned by the connection's turn, and by the work of a command.
	id       string
	out      *bytebufferpool.ByteBuffer // of the turn: replies
	lane     *engine.Lane               // of the user; nil before the login
	tlsConf  *tls.Config
	user     string
	client   string
	s        *session.Session
	cwd      vfs.Path
	offset   int64 // of REST
	last     int64 // last byte of RANG, inclusive
	allo     int64
	from     *vfs.Path  // of RNFR
	copyFrom *vfs.Path  // of SITE CPFR
	source   source     // of the next data connection
	x        *transfer  // nil when idle
	next     *[2]string // verb and argument that wait behind a transfer
	facts    facts
	hash     uint8 // of hashNames
	tries    int8
	level    int8 // of MODE Z
	secure   bool
	needsTLS bool // the account does
	ascii    bool
	pbsz     bool
	private  bool // PROT P
	deflates bool // MODE Z
	epsvAll  bool
	ranged   bool // RANG has set offset and last
	quit     bool
	more     bool // bytes have come behind the command that runs
	starts   bool // TLS begins after this command
	waits    bool // nothing is read until something else has happened
	draining bool

	ends atomic.Uint32             // over, killed
	life atomic.Pointer[life.Life] // of what runs; nil while nothing does
}

// How a connection ends.
const (
	over   = 1 << iota
	killed // by us
)

var _ engine.Handler = (*conn)(nil)

func newConn(s *Server, b *binding, ec *engine.Conn) *conn {
	c := &conn{srv: s, b: b, ec: ec}
	c.reset()
	return c
}

// reset makes everything new but TLS, for a connection's beginning and for REIN.
func (c *conn) reset() {
	c.id = fmt.Sprintf("%s_%d_%d", protocol, c.b.index, c.srv.count.Add(1))
	c.s, c.needsTLS, c.user, c.ascii, c.epsvAll = nil, false, "", false, false
	c.deflates, c.level = false, deflateLevel
	c.from, c.copyFrom, c.facts, c.hash = nil, nil, factsDefault, hashDefault
	c.cwd = vfs.Path{}
	c.lane.Release()
	c.lane = nil
}

// context ends with the connection. It is for one command or transfer: an idle connection has none.
func (c *conn) context() *life.Life {
	l := c.life.Load()
	if l == nil {
		l = new(life.Life)
		c.life.Store(l)
		if c.ends.Load()&over != 0 { // the end did not see it
			l.End(context.Canceled)
		}
	}
	return l
}

// end ends what runs.
func (c *conn) end() {
	c.ends.Or(over)
	if l := c.life.Load(); l != nil {
		l.End(context.Canceled)
	}
}

// log is the connection's. It is made when something is to be said: most connections end without.
func (c *conn) log() *slog.Logger {
	l := c.srv.log.With("proto", protocol, "conn", c.id, "remote", c.ec.Remote().Addr().String())
	if c.s != nil {
		l = l.With("user", c.s.Username())
	}
	return l
}

// turn runs f in the connection's turn; its replies go out together.
func (c *conn) turn(f func() engine.Verdict) engine.Verdict {
	out := bytebufferpool.Get()
	c.out = out
	v := f()
	c.out = nil
	if out.Len() > 0 {
		c.ec.Write(out.B)
	}
	bytebufferpool.Put(out)
	return v
}

// post runs f in the connection's turn, from any goroutine.
func (c *conn) post(f func() engine.Verdict) {
	c.ec.Post(func() engine.Verdict { return c.turn(f) })
}

// mustLogIn gives the time for a login (RES-2).
func (c *conn) mustLogIn() {
	c.ec.SetDeadline(time.Now().Add(time.Duration(c.srv.cfg.LoginGraceTime) * time.Second))
}

// Open greets.
func (c *conn) Open(*engine.Conn) engine.Verdict {
	c.mustLogIn()
	if c.b.TLSMode == 2 {
		c.private, c.pbsz = true, true
		return c.startTLS()
	}
	return c.turn(c.greet)
}

func (c *conn) greet() engine.Verdict {
	c.reply(220, c.srv.banner)
	return engine.Keep()
}

// startTLS has the connection become a TLS one.
func (c *conn) startTLS() engine.Verdict {
	c.tlsConf = c.b.tlsConfig()
	return engine.StartTLS(c.tlsConf, func(err error) engine.Verdict {
		if err != nil {
			c.log().Debug("no TLS", "err", err)
			return engine.Close()
		}
		c.secure = true
		if c.b.TLSMode == 2 {
			return c.turn(c.greet)
		}
		return engine.Keep()
	})
}

// Refused says why nobody is served.
func (c *conn) Refused(_ *engine.Conn, err error) {
	c.log().Warn("connection refused", "err", err)
	if c.b.TLSMode != 2 { // in clear it would not be understood
		c.turn(func() engine.Verdict {
			c.reply(500, "Connection refused")
			return engine.Keep()
		})
	}
	c.tries = -1 // the guard has counted it
}

// Expired ends a connection without a login.
func (c *conn) Expired(*engine.Conn) engine.Verdict {
	if c.s != nil {
		return engine.Keep()
	}
	return c.bye("No login in time")
}

// Drain ends the connection once it is idle.
func (c *conn) Drain(*engine.Conn) engine.Verdict {
	c.draining = true
	if c.x != nil {
		return engine.Keep()
	}
	return c.bye("Service closing the connection")
}

func (c *conn) bye(text string) engine.Verdict {
	if c.secure || c.b.TLSMode != 2 {
		c.turn(func() engine.Verdict {
			c.reply(421, text)
			return engine.Keep()
		})
	}
	return engine.Close()
}

// kill ends the connection from any goroutine, with a last reply if the peer takes it.
func (c *conn) kill(reason error) {
	if reason == nil {
		reason = errShutdown
	}
	if c.ends.Or(killed)&killed != 0 {
		return
	}
	// On a goroutine of its own: the caller may hold what the connection's turn waits for.
	go c.ec.Post(func() engine.Verdict { return c.bye("Service closing the connection") })
	time.AfterFunc(byeWait, func() {
		c.end()
		c.ec.Kill(reason)
	})
}

// Closed sees a transfer and the session out.
func (c *conn) Closed(_ *engine.Conn, err error) {
	if x := c.x; x != nil {
		if n := c.next; n == nil || n[0] != "QUIT" || !errors.Is(err, io.EOF) { // else it has said that it goes when the transfer is over
			x.abort(errControl)
		}
		<-x.done
	}
	c.dropSource()
	defer c.end()
	c.lane.Release()
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
	return session.Conn{ID: c.id, Protocol: protocol, Remote: c.ec.Remote(), Local: c.ec.Local(), Client: c.client, Closes: true, Kill: c.kill}
}

// Data takes command lines.
func (c *conn) Data(_ *engine.Conn, in []byte) (n int, v engine.Verdict) {
	if c.s != nil {
		c.s.Touch()
	}
	v = c.turn(func() engine.Verdict {
		for n < len(in) {
			line, m, err := nextLine(in[n:])
			if errors.Is(err, errLineTooLong) {
				c.reply(500, "Command line too long")
				return engine.Close()
			}
			if m == 0 {
				break
			}
			n += m
			if err != nil {
				c.reply(501, "The command has bytes that cannot stand in it")
				continue
			}
			verb, arg := parseCommand(line)
			if c.b.Debug {
				c.debug(verb, arg)
			}
			c.more = n < len(in)
			if v, stop := c.command(verb, arg); stop {
				return v
			}
		}
		return engine.Keep()
	})
	return n, v
}

// command runs a command when its turn has come: at once when idle; while a transfer runs only what is made for that.
// With stop nothing more is taken.
func (c *conn) command(verb, arg string) (v engine.Verdict, stop bool) {
	if c.x != nil && verb != "NOOP" && (verb != "STAT" || arg != "") && verb != "ABOR" {
		c.next = &[2]string{verb, arg} // its turn comes after the transfer
		return engine.Hold(), true
	}
	if isHTTP(verb) { // FTP-6
		c.log().Warn("the peer speaks HTTP", "cmd", verb)
		return engine.Close(), true
	}
	cmd, ok := c.srv.commands[verb]
	switch {
	case !ok || cmd.on != nil && !cmd.on(c):
		c.offset, c.ranged = 0, false
		c.reply(500, "Unknown command")
		return v, false
	case cmd.needs&anyone == 0 && c.s == nil:
		c.reply(530, "Log in first") // FTP-7
		return v, false
	case cmd.needs&argument != 0 && arg == "":
		c.reply(501, "The command needs a parameter")
		return v, false
	case cmd.needs&data != 0 && c.mustBePrivate() && !c.private:
		c.dropSource()
		c.reply(522, "Data connections must be private: PBSZ 0 and PROT P")
		return v, false
	}
	if cmd.needs&quick != 0 || cmd.slow != nil && !cmd.slow(c, arg) {
		c.run(verb, &cmd, c.context(), arg)
		return c.after()
	}
	lane := c.lane
	if c.s == nil {
		lane = c.srv.logins
	}
	return engine.Work(lane, func(out *bytebufferpool.ByteBuffer) engine.Verdict {
		ctx, cancel := life.Within(c.context(), commandWait)
		defer cancel()
		c.out = out
		c.run(verb, &cmd, ctx, arg)
		c.out = nil
		v, _ := c.after()
		return v
	}), true
}

// run runs a command, and answers its error.
func (c *conn) run(verb string, cmd *command, ctx context.Context, arg string) {
	if verb != "RNTO" {
		c.from = nil
	}
	err := cmd.run(c, ctx, arg)
	if cmd.needs&keeps == 0 && c.x == nil {
		c.offset, c.ranged, c.allo = 0, false, 0
	}
	if err != nil {
		c.failed(verb, err, cmd.needs&stores != 0)
	}
}

// after is what becomes of the connection after a command.
func (c *conn) after() (v engine.Verdict, stop bool) {
	if c.x == nil {
		c.life.Store(nil)
	}
	switch {
	case c.quit && c.x == nil:
		return engine.Close(), true
	case c.starts:
		c.starts = false
		return c.startTLS(), true
	case c.waits:
		return engine.Hold(), true
	}
	return engine.Keep(), false
}

// goOn ends the wait behind a transfer or a failed login, and runs what has waited.
func (c *conn) goOn() engine.Verdict {
	c.waits = false
	if c.draining {
		c.reply(421, "Service closing the connection")
		return engine.Close()
	}
	if n := c.next; n != nil {
		c.next, c.more = nil, true
		v, _ := c.command(n[0], n[1])
		return v.Resumed()
	}
	v, _ := c.after()
	return v.Resumed()
}

// failed answers an error.
func (c *conn) failed(verb string, err error, writing bool) {
	c.out.B = c.failure(c.out.B, verb, err, writing)
}

// failure formats the reply to an error.
func (c *conn) failure(b []byte, verb string, err error, writing bool) []byte {
	code, text, known := replyFor(err, writing)
	if !known {
		c.log().Error("command failed", "cmd", verb, "err", err)
	}
	return appendReply(b, code, text)
}

// reply gives a reply, which goes out at the end of the turn. The error is always nil: handlers end with it.
func (c *conn) reply(code int, text string) error {
	c.out.B = appendReply(c.out.B, code, text)
	return nil
}

// debug logs a command without its secrets (LOG-1).
func (c *conn) debug(verb, arg string) {
	if verb == "PASS" || verb == "ACCT" || !isVerb(verb) {
		arg = "[redacted]"
	}
	if !isVerb(verb) {
		verb = "?"
	}
	c.log().Debug("command", "cmd", verb, "arg", arg)
}

// mustBePrivate reports whether data connections must have TLS.
func (c *conn) mustBePrivate() bool {
	return c.b.TLSMode > 0 || c.needsTLS
}

// resolve makes a path of a peer's name.
func (c *conn) resolve(name string) (vfs.Path, error) { return c.cwd.Resolve(name) }
