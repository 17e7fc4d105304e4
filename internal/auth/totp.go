package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
)

// TOTPConfig is one of mfa.totp: accounts name it.
type TOTPConfig struct {
	Name   string `json:"name"`
	Issuer string `json:"issuer"`
	Algo   string `json:"algo"` // sha1, sha256 or sha512
}

// DefaultTOTP is what holds where the configuration names none.
func DefaultTOTP() []TOTPConfig {
	return []TOTPConfig{{Name: "Default", Issuer: "Gantry", Algo: "sha1"}}
}

// Validate says what is wrong with c.
func (c TOTPConfig) Validate() error {
	if c.Name == "" || c.Issuer == "" {
		return errors.New("a name and an issuer are needed")
	}
	if totpHash(c.Algo) == nil {
		return fmt.Errorf("algo %q is not sha1, sha256 or sha512", c.Algo)
	}
	return nil
}

// NewTOTP makes the secret of an enrolment, and the URL that an authenticator application reads.
func (c TOTPConfig) NewTOTP(username string) (secretText, link string) {
	raw := make([]byte, 20)
	rand.Read(raw)
	secretText = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw)
	v := url.Values{"secret": {secretText}, "issuer": {c.Issuer}, "algorithm": {strings.ToUpper(c.Algo)}, "digits": {"6"}, "period": {"30"}}
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + c.Issuer + ":" + username, RawQuery: v.Encode()}
	return secretText, u.String()
}

// NewRecoveryCodes makes codes to be shown once, and what is stored of them: their digests.
func NewRecoveryCodes(n int) (shown []string, stored []account.RecoveryCode) {
	for range n {
		code := rand.Text()
		sum := sha256.Sum256([]byte(code))
		shown = append(shown, code)
		stored = append(stored, account.RecoveryCode{Secret: secret.New("{SHA256}" + hex.EncodeToString(sum[:]))})
	}
	return shown, stored
}

// The rules of codes (RFC 6238): 6 digits, 30 s, one step of drift either way.
const (
	totpPeriod = 30
	totpDrift  = 1
	totpDigits = 6
)

func totpHash(algo string) func() hash.Hash {
	switch algo {
	case "sha1":
		return func() hash.Hash { return sha1.New() }
	case "sha256":
		return func() hash.Hash { return sha256.New() }
	case "sha512":
		return func() hash.Hash { return sha512.New() }
	}
	return nil
}

// totpCode is RFC 4226 5.3 over the counter of RFC 6238 4.2.
func totpCode(newHash func() hash.Hash, key []byte, step int64) string {
	m := hmac.New(newHash, key)
	binary.Write(m, binary.BigEndian, step)
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

// CheckTOTP gives the time step of a code, and whether it is one of secretText around now. Use it for
// enrolment, where nothing must be remembered.
func CheckTOTP(algo, secretText, code string, now time.Time) (step int64, ok bool, err error) {
	newHash := totpHash(algo)
	if newHash == nil {
		return 0, false, fmt.Errorf("totp: algorithm %q is not known", algo)
	}
	text := strings.ToUpper(strings.NewReplacer(" ", "", "-", "", "=", "").Replace(secretText))
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	if err != nil || len(key) < 10 {
		return 0, false, errors.New("totp: the secret is not base32 of at least 80 bits")
	}
	at := now.Unix() / totpPeriod
	for s := at - totpDrift; s <= at+totpDrift; s++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(newHash, key, s)), []byte(code)) == 1 {
			step, ok = s, true // the newest, so that one code is one step
		}
	}
	return step, ok, nil
}

// The bounds of guessing codes (AUTH-7): so many wrong ones of an account, and of an address, in a window.
const (
	maxWrongCodes = 10
	wrongWindow   = 10 * time.Minute
	maxFactors    = 1 << 16 // accounts and addresses remembered; more are refused
)

// factors checks second factors. It remembers the last step of each account, so that no code serves twice,
// and who guesses.
type factors struct {
	configs []TOTPConfig
	box     *secret.Box
	editor  Editor
	kept    Steps

	mu    sync.Mutex       // guards what follows
	steps map[string]int64 // by account
	wrong map[any]guesses
}

// guesses are wrong codes since a time.
type guesses struct {
	n     int
	since time.Time
}

var (
	errWrongCode = errors.New("the code is wrong, or was used before")
	errGuessing  = fmt.Errorf("more than %d wrong codes in %v; wait", maxWrongCodes, wrongWindow)
)

// ErrCodeNeeded is the cause of a Denied whose password was right and that lacks Attempt.Code.
var ErrCodeNeeded = errors.New("a code of the second factor is needed")

