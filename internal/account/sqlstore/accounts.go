package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gantryhq/gantry/internal/account"
)

// User implements account.Users.
func (s *Store) User(ctx context.Context, name string) (account.User, error) {
	return s.user(ctx, s.r, s.cfg.Rules.Name(name))
}

func (s *Store) user(ctx context.Context, q querier, name string) (account.User, error) {
	var u account.User
	var doc string
	var c account.User // the counters
	err := q.QueryRowContext(ctx, s.q(`SELECT doc, version, used_bytes, used_files, quota_update, uploaded, downloaded, last_login, first_download, first_upload FROM {}gantry_users WHERE name = ?`), name).
		Scan(&doc, &c.Version, &c.UsedQuotaSize, &c.UsedQuotaFiles, &c.LastQuotaUpdate, &c.UsedUploadDataTransfer, &c.UsedDownloadDataTransfer, &c.LastLogin, &c.FirstDownload, &c.FirstUpload)
	if errors.Is(err, sql.ErrNoRows) {
		return u, fmt.Errorf("user %q: %w", name, account.ErrNotFound)
	}
	if err != nil {
		return u, fmt.Errorf("sqlstore: read user %q: %w", name, err)
	}
	if err := json.Unmarshal([]byte(doc), &u); err != nil {
		return u, fmt.Errorf("sqlstore: user %q is damaged: %w", name, err)
	}
	u.Version, u.UsedQuotaSize, u.UsedQuotaFiles, u.LastQuotaUpdate = c.Version, c.UsedQuotaSize, c.UsedQuotaFiles, c.LastQuotaUpdate
	u.UsedUploadDataTransfer, u.UsedDownloadDataTransfer, u.LastLogin = c.UsedUploadDataTransfer, c.UsedDownloadDataTransfer, c.LastLogin
	u.FirstDownload, u.FirstUpload = c.FirstDownload, c.FirstUpload
	return u, s.fillFolders(ctx, q, u.VirtualFolders)
}

// fillFolders reads the definitions behind mappings.
func (s *Store) fillFolders(ctx context.Context, q querier, maps []account.VirtualFolder) error {
	for i := range maps {
		f, err := s.folder(ctx, q, maps[i].Name, false)
		if err != nil {
			return err
		}
		maps[i].Folder = f
	}
	return nil
}

// bare drops the definitions of mapped folders: their own records hold them.
func bare(maps []account.VirtualFolder) ([]account.VirtualFolder, []ref) {
	out := make([]account.VirtualFolder, len(maps))
	var refs []ref
	for i, m := range maps {
		out[i] = m
		out[i].Folder = account.Folder{Name: m.Name}
		refs = append(refs, ref{account.KindFolder, m.Name, fmt.Sprintf("virtual_folders[%d].name", i)})
	}
	return out, refs
}

// ListUsers implements account.Users.
func (s *Store) ListUsers(ctx context.Context, p account.Page) ([]account.User, error) {
	return list(ctx, s, s.r, account.KindUser, p, s.user)
}

// AddUser implements account.Users.
func (s *Store) AddUser(ctx context.Context, u *account.User) error { return s.saveUser(ctx, u, true) }

// UpdateUser implements account.Users.
func (s *Store) UpdateUser(ctx context.Context, u *account.User) error {
	return s.saveUser(ctx, u, false)
}

func (s *Store) saveUser(ctx context.Context, u *account.User, add bool) error {
	if err := u.Normalize(ctx, s.cfg.Rules); err != nil {
		return err
	}
	return s.write(ctx, func(tx *sql.Tx) error { return s.putUser(ctx, tx, u, add) })
}

// putUser stores a normalised user.
func (s *Store) putUser(ctx context.Context, tx querier, u *account.User, add bool) error {
	now := s.cfg.Now().UnixMilli()
	if add && u.CreatedAt == 0 {
		u.CreatedAt = now
	}
	var stored account.User
	if !add {
		old, err := s.user(ctx, tx, u.Username)
		if err == nil {
			stored = old
			u.CreatedAt = old.CreatedAt
			if old.Password != u.Password {
				u.LastPasswordChange = now
			} else {
				u.LastPasswordChange = old.LastPasswordChange
			}
		}
	} else if u.Password != "" && u.LastPasswordChange == 0 {
		u.LastPasswordChange = now
	}
	u.UpdatedAt = now
	full := u.VirtualFolders // a folder's secrets are its own record's
	u.VirtualFolders, stored.VirtualFolders = nil, nil
	err := keepSecrets(account.KindUser, u.Username, u, &stored)
	u.VirtualFolders = full
	if err != nil {
		return err
	}
	return s.storeUser(ctx, tx, u, add)
}

// EditUser gives the stored user to fn and writes what fn made of it, in one transaction: what the login
// itself changes (a new form of the same password, a used recovery code). An error of fn ends it without a
// change and is given back. Times stay as they are unless fn sets them.
func (s *Store) EditUser(ctx context.Context, name string, fn func(u *account.User) error) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		u, err := s.user(ctx, tx, s.cfg.Rules.Name(name))
		if err != nil {
			return err
		}
		name := u.Username
		if err := fn(&u); err != nil {
			return err
		}
		if u.Username != name {
			return fmt.Errorf("sqlstore: edit user %q: the name cannot change", name)
		}
		if err := u.Normalize(ctx, s.cfg.Rules); err != nil {
			return err
		}
		return s.storeUser(ctx, tx, &u, false)
	})
}

