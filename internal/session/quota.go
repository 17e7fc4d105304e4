package session

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
)

// leaseFiles is how many files a node takes at a time.
const leaseFiles = 16

// lease is how much room a growing file takes at a time; less near the limit, so that parallel uploads
// share what is left.
const lease = 8 << 20

// books is one operation's hold on the account that it changes.
type books struct {
	t      *tally
	charge *charge
	count  bool // else only the durable mark is kept, for the sweep of temporary files
}

// enter opens the books of an operation on what c counts. grows says that the operation may use more room:
// an account with limits is then refused while its counters are not known; anything else goes on, its
// changes written when the store is back. durable asks for the mark even if nothing is counted.
func (s *Server) enter(ctx context.Context, c *charge, grows, durable bool) (*books, error) {
	if !c.tracked && !durable {
		return nil, nil
	}
	b := &books{t: s.ledger.tally(c.key), charge: c, count: c.tracked}
	if err := b.t.begin(ctx); err != nil {
		if grows && c.limited() || ctx.Err() != nil {
			b.leave()
			return nil, err
		}
		if !errors.Is(err, account.ErrNotFound) {
			s.log.Error("going on without the store", "kind", c.key.Kind, "name", c.key.Name, "error", err)
		}
	}
	return b, nil
}

// leave closes the books. A nil books is closed already.
func (b *books) leave() {
	if b != nil {
		b.t.end()
		b.t.release()
	}
}

// move counts a change.
func (b *books) move(files, bytes int64) {
	if b != nil && b.count {
		b.t.move(files, bytes)
	}
}

// limited reports whether the account has a limit to keep.
func (b *books) limited() bool { return b != nil && b.count && b.charge.limited() }

// admit is the check at open: a new file needs a free one, and both need a free byte.
func (b *books) admit(newFile bool) error {
	if !b.limited() {
		return nil
	}
	b.t.renew()
	files, bytes, heldFiles, _ := b.t.used()
	if newFile && b.charge.files > 0 && files+heldFiles >= b.charge.files || b.charge.bytes > 0 && bytes >= b.charge.bytes {
		return ErrQuota
	}
	return nil
}

// holdFile reserves one file of an account that has a limit of them.
func (b *books) holdFile() error {
	return b.t.withRoom(account.Room{Files: 1}, account.Room{Files: leaseFiles}, b.charge.limit(), func(free account.Room) bool {
		if free.Files < 1 {
			return false
		}
		b.t.heldFiles++
		return true
	})
}

// growth is the room of one file: what of it is counted, and up to where writes are paid for. The part
// between is reserved. Shared by the handles that write to one file in place.
type growth struct {
	t       *tally       // nil: nothing is counted
	ceiling atomic.Int64 // bytes; moved with t.mu held
	end     atomic.Int64 // where an append goes, at most

	// Guarded by t.mu.
	counted int64 // bytes of the file that are in t.bytes
	held    int64 // bytes reserved: up to the ceiling
}

// start begins with a file of which size bytes are counted.
func (g *growth) start(t *tally, size int64) {
	g.t, g.counted = t, size
	g.ceiling.Store(size)
	g.end.Store(size)
}

// raise notes that the file may reach end, for appends that follow.
func (g *growth) raise(end int64) {
	for {
		was := g.end.Load()
		if end <= was || g.end.CompareAndSwap(was, end) {
			return
		}
	}
}

// ensure pays for the file up to end, with the account's limit. No lock is taken below the ceiling.
func (g *growth) ensure(end, limit int64) error {
	if end <= g.ceiling.Load() {
		return nil
	}
	return g.extend(end, limit, lease)
}

