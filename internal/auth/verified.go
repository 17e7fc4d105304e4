package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
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
	macs sync.Pool // of hash.Hash, under the key
	memo *cache.Memo[string, proof]

	mu      sync.Mutex // guards waiting
	waiting map[proof]*proving
}

// proof is the HMAC of a password.
type proof [sha256.Size]byte

// proving is a check under way. ok may be read when done is closed.
type proving struct {
	done chan struct{}
	ok   bool
}

func newVerified(now func() time.Time) (*verified, error) {
	m, err := cache.New[string, proof](cache.Config{MaxCost: verifiedMax, TTL: verifiedTTL, Now: now})
	if err != nil {
		return nil, err
	}
	key := make([]byte, sha256.Size)
	rand.Read(key)
	return &verified{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}, memo: m, waiting: map[proof]*proving{}}, nil
}

func (v *verified) close() { v.memo.Close() }

// check reports whether plain is known to be u's password, else what prove finds. Of many that come with the
// same password at once, one proves it and the others wait: a client with many connections costs one hash.
// Who waited for a wrong one proves anew, so that each guess costs its hash.
func (v *verified) check(ctx context.Context, u *account.User, plain string, prove func() (bool, error)) (bool, error) {
	sum := v.sum(u, plain)
	if old, ok := v.memo.Get(u.Username, cache.Epoch{}); ok && hmac.Equal(old[:], sum[:]) {
		return true, nil
	}
	v.mu.Lock()
	first := v.waiting[sum]
	if first != nil {
		v.mu.Unlock()
		select {
		case <-first.done:
		case <-ctx.Done():
			return false, ctx.Err()
		}
		if first.ok {
			return true, nil
		}
		return prove()
	}
	me := &proving{done: make(chan struct{})}
	v.waiting[sum] = me
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		delete(v.waiting, sum)
		v.mu.Unlock()
		close(me.done)
	}()
	ok, err := prove()
	if ok && err == nil {
		me.ok = true
		v.memo.Put(u.Username, sum, cache.Epoch{}, 1)
	}
	return me.ok, err
}

func (v *verified) sum(u *account.User, plain string) (sum proof) {
	h := v.macs.Get().(hash.Hash)
	defer v.macs.Put(h)
	h.Reset()
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
