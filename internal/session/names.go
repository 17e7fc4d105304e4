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
	key  lockKey       // the file, as locks know it
	held chan struct{} // one token
	refs int           // guarded by pathLocks.mu
}

func (l *pathLocks) init() { l.m = map[nameKey]*pathLock{} }

// lock takes one name, or two in their order. It waits no longer than lockWait.
func (l *pathLocks) lock(ctx context.Context, places ...*place) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	keys := make([]nameKey, 0, 2)
	if len(places) == 2 {
		switch a, b := places[0].name(), places[1].name(); {
		case a == b:
			places = places[:1]
		case b.less(a):
			places = []*place{places[1], places[0]}
		}
	}
	for i, pl := range places {
		keys = append(keys, pl.name())
		if err := l.take(ctx, keys[i], pl); err != nil {
			l.give(keys[:i])
			return nil, fmt.Errorf("%w: another operation holds the name: %w", ErrBusy, err)
		}
	}
	return func() { l.give(keys) }, nil
}

// drain waits until each operation has ended that is under way now at a name that concerns; those that begin
// meanwhile are not waited for.
func (l *pathLocks) drain(ctx context.Context, concerns func(lockKey) bool) error {
	l.mu.Lock()
	var busy []nameKey
	for k, p := range l.m {
		if concerns(p.key) {
			busy = append(busy, k)
		}
	}
	l.mu.Unlock()
	for _, k := range busy {
		if err := l.take(ctx, k, nil); err != nil {
			return fmt.Errorf("%w: another operation holds a name: %w", ErrBusy, err)
		}
		l.give([]nameKey{k})
	}
	return nil
}

// take takes one name. With a nil pl it takes only one that is held, or was.
func (l *pathLocks) take(ctx context.Context, k nameKey, pl *place) error {
	l.mu.Lock()
	p := l.m[k]
	if p == nil {
		p = &pathLock{held: make(chan struct{}, 1)}
		if pl != nil {
			p.key = pl.lockKey()
		}
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
