package auth

import (
	"context"
	"sync"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/account"
)

// follow follows the store's changes, those of other processes too, until ctx ends: what they touch is
// forgotten within about a second. While the changes cannot be read nothing is remembered.
func (a *Authenticator) follow(ctx context.Context, cfg cache.FollowConfig) {
	defer a.accounts.heard.Store(false)
	feed := func(ctx context.Context, after int64, limit int) ([]cache.Row, int64, error) {
		rows, newest, err := a.store.ChangesSince(ctx, after, limit)
		out := make([]cache.Row, len(rows))
		for i, r := range rows {
			out[i] = cache.Row{Seq: r.Seq, Kind: string(r.Kind), Key: r.Key}
		}
		return out, newest, err
	}
	cache.Follow(ctx, feed, cfg, a.apply) // its error is ctx's
}

// apply takes the outcome of one poll. Called by the follower's goroutine.
func (a *Authenticator) apply(b cache.Batch) {
	was := a.accounts.heard.Load()
	if b.Err != nil {
		a.accounts.heard.Store(false)
		a.accounts.epochs.DropAll()
		if was {
			a.log.Warn("the store's changes cannot be read; accounts are read anew at each login", "error", b.Err)
		}
		return
	}
	var ch Changed
	ch.All = b.All
	for _, r := range b.Rows {
		switch account.Kind(r.Kind) {
		case account.KindUser:
			a.accounts.epochs.Drop(fold(r.Key))
			ch.Users = append(ch.Users, r.Key)
		case account.KindGroup, account.KindFolder, account.KindRole:
			ch.All = true
		case account.KindIPList:
			ch.Lists = true
		case account.KindLock, account.KindProps:
			ch.Kept = true
		}
	}
	if ch.All {
		ch.Users = nil
		a.accounts.epochs.DropAll()
	}
	a.accounts.heard.Store(true)
	if ch.All || ch.Lists || ch.Kept || len(ch.Users) > 0 {
		a.changes.tell(ch)
	}
}

// Forget is for a change that this process has just made: what is remembered of it is gone when Forget
// returns, without waiting for the next poll.
func (a *Authenticator) Forget(kind account.Kind, key string) {
	ch := Changed{}
	switch kind {
	case account.KindUser:
		a.accounts.epochs.Drop(fold(key))
		ch.Users = []string{key}
	case account.KindGroup, account.KindFolder, account.KindRole:
		a.accounts.epochs.DropAll()
		ch.All = true
	case account.KindIPList:
		ch.Lists = true
	default:
		return
	}
	a.changes.tell(ch)
}

// Changed says which accounts may have changed: all, or those of Users; and whether IP lists have, or the locks and
// properties of files. All is everything.
type Changed struct {
	All   bool
	Users []string
	Lists bool
	Kept  bool
}

// OnChange has fn called after accounts have changed and been forgotten, so that live sessions can be
// checked again. Calls come one after another from a goroutine of their own and may take their time: what
// changes meanwhile is gathered for the next one.
func (a *Authenticator) OnChange(fn func(ctx context.Context, ch Changed)) {
	a.changes.mu.Lock()
	defer a.changes.mu.Unlock()
	a.changes.subs = append(a.changes.subs, fn)
}

// maxChanged bounds the names that wait to be told; above it everything has changed.
const maxChanged = 1000

// notifier tells subscribers of changes.
type notifier struct {
	wake chan struct{} // holds one

	mu      sync.Mutex // guards the fields below
	subs    []func(context.Context, Changed)
	pending Changed
}

// tell has the subscribers called soon. It does not wait.
func (n *notifier) tell(ch Changed) {
	n.mu.Lock()
	n.pending.Lists = n.pending.Lists || ch.Lists
	n.pending.Kept = n.pending.Kept || ch.Kept
	n.pending.All = n.pending.All || ch.All || len(n.pending.Users)+len(ch.Users) > maxChanged
	if n.pending.All {
		n.pending.Users = nil
	} else {
		n.pending.Users = append(n.pending.Users, ch.Users...)
	}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// run calls the subscribers until ctx ends.
func (n *notifier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		n.mu.Lock()
		subs, ch := n.subs, n.pending
		n.pending = Changed{}
		n.mu.Unlock()
		for _, fn := range subs {
			if ctx.Err() != nil {
				return
			}
			fn(ctx, ch)
		}
	}
}
