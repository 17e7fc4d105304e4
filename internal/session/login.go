package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/life"
)

// Failure is a login that did not happen, for the defender.
type Failure struct {
	Remote   netip.Addr
	Protocol string // account.ProtocolSSH, …
	Username string // as typed
	// Unknown: there is no such account. NoAuth: the peer left without trying.
	Unknown, NoAuth bool
}

// Outcome is the end of a login, good or not.
type Outcome struct {
	Username string // of the account, or as typed
	Remote   netip.Addr
	Method   string // as in the records; "no_auth_tried" of a peer that left without trying
	Protocol string // account.ProtocolSSH, …
	OK       bool
	Reason   string // of a failed one: one of auth's reasons, or ""
}

// Left is a session that has ended.
type Left struct {
	Username string
	Remote   netip.Addr
	Protocol string // SFTP, SCP, SSH, FTP, …
	Duration time.Duration
}

// Attempt is one try to log in. It stands here so that protocols need not know package auth.
type Attempt = auth.Attempt

// Step is a credential that is right and not enough; it goes into the Attempt of the next one. Authenticate
// gives it as its error.
type Step = auth.Step

// Question is one prompt of keyboard-interactive.
type Question = auth.Question

// Login is a proven credential. Safe for concurrent use.
type Login struct {
	id    *auth.Identity
	way   auth.Way
	quiet bool        // its sessions are parts of a login that was recorded before
	told  atomic.Bool // of the first session that it opened

	same atomic.Pointer[auth.Identity] // a later reading of the account that said the same; nil without
}

// Username is the account that logged in, which a source may have changed from what the peer typed.
func (l *Login) Username() string { return l.id.User.Username }

// NeedsTLS reports whether the account asks FTP for TLS on both channels (ftp_security).
func (l *Login) NeedsTLS() bool { return l.id.User.Filters.FTPSecurity == 1 }

// Method is how the credential was proven.
func (l *Login) Method() string { return l.id.Method }

// Authenticate proves a peer's credential and passes it through the one Admit check. It has no effect on
// the account and makes no session: in SSH a proven key is still only a step (AUTH-1). The error's text is
// for the log; a peer hears only that the login failed. Failed attempts other than public keys are
// recorded here; a protocol calls Abandoned for the rest.
func (s *Server) Authenticate(ctx context.Context, a *auth.Attempt) (*Login, error) {
	id, err := s.deps.Auth.Authenticate(ctx, a)
	if err == nil && (id == nil || id.User == nil || id.User.Username == "") {
		err = errors.New("no identity") // AUTH-5
	}
	if err != nil {
		if a.Method != account.MethodPublicKey && !NeedsPassword(a, err) {
			s.failed(ctx, a.Remote, a.Protocol, a.Username, a.LoginMethod(), err)
			s.hold(ctx, false)
		}
		return nil, err
	}
	if a.Method == account.MethodPassword || a.Method == account.MethodKeyboardInteractive {
		s.hold(ctx, true)
	}
	return &Login{id: id, way: a.Way()}, nil
}

// Vouched is an account whose credential was proven before, or by other means.
type Vouched = auth.Vouched

// Vouch makes a login of such an account: what a token or an API key stands for. It passes Admit as every login does.
// Its sessions are not recorded as logins of their own, nor are their failures: the caller records what it refuses by
// Refused.
func (s *Server) Vouch(ctx context.Context, v Vouched, a *auth.Attempt) (*Login, error) {
	voucher, ok := s.deps.Auth.(Voucher)
	if !ok {
		return nil, errors.New("session: nobody vouches for accounts here")
	}
	id, err := voucher.Vouch(ctx, v, a)
	if err == nil && (id == nil || id.User == nil || id.User.Username == "") {
		err = errors.New("no identity") // AUTH-5
	}
	if err != nil {
		return nil, err
	}
	return &Login{id: id, way: a.Way(), quiet: true}, nil
}

// User is the account, merged with its groups. It is shared and must not be changed.
func (l *Login) User() *account.User { return l.id.User }

// Factor reports whether a second factor was proven.
func (l *Login) Factor() bool { return l.id.HasFactor() }

// Owes says what the account must do before it may do anything else over HTTP: change its password, set up a second
// factor.
func (l *Login) Owes(now time.Time) (password, factor bool) { return auth.Owes(l.id.User, now) }

