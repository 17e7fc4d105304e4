package ftp

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/session"
)

func randomText() string { return rand.Text() }

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// userCmd answers every name alike (AUTH-4).
func (c *conn) userCmd(ctx context.Context, arg string) error {
	switch {
	case c.s != nil:
		return fail(503, "Already logged in; REIN first")
	case c.b.TLSMode == 1 && !c.secure:
		return fail(530, "TLS is required: AUTH TLS first")
	}
	c.user = arg
	cert := c.certificate()
	if cert == nil {
		return c.reply(331, "Password, please")
	}
	a := c.attempt(session.MethodCertificate, arg, "")
	l, err := c.srv.sessions.Authenticate(ctx, a)
	switch {
	case err == nil && l != nil:
		c.user = ""
		return c.open(l, 232) // RFC 2228 4: no password is needed
	case err == nil || session.NeedsPassword(a, err):
		return c.reply(331, "Password, please")
	}
	c.user = ""
	c.tries++
	c.log().Debug("login refused", "err", err)
	c.refuse()
	return nil
}

// certificate is the client's, which TLS has verified, or nil.
func (c *conn) certificate() *x509.Certificate {
	if s := c.ec.TLS(); s != nil && c.b.ClientAuthType != 0 && len(s.PeerCertificates) > 0 && len(c.srv.cfg.CACertificates) > 0 {
		return s.PeerCertificates[0]
	}
	return nil
}

func (c *conn) attempt(method, user, password string) *session.Attempt {
	return &session.Attempt{
		Protocol: protocol, Method: method, Username: user, Password: password, Secure: c.secure, Certificate: c.certificate(),
		Remote: c.ec.Remote().Addr(), Local: c.ec.Local(), ConnID: c.id, Client: c.client,
	}
}

// failDelay is the time after a failed login before the next command is read (RFC 2577 5).
const failDelay = time.Second

func (c *conn) pass(ctx context.Context, arg string) error {
	if c.s != nil || c.user == "" {
		return fail(503, "USER first")
	}
	user := c.user
	c.user = ""
	a := c.attempt("password", user, arg)
	c.tries++
	l, err := c.srv.sessions.Authenticate(ctx, a)
	if err == nil && l == nil {
		err = errors.New("ftp: no answer") // AUTH-5
	}
	if err != nil {
		c.log().Debug("login refused", "err", err)
		c.refuse()
		return nil
	}
	return c.open(l, 230)
}

// refuse answers a login that failed, after a while.
func (c *conn) refuse() {
	answer := func() engine.Verdict {
		c.reply(530, "Login incorrect")
		c.quit = c.tries >= maxTries
		return c.goOn()
	}
	if c.srv.failDelay == 0 {
		c.reply(530, "Login incorrect")
		c.quit = c.tries >= maxTries
		return
	}
	c.waits = true
	time.AfterFunc(c.srv.failDelay, func() { c.post(answer) })
}

// open begins the session of a login, and answers with code.
func (c *conn) open(l *session.Login, code int) error {
	s, err := c.srv.sessions.Open(c.context(), l, c.describe())
	if err != nil {
		c.log().Warn("session refused", "user", l.Username(), "err", err)
		c.quit = true
		return c.reply(530, "Login not possible now")
	}
	c.needsTLS, c.s = l.NeedsTLS(), s
	c.cwd = s.StartDir()
	c.lane = c.srv.engine.Lane("ftp user "+l.Username(), userLane)
	c.ec.SetDeadline(time.Time{})
	return c.reply(code, "Logged in")
}

func (c *conn) acct(context.Context, string) error { return c.reply(202, "ACCT is not needed") }

// rein ends the login; TLS stays (RFC 4217 13).
func (c *conn) rein(context.Context, string) error {
	c.dropSource()
	c.s.Close()
	c.reset()
	c.mustLogIn()
	return c.reply(220, "Ready for another user")
}

func (c *conn) quitCmd(context.Context, string) error {
	c.quit = true
	return c.reply(221, "Goodbye")
}

// host takes any name before the login: there is one tree (RFC 7151 3.3).
func (c *conn) host(context.Context, string) error {
	if c.s != nil || c.user != "" {
		return fail(503, "HOST comes before USER")
	}
	return c.reply(220, "Host accepted")
}

func (c *conn) auth(_ context.Context, arg string) error {
	switch strings.ToUpper(strings.TrimSpace(arg)) {
	case "TLS", "TLS-C", "SSL", "TLS-P":
	default:
		return fail(504, "Unknown mechanism; use TLS")
	}
	if c.secure {
		return fail(503, "TLS is there already")
	}
	if c.s != nil {
		return fail(503, "AUTH comes before the login")
	}
	if c.more {
		// What was sent in clear behind AUTH could be anybody's (FTP-3).
		c.log().Warn("commands behind AUTH TLS refused")
		c.quit = true
		return c.reply(421, "Commands behind AUTH TLS")
	}
	c.user, c.pbsz, c.private, c.starts = "", false, false, true
	return c.reply(234, "AUTH command ok, starting TLS")
}

func (c *conn) pbszCmd(_ context.Context, arg string) error {
	if !c.secure {
		return fail(503, "AUTH TLS first")
	}
	if _, err := decimal(arg, 10, 1<<32-1); err != nil {
		return err
	}
	c.pbsz = true
	return c.reply(200, "PBSZ=0")
}

func (c *conn) prot(_ context.Context, arg string) error {
	switch {
	case !c.secure:
		return fail(503, "AUTH TLS first")
	case !c.pbsz:
		return fail(503, "PBSZ first")
	}
	switch strings.ToUpper(strings.TrimSpace(arg)) {
	case "P":
		c.private = true
	case "C":
		if c.mustBePrivate() {
			return fail(534, "Data connections must be private")
		}
		c.private = false
	case "S", "E":
		return fail(536, "Not with TLS")
	default:
		return errParameter
	}
	return c.reply(200, "Protection level set")
}

func (c *conn) ccc(context.Context, string) error {
	return fail(533, "The control connection stays protected")
}