// check proves code for u. Its error is a *Denied.
func (f *factors) check(ctx context.Context, u *account.User, remote netip.Addr, code string, now time.Time) error {
	remote = remote.Unmap()
	if f.guessing(u, remote, now) {
		return deny(ReasonBusy, errGuessing)
	}
	ok, err := f.matches(ctx, u, strings.TrimSpace(code), now)
	if err != nil {
		return deny(ReasonSecondFactor, err)
	}
	if !ok {
		f.guessed(u, remote, now)
		return deny(ReasonSecondFactor, errWrongCode)
	}
	return nil
}

func (f *factors) matches(ctx context.Context, u *account.User, code string, now time.Time) (bool, error) {
	c := &u.Filters.TOTPConfig
	i := slices.IndexFunc(f.configs, func(t TOTPConfig) bool { return t.Name == c.ConfigName })
	if i < 0 {
		return false, fmt.Errorf("mfa.totp has no configuration %q", c.ConfigName)
	}
	if len(code) != totpDigits {
		return f.recover(ctx, u, code)
	}
	text, err := f.box.Open(c.Secret)
	if err != nil {
		return false, fmt.Errorf("the secret of the second factor: %w", err)
	}
	step, ok, err := CheckTOTP(f.configs[i].Algo, text, code, now)
	if err != nil || !ok {
		return false, err
	}
	if fresh, err := f.use(u, step, now); !fresh || f.kept == nil {
		return fresh, err
	}
	// The server may have been started since a code was used, and another node may have taken it.
	fresh, err := f.kept.UseStep(ctx, u.Username, step)
	if errors.Is(err, account.ErrNotFound) { // an account of an external source
		return true, nil
	}
	return fresh && err == nil, err
}

// use notes a step and reports whether it is newer than all before it (RFC 6238 5.2: a code, and any older one,
// serves once).
func (f *factors) use(u *account.User, step int64, now time.Time) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last, known := f.steps[fold(u.Username)]; known && step <= last {
		return false, nil
	} else if !known && len(f.steps) >= maxFactors {
		f.sweep(now)
		if len(f.steps) >= maxFactors {
			return false, errors.New("too many accounts log in with a second factor")
		}
	}
	f.steps[fold(u.Username)] = step
	return true, nil
}

// recover takes a recovery code, which the store marks as used before it counts. Without a store that can
// do that in one step no code is taken.
func (f *factors) recover(ctx context.Context, u *account.User, code string) (bool, error) {
	if code == "" || len(code) > 128 || f.editor == nil || len(u.Filters.RecoveryCodes) == 0 {
		return false, nil
	}
	sum := sha256.Sum256([]byte(code))
	hashed := "{SHA256}" + hex.EncodeToString(sum[:])
	taken := false
	err := f.editor.EditUser(ctx, u.Username, func(now *account.User) error {
		if now.ID != u.ID || !now.Filters.TOTPConfig.Enabled {
			return errNoEdit
		}
		for i := range now.Filters.RecoveryCodes {
			r := &now.Filters.RecoveryCodes[i]
			text, err := f.box.Open(r.Secret)
			if err != nil || text == "" || r.Used {
				continue
			}
			want := code
			if strings.HasPrefix(text, "{SHA256}") {
				want = hashed
			}
			if subtle.ConstantTimeCompare([]byte(text), []byte(want)) == 1 {
				r.Used, taken = true, true
				return nil
			}
		}
		return errNoEdit
	})
	if errors.Is(err, errNoEdit) {
		return false, nil
	}
	return taken && err == nil, err
}

var errNoEdit = errors.New("nothing to change")

func (f *factors) guessing(u *account.User, remote netip.Addr, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range []any{fold(u.Username), remote} {
		if g, ok := f.wrong[k]; ok && now.Sub(g.since) < wrongWindow && g.n >= maxWrongCodes {
			return true
		}
	}
	if len(f.wrong) >= maxFactors {
		f.sweep(now)
	}
	return len(f.wrong) >= maxFactors
}

func (f *factors) guessed(u *account.User, remote netip.Addr, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range []any{fold(u.Username), remote} {
		g := f.wrong[k]
		if now.Sub(g.since) >= wrongWindow {
			g = guesses{since: now}
		}
		g.n++
		f.wrong[k] = g
	}
}

// sweep forgets what has no effect any more. Called with mu.
func (f *factors) sweep(now time.Time) {
	old := now.Unix()/totpPeriod - 2*totpDrift
	for k, step := range f.steps {
		if step < old {
			delete(f.steps, k)
		}
	}
	for k, g := range f.wrong {
		if now.Sub(g.since) >= wrongWindow {
			delete(f.wrong, k)
		}
	}
}