// extend takes room up to end at least, and up to spare more where there is plenty.
func (g *growth) extend(end, limit, spare int64) error {
	if limit <= 0 {
		return nil // no limit: nothing to hold
	}
	need := end - g.ceiling.Load()
	if need <= 0 {
		return nil
	}
	return g.t.withRoom(account.Room{Bytes: need}, account.Room{Bytes: 2 * spare}, account.Room{Bytes: limit}, func(free account.Room) bool {
		top := g.ceiling.Load()
		need := end - top
		if need <= 0 {
			return true
		}
		if need > free.Bytes {
			return false
		}
		got := min(max(need, min(spare, free.Bytes/4)), free.Bytes)
		g.t.heldBytes += got
		g.held += got
		g.ceiling.Store(top + got)
		return true
	})
}

// settle counts the file at size, which it has now. What was reserved and not used stays reserved. links is
// the number of names that the file has in the account.
func (g *growth) settle(size int64, links int64) {
	if g.t == nil {
		return
	}
	g.t.mu.Lock()
	g.t.moveLocked(0, (size-g.counted)*max(1, links))
	g.reserve(size)
	g.t.mu.Unlock()
	g.t.ledger.poke()
}

// reserve makes the counted part end at size; the ceiling stays, or rises to it.
func (g *growth) reserve(size int64) {
	g.counted = size
	top := max(g.ceiling.Load(), size)
	if g.held > 0 || top > size {
		held := g.held
		g.held = top - size
		g.t.heldBytes += g.held - held
	}
	g.ceiling.Store(top)
}

// release gives back what is reserved.
func (g *growth) release() {
	if g.t == nil {
		return
	}
	g.t.mu.Lock()
	g.t.heldBytes -= g.held
	g.held = 0
	g.ceiling.Store(g.counted)
	g.t.mu.Unlock()
}

// fileKey is one file of one storage: by its inode where there is such a thing, so that every name and
// every link of it counts as the one file it is; else by its path.
type fileKey struct {
	storage  string
	dev, ino uint64
	path     vfs.Path
}

func keyOf(pl *place, i vfs.FileInfo) fileKey {
	if i.Ino != 0 {
		return fileKey{storage: pl.id, dev: i.Dev, ino: i.Ino}
	}
	return fileKey{storage: pl.id, path: pl.Path}
}

// openFile is a file that handles write to in place. Its names are changed with its path locks held.
type openFile struct {
	key  fileKey
	refs int // guarded by openFiles.mu

	room growth
	// gone: no name is left, so nothing more of it counts. Guarded by openFiles.mu.
	gone bool

	// sizing is held from reading the size until it is counted, and from reading what is counted until a name is
	// gone: the lock of a name is not enough, for a file may be renamed while it is written.
	sizing sync.Mutex
}

// openFiles is the table of files being written in place, of all accounts.
type openFiles struct {
	mu sync.Mutex
	m  map[fileKey]*openFile
}

func (o *openFiles) init() { o.m = map[fileKey]*openFile{} }

// open finds or makes the entry of a file that has size bytes counted.
func (o *openFiles) open(key fileKey, t *tally, size int64) *openFile {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.m[key]
	if f == nil {
		f = &openFile{key: key}
		f.room.start(t, size)
		o.m[key] = f
	}
	f.refs++
	return f
}

// close lets go of f, the last one giving back what is reserved.
func (o *openFiles) close(f *openFile) {
	o.mu.Lock()
	f.refs--
	last := f.refs == 0
	if last && o.m[f.key] == f {
		delete(o.m, f.key)
	}
	o.mu.Unlock()
	if last {
		f.room.release()
	}
}

// settle counts f at the size that stat gives, unless f has no name any more.
func (o *openFiles) settle(f *openFile, stat func() (vfs.FileInfo, error)) (vfs.FileInfo, error) {
	f.sizing.Lock()
	defer f.sizing.Unlock()
	i, err := stat()
	if err == nil && !o.isGone(f) {
		f.room.settle(i.Size, int64(i.Nlink))
	}
	return i, err
}

// unlinking is a name that is being taken from a file.
type unlinking struct {
	table *openFiles
	f     *openFile // nil: nobody writes to it
	// counted is how many bytes of the file the counters hold.
	counted int64
	last    bool // it is the file's last name
	done    bool
}

