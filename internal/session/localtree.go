package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// Use says what a program of the system will do with a part of the tree. Every program lists and reads.
type Use struct {
	// Write: it makes, changes and removes what it likes.
	Write bool
	// Beside Write, the attributes that it sets.
	Chmod, Chown, Chtimes bool
	// Named: the program begins in the directory that holds the path, so that it sees the path's name.
	Named bool
}

// Refusal is why a part of the tree is not given to a program. Its text is fit for the client.
type Refusal struct {
	Path vfs.Path
	Text string
}

func (r *Refusal) Error() string { return r.Path.String() + ": " + r.Text }

// Unwrap makes every refusal a fs.ErrPermission.
func (r *Refusal) Unwrap() error { return fs.ErrPermission }

// LocalTree is a part of the account's local storage in the hands of a program: neither permissions nor
// patterns or mounts are asked below it, so there must be none that could refuse. Close must be called.
// Methods are safe for concurrent use.
type LocalTree struct {
	Root   *os.File // what the program may touch, with all below it; for naming only (O_PATH); Close closes it
	Begin  *os.File // where it begins; Root, or the directory that holds it
	Dir    bool     // Root is a directory
	UID    int      // the account's owner of new files; 0 or less is the server's own
	GID    int
	Links  bool  // symbolic links may be made
	Room   int64 // bytes that may be added; 0 is no limit
	Single int64 // bytes of the largest file; 0 is no limit

	s     *Session // immutable, as all up to total
	v     *view
	pl    place
	use   Use
	books *books
	x     [2]*transfer // by direction: 0 to the client, 1 from it
	meter *tally       // nil: no limit of data transfers
	mine  [2]int64
	total int64

	in   atomic.Int64 // bytes from the client
	room growth
	once sync.Once
	over atomic.Bool
}

// scanWait is how long the count after a program may take.
const scanWait = 10 * time.Minute

// LocalTree gives p, which must exist, to a program. It needs local storage without encryption, no other mount
// and no file pattern at or below p, and everywhere below it list and download; with Write also upload,
// overwrite, create_dirs and delete, and what the attributes ask for. Those are *Refusal. The program's bytes
// go through Pass.
func (x *Session) LocalTree(ctx context.Context, p vfs.Path, u Use) (*LocalTree, error) {
	v, err := x.begin()
	if err != nil {
		return nil, pathError("run", p, err)
	}
	defer x.done()
	t := &LocalTree{s: x, v: v, pl: v.place(p), use: u, UID: v.user.UID, GID: v.user.GID}
	if err := t.judge(); err != nil {
		return nil, err
	}
	if err := t.open(ctx); err != nil {
		return nil, fail("run", p, err)
	}
	if err := t.admit(ctx); err != nil {
		t.closeFiles()
		return nil, fail("run", p, err)
	}
	x.mu.Lock()
	closed := x.closed
	if !closed {
		if x.trees == nil {
			x.trees = map[*LocalTree]struct{}{}
		}
		x.trees[t] = struct{}{}
	}
	x.mu.Unlock()
	if closed {
		t.free()
		return nil, pathError("run", p, ErrClosed)
	}
	if u.Write { // after it was registered: a lock that comes now sees it
		if err := x.unlocked(ctx, nil, &t.pl, touchMember|touchTree); err != nil {
			t.Drop()
			return nil, &Refusal{p, "a client has locked it or something below"}
		}
	}
	return t, nil
}

// judge asks everything that can be asked without the storage.
func (t *LocalTree) judge() error {
	v, p, u := t.v, t.pl.p, t.use
	no := func(text string) error { return &Refusal{p, text} }
	held := v.perms.within(p)
	if u.Named {
		held &= v.perms.at(p.Dir())
	}
	for _, need := range []struct {
		when bool
		any  rights
		name string
	}{
		{true, mayList, "list"},
		{true, mayDownload, "download"},
		{u.Write, mayUpload, "upload"},
		{u.Write, mayOverwrite, "overwrite"},
		{u.Write, mayCreateDirs, "create_dirs"},
		{u.Write, anyDeleteFile, "delete"},
		{u.Write, anyDeleteDir, "delete"},
		{u.Write && u.Chmod, mayChmod, "chmod"},
		{u.Write && u.Chown, mayChown, "chown"},
		{u.Write && u.Chtimes, mayChtimes, "chtimes"},
	} {
		if need.when && !held.has(need.any) {
			return no("permission denied: it takes " + need.name + " here and in everything below")
		}
	}
	t.Links = held.has(mayCreateSymlinks) && t.s.srv.cfg.SymlinkMode&SymlinksLocal != 0
	switch {
	case t.pl.LeadsToMount:
		return no("permission denied: a virtual folder lies below")
	case u.Named && t.pl.fixed():
		return no("permission denied: the directory cannot be taken by its name, only what is in it")
	case v.patterns.within(p):
		return no("permission denied: file patterns rule here")
	}
	if d := t.pl.describe(); d.Provider != 0 || d.Remote {
		return no("permission denied: not on local storage")
	}
	return nil
}

func (t *LocalTree) open(ctx context.Context) error {
	o, ok := vfs.As[vfs.HostOpener](t.pl.FS)
	if !ok {
		return vfs.ErrUnsupported
	}
	var err error
	if t.Root, err = o.OpenHost(ctx, t.pl.Path); err != nil {
		return err
	}
	t.Begin = t.Root
	i, err := t.Root.Stat()
	switch {
	case err != nil:
	case i.IsDir():
		t.Dir = true
	case !i.Mode().IsRegular():
		err = vfs.ErrSpecial
	case t.use.Write || !t.use.Named:
		err = vfs.ErrNotDir
	}
	if err == nil && t.use.Named {
		t.Begin, err = o.OpenHost(ctx, t.pl.Path.Dir())
	}
	if err != nil {
		t.closeFiles()
	}
	return err
}

