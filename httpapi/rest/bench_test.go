package rest

import (
	"fmt"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
)

// BenchmarkListUsers is a page of a hundred users of many, as the REST call makes it, without the network.
func BenchmarkListUsers(b *testing.B) {
	s := newServer(b)
	d := &account.Dump{Version: account.DumpVersion}
	for i := range 1000 {
		d.Users = append(d.Users, account.User{Username: fmt.Sprintf("user%04d", i), Status: 1, HomeDir: "/srv/home", Permissions: map[string][]string{"/": {"*"}}, Email: "a@example.com"})
	}
	if err := s.store.Load(b.Context(), d, account.LoadOptions{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		list, total, err := s.admin.Users(b.Context(), admin.System(), account.Page{Limit: 100})
		if err != nil || total != 1000 || len(list) != 100 {
			b.Fatal(len(list), total, err)
		}
	}
}
