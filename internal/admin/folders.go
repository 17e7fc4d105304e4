package admin

import (
	"context"
	"fmt"

	"github.com/gantryhq/gantry/internal/account"
)

// Folders lists virtual folders without their secrets, and counts them all.
func (s *Service) Folders(ctx context.Context, by *Actor, p account.Page) ([]account.Folder, int, error) {
	if err := by.need("manage_folders"); err != nil {
		return nil, 0, err
	}
	total, err := s.Store.Count(ctx, account.KindFolder, p)
	if err != nil || p.Limit == 0 {
		return nil, total, err
	}
	list, err := s.Store.ListFolders(ctx, p)
	for i := range list {
		account.Redact(&list[i])
	}
	return list, total, err
}

// Folder reads one folder with its entity tag.
func (s *Service) Folder(ctx context.Context, by *Actor, name string, confidential bool) (*account.Folder, string, error) {
	if err := by.need("manage_folders"); err != nil {
		return nil, "", err
	}
	f, err := s.Store.Folder(ctx, name)
	if err != nil {
		return nil, "", err
	}
	if !confidential || !by.May(account.PermAny) {
		account.Redact(&f)
	}
	return &f, tag(f.ID, f.Version), nil
}

// AddFolder makes a folder of its JSON.
func (s *Service) AddFolder(ctx context.Context, by *Actor, doc []byte, confidential bool) (*account.Folder, string, error) {
	if err := by.need("manage_folders"); err != nil {
		return nil, "", err
	}
	var f account.Folder
	if err := decode(doc, &f); err != nil {
		return nil, "", err
	}
	if f.UsedQuotaSize < 0 || f.UsedQuotaFiles < 0 {
		return nil, "", &account.ValidationError{Kind: "folder", Name: f.Name, Field: "used_quota_size", Code: "range", Text: "used_quota_size and used_quota_files must be 0 or more"}
	}
	if err := s.Store.AddFolder(ctx, &f); err != nil {
		return nil, "", err
	}
	told, err := s.Store.Folder(ctx, f.Name)
	if err != nil {
		return nil, "", err
	}
	s.changed(by, "add", account.KindFolder, f.Name, &told)
	return s.Folder(ctx, by, f.Name, confidential)
}

// PutFolder replaces a folder by the JSON in doc, or merges it in. Counters and who uses it stay.
func (s *Service) PutFolder(ctx context.Context, by *Actor, name string, doc []byte, e Edit) error {
	if err := by.need("manage_folders"); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := s.putFolder(ctx, by, name, doc, e)
		if !e.again(err, try) {
			return err
		}
	}
}

func (s *Service) putFolder(ctx context.Context, by *Actor, name string, doc []byte, e Edit) error {
	cur, err := s.Store.Folder(ctx, name)
	if err != nil {
		return err
	}
	if err := e.matches(tag(cur.ID, cur.Version)); err != nil {
		return fmt.Errorf("folder %q: %w", name, err)
	}
	if e.Merge {
		account.Redact(&cur)
		if doc, err = mergePatch(&cur, doc); err != nil {
			return err
		}
	}
	var next account.Folder
	if err := decode(doc, &next); err != nil {
		return err
	}
	next.Name, next.IfVersion = cur.Name, cur.Version
	if err := s.Store.UpdateFolder(ctx, &next); err != nil {
		return err
	}
	told, err := s.Store.Folder(ctx, cur.Name)
	if err != nil {
		told = account.Folder{Name: cur.Name}
	}
	s.changed(by, "update", account.KindFolder, cur.Name, &told)
	return nil
}

// DeleteFolder removes a folder and unmaps it. Its files stay.
func (s *Service) DeleteFolder(ctx context.Context, by *Actor, name string) error {
	if err := by.need("manage_folders"); err != nil {
		return err
	}
	f, err := s.Store.Folder(ctx, name)
	if err != nil {
		return err
	}
	if err := s.Store.DeleteFolder(ctx, f.Name); err != nil {
		return err
	}
	s.changed(by, "delete", account.KindFolder, f.Name, &f)
	return nil
}

// Groups lists groups without their secrets, and counts them all.
func (s *Service) Groups(ctx context.Context, by *Actor, p account.Page) ([]account.Group, int, error) {
	if err := by.need("manage_groups"); err != nil {
		return nil, 0, err
	}
	total, err := s.Store.Count(ctx, account.KindGroup, p)
	if err != nil || p.Limit == 0 {
		return nil, total, err
	}
	list, err := s.Store.ListGroups(ctx, p)
	for i := range list {
		account.Redact(&list[i])
	}
	return list, total, err
}

// Group reads one group with its entity tag.
func (s *Service) Group(ctx context.Context, by *Actor, name string, confidential bool) (*account.Group, string, error) {
	if err := by.need("manage_groups"); err != nil {
		return nil, "", err
	}
	g, err := s.Store.Group(ctx, name)
	if err != nil {
		return nil, "", err
	}
	if !confidential || !by.May(account.PermAny) {
		account.Redact(&g)
	}
	return &g, tag(g.ID, g.Version), nil
}

// AddGroup makes a group of its JSON.
func (s *Service) AddGroup(ctx context.Context, by *Actor, doc []byte, confidential bool) (*account.Group, string, error) {
	if err := by.need("manage_groups"); err != nil {
		return nil, "", err
	}
	var g account.Group
	if err := decode(doc, &g); err != nil {
		return nil, "", err
	}
	if err := s.Store.AddGroup(ctx, &g); err != nil {
		return nil, "", err
	}
	told, err := s.Store.Group(ctx, g.Name)
	if err != nil {
		return nil, "", err
	}
	s.changed(by, "add", account.KindGroup, g.Name, &told)
	return s.Group(ctx, by, g.Name, confidential)
}

// PutGroup replaces a group by the JSON in doc, or merges it in. Its members stay.
func (s *Service) PutGroup(ctx context.Context, by *Actor, name string, doc []byte, e Edit) error {
	if err := by.need("manage_groups"); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := s.putGroup(ctx, by, name, doc, e)
		if !e.again(err, try) {
			return err
		}
	}
}

func (s *Service) putGroup(ctx context.Context, by *Actor, name string, doc []byte, e Edit) error {
	cur, err := s.Store.Group(ctx, name)
	if err != nil {
		return err
	}
	if err := e.matches(tag(cur.ID, cur.Version)); err != nil {
		return fmt.Errorf("group %q: %w", name, err)
	}
	if e.Merge {
		account.Redact(&cur)
		if doc, err = mergePatch(&cur, doc); err != nil {
			return err
		}
	}
	var next account.Group
	if err := decode(doc, &next); err != nil {
		return err
	}
	next.Name, next.IfVersion = cur.Name, cur.Version
	if err := s.Store.UpdateGroup(ctx, &next); err != nil {
		return err
	}
	told, err := s.Store.Group(ctx, cur.Name)
	if err != nil {
		told = account.Group{Name: cur.Name}
	}
	s.changed(by, "update", account.KindGroup, cur.Name, &told)
	return nil
}

// DeleteGroup removes a group that no user is in.
func (s *Service) DeleteGroup(ctx context.Context, by *Actor, name string) error {
	if err := by.need("manage_groups"); err != nil {
		return err
	}
	g, err := s.Store.Group(ctx, name)
	if err != nil {
		return err
	}
	if err := s.Store.DeleteGroup(ctx, g.Name); err != nil {
		return err
	}
	s.changed(by, "delete", account.KindGroup, g.Name, &g)
	return nil
}
