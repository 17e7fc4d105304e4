package auth

import (
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
	Remote    netip.Addr
	Local     netip.AddrPort
	ConnID    string
	Client    string
}

// Identity is a proven credential: whom it stands for and how it was proven. Immutable, shared by the
// cache; do not change what it points to.
type Identity struct {
	User   *account.User // merged with its groups
	Method string
	// KeyFingerprint is the SHA256 of the key that was proven, for the log.
	KeyFingerprint string
}

// Denied says why a login was refused. Its text is for the log; peers hear one sentence for all.
type Denied struct {
	Reason  string // stable words: "unknown user", "wrong password", "account expired", "store failed", …
	Unknown bool   // there is no such account
	Err     error  // the cause, or nil
}

func (d *Denied) Error() string {
	if d.Err != nil {
		return d.Reason + ": " + d.Err.Error()
	}
	return d.Reason
}

func (d *Denied) Unwrap() error { return d.Err }
