package recordstore

import (
	"context"
	"slices"

	"github.com/gantryhq/gantry/internal/account"
)

// Group implements account.Groups.
func (s *Store) Group(ctx context.Context, name string) (account.Group, error) {
	return one(ctx, s, func(t *tx) (account.Group, error) { return t.group(s.cfg.Rules.Name(name)) })
}

func (t *tx) group(name string) (account.Group, error) {
	return maker[account.Group]((*tx).groups).read(t, account.KindGroup, name)
}

// groups makes groups of their rows.
func (t *tx) groups(rows []Row) ([]account.Group, error) {
	refs, err := t.referrersOf(account.KindGroup, rows)
	if err != nil {
		return nil, err
	}
	out := make([]account.Group, len(rows))
	maps := make([][]account.VirtualFolder, len(rows))
	for i := range rows {
		g, r := &out[i], &rows[i]
		if err := r.decode(account.KindGroup, g); err != nil {
			return nil, err
		}
		g.ID, g.Version = r.ID, r.Version
		g.Users, g.Admins = namesOf(refs[r.Name], account.KindUser), namesOf(refs[r.Name], account.KindAdmin)
		maps[i] = g.VirtualFolders
	}
	return out, t.fillFolders(maps...)
}

// ListGroups implements account.Groups.
func (s *Store) ListGroups(ctx context.Context, p account.Page) ([]account.Group, error) {
	return one(ctx, s, func(t *tx) ([]account.Group, error) {
		return maker[account.Group]((*tx).groups).list(t, account.KindGroup, p)
	})
}

// AddGroup implements account.Groups.
func (s *Store) AddGroup(ctx context.Context, g *account.Group) error {
	g.CreatedAt, g.UpdatedAt = 0, 0
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
	return s.write(ctx, func(t *tx) error { return t.putGroup(g, add) })
}

func (t *tx) putGroup(g *account.Group, add bool) error {
	var old account.Group
	if !add {
		var err error
		if old, err = t.group(g.Name); err != nil {
			return err
		}
	}
	if err := ifVersion(account.KindGroup, g.Name, g.IfVersion, old.Version); err != nil {
		return err
	}
	t.stamp(&g.CreatedAt, &g.UpdatedAt, add, old.CreatedAt)
	if err := keepSecrets(account.KindGroup, g.Name, &g.UserSettings, &old.UserSettings); err != nil {
		return err
	}
	d := *g
	d.ID, d.Users, d.Admins = 0, nil, nil
	maps, refs := bare(g.VirtualFolders)
	d.VirtualFolders = maps
	if err := t.put(account.KindGroup, g.Name, d, refs, add); err != nil {
		return err
	}
	return t.touchMembers(account.KindGroup, g.Name)
}

// ungroupAdmin takes a group off the defaults of an administrator.
func (t *tx) ungroupAdmin(name, group string) error {
	var a account.Admin
	r, err := t.decode(account.KindAdmin, name, &a)
	if err != nil {
		return err
	}
	a.Groups = slices.DeleteFunc(a.Groups, func(g account.AdminGroup) bool { return g.Name == group })
	doc, err := account.EncodeDocument(&a, r.Doc)
	if err != nil {
		return err
	}
	return t.put(account.KindAdmin, name, doc, a.References(), false)
}

// DeleteGroup implements account.Groups. It is taken off administrators; users in it keep it from going.
func (s *Store) DeleteGroup(ctx context.Context, name string) error {
	return s.delete(ctx, account.KindGroup, s.cfg.Rules.Name(name))
}
