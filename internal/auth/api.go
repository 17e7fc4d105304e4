package auth

import (
	"context"
	"crypto/x509"
	"net/netip"

	"github.com/gantryhq/gantry/internal/account"
)

// Attempt is one try to log in, by one credential. Not kept after the call.
type Attempt struct {
	Protocol string // account.ProtocolSSH, …
	Method   string // account.MethodPassword, …
	Username string // as typed
	Password string // for password methods
	// PublicKey is the key in SSH wire form, for publickey. The caller proves that the peer holds it.
	PublicKey []byte
	// Certificate is the client's of TLS, which the protocol has verified, in an FTP or WebDAV login; nil without one.
	Certificate *x509.Certificate
	// Ask shows the peer questions of keyboard-interactive and gives its answers. Nil: Password is the answer
	// to the one question.
	Ask func(ctx context.Context, instruction string, questions []Question) ([]string, error)
	// Code is that of the second factor, for protocols that carry it apart (HTTP).
	Code string
	// Prior is the step that the same connection has proven before; nil at the first.
	Prior  *Step
	Remote netip.Addr
	Local  netip.AddrPort
	ConnID string
	Client string
	// Secure: the connection is encrypted. Protocols that are always so need not say it.
	Secure bool

	factor bool // the second factor was proven
}

// Way is how a login came in, as far as Admit asks.
type Way struct {
	Protocol string // account.ProtocolSSH, …
	Remote   netip.Addr
	Secure   bool // see Attempt
}

// Way is that of the attempt.
func (t *Attempt) Way() Way { return Way{Protocol: t.Protocol, Remote: t.Remote, Secure: t.Secure} }

// Identity is a proven credential: whom it stands for and how it was proven. Immutable, shared by the
// cache; do not change what it points to.
type Identity struct {
	// User is merged with its groups. While the record and its groups stay as they are, logins give the
	// same pointer where the cache may; User.Version grows with every change of either.
	User   *account.User
	Method string
	// KeyFingerprint is the SHA256 of the key that was proven, for the log.
	KeyFingerprint string

	key    string // wire form of the key that was proven
	factor bool   // a second factor was proven
	of     *compiled
}

// Denied says why a login was refused. Its text is for the log; peers hear one sentence for all.
type Denied struct {
	Reason  string // one of the Reason constants
	Unknown bool   // there is no such account
	Err     error  // the cause, or nil
}

// The reasons of a Denied. ReasonStore and ReasonBusy say nothing about the account: nobody could be asked.
const (
	ReasonMalformed      = "malformed attempt"
	ReasonUsername       = "malformed user name"
	ReasonBlank          = "blank password"
	ReasonTooLong        = "password too long"
	ReasonUnknownUser    = "unknown user"
	ReasonPassword       = "wrong password"
	ReasonNoPassword     = "no password is set"
	ReasonHash           = "stored password unusable"
	ReasonKey            = "public key not accepted"
	ReasonAccount        = "account unusable"
	ReasonDisabled       = "account disabled"
	ReasonExpired        = "account expired"
	ReasonAccessTime     = "outside the access times"
	ReasonHome           = "home_dir is not absolute"
	ReasonProtocol       = "protocol denied"
	ReasonMethod         = "login method denied"
	ReasonAddress        = "address denied"
	ReasonPasswordChange = "password change required"
	ReasonSecondFactor   = "second factor required"
	ReasonStore          = "store failed"
	ReasonSource         = "source failed"
	ReasonHook           = "refused by a hook"
	ReasonBusy           = "too many logins"
	ReasonCanceled       = "canceled"
)

func (d *Denied) Error() string {
	if d.Err != nil {
		return d.Reason + ": " + d.Err.Error()
	}
	return d.Reason
}

func (d *Denied) Unwrap() error { return d.Err }

func deny(reason string, err error) *Denied { return &Denied{Reason: reason, Err: err} }
