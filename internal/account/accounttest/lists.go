package accounttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
)

// lists checks offsets, filters and counts.
func lists(t *testing.T, s account.Store) {
	ctx := t.Context()
	must(t, account.Add(ctx, s, &account.Role{Name: "north"}))
	must(t, account.Add(ctx, s, &account.Role{Name: "south"}))
	for i := range 7 {
		u := User(fmt.Sprintf("u%d", i))
		if i%2 == 0 {
			u.Role = "north"
		}
		must(t, s.AddUser(ctx, &u))
	}
	north := account.Ref{Kind: account.KindRole, Name: "north"}
	for _, tt := range []struct {
		p     account.Page
		want  []string
		total int
	}{
		{account.Page{Limit: 2}, []string{"u0", "u1"}, 7},
		{account.Page{Limit: 2, Offset: 3}, []string{"u3", "u4"}, 7},
		{account.Page{Limit: 3, Offset: 6}, []string{"u6"}, 7},
		{account.Page{Limit: 3, Offset: 7}, nil, 7},
		{account.Page{Limit: 2, Offset: 1, Desc: true}, []string{"u5", "u4"}, 7},
		{account.Page{Limit: 2, Of: north}, []string{"u0", "u2"}, 4},
		{account.Page{Limit: 2, Of: north, Offset: 1}, []string{"u2", "u4"}, 4},
		{account.Page{Limit: 3, Of: north, Desc: true, Offset: 1}, []string{"u4", "u2", "u0"}, 4},
		{account.Page{Limit: 3, Of: north, After: "u2"}, []string{"u4", "u6"}, 4},
		{account.Page{Limit: 3, Of: north, After: "u4", Desc: true}, []string{"u2", "u0"}, 4},
		{account.Page{Limit: 3, Of: account.Ref{Kind: account.KindRole, Name: "south"}}, nil, 0},
		{account.Page{Limit: 3, Of: account.Ref{Kind: account.KindRole, Name: "none"}}, nil, 0},
		{account.Page{Limit: 3, After: "u1", Offset: 1}, []string{"u3", "u4", "u5"}, 7},
	} {
		list, err := s.ListUsers(ctx, tt.p)
		must(t, err)
		var got []string
		for _, u := range list {
			got = append(got, u.Username)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v: got %v, want %v", tt.p, got, tt.want)
		}
		if names, err := s.Names(ctx, account.KindUser, tt.p); err != nil || !slices.Equal(names, tt.want) {
			t.Errorf("%+v: named %v (%v), want %v", tt.p, names, err, tt.want)
		}
		if n, err := s.Count(ctx, account.KindUser, tt.p); err != nil || n != tt.total {
			t.Errorf("%+v: counted %d (%v), want %d", tt.p, n, err, tt.total)
		}
	}
	pages(t, s)
	for _, e := range []account.IPListEntry{{IPOrNet: "10.0.0.0/8", Type: 1, Mode: 1}, {IPOrNet: "10.0.0.1/32", Type: 2, Mode: 2}, {IPOrNet: "10.1.0.0/16", Type: 2, Mode: 2},
		{IPOrNet: "192.168.0.0/16", Type: 2, Mode: 1}, {IPOrNet: "10.0.0.0/8", Type: 3, Mode: 1}} {
		must(t, account.Add(ctx, s, &e))
	}
	for _, tt := range []struct {
		p     account.Page
		want  []string
		total int
	}{
		{account.Page{Prefix: "2/", Limit: 9}, []string{"2/10.0.0.1/32", "2/10.1.0.0/16", "2/192.168.0.0/16"}, 3},
		{account.Page{Prefix: "2/", Limit: 2, Desc: true}, []string{"2/192.168.0.0/16", "2/10.1.0.0/16"}, 3},
		{account.Page{Prefix: "2/10", Limit: 9, Desc: true}, []string{"2/10.1.0.0/16", "2/10.0.0.1/32"}, 2},
		{account.Page{Prefix: "2/", Limit: 9, After: "2/10.0.0.1/32"}, []string{"2/10.1.0.0/16", "2/192.168.0.0/16"}, 3},
		{account.Page{Prefix: "2/", Limit: 9, After: "2/10.1.0.0/16", Desc: true}, []string{"2/10.0.0.1/32"}, 3},
		{account.Page{Prefix: "4/", Limit: 9}, nil, 0},
		{account.Page{Prefix: "0/", Limit: 9, Desc: true}, nil, 0},
	} {
		docs, err := s.ListRecords(ctx, account.KindIPList, tt.p)
		must(t, err)
		var got []string
		for _, d := range docs {
			k, err := account.RecordKey(account.KindIPList, d)
			must(t, err)
			got = append(got, k)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v: got %v, want %v", tt.p, got, tt.want)
		}
		if n, err := s.Count(ctx, account.KindIPList, tt.p); err != nil || n != tt.total {
			t.Errorf("%+v: counted %d (%v), want %d", tt.p, n, err, tt.total)
		}
	}
}

