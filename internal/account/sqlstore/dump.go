package sqlstore

import (
	"context"
	"database/sql"
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
	return s.write(ctx, func(tx *sql.Tx) error {
		if opt.Clean {
			if err := s.clean(ctx, tx); err != nil {
				return err
			}
		}
		put := func(kind account.Kind, name string, save func(add bool) error) error {
			have, err := s.exists(ctx, tx, kind, name)
			if err != nil {
				return err
			}
			defer step()
			if have && opt.Mode == 1 {
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
				if err := put(p.rec.Kind(), p.rec.Key(), func(add bool) error { return s.putDocument(ctx, tx, p.rec, p.json, add) }); err != nil {
					return err
				}
			}
			return nil
		}
		if err := putDocs(true); err != nil {
			return err
		}
		for i := range folders {
			if err := put(account.KindFolder, folders[i].Name, func(add bool) error { return s.putFolder(ctx, tx, &folders[i], add) }); err != nil {
				return err
			}
		}
		for i := range groups {
			if err := put(account.KindGroup, groups[i].Name, func(add bool) error { return s.putGroup(ctx, tx, &groups[i], add) }); err != nil {
				return err
			}
		}
		for i := range users {
			if err := put(account.KindUser, users[i].Username, func(add bool) error { return s.putUser(ctx, tx, &users[i], add) }); err != nil {
				return err
			}
		}
		return putDocs(false)
	})
}

// clean removes every record, with a change row each.
func (s *Store) clean(ctx context.Context, tx querier) error {
	kinds := []account.Kind{account.KindUser, account.KindGroup, account.KindFolder, account.KindConfig}
	for _, o := range new(account.Dump).Others() {
		kinds = append(kinds, o.Kind)
	}
	for _, k := range kinds {
		for {
			names, err := s.names(ctx, tx, k, account.Page{Limit: 1000})
			if err != nil {
				return err
			}
			if len(names) == 0 {
				break
			}
			for _, n := range names {
				if err := s.remove(ctx, tx, k, n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Dump implements account.Store. It reads one state of the database.
func (s *Store) Dump(ctx context.Context, scopes ...string) (*account.Dump, error) {
	tx, err := s.r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("sqlstore: dump: %w", err)
	}
	defer tx.Rollback()
	d := &account.Dump{Version: account.DumpVersion}
	want := func(scope string) bool { return len(scopes) == 0 || slices.Contains(scopes, scope) }
	if want("users") {
		if d.Users, err = all(ctx, s, tx, account.KindUser, s.user, func(u account.User) string { return u.Username }); err != nil {
			return nil, err
		}
	}
	if want("groups") {
		if d.Groups, err = all(ctx, s, tx, account.KindGroup, s.group, func(g account.Group) string { return g.Name }); err != nil {
			return nil, err
		}
	}
	if want("folders") {
		get := func(ctx context.Context, q querier, n string) (account.Folder, error) {
			return s.folder(ctx, q, n, true)
		}
		if d.Folders, err = all(ctx, s, tx, account.KindFolder, get, func(f account.Folder) string { return f.Name }); err != nil {
			return nil, err
		}
	}
	scope := map[account.Kind]string{account.KindAdmin: "admins", account.KindAPIKey: "api_keys", account.KindShare: "shares", account.KindRole: "roles",
		account.KindAction: "actions", account.KindRule: "rules", account.KindIPList: "ip_lists"}
	for _, o := range d.Others() {
		if !want(scope[o.Kind]) {
			continue
		}
		get := func(ctx context.Context, q querier, n string) (json.RawMessage, error) {
			return s.record(ctx, q, o.Kind, n)
		}
		key := func(doc json.RawMessage) string { k, _ := account.RecordKey(o.Kind, doc); return k }
		if *o.List, err = all(ctx, s, tx, o.Kind, get, key); err != nil {
			return nil, err
		}
	}
	if want("configs") {
		doc, err := s.record(ctx, tx, account.KindConfig, "configs")
		if err != nil && !errors.Is(err, account.ErrNotFound) {
			return nil, err
		}
		d.Configs = doc
	}
	return d, nil
}

// all reads every record of a kind.
func all[T any](ctx context.Context, s *Store, q querier, kind account.Kind, get func(context.Context, querier, string) (T, error), key func(T) string) ([]T, error) {
	out := []T{}
	p := account.Page{Limit: 10_000}
	for {
		part, err := list(ctx, s, q, kind, p, get)
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
		if len(part) < p.Limit {
			return out, nil
		}
		p.After = key(part[len(part)-1])
	}
}
