package recordstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/gantryhq/gantry/internal/account"
)

// Load implements account.Store: everything is validated first, then applied in one transaction. The
// error names the object that is wrong.
func (s *Store) Load(ctx context.Context, d *account.Dump, opt account.LoadOptions) error {
	users, groups, folders := slices.Clone(d.Users), slices.Clone(d.Groups), slices.Clone(d.Folders)
	total := len(users) + len(groups) + len(folders)
	for _, o := range d.Others() {
		total += len(*o.List)
	}
	done := 0
	step := func() {
		if done++; opt.Progress != nil {
			opt.Progress(done, total)
		}
	}
	type loaded struct {
		rec  account.Document
		json []byte
	}
	var docs []loaded
	read := func(kind account.Kind, at string, doc []byte) error {
		rec, err := account.DecodeDocument(kind, doc)
		if err == nil {
			err = rec.Normalize(ctx, s.cfg.Rules)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		docs = append(docs, loaded{rec, doc})
		return nil
	}
	for _, o := range d.Others() {
		for i, doc := range *o.List {
			if err := read(o.Kind, fmt.Sprintf("%s[%d]", o.Kind, i), doc); err != nil {
				return err
			}
		}
	}
	if len(d.Configs) > 0 && string(d.Configs) != "null" {
		total++
		if err := read(account.KindConfig, "configs", d.Configs); err != nil {
			return err
		}
	}
	for i := range folders {
		if err := folders[i].Normalize(s.cfg.Rules); err != nil {
			return fmt.Errorf("folders[%d]: %w", i, err)
		}
	}
	for i := range groups {
		if err := groups[i].Normalize(s.cfg.Rules); err != nil {
			return fmt.Errorf("groups[%d]: %w", i, err)
		}
	}
	for i := range users {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := users[i].Normalize(ctx, s.cfg.Rules); err != nil {
			return fmt.Errorf("users[%d]: %w", i, err)
		}
		// Dumps before 2.6 carry a folder's definition only inside its users.
		for _, v := range users[i].VirtualFolders {
			if v.MappedPath == "" || slices.ContainsFunc(folders, func(f account.Folder) bool { return f.Name == v.Name }) {
				continue
			}
			f := v.Folder
			if err := f.Normalize(s.cfg.Rules); err != nil {
				return fmt.Errorf("users[%d]: %w", i, err)
			}
			folders = append(folders, f)
		}
	}
	return s.write(ctx, func(t *tx) error {
		done = 0 // it may be run again
		put := func(kind account.Kind, name string, save func(add bool) error) error {
			have, err := t.exists(kind, name)
			if err != nil {
				return err
			}
			defer step()
			if have && opt.Mode == 1 && !opt.Clean {
				return nil
			}
			return save(!have)
		}
		putDocs := func(roles bool) error { // users name roles; all else may name users
			for i := range docs {
				p := &docs[i]
				if (p.rec.Kind() == account.KindRole) != roles {
					continue
				}
				if err := put(p.rec.Kind(), p.rec.Key(), func(add bool) error { return t.putDocument(p.rec, p.json, add) }); err != nil {
					return err
				}
			}
			return nil
		}
		if err := putDocs(true); err != nil {
			return err
		}
		for i := range folders {
			if err := put(account.KindFolder, folders[i].Name, func(add bool) error { return t.putFolder(&folders[i], add) }); err != nil {
				return err
			}
		}
		for i := range groups {
			if err := put(account.KindGroup, groups[i].Name, func(add bool) error { return t.putGroup(&groups[i], add) }); err != nil {
				return err
			}
		}
		for i := range users {
			if err := put(account.KindUser, users[i].Username, func(add bool) error { return t.putUser(&users[i], add) }); err != nil {
				return err
			}
		}
		if err := putDocs(false); err != nil || !opt.Clean {
			return err
		}
		keep := map[account.Kind]map[string]bool{}
		note := func(kind account.Kind, name string) {
			if keep[kind] == nil {
				keep[kind] = map[string]bool{}
			}
			keep[kind][name] = true
		}
		for i := range docs {
			note(docs[i].rec.Kind(), docs[i].rec.Key())
		}
		for i := range folders {
			note(account.KindFolder, folders[i].Name)
		}
		for i := range groups {
			note(account.KindGroup, groups[i].Name)
		}
		for i := range users {
			note(account.KindUser, users[i].Username)
		}
		return t.clean(keep)
	})
}

// clean removes every record that is not to be kept, with a change row each. What stays must not refer to it.
func (t *tx) clean(keep map[account.Kind]map[string]bool) error {
	kinds := []account.Kind{account.KindUser, account.KindGroup, account.KindFolder, account.KindConfig}
	for _, o := range new(account.Dump).Others() {
		kinds = append(kinds, o.Kind)
	}
	var removed []account.Ref
	for _, k := range kinds {
		for p := (account.Page{Limit: 1000}); ; {
			names, err := t.Names(k, p)
			if err != nil {
				return err
			}
			for _, n := range names {
				if keep[k][n] {
					continue
				}
				if err := t.remove(k, n); err != nil {
					return err
				}
				removed = append(removed, account.Ref{Kind: k, Name: n})
			}
			if len(names) < p.Limit {
				break
			}
			p.After = names[len(names)-1]
		}
	}
	for _, r := range removed {
		by, err := t.Referrers(r.Kind, r.Name)
		if err != nil {
			return err
		}
		if len(by) > 0 {
			return &account.ValidationError{Kind: string(by[0].Kind), Name: by[0].Name, Field: string(r.Kind), Code: "reference",
				Text: fmt.Sprintf("it names the %s %q, which is not in what replaces everything; add it there", r.Kind, r.Name)}
		}
	}
	return nil
}

// Reset removes every record, lock and property, and their traces in the file where the engine can.
func (s *Store) Reset(ctx context.Context) error {
	wipe := func(t *tx) error {
		if err := t.clean(nil); err != nil {
			return err
		}
		return t.clearItems()
	}
	if err := s.write(ctx, wipe); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	if c, ok := s.e.(interface{ Compact(context.Context) error }); ok {
		if err := c.Compact(ctx); err != nil {
			return fmt.Errorf("the records were removed, the file was not compacted: %w", err)
		}
	}
	return nil
}

// scopeOf is the member of a dump that holds the documents of kind.
func scopeOf(kind account.Kind) string {
	return map[account.Kind]string{account.KindAdmin: "admins", account.KindAPIKey: "api_keys", account.KindShare: "shares", account.KindRole: "roles",
		account.KindAction: "actions", account.KindRule: "rules", account.KindIPList: "ip_lists"}[kind]
}

// Dump implements account.Store. It reads one state of the database.
func (s *Store) Dump(ctx context.Context, scopes ...string) (*account.Dump, error) {
	d := &account.Dump{Version: account.DumpVersion}
	want := func(scope string) bool { return len(scopes) == 0 || slices.Contains(scopes, scope) }
	err := s.read(ctx, func(t *tx) (err error) {
		if want("users") {
			if d.Users, err = maker[account.User]((*tx).users).all(t, account.KindUser); err != nil {
				return err
			}
		}
		if want("groups") {
			if d.Groups, err = maker[account.Group]((*tx).groups).all(t, account.KindGroup); err != nil {
				return err
			}
		}
		if want("folders") {
			if d.Folders, err = maker[account.Folder]((*tx).folders).all(t, account.KindFolder); err != nil {
				return err
			}
		}
		for _, o := range d.Others() {
			if !want(scopeOf(o.Kind)) {
				continue
			}
			docs, err := documents(o.Kind).all(t, o.Kind)
			if err != nil {
				return err
			}
			list := make([]json.RawMessage, len(docs))
			for i := range docs {
				list[i] = docs[i]
			}
			*o.List = list
		}
		if want("configs") {
			doc, err := t.record(account.KindConfig, "configs")
			if err != nil && !errors.Is(err, account.ErrNotFound) {
				return err
			}
			d.Configs = doc
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("dump: %w", err)
	}
	return d, nil
}