// storeUser writes the document.
func (s *Store) storeUser(ctx context.Context, tx querier, u *account.User, add bool) error {
	maps, refs := bare(u.VirtualFolders)
	d := *u
	d.ID, d.UsedQuotaSize, d.UsedQuotaFiles, d.LastQuotaUpdate = 0, 0, 0, 0
	d.UsedUploadDataTransfer, d.UsedDownloadDataTransfer, d.LastLogin, d.FirstDownload, d.FirstUpload = 0, 0, 0, 0, 0
	d.VirtualFolders = maps
	for i, g := range u.Groups {
		refs = append(refs, ref{account.KindGroup, g.Name, fmt.Sprintf("groups[%d].name", i)})
	}
	if u.Role != "" {
		refs = append(refs, ref{account.KindRole, u.Role, "role"})
	}
	return s.put(ctx, tx, account.KindUser, u.Username, d, refs, add)
}

// DeleteUser implements account.Users.
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	return s.write(ctx, func(tx *sql.Tx) error { return s.remove(ctx, tx, account.KindUser, s.cfg.Rules.Name(name)) })
}

// Folder implements account.Folders.
func (s *Store) Folder(ctx context.Context, name string) (account.Folder, error) {
	return s.folder(ctx, s.r, s.cfg.Rules.Name(name), true)
}

func (s *Store) folder(ctx context.Context, q querier, name string, members bool) (account.Folder, error) {
	var f account.Folder
	var doc string
	var version, bytes, update int64
	var files int
	err := q.QueryRowContext(ctx, s.q(`SELECT doc, version, used_bytes, used_files, quota_update FROM {}gantry_folders WHERE name = ?`), name).Scan(&doc, &version, &bytes, &files, &update)
	if errors.Is(err, sql.ErrNoRows) {
		return f, fmt.Errorf("folder %q: %w", name, account.ErrNotFound)
	}
	if err != nil {
		return f, fmt.Errorf("sqlstore: read folder %q: %w", name, err)
	}
	if err := json.Unmarshal([]byte(doc), &f); err != nil {
		return f, fmt.Errorf("sqlstore: folder %q is damaged: %w", name, err)
	}
	f.Version, f.UsedQuotaSize, f.UsedQuotaFiles, f.LastQuotaUpdate = version, bytes, files, update
	if members {
		if f.Users, err = s.referrers(ctx, q, account.KindFolder, name, account.KindUser); err == nil {
			f.Groups, err = s.referrers(ctx, q, account.KindFolder, name, account.KindGroup)
		}
	}
	return f, err
}

