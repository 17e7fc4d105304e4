package rest

import (
	"strings"
	"testing"
)

func allRoutes() []Route {
	return append(append(adminRoutes(), userRoutes()...), shareRoutes()...)
}

// TestEveryRouteIsGuarded: a row without its guard does not get in (SHARE-1, ADM-1).
func TestEveryRouteIsGuarded(t *testing.T) {
	seen, ids := map[string]bool{}, map[string]bool{}
	for _, r := range allRoutes() {
		if why := r.Guarded(); why != "" {
			t.Errorf("%s %s: %s", r.Method, r.Path, why)
		}
		if k := r.Method + " " + r.FullPath(); seen[k] {
			t.Errorf("%s is there twice", k)
		} else {
			seen[k] = true
		}
		if r.ID == "" || r.Of == "" || ids[r.ID] {
			t.Errorf("%s %s: its ID %q and tag %q must be there, the ID once", r.Method, r.Path, r.ID, r.Of)
		}
		ids[r.ID] = true
	}
}

// TestPublicRoutesAreNamed: a call that nobody must log in for is a decision, not an oversight.
func TestPublicRoutesAreNamed(t *testing.T) {
	public := []string{
		"GET /healthz", "POST /api/v2/setup", "GET /api/v2/token", "GET /api/v2/user/token", "GET /openapi", "GET /openapi/openapi.yaml",
	}
	for _, r := range allRoutes() {
		if r.Auth != Public && r.Auth != BasicAuth {
			continue
		}
		k := r.Method + " " + r.FullPath()
		found := false
		for _, p := range public {
			found = found || p == k
		}
		if !found {
			t.Errorf("%s is public and not named here", k)
		}
	}
}

// TestAdministratorsRoutesAskForMoreThanALogin: what every administrator may call is named.
func TestAdministratorsRoutesAskForMoreThanALogin(t *testing.T) {
	own := []string{"/version", "/logout", "/admin/", "/changepwd/admin"}
	for _, r := range allRoutes() {
		if r.Perm != Any {
			continue
		}
		ok := false
		for _, p := range own {
			ok = ok || r.Path == p || strings.HasSuffix(p, "/") && strings.HasPrefix(r.Path, p)
		}
		if !ok {
			t.Errorf("%s %s is every administrator's", r.Method, r.Path)
		}
	}
}

// TestGuardRefusesRowsWithoutOne breaks rows one way after another.
func TestGuardRefusesRowsWithoutOne(t *testing.T) {
	good := Route{Method: get, Path: "/x", Auth: Admin, Perm: "view_users", Run: healthz}
	if why := good.Guarded(); why != "" {
		t.Fatal(why)
	}
	for name, edit := range map[string]func(*Route){
		"no auth": func(r *Route) { r.Auth = 0 }, "no permission": func(r *Route) { r.Perm = "" }, "no handler": func(r *Route) { r.Run = nil },
		"a user's path": func(r *Route) { r.Path = "/user/x" }, "public with a permission": func(r *Route) { r.Auth = Public },
		"user elsewhere": func(r *Route) { r.Auth, r.Perm = User, "" }, "share elsewhere": func(r *Route) { r.Auth, r.Perm = SharePublic, "" },
		"files for an administrator": func(r *Route) { r.Files = true },
	} {
		r := good
		if edit(&r); r.Guarded() == "" {
			t.Errorf("%s: it passes", name)
		}
	}
}
