package ssh

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/session"
)

// The names of the records' denied_protocols and denied_login_methods.
const (
	protocolSSH     = "SSH"
	protocolSFTP    = "SFTP"
	protocolSCP     = "SCP"
	methodPassword  = "password"
	methodPublicKey = "publickey"
)

// errRefused is all that leaves the callbacks: x/crypto tells the peer nothing of it, and what was wrong has
// been recorded.
var errRefused = errors.New("ssh: login refused")

// loginKey finds the login in the Permissions of the credential that was proven.
type loginKey struct{}

// tries is what one connection has tried. Owned by the goroutine of its handshake.
type tries struct {
	username string
	methods  []string // each once: an agent with many keys is one failed method (AUTH-9)
	last     error
}

func (t *tries) failed(username, method string, err error) {
	t.username, t.last = username, err
	if !slices.Contains(t.methods, method) {
		t.methods = append(t.methods, method)
	}
}

// authCallbacks sets the ways to log in on cfg. A login travels from a callback to the session only in the
// Permissions of its own credential, never in state of the connection: a key that was offered but not proven
// must not count (AUTH-1). Every user name is asked for the same methods (AUTH-4).
func (c *conn) authCallbacks(ctx context.Context, cfg *gossh.ServerConfig) {
	attempt := func(m gossh.ConnMetadata, a session.Attempt) (*gossh.Permissions, error) {
		a.Protocol, a.Username = protocolSSH, m.User()
		a.Remote, a.Local, a.ConnID, a.Client = c.remote.Addr(), c.local, c.id, c.client
		l, err := c.srv.backend.authenticate(ctx, &a)
		if err == nil && l == nil {
			err = errors.New("ssh: no answer") // AUTH-5: not an error is not a login
		}
		if err != nil {
			c.tries.failed(m.User(), a.Method, err)
			return nil, errRefused
		}
		return &gossh.Permissions{ExtraData: map[any]any{loginKey{}: l}}, nil
	}
	if c.srv.cfg.PasswordAuthentication {
		cfg.PasswordCallback = func(m gossh.ConnMetadata, password []byte) (*gossh.Permissions, error) {
			return attempt(m, session.Attempt{Method: methodPassword, Password: string(password)})
		}
	}
	cfg.PublicKeyCallback = func(m gossh.ConnMetadata, key gossh.PublicKey) (*gossh.Permissions, error) {
		if err := checkClientKey(key); err != nil {
			c.tries.failed(m.User(), methodPublicKey, err)
			return nil, errRefused
		}
		return attempt(m, session.Attempt{Method: methodPublicKey, PublicKey: key.Marshal()})
	}
}

// checkClientKey refuses keys that prove too little or cost too much (SSH-5). User certificates are refused
// until a configuration can name whom to trust.
func checkClientKey(key gossh.PublicKey) error {
	if _, ok := key.(*gossh.Certificate); ok {
		return errors.New("ssh: user certificates are not accepted")
	}
	ck, ok := key.(gossh.CryptoPublicKey)
	if !ok {
		return nil
	}
	if k, ok := ck.CryptoPublicKey().(*rsa.PublicKey); ok {
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("ssh: the client's RSA key has %d bits; %d to %d are accepted", n, minRSABits, maxRSABits)
		}
	}
	return nil
}

// loginOf is the login of the credential that the peer has proven.
func loginOf(p *gossh.Permissions) (login, bool) {
	if p == nil {
		return nil, false
	}
	l, ok := p.ExtraData[loginKey{}].(login)
	return l, ok
}

// addrPort is an address as the rest of Gantry knows it; invalid if a is no IP address.
func addrPort(s string) netip.AddrPort {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
