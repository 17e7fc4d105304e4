package dav

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gantryhq/gantry/internal/session"
)

// errLogin asks for credentials.
var errLogin = fail(401, "Log in")

// authorize has the request be somebody's. moved says that the session is a new one: its lane is where the request goes on.
func (c *conn) authorize(r *request) (moved bool, err error) {
	defer c.rests()
	if err := c.admit(r); err != nil {
		c.log().Warn("request refused", "client", r.remote.Addr().String(), "err", err)
		r.closes = true
		return false, refusal(err)
	}
	raw := r.auth
	l := c.login
	if l != nil {
		if !equalSecret(raw, c.auth) || !c.same(r.remote.Addr()) || c.srv.sessions.Stands(c.lives(), l) != nil {
			c.logout()
			l = nil
		} else if c.s != nil {
			return false, nil
		}
	}
	if l == nil {
		if l, err = c.prove(r, raw); err != nil {
			return false, err
		}
	}
	s, err := c.srv.sessions.Open(c.lives(), l, c.describe(r))
	if err != nil {
		c.log().Warn("session refused", "user", l.Username(), "err", err)
		if errors.Is(err, session.ErrTooManySessions) || errors.Is(err, session.ErrClosed) {
			return false, fail(503, "Too many sessions")
		}
		return false, errLogin
	}
	c.s, c.login, c.auth = s, l, raw
	if c.behind != nil {
		c.behind.client = r.remote.Addr()
	}
	c.lane = c.srv.engine.Lane("dav user "+s.Username(), userLane)
	return true, nil
}

// equalSecret compares in a time that does not tell where they differ.
func equalSecret[T string | []byte](a T, b string) bool {
	if len(a) != len(b) {
		return false
	}
	var differ byte
	for i := range len(a) {
		differ |= a[i] ^ b[i]
	}
	return differ == 0
}

// logout ends the session, and forgets whose it was.
func (c *conn) logout() {
	c.rest()
	c.login, c.auth = nil, ""
}

// rest ends the session of a connection that has been idle for a while: it costs more memory than all else that such a
// connection has, and a place in max_sessions. The next request with the same credentials opens another one.
func (c *conn) rest() {
	if c.s == nil {
		return
	}
	c.s.Close()
	c.lane.Release()
	c.s, c.lane = nil, nil
	c.rests()
}

// admit asks the gate about a request: whoever is behind a proxy passes it as if there were none.
func (c *conn) admit(r *request) error {
	addr := r.remote.Addr()
	if c.behind != nil && addr != c.ec.Remote().Addr() {
		b := c.behind
		if addr == b.admitted {
			return c.srv.gate.Take(c.lives(), addr)
		}
		if b.release != nil {
			b.release()
			b.release, b.admitted = nil, netip.Addr{}
		}
		release, err := c.srv.gate.Admit(c.lives(), addr)
		if err != nil {
			return err
		}
		b.release, b.admitted = release, addr
		return nil
	}
	if !c.served && c.behind == nil {
		return nil // the gate has counted the connection
	}
	return c.srv.gate.Take(c.lives(), addr)
}

// prove finds the login of a request's credentials.
func (c *conn) prove(r *request, raw string) (*session.Login, error) {
	cert := c.certificate()
	if raw == "" {
		if cert == nil {
			return nil, errLogin
		}
		return c.authenticate(r, c.attempt(r, session.MethodCertificate, cert.Subject.CommonName, "", cert), nil)
	}
	user, password, ok := basic(raw)
	if !ok {
		return nil, errLogin
	}
	key := c.srv.logged.key(r.remote.Addr(), user, password, cert)
	if l := c.srv.logged.find(key, c.srv.now()); l != nil {
		if c.srv.sessions.Stands(c.lives(), l) == nil {
			return l, nil
		}
		c.srv.logged.drop(key)
	}
	return c.authenticate(r, c.attempt(r, "password", user, password, cert), &key)
}

