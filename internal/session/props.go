package session

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"sync"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
)

// PropName and Prop are dead properties: what a client has stored with a file or directory. They go with it,
// whichever protocol moves, copies or removes it.
type (
	PropName = account.PropName
	Prop     = account.Prop
)

// ErrTooManyProps: the resource may have no more or larger properties, or the storage no more resources that have
// any. It is a vfs.ErrQuota.
var ErrTooManyProps = fmt.Errorf("too many properties: %w", vfs.ErrQuota)

// propLimits bound properties (DAV-1): those of one resource, and the resources of a storage.
var propLimits = account.PropLimits{Count: 256, Bytes: 64 << 10, Resources: 250_000}

// propsInBytes is how much PropsIn keeps in memory; what is beyond is read one by one.
const propsInBytes = 8 << 20

// mayKeepProps is the right to change a resource's properties.
const mayKeepProps = mayUpload | mayOverwrite | mayCreateDirs

// Props are the dead properties of p.
func (x *Session) Props(ctx context.Context, p vfs.Path) ([]Prop, error) {
	v, err := x.begin()
	if err != nil {
		return nil, pathError("props", p, err)
	}
	defer x.done()
	if err := v.may("props", p, mayList); err != nil {
		return nil, err
	}
	if err := v.shown("props", p); err != nil {
		return nil, err
	}
	pl := v.place(p)
	list, err := x.srv.props.of(ctx, pl.lockKey())
	return list, fail("props", p, err)
}

// shown asks the patterns about looking at p.
func (v *view) shown(op string, p vfs.Path) error {
	if !v.tree.IsVirtual(p) && v.patterns.judge(p) == hidden {
		return pathError(op, p, fs.ErrNotExist)
	}
	return nil
}

// PropsIn are the dead properties of dir's children, by name: for a listing. It reads the store once for the
// directory, and not at all where nothing below has properties. What the store cannot give is left out.
func (x *Session) PropsIn(ctx context.Context, dir vfs.Path) (func(name string) []Prop, error) {
	v, err := x.begin()
	if err != nil {
		return nil, pathError("props", dir, err)
	}
	defer x.done()
	if !v.perms.at(dir).has(mayList) {
		return nil, refuse("props", dir)
	}
	if err := v.shown("props", dir); err != nil {
		return nil, err
	}
	pl := v.place(dir)
	of, whole, err := x.srv.props.in(ctx, pl.lockKey())
	if err != nil {
		return nil, fail("props", dir, err)
	}
	mounts := v.tree.Children(dir)
	if whole && len(mounts) == 0 {
		return func(name string) []Prop { return of[name] }, nil
	}
	return func(name string) []Prop {
		if list, ok := of[name]; ok || whole && !v.tree.HasChild(dir, name) {
			return list
		}
		p, err := dir.Child(name)
		if err != nil {
			return nil
		}
		pl := v.place(p)
		list, err := x.srv.props.of(ctx, pl.lockKey())
		if err != nil {
			return nil
		}
		return list
	}, nil
}

// PatchProps removes and sets dead properties of p, which must exist: all or nothing.
func (x *Session) PatchProps(ctx context.Context, p vfs.Path, set []Prop, remove []PropName) error {
	v, err := x.begin()
	if err != nil {
		return pathError("props", p, err)
	}
	defer x.done()
	if err := v.may("props", p, mayKeepProps); err != nil {
		return err
	}
	if err := v.seen("props", p); err != nil {
		return err
	}
	pl := v.place(p)
	return fail("props", p, x.patchProps(ctx, &pl, set, remove))
}

func (x *Session) patchProps(ctx context.Context, pl *place, set []Prop, remove []PropName) error {
	unlock, err := x.srv.names.lock(ctx, pl)
	if err != nil {
		return err
	}
	defer unlock()
	if err := x.unlocked(ctx, nil, pl, touchSelf); err != nil {
		return err
	}
	if !pl.IsMount && !pl.LeadsToMount {
		if _, err := pl.FS.Lstat(ctx, pl.Path); err != nil {
			return err
		}
	}
	err = x.srv.props.patch(ctx, pl.lockKey(), set, remove)
	if errors.Is(err, account.ErrLimit) {
		err = ErrTooManyProps
	}
	return err
}

// SyncProps reads again which directories hold properties: other nodes have changed that.
func (s *Server) SyncProps(ctx context.Context) error { return s.props.sync(ctx) }

// removed forgets what was kept with a name that is gone, and with dir with all below it. The caller holds the
// lock of the name.
func (x *Session) removed(ctx context.Context, pl *place, dir bool) {
	x.kept(ctx, pl, func(ctx context.Context) error {
		// RFC 4918 9.6: the locks go with the resource.
		return errors.Join(x.srv.locks.removeAt(ctx, pl.lockKey(), dir), x.srv.props.remove(ctx, pl.lockKey(), dir))
	})
}

// fresh forgets the properties of what stood at a name before, and was taken away behind our back. The caller
// holds the lock of the name.
func (x *Session) fresh(ctx context.Context, pl *place) {
	if k := pl.lockKey(); x.srv.props.may(k.dir(), false) {
		x.kept(ctx, pl, func(ctx context.Context) error { return x.srv.props.remove(ctx, k, false) })
	}
}

// renamed moves what was kept with a name. Locks do not move (RFC 4918 7.5): those at from end, those at to stay.
func (x *Session) renamed(ctx context.Context, from, to *place, dir bool) {
	x.kept(ctx, from, func(ctx context.Context) error {
		return errors.Join(x.srv.locks.removeAt(ctx, from.lockKey(), dir), x.srv.props.move(ctx, from.lockKey(), to.lockKey(), dir))
	})
}

