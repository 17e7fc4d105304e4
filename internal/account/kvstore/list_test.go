package kvstore

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// countedEngine counts what a page asks its engine.
type countedEngine struct {
	recordstore.Engine
	asked map[string]int
}

func (e *countedEngine) Read(ctx context.Context, f func(recordstore.Tx) error) error {
	return e.Engine.Read(ctx, func(t recordstore.Tx) error { return f(&countedTx{t, e.asked}) })
}

type countedTx struct {
	recordstore.Tx
	asked map[string]int
}

func (t *countedTx) Get(kind account.Kind, name string) (recordstore.Row, bool, error) {
	t.asked["Get"]++
	return t.Tx.Get(kind, name)
}

func (t *countedTx) GetAll(kind account.Kind, names []string) (map[string]recordstore.Row, error) {
	t.asked["GetAll"]++
	return t.Tx.GetAll(kind, names)
}

func (t *countedTx) Rows(kind account.Kind, p account.Page) ([]recordstore.Row, error) {
	t.asked["Rows"]++
	return t.Tx.Rows(kind, p)
}

func (t *countedTx) Referrers(kind account.Kind, name string) ([]account.Ref, error) {
	t.asked["Referrers"]++
	return t.Tx.Referrers(kind, name)
}

func (t *countedTx) ReferrersOf(kind account.Kind, names []string) (map[string][]account.Ref, error) {
	t.asked["ReferrersOf"]++
	return t.Tx.ReferrersOf(kind, names)
}

// TestPagesAskOnce: what a page of records needs is asked for all of them at once, however many they are.
func TestPagesAskOnce(t *testing.T) {
	ctx := t.Context()
	e := &countedEngine{&engine{&memory{}}, map[string]int{}}
	s := recordstore.New(e, config())
	for i := range 30 {
		f := account.Folder{Name: fmt.Sprintf("f%02d", i), MappedPath: "/srv/f"}
		if err := s.AddFolder(ctx, &f); err != nil {
			t.Fatal(err)
		}
		mapped := []account.VirtualFolder{{Folder: account.Folder{Name: f.Name}, VirtualPath: "/f"}}
		g := account.Group{Name: f.Name, VirtualFolders: mapped}
		if err := s.AddGroup(ctx, &g); err != nil {
			t.Fatal(err)
		}
		u := accounttest.User(f.Name)
		u.VirtualFolders, u.Groups = mapped, []account.GroupMapping{{Name: g.Name, Type: account.GroupPrimary}}
		if err := s.AddUser(ctx, &u); err != nil {
			t.Fatal(err)
		}
		if err := account.Add(ctx, s, &account.Role{Name: f.Name}); err != nil {
			t.Fatal(err)
		}
	}
	p := account.Page{Limit: 20}
	for name, tt := range map[string]struct {
		list func() (int, error)
		want map[string]int
	}{
		"users":   {func() (int, error) { l, err := s.ListUsers(ctx, p); return len(l), err }, map[string]int{"Rows": 1, "GetAll": 1}},
		"folders": {func() (int, error) { l, err := s.ListFolders(ctx, p); return len(l), err }, map[string]int{"Rows": 1, "ReferrersOf": 1}},
		"groups":  {func() (int, error) { l, err := s.ListGroups(ctx, p); return len(l), err }, map[string]int{"Rows": 1, "GetAll": 1, "ReferrersOf": 1}},
		"roles":   {func() (int, error) { l, err := s.ListRecords(ctx, account.KindRole, p); return len(l), err }, map[string]int{"Rows": 1}},
	} {
		clear(e.asked)
		n, err := tt.list()
		if err != nil || n != p.Limit || !maps.Equal(e.asked, tt.want) {
			t.Errorf("%s: %d records, %v, asked %v, want %v", name, n, err, e.asked, tt.want)
		}
	}
}
