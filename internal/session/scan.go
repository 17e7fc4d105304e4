package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
)

// Recover puts the counters right after a crash, before sessions are opened: the accounts whose durable
// marks stand, and only those, are swept of the temporary files of uploads and scanned.
func (s *Server) Recover(ctx context.Context) error {
	if s.cluster != nil {
		return s.recoverOrphans(ctx)
	}
	keys, err := s.deps.Counters.Dirty(ctx, s.deps.Node)
	if err != nil {
		return fmt.Errorf("accounts that a crash left: %w", err)
	}
	var errs []error
	for _, key := range keys {
		begin := s.deps.Now()
		err := s.recoverOne(ctx, key)
		switch {
		case errors.Is(err, account.ErrNotFound): // deleted since
		case err != nil:
			s.ledger.doubt(key, true)
			errs = append(errs, fmt.Errorf("recover %s %q: %w", key.Kind, key.Name, err))
			continue // its mark stays for the next start
		default:
			s.log.Info("recovered after a crash", "kind", key.Kind, "name", key.Name, "dur", s.deps.Now().Sub(begin))
		}
		if err := s.deps.Counters.ClearDirty(ctx, s.deps.Node, []account.CounterKey{key}); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Server) recoverOne(ctx context.Context, key account.CounterKey) error {
	trees, free, err := s.trees(ctx, key)
	if err != nil {
		return err
	}
	defer free()
	for _, t := range trees {
		sw, ok := vfs.As[vfs.Sweeper](t.fs)
		if !ok || s.cluster != nil { // other nodes' uploads may be there
			continue
		}
		n, err := sw.Sweep(ctx, s.started.Add(time.Second))
		if err != nil {
			return err
		}
		if n > 0 {
			s.log.Info("temporary files of lost uploads removed", "kind", key.Kind, "name", key.Name, "files", n)
		}
	}
	return s.scan(ctx, key, trees)
}

// Scan counts what an account's storage holds and sets its counters to that. What transfers change while
// it runs may be missed.
func (s *Server) Scan(ctx context.Context, key account.CounterKey) (files int, bytes int64, err error) {
	trees, free, err := s.trees(ctx, key)
	if err != nil {
		return 0, 0, err
	}
	defer free()
	if err := s.scan(ctx, key, trees); err != nil {
		return 0, 0, err
	}
	t := s.ledger.tally(key)
	defer t.release()
	f, b, _, _ := t.used()
	return int(f), b, nil
}

// subtree is a part of what an account holds.
type subtree struct {
	fs   vfs.FS
	base vfs.Path
}

// trees opens what counts in key: a folder; or a user's home and those folders that count in it, once each.
func (s *Server) trees(ctx context.Context, key account.CounterKey) (list []subtree, free func(), err error) {
	var opened []subtree
	free = func() {
		for _, t := range opened {
			t.fs.Close()
		}
	}
	defer func(release func()) { // not the results: an error return empties them
		if err != nil {
			release()
		}
	}(free)
	if s.deps.Accounts == nil {
		return nil, nil, errors.New("session: no Accounts to scan by")
	}
	open := func(cfg *account.FilesystemConfig, root string, base vfs.Path) error {
		f, err := s.deps.NewFS(ctx, Storage{Config: cfg, Name: key.Name, Root: root})
		if err == nil {
			opened = append(opened, subtree{f, base})
		}
		return err
	}
	if key.Kind == account.KindFolder {
		f, err := s.deps.Accounts.Folder(ctx, key.Name)
		if err != nil {
			return nil, nil, err
		}
		if err := open(&f.Filesystem, f.MappedPath, vfs.Root); err != nil {
			return nil, nil, err
		}
		return opened, free, nil
	}
	u, err := s.deps.Accounts.User(ctx, key.Name)
	if err != nil {
		return nil, nil, err
	}
	replaced := false // a folder at "/" takes the home's place
	seen := map[string]bool{}
	for i := range u.VirtualFolders {
		f := &u.VirtualFolders[i]
		if p, err := vfs.ParseConfigPath(f.VirtualPath); err == nil && p.IsRoot() {
			replaced = true
		}
		root, base, err := folderRoot(f)
		if err != nil {
			return nil, nil, err
		}
		if !f.InUserQuota() || seen[f.Name+"\x00"+f.Subpath] {
			continue
		}
		seen[f.Name+"\x00"+f.Subpath] = true
		if err := open(&f.Filesystem, root, base); err != nil {
			return nil, nil, err
		}
	}
	if !replaced {
		if err := open(&u.Filesystem, u.HomeDir, vfs.Root); err != nil {
			return nil, nil, err
		}
	}
	return opened, free, nil
}

// scan counts the trees and sets the counters. What other nodes settle while it counts makes it count again.
func (s *Server) scan(ctx context.Context, key account.CounterKey, trees []subtree) error {
	for try := 1; ; try++ {
		var before *account.Usage
		if s.cluster != nil && try < scanTries {
			u, err := s.deps.Counters.Usage(ctx, key)
			if err != nil {
				return err
			}
			before = &u
		}
		err := s.scanOnce(ctx, key, trees, before)
		if !errors.Is(err, errMoved) || try >= 2*scanTries {
			return err
		}
	}
}

func (s *Server) scanOnce(ctx context.Context, key account.CounterKey, trees []subtree, before *account.Usage) error {
	var files int
	var bytes int64
	for _, t := range trees {
		f, b, err := dirSize(ctx, t.fs, t.base)
		if err != nil {
			return err
		}
		files, bytes = files+f, bytes+b
	}
	t := s.ledger.tally(key)
	defer t.release()
	if err := t.set(ctx, files, bytes, before); err != nil {
		return err
	}
	s.ledger.doubt(key, false)
	return nil
}

// errMoved: another node counted something while we did.
var errMoved = errors.New("the counters moved meanwhile")

// scanTries is how often a scan is made again because the counters moved; the last one is taken as it is.
const scanTries = 4

// set replaces the counters, in the store and here. With other nodes they must be what they were before, if that is
// given.
func (t *tally) set(ctx context.Context, files int, bytes int64, before *account.Usage) error {
	select {
	case t.mark <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.mark }()
	if err := t.load(ctx); err != nil {
		return err
	}
	var was account.Usage
	if t.ledger.cluster != nil {
		var err error
		if was, err = t.refresh(ctx); err != nil {
			return err
		}
		if before != nil && (was.Files != before.Files || was.Bytes != before.Bytes) {
			return errMoved
		}
	}
	t.mu.Lock()
	df, db := int64(files)-t.files, bytes-t.bytes
	t.mu.Unlock()
	if c := t.ledger.cluster; c != nil {
		if ok, err := c.shared.ReplaceUsage(ctx, t.key, was, files, bytes); err != nil {
			return err
		} else if !ok {
			return errMoved
		}
	} else if err := t.ledger.store.SetUsage(ctx, t.key, files, bytes); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// What was owed at the count is in it; what came since is owed still.
	t.files, t.bytes = t.files+df, t.bytes+db
	t.owedFiles, t.owedBytes = t.files-int64(files), t.bytes-bytes
	return nil
}

// dirSize counts regular files, never following links (SYM-2).
func dirSize(ctx context.Context, f vfs.FS, dir vfs.Path) (files int, bytes int64, err error) {
	if d, ok := vfs.As[vfs.DirSizer](f); ok {
		return d.DirSize(ctx, dir)
	}
	return walkSize(ctx, f, dir, 0)
}

func walkSize(ctx context.Context, f vfs.FS, dir vfs.Path, depth int) (files int, bytes int64, err error) {
	if depth > maxDepth {
		return 0, 0, fmt.Errorf("%w: more than %d levels", vfs.ErrUnsupported, maxDepth)
	}
	for i, err := range f.List(ctx, dir) {
		if err != nil {
			return 0, 0, err
		}
		switch {
		case i.Mode.IsRegular():
			files, bytes = files+1, bytes+i.Size
		case i.IsDir():
			p, err := dir.Child(i.Name)
			if err != nil {
				return 0, 0, err
			}
			n, b, err := walkSize(ctx, f, p, depth+1)
			if err != nil {
				return 0, 0, err
			}
			files, bytes = files+n, bytes+b
		}
	}
	return files, bytes, nil
}
