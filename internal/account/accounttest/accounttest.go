// Package accounttest is the contract of an account.Store: every driver runs it.
package accounttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
)

// User is a valid user.
func User(name string) account.User {
	return account.User{Username: name, Status: 1, HomeDir: "/srv/" + name, Password: "$2a$04$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S",
		Permissions: map[string][]string{"/": {"*"}}}
}

// Run checks a store; open gives an empty one that the test's end closes.
func Run(t *testing.T, open func(t *testing.T) account.Store) {
	t.Run("users", func(t *testing.T) { users(t, open(t)) })
	t.Run("references", func(t *testing.T) { references(t, open(t)) })
	t.Run("counters", func(t *testing.T) { counters(t, open(t)) })
	t.Run("changes", func(t *testing.T) { changes(t, open(t)) })
	t.Run("dump", func(t *testing.T) { dump(t, open(t), open(t)) })
	t.Run("badDump", func(t *testing.T) { badDump(t, open(t)) })
	t.Run("records", func(t *testing.T) { records(t, open(t)) })
	t.Run("edit", func(t *testing.T) { edit(t, open(t)) })
	t.Run("steps", func(t *testing.T) { steps(t, open(t)) })
	t.Run("deletes", func(t *testing.T) { deletes(t, open(t)) })
	t.Run("stamps", func(t *testing.T) { stamps(t, open(t)) })
	t.Run("clean", func(t *testing.T) { clean(t, open(t)) })
	t.Run("lists", func(t *testing.T) { lists(t, open(t)) })
	t.Run("versions", func(t *testing.T) { versions(t, open(t)) })
	t.Run("editRecord", func(t *testing.T) { editRecord(t, open(t)) })
	t.Run("released", func(t *testing.T) { released(t, open(t)) })
	t.Run("locks", func(t *testing.T) { locks(t, open(t)) })
	t.Run("lockConflicts", func(t *testing.T) { lockConflicts(t, open(t)) })
	t.Run("lockLimits", func(t *testing.T) { lockLimits(t, open(t)) })
	t.Run("props", func(t *testing.T) { props(t, open(t)) })
	t.Run("many", func(t *testing.T) { many(t, open(t)) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func users(t *testing.T, s account.Store) {
	ctx := t.Context()
	for i := range 5 {
		u := User(fmt.Sprintf("u%d", i))
		must(t, s.AddUser(ctx, &u))
	}
	u := User("u1")
	if err := s.AddUser(ctx, &u); !errors.Is(err, account.ErrExists) {
		t.Errorf("adding u1 again: got %v, want ErrExists", err)
	}
	got, err := s.User(ctx, " u1 ") // naming rule 4 trims
	must(t, err)
	if got.Username != "u1" || got.Version != 1 || got.CreatedAt == 0 {
		t.Errorf("u1: got %q version %d created %d", got.Username, got.Version, got.CreatedAt)
	}
	got.Description = "changed"
	must(t, s.UpdateUser(ctx, &got))
	again, err := s.User(ctx, "u1")
	must(t, err)
	if again.Description != "changed" || again.Version != 2 || again.CreatedAt != got.CreatedAt {
		t.Errorf("after update: %+v", again)
	}
	page, err := s.ListUsers(ctx, account.Page{After: "u1", Limit: 2})
	must(t, err)
	if len(page) != 2 || page[0].Username != "u2" || page[1].Username != "u3" {
		t.Errorf("page after u1: got %d users", len(page))
	}
	page, err = s.ListUsers(ctx, account.Page{Desc: true, Limit: 2})
	must(t, err)
	if len(page) != 2 || page[0].Username != "u4" {
		t.Errorf("descending page: got %d users", len(page))
	}
	must(t, s.DeleteUser(ctx, "u1"))
	for name, err := range map[string]error{"get": second(s.User(ctx, "u1")), "delete": s.DeleteUser(ctx, "u1"), "update": s.UpdateUser(ctx, &got)} {
		if !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%s of a deleted user: got %v, want ErrNotFound", name, err)
		}
	}
	bad := User("x/y") // AUTH-6
	if ve, ok := errors.AsType[*account.ValidationError](s.AddUser(ctx, &bad)); !ok || ve.Field != "username" {
		t.Errorf("bad name: got %v", ve)
	}
	evil := User(`a'); DROP TABLE gantry_users;--`) // SQL-1
	must(t, s.AddUser(ctx, &evil))
	if _, err := s.User(ctx, evil.Username); err != nil {
		t.Errorf("a name with SQL in it: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func references(t *testing.T, s account.Store) {
	ctx := t.Context()
	u := User("a")
	u.VirtualFolders = []account.VirtualFolder{{Folder: account.Folder{Name: "f"}, VirtualPath: "/f"}}
	u.Groups = []account.GroupMapping{{Name: "g", Type: account.GroupPrimary}}
	ve, ok := errors.AsType[*account.ValidationError](s.AddUser(ctx, &u))
	if !ok || ve.Code != "reference" {
		t.Fatalf("dangling folder: got %v, want a reference error", ve)
	}
	must(t, s.AddFolder(ctx, &account.Folder{Name: "f", MappedPath: "/srv/f"}))
	must(t, s.AddGroup(ctx, &account.Group{Name: "g"}))
	must(t, s.AddUser(ctx, &u))
	got, err := s.User(ctx, "a")
	must(t, err)
	if len(got.VirtualFolders) != 1 || got.VirtualFolders[0].MappedPath != "/srv/f" || got.VirtualFolders[0].VirtualPath != "/f" {
		t.Errorf("mapping: got %+v", got.VirtualFolders)
	}
	f, err := s.Folder(ctx, "f")
	must(t, err)
	if len(f.Users) != 1 || f.Users[0] != "a" {
		t.Errorf("users of the folder: got %v", f.Users)
	}
	if err := s.DeleteGroup(ctx, "g"); err == nil {
		t.Error("a group with members was deleted")
	}
	f.MappedPath = "/srv/other"
	must(t, s.UpdateFolder(ctx, &f))
	moved, err := s.User(ctx, "a")
	must(t, err)
	if moved.Version <= got.Version || moved.VirtualFolders[0].MappedPath != "/srv/other" {
		t.Errorf("the folder changed, the user's version did not move: %d, then %d", got.Version, moved.Version)
	}
	must(t, s.DeleteFolder(ctx, "f"))
	got, err = s.User(ctx, "a")
	must(t, err)
	if len(got.VirtualFolders) != 0 {
		t.Errorf("mapping of a deleted folder: got %+v", got.VirtualFolders)
	}
}

func counters(t *testing.T, s account.Store) {
	ctx := t.Context()
	u := User("a")
	must(t, s.AddUser(ctx, &u))
	key := account.CounterKey{Kind: account.KindUser, Name: "a"}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if err := s.Settle(ctx, []account.Delta{{Key: key, Files: 1, Bytes: 10, Uploaded: 5, Downloaded: 3}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := s.Usage(ctx, key)
	must(t, err)
	if got.Files != 80 || got.Bytes != 800 || got.Uploaded != 400 || got.Downloaded != 240 {
		t.Errorf("after 80 deltas: got %+v", got)
	}
	must(t, s.Settle(ctx, []account.Delta{{Key: key, Files: -1000, Bytes: -5000}}))
	if got, _ = s.Usage(ctx, key); got.Files != 0 || got.Bytes != 0 {
		t.Errorf("a counter fell below zero: %+v", got)
	}
	must(t, s.SetUsage(ctx, key, 7, 70))
	must(t, s.SetLastLogin(ctx, "a", 99))
	v, err := s.User(ctx, "a")
	must(t, err)
	if v.UsedQuotaFiles != 7 || v.UsedQuotaSize != 70 || v.LastLogin != 99 || v.Version != 1 {
		t.Errorf("user: files %d bytes %d login %d version %d", v.UsedQuotaFiles, v.UsedQuotaSize, v.LastLogin, v.Version)
	}
	v.Description = "x" // an update leaves the counters alone
	v.UsedQuotaFiles = 1
	must(t, s.UpdateUser(ctx, &v))
	if got, _ = s.Usage(ctx, key); got.Files != 7 {
		t.Errorf("update changed a counter: %+v", got)
	}
	must(t, s.MarkDirty(ctx, "n1", []account.CounterKey{key}))
	must(t, s.MarkDirty(ctx, "n1", []account.CounterKey{key}))
	if d, err := s.Dirty(ctx, "n1"); err != nil || len(d) != 1 || d[0] != key {
		t.Errorf("dirty: got %v, %v", d, err)
	}
	if d, _ := s.Dirty(ctx, "n2"); len(d) != 0 {
		t.Errorf("another node's marks: %v", d)
	}
	must(t, s.ClearDirty(ctx, "n1", []account.CounterKey{key}))
	if d, _ := s.Dirty(ctx, "n1"); len(d) != 0 {
		t.Errorf("after clear: %v", d)
	}
}

func changes(t *testing.T, s account.Store) {
	ctx := t.Context()
	_, before, err := s.ChangesSince(ctx, 0, 10)
	must(t, err)
	u := User("a")
	must(t, s.AddUser(ctx, &u))
	bad := User("")
	s.AddUser(ctx, &bad)
	must(t, s.SetLastLogin(ctx, "a", 1))
	rows, newest, err := s.ChangesSince(ctx, before, 10)
	must(t, err)
	if len(rows) != 1 || rows[0].Kind != account.KindUser || rows[0].Key != "a" || newest != rows[0].Seq {
		t.Errorf("one write, a refused one and a counter: got %+v newest %d", rows, newest)
	}
}

func dump(t *testing.T, s, other account.Store) {
	ctx := t.Context()
	d := &account.Dump{
		Folders: []account.Folder{{Name: "f", MappedPath: "/srv/f", UsedQuotaFiles: 3, UsedQuotaSize: 30}},
		Groups:  []account.Group{{Name: "g", UserSettings: account.GroupSettings{MaxSessions: 2}}},
		Users: []account.User{User("a"), func() account.User {
			u := User("b")
			u.Groups = []account.GroupMapping{{Name: "g", Type: 1}}
			u.VirtualFolders = []account.VirtualFolder{{Folder: account.Folder{Name: "f"}, VirtualPath: "/f", QuotaSize: -1, QuotaFiles: -1}}
			u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/", DeniedPatterns: []string{"*.EXE"}}}
			return u
		}()},
		Admins: []json.RawMessage{json.RawMessage(`{"username":"root","password":"$2a$04$x","permissions":["*"],"later_field":{"x":1}}`)},
	}
	must(t, s.Load(ctx, d, account.LoadOptions{}))
	one, err := s.Dump(ctx)
	must(t, err)
	if len(one.Users) != 2 || len(one.Folders) != 1 || one.Folders[0].UsedQuotaFiles != 3 || !strings.Contains(string(one.Admins[0]), "later_field") {
		t.Fatalf("dump: %+v", one)
	}
	if got := one.Users[1].Filters.FilePatterns[0].DeniedPatterns[0]; got != "*.exe" {
		t.Errorf("pattern: got %q, want it in lower case", got)
	}
	text, err := json.Marshal(one)
	must(t, err)
	back, err := account.DecodeDump(strings.NewReader(string(text)), 0)
	must(t, err)
	must(t, other.Load(ctx, back, account.LoadOptions{}))
	two, err := other.Dump(ctx)
	must(t, err)
	for _, x := range []*account.Dump{one, two} { // numbers are each store's own
		for i := range x.Users {
			x.Users[i].ID = 0
			for j := range x.Users[i].VirtualFolders {
				x.Users[i].VirtualFolders[j].ID = 0
			}
		}
		for i := range x.Groups {
			x.Groups[i].ID = 0
		}
		for i := range x.Folders {
			x.Folders[i].ID = 0
		}
	}
	a, _ := json.Marshal(one)
	b, _ := json.Marshal(two)
	if string(a) != string(b) {
		t.Errorf("load(dump(x)) differs:\n%s\n%s", a, b)
	}
	// Mode 1 adds only, clean removes.
	d.Users[0].Description = "new"
	must(t, s.Load(ctx, d, account.LoadOptions{Mode: 1}))
	if u, _ := s.User(ctx, "a"); u.Description != "" {
		t.Error("mode 1 updated a user")
	}
	must(t, s.Load(ctx, &account.Dump{Users: []account.User{User("only")}}, account.LoadOptions{Clean: true}))
	if l, _ := s.ListUsers(ctx, account.Page{}); len(l) != 1 || l[0].Username != "only" {
		t.Errorf("after a clean load: %d users", len(l))
	}
}

func badDump(t *testing.T, s account.Store) {
	ctx := t.Context()
	good := User("good")
	must(t, s.AddUser(ctx, &good))
	for name, bad := range map[string]account.User{
		"no permission": {Username: "bad", Status: 1, HomeDir: "/srv/bad"},
		"relative home": func() account.User { u := User("bad"); u.HomeDir = "srv"; return u }(),
		"dangling folder": func() account.User {
			u := User("bad")
			u.VirtualFolders = []account.VirtualFolder{{Folder: account.Folder{Name: "none"}, VirtualPath: "/x"}}
			return u
		}(),
		"bad network": func() account.User { u := User("bad"); u.Filters.AllowedIP = []string{"10.0.0.1"}; return u }(),
	} {
		err := s.Load(ctx, &account.Dump{Users: []account.User{User("first"), bad}}, account.LoadOptions{Clean: true})
		ve, ok := errors.AsType[*account.ValidationError](err)
		if !ok || ve.Name != "bad" || ve.Field == "" {
			t.Errorf("%s: got %v, want an error that names the user and the field", name, err)
		}
		if l, _ := s.ListUsers(ctx, account.Page{}); len(l) != 1 || l[0].Username != "good" {
			t.Errorf("%s: the load changed something: %d users", name, len(l))
		}
	}
}

func records(t *testing.T, s account.Store) {
	ctx := t.Context()
	doc := []byte(`{"name":"r","description":"x","unknown":[1]}`)
	must(t, s.AddRecord(ctx, account.KindRole, doc))
	got, err := s.Record(ctx, account.KindRole, "r")
	must(t, err)
	if !strings.Contains(string(got), `"unknown":[1]`) || !strings.Contains(string(got), `"description":"x"`) {
		t.Errorf("record: got %s", got)
	}
	share := &account.Share{ID: "s", Scope: account.ShareRead, Paths: []string{"/"}, Username: "nobody"}
	if ve, ok := errors.AsType[*account.ValidationError](account.Add(ctx, s, share)); !ok || ve.Code != "reference" {
		t.Errorf("a share of nobody: got %v, want a reference error", ve)
	}
	act := &account.EventAction{Name: "call", Type: account.ActionHTTP}
	act.Options.HTTPConfig = account.HTTPAction{Endpoint: "https://example.com/", Method: "GET", Timeout: 5, Password: secret.New("canary")}
	must(t, account.Add(ctx, s, act))
	stored, err := account.Get[account.EventAction](ctx, s, "call")
	must(t, err)
	sealed := stored.Options.HTTPConfig.Password
	if !sealed.IsSealed() || sealed.Payload == "canary" {
		t.Error("a secret was stored in the clear") // CRY-3
	}
	account.Redact(&stored)
	must(t, account.Update(ctx, s, &stored))
	if again, err := account.Get[account.EventAction](ctx, s, "call"); err != nil || again.Options.HTTPConfig.Password != sealed {
		t.Errorf("an update with a redacted secret lost it: %v", err)
	}
	if err := s.AddRecord(ctx, account.KindRole, doc); !errors.Is(err, account.ErrExists) {
		t.Errorf("again: got %v", err)
	}
	if err := s.AddRecord(ctx, account.KindRole, []byte(`{}`)); err == nil {
		t.Error("a record without a name was stored")
	}
	must(t, s.DeleteRecord(ctx, account.KindRole, "r"))
	if l, err := s.ListRecords(ctx, account.KindRole, account.Page{}); err != nil || len(l) != 0 {
		t.Errorf("list: %d, %v", len(l), err)
	}
}

func edit(t *testing.T, s account.Store) {
	ctx := t.Context()
	u := User("a")
	must(t, s.AddUser(ctx, &u))
	before, err := s.User(ctx, "a")
	must(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			err := s.EditUser(ctx, "a", func(u *account.User) error {
				u.Description += "x"
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after, err := s.User(ctx, "a")
	must(t, err)
	if after.Description != "xxxxxxxx" || after.UpdatedAt != before.UpdatedAt || after.Version <= before.Version {
		t.Errorf("after eight edits: %q, updated %d, then %d", after.Description, before.UpdatedAt, after.UpdatedAt)
	}
	no := errors.New("no")
	if err := s.EditUser(ctx, "a", func(u *account.User) error { u.Description = ""; return no }); !errors.Is(err, no) {
		t.Errorf("got %v, want the error of the edit", err)
	}
	if err := s.EditUser(ctx, "a", func(u *account.User) error { u.Username = "b"; return nil }); err == nil {
		t.Error("an edit changed the name")
	}
	if err := s.EditUser(ctx, "b", func(*account.User) error { return nil }); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("edit of nobody: %v", err)
	}
	if now, err := s.User(ctx, "a"); err != nil || now.Description != "xxxxxxxx" {
		t.Errorf("a failed edit changed the user: %q, %v", now.Description, err)
	}
}

func steps(t *testing.T, s account.Store) {
	ctx := t.Context()
	u := User("a")
	must(t, s.AddUser(ctx, &u))
	for _, x := range []struct {
		step  int64
		fresh bool
	}{{100, true}, {100, false}, {99, false}, {101, true}} {
		if fresh, err := s.UseStep(ctx, "a", x.step); err != nil || fresh != x.fresh {
			t.Errorf("step %d: got %v, %v, want %v", x.step, fresh, err, x.fresh)
		}
	}
	must(t, s.UpdateUser(ctx, &u)) // leaves it alone
	var wg sync.WaitGroup
	var took sync.Map
	for range 8 {
		wg.Go(func() {
			fresh, err := s.UseStep(ctx, "a", 102)
			if err != nil {
				t.Error(err)
			}
			if _, twice := took.LoadOrStore(fresh, true); fresh && twice {
				t.Error("one step was fresh twice") // AUTH-7
			}
		})
	}
	wg.Wait()
	if _, err := s.UseStep(ctx, "b", 1); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("a step of nobody: %v", err)
	}
}

// deletes: what belongs to a record goes with it, and what is in use stays.
func deletes(t *testing.T, s account.Store) {
	ctx := t.Context()
	must(t, s.AddGroup(ctx, &account.Group{Name: "g"}))
	u := User("a")
	u.Groups = []account.GroupMapping{{Name: "g", Type: account.GroupPrimary}}
	must(t, s.AddUser(ctx, &u))
	must(t, account.Add(ctx, s, &account.Share{ID: "s", Scope: account.ShareRead, Paths: []string{"/"}, Username: "a"}))
	must(t, account.Add(ctx, s, &account.APIKey{ID: "k", Name: "k", Scope: account.APIKeyUser, User: "a", Hash: "$2a$04$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S"}))
	if ve, ok := errors.AsType[*account.ValidationError](s.DeleteGroup(ctx, "g")); !ok || ve.Code != "reference" {
		t.Errorf("a group in use: got %v, want a reference error", ve)
	}
	must(t, s.DeleteUser(ctx, "a"))
	for kind, key := range map[account.Kind]string{account.KindShare: "s", account.KindAPIKey: "k"} {
		if _, err := s.Record(ctx, kind, key); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("the %s of a deleted user: %v, want ErrNotFound", kind, err)
		}
	}
	must(t, s.DeleteGroup(ctx, "g"))
	// A new user of the same name is another one, and begins at zero.
	old := u.ID
	must(t, s.AddUser(ctx, &account.User{Username: "a", Status: 1, HomeDir: "/srv/a", Permissions: map[string][]string{"/": {"*"}}}))
	if again, err := s.User(ctx, "a"); err != nil || again.ID == old || again.ID <= 0 || again.UsedQuotaFiles != 0 {
		t.Errorf("a new user of an old name: id %d after %d, %v", again.ID, old, err)
	}
}

func stamps(t *testing.T, s account.Store) {
	ctx := t.Context()
	role := &account.Role{Name: "r", CreatedAt: 5, UpdatedAt: 6}
	must(t, account.Add(ctx, s, role))
	got, err := account.Get[account.Role](ctx, s, "r")
	must(t, err)
	if got.CreatedAt < 1_000_000_000_000 || got.UpdatedAt != got.CreatedAt {
		t.Errorf("a new role: made %d, changed %d; the store sets them", got.CreatedAt, got.UpdatedAt)
	}
	got.CreatedAt, got.Description = 1, "new"
	must(t, account.Update(ctx, s, &got))
	after, err := account.Get[account.Role](ctx, s, "r")
	must(t, err)
	if after.CreatedAt < 1_000_000_000_000 || after.UpdatedAt < after.CreatedAt || after.Description != "new" {
		t.Errorf("after an update: %+v", after)
	}
	a, b := User("a"), User("b")
	must(t, s.AddUser(ctx, &a))
	must(t, s.AddUser(ctx, &b))
	one, err := s.User(ctx, "a")
	must(t, err)
	two, err := s.User(ctx, "b")
	must(t, err)
	if one.ID <= 0 || one.ID == two.ID {
		t.Errorf("ids: %d and %d", one.ID, two.ID)
	}
	must(t, s.UpdateUser(ctx, &a))
	if again, err := s.User(ctx, "a"); err != nil || again.ID != one.ID {
		t.Errorf("an update changed the id: %d, then %d, %v", one.ID, again.ID, err)
	}
}

// clean: a load that replaces everything leaves the use of those who stay.
func clean(t *testing.T, s account.Store) {
	ctx := t.Context()
	must(t, s.AddFolder(ctx, &account.Folder{Name: "f", MappedPath: "/srv/f"}))
	must(t, account.Add(ctx, s, &account.Role{Name: "r"}))
	for _, n := range []string{"a", "b"} {
		u := User(n)
		u.VirtualFolders = []account.VirtualFolder{{Folder: account.Folder{Name: "f"}, VirtualPath: "/f", QuotaSize: -1, QuotaFiles: -1}}
		must(t, s.AddUser(ctx, &u))
		must(t, s.SetUsage(ctx, account.CounterKey{Kind: account.KindUser, Name: n}, 3, 30))
	}
	_, before, err := s.ChangesSince(ctx, 0, 1)
	must(t, err)
	must(t, s.Load(ctx, &account.Dump{Users: []account.User{User("a"), User("c")}}, account.LoadOptions{Clean: true}))
	left, err := s.ListUsers(ctx, account.Page{})
	must(t, err)
	if len(left) != 2 || left[0].Username != "a" || left[0].UsedQuotaFiles != 3 || left[1].Username != "c" || left[1].UsedQuotaFiles != 0 {
		t.Errorf("after a load that replaces: %+v", left)
	}
	if f, err := s.ListFolders(ctx, account.Page{}); err != nil || len(f) != 0 {
		t.Errorf("folders: %v, %v", f, err)
	}
	must(t, s.AddFolder(ctx, &account.Folder{Name: "g", MappedPath: "/srv/g"}))
	needs := User("a")
	needs.VirtualFolders = []account.VirtualFolder{{Folder: account.Folder{Name: "g"}, VirtualPath: "/g"}}
	if ve, ok := errors.AsType[*account.ValidationError](s.Load(ctx, &account.Dump{Users: []account.User{needs}}, account.LoadOptions{Clean: true})); !ok || ve.Code != "reference" || ve.Name != "a" {
		t.Errorf("a user with a folder that would go: got %v, want a reference error", ve)
	}
	gone := map[string]bool{}
	rows, _, err := s.ChangesSince(ctx, before, 100)
	must(t, err)
	for _, r := range rows {
		gone[string(r.Kind)+" "+r.Key] = true
	}
	for _, want := range []string{"user a", "user b", "user c", "folder f", "role r"} {
		if !gone[want] {
			t.Errorf("no change row of %s", want)
		}
	}
	must(t, s.Reset(ctx))
	d, err := s.Dump(ctx)
	must(t, err)
	if len(d.Users)+len(d.Folders)+len(d.Roles) != 0 {
		t.Errorf("after a reset: %+v", d)
	}
	u := User("a")
	must(t, s.AddUser(ctx, &u))
	if got, err := s.Usage(ctx, account.CounterKey{Kind: account.KindUser, Name: "a"}); err != nil || got.Files != 0 {
		t.Errorf("use after a reset: %+v, %v", got, err)
	}
}

// many: pages join without a gap, forwards and back, and names that begin alike are not mixed up.
func many(t *testing.T, s account.Store) {
	ctx := t.Context()
	var want []string
	d := &account.Dump{}
	for i := range 250 {
		want = append(want, fmt.Sprintf("u%03d", i))
		d.Users = append(d.Users, User(want[i]))
	}
	d.Groups = []account.Group{{Name: "g"}, {Name: "g2"}}
	d.Users[7].Groups = []account.GroupMapping{{Name: "g2", Type: account.GroupPrimary}}
	steps := 0
	must(t, s.Load(ctx, d, account.LoadOptions{Progress: func(done, total int) {
		if steps++; done != steps || total != 252 {
			t.Fatalf("progress: %d of %d at step %d", done, total, steps)
		}
	}}))
	for _, desc := range []bool{false, true} {
		var got []string
		for p := (account.Page{Limit: 100, Desc: desc}); ; {
			l, err := s.ListUsers(ctx, p)
			must(t, err)
			if len(l) == 0 {
				break
			}
			for _, u := range l {
				got = append(got, u.Username)
			}
			p.After = l[len(l)-1].Username
		}
		if desc {
			slices.Reverse(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("desc %v: %d names, %v…", desc, len(got), got[:min(3, len(got))])
		}
	}
	g, err := s.Group(ctx, "g")
	must(t, err)
	g2, err := s.Group(ctx, "g2")
	must(t, err)
	if len(g.Users) != 0 || !slices.Equal(g2.Users, []string{"u007"}) {
		t.Errorf("members: %v and %v", g.Users, g2.Users)
	}
	rows, newest, err := s.ChangesSince(ctx, 0, 10)
	must(t, err)
	if len(rows) != 10 || newest < 252 || rows[9].Seq-rows[0].Seq != 9 {
		t.Errorf("changes: %d, newest %d", len(rows), newest)
	}
}