func (c *conn) authenticate(r *request, a *session.Attempt, key *loginKey) (*session.Login, error) {
	l, err := c.srv.sessions.Authenticate(c.lives(), a)
	if err == nil && l == nil {
		err = errors.New("dav: no answer") // AUTH-5
	}
	if err != nil {
		c.log().Debug("login refused", "err", err)
		if !session.NeedsPassword(a, err) {
			r.closes = true // the next guess passes the gate (AUTH-9)
		}
		return nil, errLogin
	}
	if key != nil {
		c.srv.logged.put(*key, l, c.srv.now())
	}
	return l, nil
}

// certificate is the client's, which TLS has verified, or nil.
func (c *conn) certificate() *x509.Certificate {
	if !c.b.certificates {
		return nil
	}
	if s := c.ec.TLS(); s != nil && len(s.PeerCertificates) > 0 {
		return s.PeerCertificates[0]
	}
	return nil
}

func (c *conn) attempt(r *request, method, user, password string, cert *x509.Certificate) *session.Attempt {
	return &session.Attempt{
		Protocol: protocol, Method: method, Username: user, Password: password, Secure: r.scheme == "https", Certificate: cert,
		Remote: r.remote.Addr(), Local: c.ec.Local(), Client: client(r),
	}
}

func (c *conn) describe(r *request) session.Conn {
	return session.Conn{
		ID: fmt.Sprintf("%s_%d_%d", protocol, c.b.index, c.srv.count.Add(1)), Protocol: protocol, Remote: r.remote, Local: c.ec.Local(),
		Client: client(r), Closes: true, Kill: c.kill,
	}
}

// client is the peer's software, bounded.
func client(r *request) string {
	s := r.header("User-Agent")
	return s[:min(len(s), 255)]
}

// basic reads the credentials of RFC 7617.
func basic(raw string) (user, password string, ok bool) {
	scheme, text, ok := strings.Cut(raw, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(b), ":")
}

// loginKey stands for credentials and where they come from.
type loginKey [sha256.Size]byte

// logins remembers those that were proven, for connections to come: a login with a hook or a slow hash happens once for a
// client, not for each of its connections. What is remembered is checked by Stands before it is used. Safe for concurrent use.
type logins struct {
	macs sync.Pool     // of hash.Hash, under a secret
	most int           // immutable, as age
	age  time.Duration // 0: for ever

	mu    sync.Mutex // guards what follows
	by    map[loginKey]*list.Element
	order list.List // the one used last in front
}

type remembered struct {
	key loginKey
	l   *session.Login
	at  time.Time
}

// mostLogins bounds a cache without a bound, in logins.
const mostLogins = 100_000

func newLogins(c UserCache) *logins {
	x := &logins{most: c.MaxSize, age: time.Duration(c.ExpirationTime) * time.Minute, by: map[loginKey]*list.Element{}}
	if x.most == 0 {
		x.most = mostLogins
	}
	secret := make([]byte, sha256.Size)
	rand.Read(secret)
	x.macs.New = func() any { return hmac.New(sha256.New, secret) }
	return x
}

// key is a keyed hash: no password is kept.
func (x *logins) key(remote netip.Addr, user, password string, cert *x509.Certificate) (k loginKey) {
	h := x.macs.Get().(hash.Hash)
	defer x.macs.Put(h)
	h.Reset()
	field := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	a := remote.As16()
	field(a[:])
	field([]byte(user))
	field([]byte(password))
	if cert != nil {
		field(cert.Raw)
	}
	h.Sum(k[:0])
	return k
}

func (x *logins) find(k loginKey, now time.Time) *session.Login {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.by[k]
	if e == nil {
		return nil
	}
	m := e.Value.(*remembered)
	if x.age > 0 && now.Sub(m.at) > x.age {
		x.remove(e)
		return nil
	}
	x.order.MoveToFront(e)
	return m.l
}

func (x *logins) put(k loginKey, l *session.Login, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.by[k]; e != nil {
		x.remove(e)
	}
	x.by[k] = x.order.PushFront(&remembered{k, l, now})
	for x.order.Len() > x.most {
		x.remove(x.order.Back())
	}
}

func (x *logins) drop(k loginKey) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.by[k]; e != nil {
		x.remove(e)
	}
}

func (x *logins) remove(e *list.Element) {
	delete(x.by, e.Value.(*remembered).key)
	x.order.Remove(e)
}
