package auth

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// The bounds of an account's public keys (SSH-5, RES-1).
const (
	maxKeys    = 512
	maxKeyLine = 16 << 10 // bytes of one authorized_keys line
	maxKeyWire = 16 << 10 // bytes of a key that a peer offers
	minRSABits = 2048
	maxRSABits = 8192
)

// keyRing is an account's keys by their wire form. Immutable.
type keyRing map[string][]authorizedKey

// authorizedKey is one line: a key and what its options restrict.
type authorizedKey struct {
	fingerprint string
	from        []fromRule // nil for any address
	until       time.Time  // zero for ever
}

// fromRule is one entry of the option from.
type fromRule struct {
	not    bool
	prefix netip.Prefix
}

// compileKeys reads authorized_keys lines. A line that cannot be used is left out and its error given: one
// bad line must not lock the account's other keys out.
func compileKeys(lines []string) (keyRing, []error) {
	var errs []error
	ring := keyRing{}
	n := 0
	for i, line := range lines {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if n++; n > maxKeys {
			errs = append(errs, fmt.Errorf("public_keys: only the first %d of %d are used", maxKeys, len(lines)))
			break
		}
		wire, k, err := parseKeyLine(line)
		if err != nil {
			errs = append(errs, fmt.Errorf("public_keys[%d]: %w", i, err))
			continue
		}
		ring[wire] = append(ring[wire], k)
	}
	return ring, errs
}

func parseKeyLine(line string) (wire string, k authorizedKey, err error) {
	if len(line) > maxKeyLine {
		return "", k, fmt.Errorf("a line of %d bytes, at most %d are taken", len(line), maxKeyLine)
	}
	key, _, options, rest, err := gossh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return "", k, fmt.Errorf("not an authorized_keys line: %w", err)
	}
	if strings.TrimSpace(string(rest)) != "" {
		return "", k, errors.New("more than one line")
	}
	if err := checkKey(key); err != nil {
		return "", k, err
	}
	k.fingerprint = gossh.FingerprintSHA256(key)
	for _, o := range options {
		if err := k.option(o); err != nil {
			return "", k, fmt.Errorf("option %s: %w", optionName(o), err)
		}
	}
	return string(key.Marshal()), k, nil
}

// checkKey refuses keys that prove too little or cost too much (SSH-5).
func checkKey(key gossh.PublicKey) error {
	switch key.Type() {
	case gossh.KeyAlgoRSA, gossh.KeyAlgoECDSA256, gossh.KeyAlgoECDSA384, gossh.KeyAlgoECDSA521,
		gossh.KeyAlgoED25519, gossh.KeyAlgoSKECDSA256, gossh.KeyAlgoSKED25519:
	default:
		return fmt.Errorf("keys of type %q are not accepted", key.Type())
	}
	if ck, ok := key.(gossh.CryptoPublicKey); ok {
		if k, ok := ck.CryptoPublicKey().(*rsa.PublicKey); ok {
			if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
				return fmt.Errorf("an RSA key of %d bits; %d to %d are accepted", n, minRSABits, maxRSABits)
			}
		}
	}
	return nil
}

func optionName(o string) string {
	name, _, _ := strings.Cut(o, "=")
	return strings.ToLower(name)
}

// option takes one authorized_keys option. What restricts a login is kept, what concerns features that do
// not exist here is passed over, and anything else refuses the key: a restriction must not be lost
// because we do not know it.
func (k *authorizedKey) option(o string) error {
	_, value, has := strings.Cut(o, "=")
	value = strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`), `\"`, `"`)
	switch optionName(o) {
	case "agent-forwarding", "no-agent-forwarding", "port-forwarding", "no-port-forwarding", "pty", "no-pty",
		"user-rc", "no-user-rc", "x11-forwarding", "no-x11-forwarding", "permitopen", "permitlisten", "tunnel",
		"restrict", "environment", "no-touch-required":
		return nil
	case "from":
		if !has || k.from != nil {
			return errors.New("needs one list of addresses")
		}
		for _, s := range strings.Split(value, ",") {
			var r fromRule
			s, r.not = strings.CutPrefix(strings.TrimSpace(s), "!")
			p, err := parsePrefix(s)
			if err != nil {
				return fmt.Errorf("%q is no address or network; patterns and host names are not taken", s)
			}
			r.prefix = p
			k.from = append(k.from, r)
		}
		return nil
	case "expiry-time":
		t, err := parseExpiry(value)
		if err != nil {
			return err
		}
		if k.until.IsZero() || t.Before(k.until) {
			k.until = t
		}
		return nil
	}
	return errors.New("is not supported")
}

// parseExpiry reads YYYYMMDD[HHMM[SS]][Z], without Z in the machine's time zone.
func parseExpiry(s string) (time.Time, error) {
	loc := time.Local
	if s2, ok := strings.CutSuffix(strings.ToUpper(s), "Z"); ok {
		s, loc = s2, time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil && len(s) == len(layout) {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time YYYYMMDD[HHMM[SS]][Z]", s)
}

// find gives the line that lets a peer at remote in by the key in wire form.
func (r keyRing) find(wire []byte, remote netip.Addr, now time.Time) (authorizedKey, error) {
	if len(wire) == 0 || len(wire) > maxKeyWire {
		return authorizedKey{}, fmt.Errorf("a key of %d bytes", len(wire))
	}
	lines := r[string(wire)]
	if len(lines) == 0 {
		return authorizedKey{}, errNotListed
	}
	var err error
	for _, k := range lines {
		if err = k.admit(remote, now); err == nil {
			return k, nil
		}
	}
	return authorizedKey{}, err
}

var errNotListed = errors.New("the account does not list it")

func (k *authorizedKey) admit(remote netip.Addr, now time.Time) error {
	if !k.until.IsZero() && !now.Before(k.until) {
		return errors.New("its expiry-time is over")
	}
	if k.from == nil {
		return nil
	}
	remote = remote.Unmap().WithZone("")
	ok := false
	for _, r := range k.from {
		if r.prefix.Contains(remote) {
			if r.not {
				return errors.New("its option from excludes the address")
			}
			ok = true
		}
	}
	if !ok {
		return errors.New("its option from does not list the address")
	}
	return nil
}