// admit asks the limits and puts the durable mark, before anything changes.
func (t *LocalTree) admit(ctx context.Context) error {
	x, v := t.s, t.v
	t.total, t.mine = v.totalMax, [2]int64{v.downMax, v.upMax}
	if t.total > 0 || t.mine[0] > 0 || t.mine[1] > 0 {
		t.meter = x.srv.ledger.tally(v.self)
		if err := t.meter.known(ctx); err != nil {
			t.meter.release()
			return fmt.Errorf("data transfer limit: %w", err) // closed: nobody knows what is left
		}
	}
	now := x.srv.deps.Now()
	for dir := range t.x {
		t.x[dir] = newTransfer(now, x.user.bucket(v, x.conn.Remote.Addr(), dir == 1))
	}
	if !t.use.Write {
		return nil
	}
	t.Single = v.user.Filters.MaxUploadFileSize
	var err error
	if t.books, err = x.srv.enter(ctx, t.pl.charge, true, false); err == nil {
		if err = t.books.admit(true); err == nil && t.books.limited() && t.books.charge.bytes > 0 {
			t.books.t.renew()
			_, used, _, held := t.books.t.used()
			if t.Room = t.books.charge.bytes - used - held; t.Room <= 0 {
				err = ErrQuota
			}
			t.room.start(t.books.t, 0)
		}
		if err != nil {
			t.books.leave()
		}
	}
	if err != nil && t.meter != nil {
		t.meter.release()
	}
	return err
}

// Pass counts n bytes that come from the client, or go to it, and waits for their bandwidth. An error ends the
// program: a limit, or the end of the session.
func (t *LocalTree) Pass(n int, fromClient bool) error {
	dir := 0
	if fromClient {
		dir = 1
	}
	x := t.x[dir]
	if err := x.dead(); err != nil {
		return err
	}
	if t.over.Load() {
		return ErrClosed
	}
	if fromClient && t.Room > 0 {
		if err := t.room.ensure(t.in.Add(int64(n)), t.books.charge.bytes); err != nil {
			return err
		}
	}
	if t.meter != nil {
		mine, other, refusal := &t.meter.down, &t.meter.up, ErrReadQuota
		if fromClient {
			mine, other, refusal = &t.meter.up, &t.meter.down, ErrQuota
		}
		if !take(mine, other, int64(n), t.mine[dir], t.total) {
			return refusal
		}
	}
	if err := x.pace(n); err != nil {
		return err
	}
	now := t.s.srv.deps.Now()
	x.moved(n, now)
	t.s.last.Store(now.UnixNano())
	return nil
}

// Drop ends a use that came to nothing: no program was started.
func (t *LocalTree) Drop() {
	t.once.Do(func() {
		if t.Room > 0 {
			t.room.release()
		}
		t.free()
	})
}

// Close ends the use: what a writer left is counted, and command is told as ssh_cmd, with what went wrong.
func (t *LocalTree) Close(ctx context.Context, command string, wrong error) error {
	var err error
	t.once.Do(func() {
		t.s.busy.Add(1)
		defer t.s.done()
		e := t.s.event(event.SSHCommand, &t.pl)
		e.Time, e.SSHCmd, e.Err = t.x[0].started, command, wrong
		switch {
		case errors.Is(wrong, ErrQuota), errors.Is(wrong, ErrReadQuota):
			e.Status = event.Quota
		case wrong != nil:
			e.Status = event.Failed
		}
		err = t.count(ctx)
		t.free()
		t.s.report(ctx, e)
	})
	return err
}

// count counts the whole account again, as nobody knows what the program has done.
func (t *LocalTree) count(ctx context.Context) error {
	if t.books == nil || !t.books.count {
		return nil
	}
	if t.Room > 0 {
		t.room.release()
	}
	// The peer may have gone; what it left must be counted all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scanWait)
	defer cancel()
	key := t.books.t.key
	if _, _, err := t.s.srv.Scan(ctx, key); err != nil {
		t.s.srv.ledger.doubt(key, true) // the next start counts it
		return fmt.Errorf("count what a program left: %w", err)
	}
	return nil
}

func (t *LocalTree) free() {
	t.over.Store(true)
	t.s.mu.Lock()
	delete(t.s.trees, t)
	t.s.mu.Unlock()
	t.books.leave()
	if t.meter != nil {
		t.meter.release()
	}
	t.closeFiles()
}

func (t *LocalTree) closeFiles() {
	if t.Begin != nil && t.Begin != t.Root {
		t.Begin.Close()
	}
	if t.Root != nil {
		t.Root.Close()
	}
}

func (t *LocalTree) halt(reason error) {
	for _, x := range t.x {
		x.halt(reason)
	}
}

func (t *LocalTree) info(now time.Time) TransferInfo {
	i := TransferInfo{Operation: "download", Path: t.pl.p.String(), Started: t.x[0].started}
	if t.use.Write {
		i.Operation = "upload"
	}
	for _, x := range t.x {
		i.Bytes += x.bytes.Load()
		i.Speed += x.speed(now)
	}
	return i
}