// Denial sorts the errors of Authenticate and Vouch by what the peer may hear.
type Denial int

// The kinds of a Denial.
const (
	NotDenied         Denial = iota // the error is another one
	DeniedCredentials               // the peer hears no more than that
	DeniedByRule                    // the credential was right; the account may not be used this way
	DeniedForNow                    // nobody could be asked
)

// DenialOf sorts err.
func DenialOf(err error) Denial {
	d, ok := errors.AsType[*auth.Denied](err)
	if !ok {
		return NotDenied
	}
	switch d.Reason {
	case auth.ReasonProtocol, auth.ReasonMethod, auth.ReasonAddress:
		return DeniedByRule
	case auth.ReasonStore, auth.ReasonBusy, auth.ReasonSource, auth.ReasonCanceled:
		return DeniedForNow
	}
	return DeniedCredentials
}

// Refused records a failed login of a way in whose credentials are not an account's own (an administrator's, an API key,
// a share's password), and holds the answer back as after a wrong password.
func (s *Server) Refused(ctx context.Context, remote netip.Addr, protocol, username, method string, err error) {
	s.failed(ctx, remote, protocol, username, method, err)
	s.hold(ctx, false)
}

// ErrChanged says that an account is not what it was when a login was proven.
var ErrChanged = errors.New("the account has changed since the login")

// Stands passes a login through the Admit check again, for a protocol whose every request has credentials (WebDAV). With
// an error they must be proven anew: the account may not be in now, or it has changed, and its password with it (AUTH-8).
// Where the account is cached nothing but memory is asked.
func (s *Server) Stands(ctx context.Context, l *Login) error {
	id, err := s.deps.Auth.Current(ctx, l.latest(), l.way)
	if err != nil {
		return err
	}
	return l.stands(id)
}

// StandsNow reports whether Stands has no error, where that can be said without waiting.
func (s *Server) StandsNow(l *Login) bool {
	r, ok := s.deps.Auth.(Rememberer)
	if !ok {
		return false
	}
	id, ok, err := r.Remembered(l.latest(), l.way)
	return ok && err == nil && l.stands(id) == nil
}

// stands compares the account as it is now with the one that logged in.
func (l *Login) stands(id *auth.Identity) error {
	if id == nil || id.User == nil { // AUTH-5
		return ErrChanged
	}
	if latest := l.latest(); id == latest || id.User == latest.User && id.Method == latest.Method {
		return nil
	}
	if !sameAccount(id.User, l.id.User) {
		return ErrChanged
	}
	l.same.Store(id)
	return nil
}

// latest is the identity as it was read last.
func (l *Login) latest() *auth.Identity {
	if id := l.same.Load(); id != nil {
		return id
	}
	return l.id
}

// NeedsPassword reports whether a login by a certificate alone, refused with err, may go on with a password. It counts as
// no failure.
func NeedsPassword(a *Attempt, err error) bool {
	return a.Method == account.MethodTLSCertificate && auth.NeedsPassword(err)
}

// MethodCertificate is the Method of an Attempt by a certificate alone.
const MethodCertificate = account.MethodTLSCertificate