// copied gives a copy the properties of what it was made of.
func (x *Session) copied(ctx context.Context, from, to *place) {
	x.kept(ctx, to, func(ctx context.Context) error { return x.srv.props.copy(ctx, from.lockKey(), to.lockKey()) })
}

// kept has do follow a change that is done and cannot be taken back: what fails is logged.
func (x *Session) kept(ctx context.Context, pl *place, do func(context.Context) error) {
	if x.srv.locks.n.Load() == 0 && x.srv.props.none() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWait)
	defer cancel()
	if err := do(ctx); err != nil {
		x.srv.log.Warn("locks or properties did not follow a change", "path", pl.p.String(), "error", err)
	}
}

// propStore is the store's properties, and which directories have any below, so that all else needs no read.
type propStore struct {
	store account.Props // nil: there are none
	seed  maphash.Seed

	loading sync.Mutex // one sync at a time

	mu    sync.RWMutex // guards the fields below
	known bool         // now has all of them; else the store is asked
	now   *propDirs
	next  *propDirs // while it is read from the store
}

func (s *propStore) init(store account.Props) {
	s.store, s.seed = store, maphash.MakeSeed()
	s.now = newPropDirs()
	s.known = store == nil
}

// sync learns which directories have properties below.
func (s *propStore) sync(ctx context.Context) error {
	if s.store == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*storeWait)
	defer cancel()
	s.loading.Lock()
	defer s.loading.Unlock()
	next := newPropDirs()
	s.mu.Lock()
	s.next = newPropDirs() // what comes meanwhile
	s.mu.Unlock()
	err := s.store.PropDirs(ctx, func(dir account.Resource) { next.add(s.seed, lockKey{dir.Storage, dir.Path}) })
	s.mu.Lock()
	defer s.mu.Unlock()
	came := s.next
	if s.next = nil; err != nil {
		return fmt.Errorf("read the properties: %w", err)
	}
	maps.Copy(next.direct, came.direct)
	maps.Copy(next.above, came.above)
	s.now, s.known = next, true
	return nil
}

// note remembers that a child of dir has properties.
func (s *propStore) note(dir lockKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, set := range []*propDirs{s.now, s.next} {
		if set != nil {
			set.add(s.seed, dir)
		}
	}
}

// propDirs are directories that have properties below.
type propDirs struct {
	direct map[uint64]struct{} // those of which a child has
	above  map[uint64]struct{} // these, and all that lie above them
}

func newPropDirs() *propDirs {
	return &propDirs{map[uint64]struct{}{}, map[uint64]struct{}{}}
}

func (d *propDirs) add(seed maphash.Seed, dir lockKey) {
	d.direct[maphash.Comparable(seed, dir)] = struct{}{}
	for ; ; dir = dir.dir() {
		h := maphash.Comparable(seed, dir)
		if _, ok := d.above[h]; ok {
			return
		}
		d.above[h] = struct{}{}
		if dir.path == "" {
			return
		}
	}
}

// none reports whether no file has properties at all.
func (s *propStore) none() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.known && len(s.now.direct) == 0
}

// may reports whether a child of dir may have properties; with below, whether anything below it may.
func (s *propStore) may(dir lockKey, below bool) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.known {
		return true
	}
	set := s.now.direct
	if below {
		set = s.now.above
	}
	if len(set) == 0 {
		return false
	}
	_, ok := set[maphash.Comparable(s.seed, dir)]
	return ok
}

func (s *propStore) of(ctx context.Context, k lockKey) ([]Prop, error) {
	if !s.may(k.dir(), false) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	return s.store.Props(ctx, k.resource())
}

func (s *propStore) in(ctx context.Context, dir lockKey) (map[string][]Prop, bool, error) {
	if !s.may(dir, false) {
		return nil, true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*storeWait)
	defer cancel()
	return s.store.PropsIn(ctx, dir.resource(), propsInBytes)
}

func (s *propStore) patch(ctx context.Context, k lockKey, set []Prop, remove []PropName) error {
	if s.store == nil {
		return vfs.ErrUnsupported
	}
	if len(set) > 0 {
		s.note(k.dir()) // before: a read meanwhile must find it
	} else if !s.may(k.dir(), false) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	return s.store.PatchProps(ctx, k.resource(), set, remove, propLimits)
}

func (s *propStore) remove(ctx context.Context, k lockKey, tree bool) error {
	if !s.may(k.dir(), false) && !(tree && s.may(k, true)) {
		return nil
	}
	return s.store.RemoveProps(ctx, k.resource(), tree)
}

func (s *propStore) move(ctx context.Context, from, to lockKey, tree bool) error {
	below := tree && s.may(from, true)
	if !below && !s.may(from.dir(), false) {
		return s.remove(ctx, to, tree) // of what stood there
	}
	s.note(to.dir())
	if err := s.store.MoveProps(ctx, from.resource(), to.resource(), tree); err != nil || !below {
		return err
	}
	return s.sync(ctx) // directories have new names
}

func (s *propStore) copy(ctx context.Context, from, to lockKey) error {
	if !s.may(from.dir(), false) {
		return s.remove(ctx, to, false)
	}
	s.note(to.dir())
	return s.store.CopyProps(ctx, from.resource(), to.resource(), propLimits)
}
