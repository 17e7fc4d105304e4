package accounttest

import (
	"errors"
	"fmt"
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
