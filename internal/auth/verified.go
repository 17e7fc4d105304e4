package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"time"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/account"
)

// The bounds of what is remembered of verified passwords.
const (
	verifiedMax = 65536
	verifiedTTL = time.Hour
)

// verified remembers that a password was the right one, as an HMAC under a key that only this process has,
// over the account, its stored hash and the password. A changed hash is another HMAC, so that nothing has to
// be invalidated. A guess that is not remembered as right costs a real hash.
type verified struct {
	key  []byte
	memo *cache.Memo[string, [sha256.Size]byte]
}

func newVerified(now func() time.Time) (*verified, error) {
	m, err := cache.New[string, [sha256.Size]byte](cache.Config{MaxCost: verifiedMax, TTL: verifiedTTL, Now: now})
	if err != nil {
		return nil, err
	}
	v := &verified{key: make([]byte, 32), memo: m}
	rand.Read(v.key)
	return v, nil
}

func (v *verified) close() { v.memo.Close() }

func (v *verified) known(u *account.User, plain string) bool {
	sum, ok := v.memo.Get(u.Username, cache.Epoch{})
	if !ok {
		return false
	}
	now := v.sum(u, plain)
	return hmac.Equal(sum[:], now[:])
}

func (v *verified) remember(u *account.User, plain string) {
	v.memo.Put(u.Username, v.sum(u, plain), cache.Epoch{}, 1)
}

func (v *verified) sum(u *account.User, plain string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, v.key)
	writeField(h, u.Username)
	writeField(h, u.Password)
	writeField(h, plain)
	h.Sum(sum[:0])
	return sum
}

// writeField writes s behind its length, so that no two lists of fields are the same bytes.
func writeField(h hash.Hash, s string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(s)))
	h.Write(n[:])
	h.Write([]byte(s))
}
