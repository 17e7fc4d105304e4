package rest

import (
	"context"
	"strconv"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// Shared is where the nodes that share a database tell each other of tokens that ended (AUTH-8). account.Shared is one.
type Shared interface {
	PutValue(ctx context.Context, kind, key string, value []byte, life time.Duration) error
	ValuesSince(ctx context.Context, kind string, since int64) (list []account.SharedValue, now int64, err error)
}

const (
	revokedKind  = "revoked"              // of shared values: the key is a token's id, the value its end in s since 1970
	followTokens = 500 * time.Millisecond // between two looks
	sharedWait   = 5 * time.Second        // of one
	// overlap is how far back a look goes beyond the one before: a value is there for others when its transaction ends,
	// which may be later than others that came after it.
	overlap = 10_000 // ms
)

// revoke ends a token before its time, on all nodes. It is ended on this one whatever the error.
func (a *API) revoke(ctx context.Context, c *claims) error {
	end := c.ExpiresAt.Add(time.Minute)
	a.note(c.ID, end)
	if a.Shared == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sharedWait)
	defer cancel()
	return a.Shared.PutValue(ctx, revokedKind, c.ID, strconv.AppendInt(nil, end.Unix(), 10), end.Sub(a.Now()))
}

func (a *API) note(id string, end time.Time) {
	now := a.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.After(a.swept.Add(time.Minute)) {
		a.swept = now
		for id, end := range a.revoked {
			if now.After(end) {
				delete(a.revoked, id)
			}
		}
	}
	a.revoked[id] = end
}

func (a *API) isRevoked(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.revoked[id]
	return ok
}

// SyncTokens reads which tokens other nodes have ended since an earlier call, which gave since; 0 is all.
func (a *API) SyncTokens(ctx context.Context, since int64) (now int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, sharedWait)
	defer cancel()
	list, now, err := a.Shared.ValuesSince(ctx, revokedKind, max(0, since-overlap))
	if err != nil {
		return since, err
	}
	for _, v := range list {
		end, err := strconv.ParseInt(string(v.Value), 10, 64)
		if err != nil { // it lives no longer than a token may
			end = a.Now().Add(maxTokenLife).Unix()
		}
		a.note(v.Key, time.Unix(end, 0))
	}
	return now, nil
}

// maxTokenLife is longer than any token's: see jwt_lifetime.
const maxTokenLife = 24 * time.Hour

// FollowTokens goes on with SyncTokens until ctx ends. While the database is gone no node can end a token for others.
func (a *API) FollowTokens(ctx context.Context, since int64) {
	tick := time.NewTicker(followTokens)
	defer tick.Stop()
	well := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := a.SyncTokens(ctx, since)
		since = now
		if err != nil && well && ctx.Err() == nil {
			a.Log.Warn("tokens that other nodes have ended are not known until the database is back", "error", err)
		}
		well = err == nil
	}
}