// pages checks that what stands in a list is what is read one by one: counters, folders, who uses them, numbers.
func pages(t *testing.T, s account.Store) {
	t.Helper()
	ctx := t.Context()
	for i := range 3 {
		must(t, s.AddFolder(ctx, &account.Folder{Name: fmt.Sprint("f", i), MappedPath: "/srv/f"}))
		must(t, account.Add(ctx, s, &account.Admin{Username: fmt.Sprint("a", i), Status: 1, Password: User("x").Password, Permissions: []string{"view_users"}}))
	}
	mount := func(name, at string) account.VirtualFolder {
		return account.VirtualFolder{Folder: account.Folder{Name: name}, VirtualPath: at, QuotaSize: -1, QuotaFiles: -1}
	}
	must(t, s.AddGroup(ctx, &account.Group{Name: "g0", VirtualFolders: []account.VirtualFolder{mount("f2", "/g")}}))
	must(t, s.AddGroup(ctx, &account.Group{Name: "g1"}))
	for name, maps := range map[string][]account.VirtualFolder{"u1": {mount("f0", "/a"), mount("f1", "/b")}, "u3": {mount("f0", "/c")}, "u5": nil} {
		u, err := s.User(ctx, name)
		must(t, err)
		u.VirtualFolders, u.Groups = maps, []account.GroupMapping{{Name: "g0", Type: account.GroupPrimary}}
		must(t, s.UpdateUser(ctx, &u))
		must(t, s.Settle(ctx, []account.Delta{{Key: account.CounterKey{Kind: account.KindUser, Name: name}, Files: 3, Bytes: 70, Uploaded: 7, Downloaded: 8}}))
	}
	must(t, s.Settle(ctx, []account.Delta{{Key: account.CounterKey{Kind: account.KindFolder, Name: "f0"}, Files: 2, Bytes: 20}}))
	must(t, s.SetLastLogin(ctx, "u5", 99))
	for _, p := range []account.Page{{}, {Desc: true}, {Offset: 1, Limit: 3}, {Desc: true, Offset: 1, Limit: 3}, {After: "u2", Limit: 2}, {Of: account.Ref{Kind: account.KindGroup, Name: "g0"}}} {
		equalLists(t, s.ListUsers, s.User, func(u account.User) string { return u.Username }, p)
	}
	for _, p := range []account.Page{{}, {Desc: true}, {Offset: 1, Limit: 1}} {
		equalLists(t, s.ListFolders, s.Folder, func(f account.Folder) string { return f.Name }, p)
		equalLists(t, s.ListGroups, s.Group, func(g account.Group) string { return g.Name }, p)
	}
	numbers := map[int64]bool{}
	docs, err := s.ListRecords(ctx, account.KindAdmin, account.Page{})
	must(t, err)
	for i, doc := range docs {
		var a account.Admin
		must(t, json.Unmarshal(doc, &a))
		numbers[a.ID] = true
		one, err := account.Get[account.Admin](ctx, s, a.Username)
		must(t, err)
		if a.ID == 0 || one.ID != a.ID {
			t.Errorf("administrator %d has the number %d in the list and %d alone", i, a.ID, one.ID)
		}
		must(t, account.Edit(ctx, s, a.Username, func(x *account.Admin) error { x.Description = "changed"; return nil }))
		if again, err := account.Get[account.Admin](ctx, s, a.Username); err != nil || again.ID != a.ID || again.Description != "changed" {
			t.Errorf("after an edit: %+v, %v", again, err)
		}
	}
	if len(docs) != 3 || len(numbers) != 3 {
		t.Errorf("%d administrators have the numbers %v", len(docs), numbers)
	}
	// What the type does not know stays, and hides no number.
	must(t, s.AddRecord(ctx, account.KindRole, []byte(`{"later":{"id":0,"a":1},"name":"odd"}`)))
	doc, err := s.Record(ctx, account.KindRole, "odd")
	must(t, err)
	var odd struct {
		ID    int64
		Later struct{ ID, A int64 }
	}
	must(t, json.Unmarshal(doc, &odd))
	if odd.ID == 0 || odd.Later.ID != 0 || odd.Later.A != 1 {
		t.Errorf("a role with a member that is not known: %s", doc)
	}
}

// equalLists checks that a page has the records that get gives for their names.
func equalLists[T any](t *testing.T, list func(context.Context, account.Page) ([]T, error), get func(context.Context, string) (T, error), name func(T) string, p account.Page) {
	t.Helper()
	got, err := list(t.Context(), p)
	must(t, err)
	if len(got) == 0 {
		t.Errorf("%+v: an empty page", p)
	}
	for _, x := range got {
		one, err := get(t.Context(), name(x))
		must(t, err)
		if !reflect.DeepEqual(x, one) {
			t.Errorf("%+v: the list has\n%+v, alone it is\n%+v", p, x, one)
		}
	}
}

