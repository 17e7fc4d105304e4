package recordstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/gantryhq/gantry/internal/account"
)

// Folder implements account.Folders.
func (s *Store) Folder(ctx context.Context, name string) (account.Folder, error) {
	return one(ctx, s, func(t *tx) (account.Folder, error) {
		return maker[account.Folder]((*tx).folders).read(t, account.KindFolder, s.cfg.Rules.Name(name))
	})
}

// folder makes a folder of its row, without those who use it.
func (r *Row) folder(f *account.Folder) error {
	if err := r.decode(account.KindFolder, f); err != nil {
		return err
	}
	f.ID, f.Version, f.UsedQuotaSize, f.UsedQuotaFiles, f.LastQuotaUpdate = r.ID, r.Version, r.Bytes, r.Files, r.QuotaUpdate
	return nil
}

// folders makes folders of their rows, with those who use them.
func (t *tx) folders(rows []Row) ([]account.Folder, error) {
	refs, err := t.referrersOf(account.KindFolder, rows)
	if err != nil {
		return nil, err
	}
	out := make([]account.Folder, len(rows))
	for i := range rows {
		f := &out[i]
		if err := rows[i].folder(f); err != nil {
			return nil, err
		}
		f.Users, f.Groups = namesOf(refs[rows[i].Name], account.KindUser), namesOf(refs[rows[i].Name], account.KindGroup)
	}
	return out, nil
}

// referrersOf lists those who name the records of rows.
func (t *tx) referrersOf(kind account.Kind, rows []Row) (map[string][]account.Ref, error) {
	names := make([]string, len(rows))
	for i := range rows {
		names[i] = rows[i].Name
	}
	refs, err := t.ReferrersOf(kind, names)
	if err != nil {
		err = fmt.Errorf("read who refers to a %s: %w", kind, err)
	}
	return refs, err
}

// namesOf are the names of those of one kind.
func namesOf(refs []account.Ref, kind account.Kind) (out []string) {
	for _, r := range refs {
		if r.Kind == kind {
			out = append(out, r.Name)
		}
	}
	return out
}

// referrers lists those of one kind who name a record.
func (t *tx) referrers(to account.Kind, name string, from account.Kind) ([]string, error) {
	refs, err := t.Referrers(to, name)
	return namesOf(refs, from), err
}

// ListFolders implements account.Folders.
func (s *Store) ListFolders(ctx context.Context, p account.Page) ([]account.Folder, error) {
	return one(ctx, s, func(t *tx) ([]account.Folder, error) {
		return maker[account.Folder]((*tx).folders).list(t, account.KindFolder, p)
	})
}

// AddFolder implements account.Folders.
func (s *Store) AddFolder(ctx context.Context, f *account.Folder) error {
	return s.saveFolder(ctx, f, true)
}

// UpdateFolder implements account.Folders.
func (s *Store) UpdateFolder(ctx context.Context, f *account.Folder) error {
	return s.saveFolder(ctx, f, false)
}

func (s *Store) saveFolder(ctx context.Context, f *account.Folder, add bool) error {
	if err := f.Normalize(s.cfg.Rules); err != nil {
		return err
	}
	return s.write(ctx, func(t *tx) error { return t.putFolder(f, add) })
}

func (t *tx) putFolder(f *account.Folder, add bool) error {
	var old account.Folder
	if !add {
		r, err := t.row(account.KindFolder, f.Name)
		if err == nil {
			err = r.folder(&old)
		}
		if err != nil {
			return err
		}
	}
	if err := ifVersion(account.KindFolder, f.Name, f.IfVersion, old.Version); err != nil {
		return err
	}
	if err := keepSecrets(account.KindFolder, f.Name, f, &old); err != nil {
		return err
	}
	d := *f
	d.ID, d.UsedQuotaSize, d.UsedQuotaFiles, d.LastQuotaUpdate = 0, 0, 0, 0
	if err := t.put(account.KindFolder, f.Name, d, nil, add); err != nil {
		return err
	}
	if add && (f.UsedQuotaSize != 0 || f.UsedQuotaFiles != 0) { // data-model.md 5: accepted on create
		_, err := t.SetUsage(account.CounterKey{Kind: account.KindFolder, Name: f.Name},
			Counters{Files: max(0, f.UsedQuotaFiles), Bytes: max(0, f.UsedQuotaSize), QuotaUpdate: f.LastQuotaUpdate})
		return err
	}
	return t.touchMembers(account.KindFolder, f.Name)
}

// touchMembers moves the version of the users that a changed folder or group belongs to, so that their
// compiled policies are made anew.
func (t *tx) touchMembers(kind account.Kind, name string) error {
	users, err := t.referrers(kind, name, account.KindUser)
	if err != nil {
		return err
	}
	if kind == account.KindFolder {
		groups, err := t.referrers(kind, name, account.KindGroup)
		if err != nil {
			return err
		}
		for _, g := range groups {
			more, err := t.referrers(account.KindGroup, g, account.KindUser)
			if err != nil {
				return err
			}
			users = append(users, more...)
		}
		slices.Sort(users)
		users = slices.Compact(users)
	}
	for _, u := range users {
		if err := t.Touch(account.KindUser, u); err != nil {
			return err
		}
		if err := t.Changed(account.KindUser, u, t.s.cfg.Node); err != nil {
			return err
		}
	}
	return nil
}

// DeleteFolder implements account.Folders: the folder is also unmapped from users and groups.
func (s *Store) DeleteFolder(ctx context.Context, name string) error {
	return s.delete(ctx, account.KindFolder, s.cfg.Rules.Name(name))
}

func without(maps []account.VirtualFolder, folder string) []account.VirtualFolder {
	return slices.DeleteFunc(maps, func(m account.VirtualFolder) bool { return m.Name == folder })
}

func (t *tx) unmapUser(name, folder string) error {
	u, err := t.user(name)
	if err != nil {
		return err
	}
	u.VirtualFolders = without(u.VirtualFolders, folder)
	return t.putUser(&u, false)
}

func (t *tx) unmapGroup(name, folder string) error {
	g, err := t.group(name)
	if err != nil {
		return err
	}
	g.VirtualFolders = without(g.VirtualFolders, folder)
	return t.putGroup(&g, false)
}
