package recordstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/gantryhq/gantry/internal/account"
)

// User implements account.Users.
func (s *Store) User(ctx context.Context, name string) (account.User, error) {
	return one(ctx, s, func(t *tx) (account.User, error) { return t.user(s.cfg.Rules.Name(name)) })
}

func (t *tx) user(name string) (account.User, error) {
	return maker[account.User]((*tx).users).read(t, account.KindUser, name)
}

// users makes users of their rows.
func (t *tx) users(rows []Row) ([]account.User, error) {
	out := make([]account.User, len(rows))
	maps := make([][]account.VirtualFolder, len(rows))
	for i := range rows {
		u, r := &out[i], &rows[i]
		if err := r.decode(account.KindUser, u); err != nil {
			return nil, err
		}
		u.ID, u.Version, u.UsedQuotaSize, u.UsedQuotaFiles, u.LastQuotaUpdate = r.ID, r.Version, r.Bytes, r.Files, r.QuotaUpdate
		u.UsedUploadDataTransfer, u.UsedDownloadDataTransfer, u.LastLogin = r.Uploaded, r.Downloaded, r.LastLogin
		u.FirstDownload, u.FirstUpload = r.FirstFetch, r.FirstUpload
		maps[i] = u.VirtualFolders
	}
	return out, t.fillFolders(maps...)
}

// fillFolders reads the definitions behind mappings.
func (t *tx) fillFolders(lists ...[]account.VirtualFolder) error {
	var names []string
	for _, maps := range lists {
		for i := range maps {
			names = append(names, maps[i].Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	rows, err := t.GetAll(account.KindFolder, slices.Compact(names))
	if err != nil {
		return fmt.Errorf("read folders: %w", err)
	}
	for _, maps := range lists {
		for i := range maps {
			r, ok := rows[maps[i].Name]
			if !ok {
				return notFound(account.KindFolder, maps[i].Name)
			}
			maps[i].Folder = account.Folder{} // each has its own: what it holds may be changed
			if err := r.folder(&maps[i].Folder); err != nil {
				return err
			}
		}
	}
	return nil
}

// bare drops the definitions of mapped folders: their own records hold them.
func bare(maps []account.VirtualFolder) ([]account.VirtualFolder, []account.Ref) {
	out := make([]account.VirtualFolder, len(maps))
	var refs []account.Ref
	for i, m := range maps {
		out[i] = m
		out[i].Folder = account.Folder{Name: m.Name}
		refs = append(refs, account.Ref{Kind: account.KindFolder, Name: m.Name, At: fmt.Sprintf("virtual_folders[%d].name", i)})
	}
	return out, refs
}

// ListUsers implements account.Users.
func (s *Store) ListUsers(ctx context.Context, p account.Page) ([]account.User, error) {
	return one(ctx, s, func(t *tx) ([]account.User, error) {
		return maker[account.User]((*tx).users).list(t, account.KindUser, p)
	})
}

// AddUser implements account.Users.
func (s *Store) AddUser(ctx context.Context, u *account.User) error {
	u.CreatedAt, u.UpdatedAt, u.LastPasswordChange = 0, 0, 0 // only a load brings them along
	return s.saveUser(ctx, u, true)
}

// UpdateUser implements account.Users.
func (s *Store) UpdateUser(ctx context.Context, u *account.User) error {
	return s.saveUser(ctx, u, false)
}

func (s *Store) saveUser(ctx context.Context, u *account.User, add bool) error {
	if err := u.Normalize(ctx, s.cfg.Rules); err != nil {
		return err
	}
	return s.write(ctx, func(t *tx) error { return t.putUser(u, add) })
}

// stamp sets the times of a record that is added, or that replaces one made at created.
func (t *tx) stamp(created, updated *int64, add bool, was int64) {
	now := t.now()
	switch {
	case !add:
		*created, *updated = was, now
	case *created == 0:
		*created, *updated = now, now
	case *updated == 0:
		*updated = now
	}
}

// putUser stores a normalised user.
func (t *tx) putUser(u *account.User, add bool) error {
	var stored account.User
	if !add {
		var err error
		if stored, err = t.user(u.Username); err != nil {
			return err
		}
	}
	if err := ifVersion(account.KindUser, u.Username, u.IfVersion, stored.Version); err != nil {
		return err
	}
	t.stamp(&u.CreatedAt, &u.UpdatedAt, add, stored.CreatedAt)
	switch {
	case !add && stored.Password == u.Password:
		u.LastPasswordChange = stored.LastPasswordChange
	case !add, u.Password != "" && u.LastPasswordChange == 0:
		u.LastPasswordChange = t.now()
	}
	full := u.VirtualFolders // a folder's secrets are its own record's
	u.VirtualFolders, stored.VirtualFolders = nil, nil
	err := keepSecrets(account.KindUser, u.Username, u, &stored)
	u.VirtualFolders = full
	if err != nil {
		return err
	}
	return t.storeUser(u, add)
}

// unroleUser takes the role of a user away.
func (t *tx) unroleUser(name string) error {
	u, err := t.user(name)
	if err != nil {
		return err
	}
	u.Role = ""
	return t.putUser(&u, false)
}

// EditUser implements account.Users.
func (s *Store) EditUser(ctx context.Context, name string, fn func(u *account.User) error) error {
	return s.write(ctx, func(t *tx) error {
		u, err := t.user(s.cfg.Rules.Name(name))
		if err != nil {
			return err
		}
		name := u.Username
		if err := fn(&u); err != nil {
			return err
		}
		if u.Username != name {
			return fmt.Errorf("edit user %q: the name cannot change", name)
		}
		if err := u.Normalize(ctx, s.cfg.Rules); err != nil {
			return err
		}
		return t.storeUser(&u, false)
	})
}

// storeUser writes the document.
func (t *tx) storeUser(u *account.User, add bool) error {
	maps, refs := bare(u.VirtualFolders)
	d := *u
	d.ID, d.UsedQuotaSize, d.UsedQuotaFiles, d.LastQuotaUpdate = 0, 0, 0, 0
	d.UsedUploadDataTransfer, d.UsedDownloadDataTransfer, d.LastLogin, d.FirstDownload, d.FirstUpload = 0, 0, 0, 0, 0
	d.VirtualFolders = maps
	for i, g := range u.Groups {
		refs = append(refs, account.Ref{Kind: account.KindGroup, Name: g.Name, At: fmt.Sprintf("groups[%d].name", i)})
	}
	if u.Role != "" {
		refs = append(refs, account.Ref{Kind: account.KindRole, Name: u.Role, At: "role"})
	}
	return t.put(account.KindUser, u.Username, d, refs, add)
}

// DeleteUser implements account.Users.
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	return s.delete(ctx, account.KindUser, s.cfg.Rules.Name(name))
}
