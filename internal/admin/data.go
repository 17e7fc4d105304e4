package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
)

// MaxRestore bounds a dump that comes over the API, in bytes.
const MaxRestore = 20 << 20

// Dump reads everything, hashes and sealed secrets included. scopes are members of the dump; none is all.
func (s *Service) Dump(ctx context.Context, by *Actor, scopes []string) (*account.Dump, error) {
	if err := by.need(account.PermAny); err != nil {
		return nil, err
	}
	s.Log.Info("accounts dumped", "by", by.Name, "ip", ipText(by.Remote))
	return s.Store.Dump(ctx, scopes...)
}

// DumpTo writes a dump to a file below the backups' directory, which replaces what is there.
func (s *Service) DumpTo(ctx context.Context, by *Actor, file string, indent bool, scopes []string) error {
	if err := by.need(account.PermAny); err != nil {
		return err
	}
	name := filepath.FromSlash(file)
	if file == "" || !filepath.IsLocal(name) || strings.ContainsAny(file, "\x00") || filepath.Clean(name) == "." {
		return invalid("output-file must be a relative path without .., below the directory of backups")
	}
	d, err := s.Dump(ctx, by, scopes)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.BackupsDir, 0o700); err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	root, err := os.OpenRoot(s.BackupsDir) // no link below it leads elsewhere (SYM-1)
	if err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	defer root.Close()
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return invalid("output-file: %v", errors.Unwrap(err))
		}
	}
	tmp := name + "." + newID() + ".tmp"
	if err := writeDump(root, tmp, d, indent); err != nil {
		root.Remove(tmp)
		return fmt.Errorf("dump: %w", err)
	}
	if err := root.Rename(tmp, name); err != nil {
		root.Remove(tmp)
		return invalid("output-file: %v", err)
	}
	return nil
}

func writeDump(root *os.Root, name string, d *account.Dump, indent bool) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(f, 256<<10)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if indent {
		e.SetIndent("", "  ")
	}
	return errors.Join(e.Encode(d), b.Flush(), f.Sync(), f.Close())
}

// Restore says how a dump is loaded.
type Restore struct {
	Mode int // 0 add and update, 1 add only, 2 as 0, and users that were there are disconnected
	Scan int // 1 count every user's and folder's files afterwards, 2 those of users with a limit and of folders
}

func (r Restore) check() error {
	if r.Mode < 0 || r.Mode > 2 || r.Scan < 0 || r.Scan > 2 {
		return invalid("mode and scan-quota must be 0, 1 or 2")
	}
	return nil
}

// LoadFile restores a dump of the server's own files. The path is absolute.
func (s *Service) LoadFile(ctx context.Context, by *Actor, path string, r Restore) error {
	if err := by.need(account.PermAny); err != nil {
		return err
	}
	if !filepath.IsAbs(path) {
		return invalid("input-file must be an absolute path")
	}
	st, err := os.Stat(path) // before it is opened: a pipe without a writer would block that
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return invalid("input-file: there is no such file")
	case err != nil:
		return invalid("input-file: it cannot be read")
	case !st.Mode().IsRegular():
		return invalid("input-file: it is not a regular file")
	case st.Size() > MaxRestore:
		return invalid("input-file: it is larger than %d MiB", MaxRestore>>20)
	}
	f, err := os.Open(path)
	if err != nil {
		return invalid("input-file: it cannot be read")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxRestore+1))
	if err != nil {
		return fmt.Errorf("input-file: %w", err)
	}
	return s.Load(ctx, by, data, r)
}

// Load restores a dump: all of it, or nothing if there is a mistake in it, which the error names.
func (s *Service) Load(ctx context.Context, by *Actor, data []byte, r Restore) error {
	if err := by.need(account.PermAny); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	d, err := account.DecodeDump(bytes.NewReader(data), MaxRestore)
	if err != nil {
		return invalid("%v", err)
	}
	told, err := s.restored(ctx, d, r)
	if err != nil {
		return err
	}
	if err := s.Store.Load(ctx, d, account.LoadOptions{Mode: r.Mode % 2}); err != nil {
		return err
	}
	s.Auth.Forget(account.KindRole, "") // everything
	s.Auth.Forget(account.KindIPList, "")
	for _, x := range told {
		x(by)
	}
	s.Log.Info("dump restored", "by", by.Name, "ip", ipText(by.Remote), "users", len(d.Users), "folders", len(d.Folders), "mode", r.Mode)
	for i := range d.Users {
		name := s.Rules.Name(d.Users[i].Username)
		if r.Mode == 2 {
			s.Sessions.KillUser(name, session.ErrKilled)
		}
		u := &d.Users[i]
		if s.TrackQuota != session.TrackNone && (r.Scan == 1 || r.Scan == 2 && (u.QuotaFiles > 0 || u.QuotaSize > 0)) {
			s.scanSoon(account.CounterKey{Kind: account.KindUser, Name: name})
		}
	}
	for i := range d.Folders {
		if f := &d.Folders[i]; s.TrackQuota != session.TrackNone && r.Scan > 0 && !strings.Contains(f.MappedPath, "%") {
			s.scanSoon(account.CounterKey{Kind: account.KindFolder, Name: s.Rules.Name(f.Name)})
		}
	}
	return nil
}

// scanSoon scans unless that is under way.
func (s *Service) scanSoon(key account.CounterKey) {
	if err := s.scan(key); err != nil {
		s.Log.Debug("no scan after a restore", "name", key.Name, "error", err)
	}
}

// restored notes what a restore will add and change, for the hook that is told of changes.
func (s *Service) restored(ctx context.Context, d *account.Dump, r Restore) (told []func(by *Actor), err error) {
	if s.Changes == nil {
		return nil, nil
	}
	note := func(kind account.Kind, key string, read func() (any, error)) error {
		if !s.Changes.Wants("add", string(kind)) && !s.Changes.Wants("update", string(kind)) {
			return nil
		}
		action := "update"
		if _, err := read(); errors.Is(err, account.ErrNotFound) {
			action = "add"
		} else if err != nil {
			return err
		} else if r.Mode == 1 {
			return nil
		}
		told = append(told, func(by *Actor) {
			if object, err := read(); err == nil {
				s.changed(by, action, kind, key, object)
			}
		})
		return nil
	}
	for i := range d.Users {
		name := s.Rules.Name(d.Users[i].Username)
		if err := note(account.KindUser, name, func() (any, error) { u, err := s.Store.User(ctx, name); return &u, err }); err != nil {
			return nil, err
		}
	}
	for i := range d.Folders {
		name := s.Rules.Name(d.Folders[i].Name)
		if err := note(account.KindFolder, name, func() (any, error) { f, err := s.Store.Folder(ctx, name); return &f, err }); err != nil {
			return nil, err
		}
	}
	for i := range d.Groups {
		name := s.Rules.Name(d.Groups[i].Name)
		if err := note(account.KindGroup, name, func() (any, error) { g, err := s.Store.Group(ctx, name); return &g, err }); err != nil {
			return nil, err
		}
	}
	for _, o := range d.Others() {
		for _, doc := range *o.List {
			key, err := account.RecordKey(o.Kind, doc)
			if err != nil {
				continue // the load refuses it
			}
			if err := note(o.Kind, key, func() (any, error) {
				doc, err := s.Store.Record(ctx, o.Kind, key)
				if err != nil {
					return nil, err
				}
				return account.DecodeDocument(o.Kind, doc)
			}); err != nil {
				return nil, err
			}
		}
	}
	return told, nil
}
