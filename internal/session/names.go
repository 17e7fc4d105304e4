package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/gantryhq/gantry/vfs"
)

// nameKey is a name in a storage, whoever looks at it.
type nameKey struct {
	storage string
	path    vfs.Path
}

func (pl *place) name() nameKey { return nameKey{pl.id, pl.Path} }

func (k nameKey) less(l nameKey) bool { return k.compare(l) < 0 }

func (k nameKey) compare(l nameKey) int {
	if c := strings.Compare(k.storage, l.storage); c != 0 {
		return c
	}
	return k.path.Compare(l.path)
}

// pathLocks lets one operation at a time change what a name stands for, so that what is counted is what was
// done: the size looked at is the size removed or replaced. Transfers take it at their begin and end only.
type pathLocks struct {
	mu      sync.Mutex
	m       map[nameKey]*pathLock
	watches map[*nameWatch]struct{}
}

// nameWatch notes which names in a directory operations have taken since it began, so that what a listing told of
// the others still holds.
type nameWatch struct {
	dir   nameKey
	taken map[vfs.Path]int // how often; guarded by pathLocks.mu
	all   bool             // the directory itself was taken, or too many names; guarded by pathLocks.mu
}

// maxWatched bounds what a watch remembers.
const maxWatched = 10_000

// watch begins to note the names in dir that are taken. The caller ends it with unwatch.
func (l *pathLocks) watch(dir *place) *nameWatch {
	w := &nameWatch{dir: dir.name(), taken: map[vfs.Path]int{}}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watches == nil {
		l.watches = map[*nameWatch]struct{}{}
	}
	l.watches[w] = struct{}{}
	for k := range l.m { // what is under way may end after the listing began
		w.note(k)
	}
	return w
}

func (l *pathLocks) unwatch(w *nameWatch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.watches, w)
}

// note is told of a name that is taken. The caller holds pathLocks.mu.
func (w *nameWatch) note(k nameKey) {
	switch {
	case w.all || k.storage != w.dir.storage:
	case w.dir.path.Within(k.path) || len(w.taken) >= maxWatched:
		w.all, w.taken = true, nil
	case k.path.Dir() == w.dir.path:
		w.taken[k.path]++
	}
}

// touched reports whether anybody but the caller, who holds the name, has taken it since the watch began, and forgets
// it.
func (l *pathLocks) touched(w *nameWatch, k nameKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := w.taken[k.path]
	delete(w.taken, k.path)
	return w.all || n > 1
}

type pathLock struct {
	key  lockKey       // the file, as locks know it
	held chan struct{} // one token
	refs int           // guarded by pathLocks.mu
}

func (l *pathLocks) init() { l.m = map[nameKey]*pathLock{} }

// lock takes names in their order. It waits no longer than lockWait.
func (l *pathLocks) lock(ctx context.Context, places ...*place) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	keys := make([]nameKey, 0, max(len(places), 2))
	switch {
	case len(places) == 2:
		switch a, b := places[0].name(), places[1].name(); {
		case a == b:
			places = places[:1]
		case b.less(a):
			places = []*place{places[1], places[0]}
		}
	case len(places) > 2:
		places = slices.Clone(places)
		slices.SortFunc(places, func(a, b *place) int { return a.name().compare(b.name()) })
		places = slices.CompactFunc(places, func(a, b *place) bool { return a.name() == b.name() })
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
	for w := range l.watches {
		w.note(k)
	}
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
