package session

import (
	"context"
	"fmt"
	"sync"

	"github.com/gantryhq/gantry/vfs"
)

// nameKey is a name in a storage, whoever looks at it.
type nameKey struct {
	storage string
	path    vfs.Path
}

func (pl *place) name() nameKey { return nameKey{pl.id, pl.Path} }

func (k nameKey) less(l nameKey) bool {
	if k.storage != l.storage {
		return k.storage < l.storage
	}
	return k.path.Compare(l.path) < 0
}

// pathLocks lets one operation at a time change what a name stands for, so that what is counted is what was
// done: the size looked at is the size removed or replaced. Transfers take it at their begin and end only.
type pathLocks struct {
	mu sync.Mutex
	m  map[nameKey]*pathLock
}

type pathLock struct {
	held chan struct{} // one token
	refs int           // guarded by pathLocks.mu
}

func (l *pathLocks) init() { l.m = map[nameKey]*pathLock{} }

// lock takes one name, or two in their order. It waits no longer than lockWait.
func (l *pathLocks) lock(ctx context.Context, places ...*place) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	keys := make([]nameKey, 0, 2)
	for _, pl := range places {
		keys = append(keys, pl.name())
	}
	if len(keys) == 2 {
		switch {
		case keys[0] == keys[1]:
			keys = keys[:1]
		case keys[1].less(keys[0]):
			keys[0], keys[1] = keys[1], keys[0]
		}
	}
	for i, k := range keys {
		if err := l.take(ctx, k); err != nil {
			l.give(keys[:i])
			return nil, fmt.Errorf("%w: another operation holds the name: %w", ErrBusy, err)
		}
	}
	return func() { l.give(keys) }, nil
}

func (l *pathLocks) take(ctx context.Context, k nameKey) error {
	l.mu.Lock()
	p := l.m[k]
	if p == nil {
		p = &pathLock{held: make(chan struct{}, 1)}
		l.m[k] = p
	}
	p.refs++
	l.mu.Unlock()
	select {
	case p.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		l.drop(k, p)
		return ctx.Err()
	}
}

func (l *pathLocks) give(keys []nameKey) {
	for _, k := range keys {
		l.mu.Lock()
		p := l.m[k]
		l.mu.Unlock()
		<-p.held
		l.drop(k, p)
	}
}

func (l *pathLocks) drop(k nameKey, p *pathLock) {
	l.mu.Lock()
	if p.refs--; p.refs == 0 {
		delete(l.m, k)
	}
	l.mu.Unlock()
}