// ListFolders implements account.Folders.
func (s *Store) ListFolders(ctx context.Context, p account.Page) ([]account.Folder, error) {
	return list(ctx, s, s.r, account.KindFolder, p, func(ctx context.Context, q querier, n string) (account.Folder, error) {
		return s.folder(ctx, q, n, true)
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
	return s.write(ctx, func(tx *sql.Tx) error { return s.putFolder(ctx, tx, f, add) })
}

func (s *Store) putFolder(ctx context.Context, tx querier, f *account.Folder, add bool) error {
	var old account.Folder
	if !add {
		old, _ = s.folder(ctx, tx, f.Name, false) // put tells of a missing one
	}
	if err := keepSecrets(account.KindFolder, f.Name, f, &old); err != nil {
		return err
	}
	d := *f
	d.ID, d.UsedQuotaSize, d.UsedQuotaFiles, d.LastQuotaUpdate = 0, 0, 0, 0
	if err := s.put(ctx, tx, account.KindFolder, f.Name, d, nil, add); err != nil {
		return err
	}
	if add && (f.UsedQuotaSize != 0 || f.UsedQuotaFiles != 0) { // data-model.md 5: accepted on create
		_, err := tx.ExecContext(ctx, s.q(`UPDATE {}gantry_folders SET used_bytes = max(0, ?), used_files = max(0, ?), quota_update = ? WHERE name = ?`), f.UsedQuotaSize, f.UsedQuotaFiles, f.LastQuotaUpdate, f.Name)
		return err
	}
	return s.touchMembers(ctx, tx, account.KindFolder, f.Name)
}

// touchMembers moves the version of the users that a changed folder or group belongs to, so that their
// compiled policies are made anew.
func (s *Store) touchMembers(ctx context.Context, tx querier, kind account.Kind, name string) error {
	users, err := s.referrers(ctx, tx, kind, name, account.KindUser)
	if err != nil {
		return err
	}
	if kind == account.KindFolder {
		groups, err := s.referrers(ctx, tx, kind, name, account.KindGroup)
		if err != nil {
			return err
		}
		for _, g := range groups {
			more, err := s.referrers(ctx, tx, account.KindGroup, g, account.KindUser)
			if err != nil {
				return err
			}
			users = append(users, more...)
		}
	}
	for _, u := range users {
		if _, err := tx.ExecContext(ctx, s.q(`UPDATE {}gantry_users SET version = version + 1 WHERE name = ?`), u); err != nil {
			return err
		}
		if err := s.changed(ctx, tx, account.KindUser, u); err != nil {
			return err
		}
	}
	return nil
}

// DeleteFolder implements account.Folders: the folder is also unmapped from users and groups.
func (s *Store) DeleteFolder(ctx context.Context, name string) error {
	name = s.cfg.Rules.Name(name)
	return s.write(ctx, func(tx *sql.Tx) error {
		f, err := s.folder(ctx, tx, name, true)
		if err != nil {
			return err
		}
		keep := func(maps []account.VirtualFolder) (out []account.VirtualFolder) {
			for _, m := range maps {
				if m.Name != name {
					out = append(out, m)
				}
			}
			return out
		}
		for _, n := range f.Users {
			u, err := s.user(ctx, tx, n)
			if err != nil {
				return err
			}
			u.VirtualFolders = keep(u.VirtualFolders)
			if err := s.putUser(ctx, tx, &u, false); err != nil {
				return err
			}
		}
		for _, n := range f.Groups {
			g, err := s.group(ctx, tx, n)
			if err != nil {
				return err
			}
			g.VirtualFolders = keep(g.VirtualFolders)
			if err := s.putGroup(ctx, tx, &g, false); err != nil {
				return err
			}
		}
		return s.remove(ctx, tx, account.KindFolder, name)
	})
}

// Group implements account.Groups.
func (s *Store) Group(ctx context.Context, name string) (account.Group, error) {
	return s.group(ctx, s.r, s.cfg.Rules.Name(name))
}

func (s *Store) group(ctx context.Context, q querier, name string) (account.Group, error) {
	var g account.Group
	var doc string
	var version int64
	err := q.QueryRowContext(ctx, s.q(`SELECT doc, version FROM {}gantry_groups WHERE name = ?`), name).Scan(&doc, &version)
	if errors.Is(err, sql.ErrNoRows) {
		return g, fmt.Errorf("group %q: %w", name, account.ErrNotFound)
	}
	if err != nil {
		return g, fmt.Errorf("sqlstore: read group %q: %w", name, err)
	}
	if err := json.Unmarshal([]byte(doc), &g); err != nil {
		return g, fmt.Errorf("sqlstore: group %q is damaged: %w", name, err)
	}
	g.Version = version
	if g.Users, err = s.referrers(ctx, q, account.KindGroup, name, account.KindUser); err != nil {
		return g, err
	}
	return g, s.fillFolders(ctx, q, g.VirtualFolders)
}

// ListGroups implements account.Groups.
func (s *Store) ListGroups(ctx context.Context, p account.Page) ([]account.Group, error) {
	return list(ctx, s, s.r, account.KindGroup, p, s.group)
}

// AddGroup implements account.Groups.
func (s *Store) AddGroup(ctx context.Context, g *account.Group) error {
	return s.saveGroup(ctx, g, true)
}

// UpdateGroup implements account.Groups.
func (s *Store) UpdateGroup(ctx context.Context, g *account.Group) error {
	return s.saveGroup(ctx, g, false)
}

func (s *Store) saveGroup(ctx context.Context, g *account.Group, add bool) error {
	if err := g.Normalize(s.cfg.Rules); err != nil {
		return err
	}
	return s.write(ctx, func(tx *sql.Tx) error { return s.putGroup(ctx, tx, g, add) })
}

func (s *Store) putGroup(ctx context.Context, tx querier, g *account.Group, add bool) error {
	now := s.cfg.Now().UnixMilli()
	if add && g.CreatedAt == 0 {
		g.CreatedAt = now
	}
	g.UpdatedAt = now
	var old account.Group
	if !add {
		old, _ = s.group(ctx, tx, g.Name) // put tells of a missing one
	}
	if err := keepSecrets(account.KindGroup, g.Name, &g.UserSettings, &old.UserSettings); err != nil {
		return err
	}
	d := *g
	d.ID, d.Users, d.Admins = 0, nil, nil
	maps, refs := bare(g.VirtualFolders)
	d.VirtualFolders = maps
	if err := s.put(ctx, tx, account.KindGroup, g.Name, d, refs, add); err != nil {
		return err
	}
	return s.touchMembers(ctx, tx, account.KindGroup, g.Name)
}

// DeleteGroup implements account.Groups.
func (s *Store) DeleteGroup(ctx context.Context, name string) error {
	name = s.cfg.Rules.Name(name)
	return s.write(ctx, func(tx *sql.Tx) error {
		users, err := s.referrers(ctx, tx, account.KindGroup, name, account.KindUser)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return &account.ValidationError{Kind: "group", Name: name, Field: "users", Code: "reference", Text: fmt.Sprintf("%d users are members, %q is one; take them out first", len(users), users[0])}
		}
		return s.remove(ctx, tx, account.KindGroup, name)
	})
}
