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
	// RFC 4256
	methodInteractive = "keyboard-interactive"
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
	var attempt func(m gossh.ConnMetadata, a session.Attempt) (*gossh.Permissions, error)
	password := func(prior *session.Step) func(gossh.ConnMetadata, []byte) (*gossh.Permissions, error) {
		return func(m gossh.ConnMetadata, password []byte) (*gossh.Permissions, error) {
			return attempt(m, session.Attempt{Method: methodPassword, Password: string(password), Prior: prior})
		}
	}
	interactive := func(prior *session.Step) func(gossh.ConnMetadata, gossh.KeyboardInteractiveChallenge) (*gossh.Permissions, error) {
		return func(m gossh.ConnMetadata, challenge gossh.KeyboardInteractiveChallenge) (*gossh.Permissions, error) {
			return attempt(m, session.Attempt{Method: methodInteractive, Prior: prior, Ask: asker(challenge)})
		}
	}
	attempt = func(m gossh.ConnMetadata, a session.Attempt) (*gossh.Permissions, error) {
		a.Protocol, a.Username = protocolSSH, m.User()
		a.Remote, a.Local, a.ConnID, a.Client = c.remote.Addr(), c.local, c.id, c.client
		l, err := c.srv.backend.authenticate(ctx, &a)
		if err == nil && l == nil {
			err = errors.New("ssh: no answer") // AUTH-5: not an error is not a login
		}
		if step, ok := errors.AsType[*session.Step](err); ok {
			// What may follow belongs to this key alone: x/crypto installs it when the key's signature is proven.
			var next gossh.ServerAuthCallbacks
			if c.srv.cfg.PasswordAuthentication && slices.Contains(step.Next, methodPassword) {
				next.PasswordCallback = password(step)
			}
			if c.srv.cfg.KeyboardInteractive && slices.Contains(step.Next, methodInteractive) {
				next.KeyboardInteractiveCallback = interactive(step)
			}
			if next.PasswordCallback != nil || next.KeyboardInteractiveCallback != nil {
				return nil, &gossh.PartialSuccessError{Next: next}
			}
			err = errors.New("ssh: the methods that must follow the key are switched off")
		}
		if err != nil {
			c.tries.failed(m.User(), a.Method, err)
			return nil, errRefused
		}
		return &gossh.Permissions{ExtraData: map[any]any{loginKey{}: l}}, nil
	}
	if c.srv.cfg.PasswordAuthentication {
		cfg.PasswordCallback = password(nil)
	}
	if c.srv.cfg.KeyboardInteractive {
		cfg.KeyboardInteractiveCallback = interactive(nil)
	}
	cfg.PublicKeyCallback = func(m gossh.ConnMetadata, key gossh.PublicKey) (*gossh.Permissions, error) {
		if err := checkClientKey(key); err != nil {
			c.tries.failed(m.User(), methodPublicKey, err)
			return nil, errRefused
		}
		return attempt(m, session.Attempt{Method: methodPublicKey, PublicKey: key.Marshal()})
	}
}

// maxRounds bounds the questions of one keyboard-interactive try.
const maxRounds = 20

// asker shows questions to the peer. The handshake's deadline bounds its waiting.
func asker(challenge gossh.KeyboardInteractiveChallenge) func(context.Context, string, []session.Question) ([]string, error) {
	rounds := 0
	return func(ctx context.Context, instruction string, questions []session.Question) ([]string, error) {
		if rounds++; rounds > maxRounds {
			return nil, errors.New("ssh: too many questions")
		}
		texts, echos := make([]string, len(questions)), make([]bool, len(questions))
		for i, q := range questions {
			texts[i], echos[i] = q.Text, q.Echo
		}
		answers, err := challenge("", instruction, texts, echos)
		if err == nil && len(answers) != len(questions) {
			err = fmt.Errorf("ssh: %d answers to %d questions", len(answers), len(questions))
		}
		return answers, err
	}
}

// checkClientKey refuses keys that prove too little or cost too much (SSH-5), those of certificates too.
// Whom a certificate lets in is decided by the accounts' side.
func checkClientKey(key gossh.PublicKey) error {
	if cert, ok := key.(*gossh.Certificate); ok {
		key = cert.Key
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