// hold delays the answer to a login with a password.
func (s *Server) hold(ctx context.Context, ok bool) {
	if s.deps.Delay == nil {
		return
	}
	d := s.deps.Delay(ok)
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Abandoned records that a peer left without a login: tried are the methods it failed with, none if it
// did not try. Failed public keys count once for a connection (AUTH-9); other methods were recorded when
// they failed.
func (s *Server) Abandoned(c Conn, username string, tried []string, err error) {
	ctx := context.Background() // the connection has gone
	method := "no_auth_tried"
	for _, t := range tried {
		switch t {
		case account.MethodPublicKey:
			method = t
		case "none", "":
		default:
			if method == "no_auth_tried" {
				return
			}
		}
	}
	if err == nil {
		err = errors.New("client left without a login")
	}
	s.failed(ctx, c.Remote.Addr(), loginProtocol(c.Protocol), username, method, err)
}

// failed writes the record that fail2ban reads: the order of the keys is its filter's (guard.md 8.4).
func (s *Server) failed(ctx context.Context, remote netip.Addr, protocol, username, method string, err error) {
	remote = remote.Unmap()
	s.records.LogAttrs(ctx, slog.LevelWarn, "",
		slog.String("sender", "connection_failed"),
		slog.String("client_ip", remote.String()),
		slog.String("username", event.Text(bound(username))),
		slog.String("login_type", method),
		slog.String("protocol", protocol),
		slog.String("error", event.Text(err.Error())))
	o := Outcome{Username: bound(username), Remote: remote, Method: method, Protocol: protocol}
	f := Failure{Remote: remote, Protocol: protocol, Username: o.Username, NoAuth: method == "no_auth_tried"}
	if d, ok := errors.AsType[*auth.Denied](err); ok {
		o.Reason, f.Unknown = d.Reason, d.Unknown
	}
	if s.deps.LoggedIn != nil {
		s.deps.LoggedIn(o)
	}
	if s.deps.Failed != nil && !errors.Is(err, ErrTooManySessions) { // who is in already guesses no password
		s.deps.Failed(f)
	}
}

// bound keeps a peer's name at what a name may be.
func bound(name string) string { return name[:min(len(name), 255)] }

// loginProtocol is the records' protocol of a connection's.
func loginProtocol(p string) string {
	switch p {
	case "SFTP", "SCP", "SSH":
		return account.ProtocolSSH
	}
	return p
}

// Open makes a session of a login: it checks max_sessions and the registry in one step, re-checks that the
// account may still be in, and makes the account's directories where that is due. The session ends with
// Close, or when ctx does. Every SSH channel, FTP control connection and in-flight request is one.
func (s *Server) Open(ctx context.Context, l *Login, c Conn) (*Session, error) {
	x, err := s.open(ctx, l, c, nil)
	if l.quiet {
		return x, err
	}
	if err != nil {
		s.failed(ctx, c.Remote.Addr(), loginProtocol(c.Protocol), l.Username(), l.id.Method, err)
		return nil, err
	}
	s.records.LogAttrs(ctx, slog.LevelInfo, "",
		slog.String("sender", "login"),
		slog.String("ip", c.Remote.Addr().Unmap().String()),
		slog.String("username", event.Text(x.Username())),
		slog.String("method", l.id.Method),
		slog.String("protocol", c.Protocol),
		slog.String("connection_id", c.ID),
		slog.String("client", event.Text(c.Client)),
		slog.Bool("encrypted", loginProtocol(c.Protocol) == account.ProtocolSSH),
		slog.String("info", l.id.KeyFingerprint))
	if s.deps.LoggedIn != nil && l.told.CompareAndSwap(false, true) {
		s.deps.LoggedIn(Outcome{Username: x.Username(), Remote: c.Remote.Addr().Unmap(), Method: l.id.Method, Protocol: loginProtocol(c.Protocol), OK: true})
	}
	return x, nil
}

func (s *Server) open(ctx context.Context, l *Login, c Conn, sh *Share) (*Session, error) {
	cctx, cancel := life.Within(ctx, storageWait)
	defer cancel()
	id, err := s.deps.Auth.Current(cctx, l.id, l.way)
	if err != nil {
		return nil, err
	}
	if id == nil || id.User == nil || id.User.Username != l.id.User.Username {
		return nil, errors.New("no identity") // AUTH-5
	}
	x := &Session{
		srv: s, conn: s.peerOf(c), started: s.deps.Now().UnixNano(), id: id,
		secure: l.way.Secure, share: sh,
	}
	x.last.Store(x.started)
	if err := s.register(x, id.User.MaxSessions); err != nil {
		return nil, err
	}
	if s.cluster != nil && id.User.MaxSessions > 0 {
		if err := s.cluster.enter(cctx, x, id.User.MaxSessions); err != nil {
			s.unregister(x)
			return nil, err
		}
	}
	v, err := s.viewFor(cctx, x.user, id.User)
	if err != nil {
		s.unregister(x)
		return nil, fmt.Errorf("login of %q: %w", x.Username(), err)
	}
	x.adopt(v)
	if x.changed.Load() {
		if err := x.recheck(cctx); err != nil {
			s.unregister(x)
			return nil, err
		}
	}
	x.user.noteLogin(s)
	// The session must not outlive the connection's context, whatever the protocol forgets.
	if !c.Closes {
		unhook := context.AfterFunc(ctx, func() { x.Close() })
		x.mu.Lock()
		x.unhook = unhook // which a context that is over already does not wait for
		x.mu.Unlock()
	}
	return x, nil
}