// unlink begins to take the name pl from the file i, before the storage does: from then on the number of its inode
// may be that of another file. The count of the file stays as it is until end, which must be called.
func (o *openFiles) unlink(pl *place, i vfs.FileInfo) *unlinking {
	u := &unlinking{table: o, counted: i.Size, last: i.Nlink <= 1}
	key := keyOf(pl, i)
	o.mu.Lock()
	u.f = o.m[key]
	o.mu.Unlock()
	if u.f == nil || u.f.room.t == nil {
		u.f = nil
		return u
	}
	u.f.sizing.Lock()
	u.f.room.t.mu.Lock()
	u.counted = u.f.room.counted
	u.f.room.t.mu.Unlock()
	if u.last {
		o.mu.Lock()
		u.f.gone = true
		if o.m[key] == u.f {
			delete(o.m, key)
		}
		o.mu.Unlock()
	}
	return u
}

// end finishes: the name is gone if done was set, else it stands as before.
func (u *unlinking) end() {
	if u.f == nil {
		return
	}
	if u.last && !u.done {
		u.table.mu.Lock()
		u.f.gone = false
		if u.f.refs > 0 {
			u.table.m[u.f.key] = u.f
		}
		u.table.mu.Unlock()
	}
	u.f.sizing.Unlock()
}

func (o *openFiles) isGone(f *openFile) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return f.gone
}

// counted is how many bytes of the file i at pl the counters hold: its size, unless it is being written.
func (o *openFiles) counted(pl *place, i vfs.FileInfo) int64 {
	o.mu.Lock()
	f := o.m[keyOf(pl, i)]
	o.mu.Unlock()
	if f == nil || f.room.t == nil {
		return i.Size
	}
	f.room.t.mu.Lock()
	defer f.room.t.mu.Unlock()
	return f.room.counted
}

// moved notes a rename, for storages that know files by their path only.
func (o *openFiles) moved(from, to *place, i vfs.FileInfo) {
	if i.Ino != 0 {
		return
	}
	key := keyOf(from, i)
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.m[key]; f != nil {
		delete(o.m, key)
		f.key = keyOf(to, i)
		o.m[f.key] = f
	}
}

// endOf is off+n, or false if that is no offset in a file.
func endOf(off int64, n int) (int64, bool) {
	if off < 0 || off > math.MaxInt64-int64(n) {
		return 0, false
	}
	return off + int64(n), true
}

// hold is room for what one step will make: a file, some bytes, or both. It is spent once, or freed.
type hold struct {
	b    *books
	file bool
	room growth
}

// hold reserves bytes, if there are more than none, and a file if one is new.
func (b *books) hold(newFile bool, bytes int64) (*hold, error) {
	k := &hold{b: b}
	if !b.limited() {
		return k, nil
	}
	if newFile && b.charge.files > 0 {
		if err := b.holdFile(); err != nil {
			return nil, err
		}
		k.file = true
	}
	k.room.start(b.t, 0)
	if bytes > 0 {
		if err := k.room.extend(bytes, b.charge.bytes, 0); err != nil {
			k.free()
			return nil, err
		}
	}
	return k, nil
}

// spend counts the change and gives back what was held for it, in one step.
func (k *hold) spend(files, bytes int64) {
	k.b.spend(&k.room, k.file, files, bytes)
	k.file = false
}

func (k *hold) free() {
	k.b.spend(&k.room, k.file, 0, 0)
	k.file = false
}

// spend counts a change, and gives back the room and the file held for it in the same step, so that the sum
// of what is used and held never shows it twice.
func (b *books) spend(room *growth, file bool, files, bytes int64) {
	if b == nil || !b.count {
		return
	}
	t := b.t
	t.mu.Lock()
	t.moveLocked(files, bytes)
	if room != nil && room.t != nil {
		t.heldBytes -= room.held
		room.held = 0
		room.ceiling.Store(room.counted)
	}
	if file {
		t.heldFiles--
	}
	t.mu.Unlock()
	t.ledger.poke()
}