// versions checks that an update of what has changed meanwhile is refused.
func versions(t *testing.T, s account.Store) {
	ctx := t.Context()
	u := User("u")
	must(t, s.AddUser(ctx, &u))
	f := account.Folder{Name: "f", MappedPath: "/srv/f"}
	must(t, s.AddFolder(ctx, &f))
	g := account.Group{Name: "g"}
	must(t, s.AddGroup(ctx, &g))
	u, err := s.User(ctx, "u")
	must(t, err)
	f, err = s.Folder(ctx, "f")
	must(t, err)
	g, err = s.Group(ctx, "g")
	must(t, err)
	for name, update := range map[string]func(version int64) error{
		"user":   func(v int64) error { x := u; x.IfVersion = v; return s.UpdateUser(ctx, &x) },
		"folder": func(v int64) error { x := f; x.IfVersion = v; return s.UpdateFolder(ctx, &x) },
		"group":  func(v int64) error { x := g; x.IfVersion = v; return s.UpdateGroup(ctx, &x) },
	} {
		v := map[string]int64{"user": u.Version, "folder": f.Version, "group": g.Version}[name]
		if err := update(v + 1); !errors.Is(err, account.ErrChanged) {
			t.Errorf("%s of another version: got %v, want ErrChanged", name, err)
		}
		if err := update(v); err != nil {
			t.Errorf("%s of its version: %v", name, err)
		}
		if err := update(v); !errors.Is(err, account.ErrChanged) {
			t.Errorf("%s of its old version: got %v, want ErrChanged", name, err)
		}
		if err := update(0); err != nil {
			t.Errorf("%s of any version: %v", name, err)
		}
	}
}

// editRecord checks that edits of one record follow each other.
func editRecord(t *testing.T, s account.Store) {
	ctx := t.Context()
	must(t, s.AddUser(ctx, new(User("u"))))
	sh := account.Share{ID: "s", Username: "u", Scope: account.ShareRead, Paths: []string{"/"}, MaxTokens: 50}
	must(t, account.Add(ctx, s, &sh))
	before, err := account.Get[account.Share](ctx, s, "s")
	must(t, err)
	var all sync.WaitGroup
	refused := errors.New("no token left")
	var mu sync.Mutex
	failed := 0
	for range 60 {
		all.Go(func() {
			err := account.Edit(ctx, s, "s", func(x *account.Share) error {
				if x.UsedTokens >= x.MaxTokens {
					return refused
				}
				x.UsedTokens++
				return nil
			})
			if err != nil {
				mu.Lock()
				failed++
				mu.Unlock()
				if !errors.Is(err, refused) {
					t.Errorf("edit: %v", err)
				}
			}
		})
	}
	all.Wait()
	after, err := account.Get[account.Share](ctx, s, "s")
	must(t, err)
	if after.UsedTokens != 50 || failed != 10 {
		t.Errorf("%d tokens used and %d refused, want 50 and 10", after.UsedTokens, failed)
	}
	if after.UpdatedAt != before.UpdatedAt || after.CreatedAt != before.CreatedAt {
		t.Error("an edit moved the times")
	}
	if err := account.Edit(ctx, s, "none", func(*account.Share) error { return nil }); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("edit of nothing: %v", err)
	}
	if err := account.Edit(ctx, s, "s", func(x *account.Share) error { x.Scope = 9; return nil }); err == nil {
		t.Error("an edit that is not valid was stored")
	}
	if err := account.Edit(ctx, s, "s", func(x *account.Share) error { x.Username = "nobody"; return nil }); err == nil {
		t.Error("an edit with a dangling reference was stored")
	}
	if err := account.Edit(ctx, s, "s", func(x *account.Share) error { x.ID = "t"; return nil }); err == nil {
		t.Error("an edit changed the key")
	}
}

// released checks what becomes of those who name a record that goes.
func released(t *testing.T, s account.Store) {
	ctx := t.Context()
	must(t, account.Add(ctx, s, &account.Role{Name: "r"}))
	g := account.Group{Name: "g"}
	must(t, s.AddGroup(ctx, &g))
	u := User("u")
	u.Role = "r"
	must(t, s.AddUser(ctx, &u))
	a := account.Admin{Username: "a", Status: 1, Password: u.Password, Permissions: []string{"view_users"}, Role: "r",
		Groups: []account.AdminGroup{{Name: "g"}}}
	must(t, account.Add(ctx, s, &a))
	var invalid *account.ValidationError
	if err := s.DeleteRecord(ctx, account.KindRole, "r"); !errors.As(err, &invalid) {
		t.Fatalf("a role of an administrator went: %v", err)
	}
	if got, err := s.User(ctx, "u"); err != nil || got.Role != "r" {
		t.Fatalf("a refused deletion changed the user: %q %v", got.Role, err)
	}
	must(t, s.DeleteGroup(ctx, "g"))
	stored, err := account.Get[account.Admin](ctx, s, "a")
	must(t, err)
	if len(stored.Groups) != 0 || stored.Password != u.Password {
		t.Errorf("the administrator: groups %v, password %q", stored.Groups, stored.Password)
	}
	must(t, s.DeleteRecord(ctx, account.KindAdmin, "a"))
	must(t, s.DeleteRecord(ctx, account.KindRole, "r"))
	if got, err := s.User(ctx, "u"); err != nil || got.Role != "" {
		t.Errorf("the user's role: %q %v", got.Role, err)
	}
}
