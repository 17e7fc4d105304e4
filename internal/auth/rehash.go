package auth

import (
	"context"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// Editor changes one record in one step.
type Editor interface {
	// EditUser gives the stored user to fn and writes what fn made of it, all in one transaction. An error
	// of fn ends it without a change and is given back.
	EditUser(ctx context.Context, name string, fn func(u *account.User) error) error
}

// Steps remembers which time steps of one-time codes were used. fresh is false for one that was, or is older.
type Steps interface {
	UseStep(ctx context.Context, user string, step int64) (fresh bool, err error)
}

// hashing is what a Passwords may offer beside: a Hasher does.
type hashing interface {
	Hash(ctx context.Context, plain string) (string, error)
	Preferred(stored string) bool
}

// cheapness is what a Passwords may offer beside: a Hasher does.
type cheapness interface{ Cheap(stored string) bool }

// rehashWait bounds the writing of a new hash.
const rehashWait = 5 * time.Second

// rehash replaces a stored hash of another algorithm than the configured one, now that the password is
// known. The login does not depend on it.
func (a *Authenticator) rehash(ctx context.Context, u *account.User, plain string) {
	h, ok := a.passwords.(hashing)
	if !ok || a.editor == nil || h.Preferred(u.Password) {
		return
	}
	if _, busy := a.rehashing.LoadOrStore(u.Username, true); busy {
		return
	}
	defer a.rehashing.Delete(u.Username)
	ctx, cancel := context.WithTimeout(ctx, rehashWait)
	defer cancel()
	fresh, err := h.Hash(ctx, plain)
	if err == nil {
		err = a.editor.EditUser(ctx, u.Username, func(now *account.User) error {
			if now.Password != u.Password {
				return errNoEdit
			}
			now.Password = fresh
			return nil
		})
	}
	if err != nil {
		a.log.Info("stored password keeps its old form", "user", u.Username, "error", err)
		return
	}
	a.Forget(account.KindUser, u.Username)
	a.log.Info("stored password has the configured form now", "user", u.Username)
}
