package rest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
)

func TestUsersComeAndGo(t *testing.T) {
	s := newServer(t)
	root := s.root()
	root.get("/users").want(200).has("[]")
	made := root.post("/users", s.userJSON("u", `,"description":"<&>","unknown_member":1,"id":77,"used_quota_size":5`)).want(201).has(`"has_password":true`).has(`<&>`).lacks("$2a$")
	if made.Header.Get("Location") != "/api/v2/users/u" {
		t.Errorf("Location %q", made.Header.Get("Location"))
	}
	var u account.User
	made.json(&u)
	if u.ID == 77 || u.ID == 0 || u.CreatedAt == 0 || u.UsedQuotaSize != 0 {
		t.Errorf("id %d, created %d, used %d", u.ID, u.CreatedAt, u.UsedQuotaSize)
	}
	root.post("/users", s.userJSON("u")).want(409)
	root.get("/users/u").want(200).lacks("$2a$")
	root.get("/users/u?confidential_data=1").want(200).has("$2a$")
	root.get("/users/none").want(404).has(`"error":"Not Found"`).lacks("none")
	head := root.do("HEAD", "/users/u", "").want(200)
	if head.Body != "" || head.Header.Get("Content-Type") != jsonType {
		t.Errorf("HEAD: %q %v", head.Body, head.Header)
	}
	root.get("/users/u/").want(200)
	root.get("/users/u//").want(404)
	root.get("/nothing").want(404)
	root.do("POST", "/version", "").want(405)
	// PUT replaces: what is not named is zero, a password that is not named stays.
	root.put("/users/u", `{"status":1,"username":"other","home_dir":"/srv/u","permissions":{"/":["list"]}}`).want(200)
	root.get("/users/u").want(200).lacks("<&>").has(`"home_dir":"/srv/u"`).has(`"has_password":true`).has(`"username":"u"`)
	root.put("/users/u", `{"status":1,"home_dir":"/srv/u"}`).want(400).has("permissions")
	root.put("/users/u", `{"status":1,"home_dir":"/srv/u","permissions":{"/":["list"]},"password":""}`).want(200)
	root.get("/users/u").want(200).lacks("has_password")
	root.put("/users/none", `{}`).want(404)
	root.delete("/users/u").want(200)
	root.delete("/users/u").want(404)
}

func TestBadBodiesAreRefused(t *testing.T) {
	s := newServer(t)
	root := s.root()
	for body, status := range map[string]int{
		"": 400, "{": 400, "[]": 400, "null": 400, `"x"`: 400, `{"username":5}`: 400, `{"username":"x","status":"1"}`: 400,
		`{"username":"x","permissions":[]}`: 400, `{"username":"../x","home_dir":"/x","permissions":{"/":["*"]}}`: 400,
		`{"username":"x","home_dir":"rel","permissions":{"/":["*"]}}`:                                                                400,
		`{"username":"x","home_dir":"/x","permissions":{"/":["fly"]}}`:                                                               400,
		`{"username":"x","home_dir":"/x","permissions":{"/":["*"]},"max_sessions":-1}`:                                               400,
		`{"username":"x","home_dir":"/x","permissions":{"/":["*"]},"role":"none"}`:                                                   400,
		`{"username":"x","home_dir":"/x","permissions":{"/":["*"]},"virtual_folders":[{"name":"none","virtual_path":"/v"}]}`:         400,
		`{"username":"x","home_dir":"/x","permissions":{"/":["*"]},"password":"[**redacted**]"}`:                                     400,
		`{"username":"x","home_dir":"/x","permissions":{"/":["*"]},"filters":{"password_strength":9},"password":"short"}`:            400,
		`{"username":"x","home_dir":"/x","permissions":{"/":["*"]},"filesystem":{"provider":99}}`:                                    400,
		`{"username":"` + strings.Repeat("x", 300) + `","home_dir":"/x","permissions":{"/":["*"]}}`:                                  400,
		`{"username":"x","home_dir":"/x","permissions":{"/":["*"]},"description":"` + strings.Repeat("y", defaultBody) + `"}`:        413,
		`{"username":"good","home_dir":"/x","status":1,"permissions":{"/":["*"]},"description":"` + strings.Repeat("y", 1000) + `"}`: 201,
	} {
		if a := root.post("/users", body); a.Status != status {
			t.Errorf("%.120s: got %d, want %d: %s", body, a.Status, status, a.Body)
		} else if status == 400 && !strings.Contains(a.Body, `"error":"`) {
			t.Errorf("%.120s: no reason: %s", body, a.Body)
		}
	}
	for _, path := range []string{"/users?limit=-1", "/users?offset=-1", "/users?limit=x", "/users?order=asc", "/users?offset=1.5"} {
		root.get(path).want(400)
	}
}

func TestListsHavePagesAndATotal(t *testing.T) {
	s := newServer(t)
	root := s.root()
	for i := range 7 {
		root.post("/users", s.userJSON(fmt.Sprintf("u%d", i))).want(201)
	}
	names := func(path string) string {
		var list []account.User
		a := root.get(path).want(200)
		a.json(&list)
		out := a.Header.Get("X-Total-Count") + ":"
		for _, u := range list {
			out += " " + u.Username
		}
		return out
	}
	for path, want := range map[string]string{
		"/users?limit=3": "7: u0 u1 u2", "/users?limit=3&offset=5": "7: u5 u6", "/users?limit=2&order=DESC&offset=1": "7: u5 u4",
		"/users?limit=0": "7:", "/users?offset=99": "7:", "/users?limit=99999": "7: u0 u1 u2 u3 u4 u5 u6",
	} {
		if got := names(path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	root.get("/users?confidential_data=1").want(200).lacks("$2a$")
}

func TestPatchMerges(t *testing.T) { // RFC 7396
	s := newServer(t)
	root := s.root()
	root.post("/users", s.userJSON("u", `,"email":"a@b.example","quota_files":3,"filters":{"denied_protocols":["FTP"],"max_upload_file_size":9}`)).want(201)
	root.patch("/users/u", `{"quota_files":4,"email":null,"filters":{"max_upload_file_size":null},"Permissions":{"/sub":["list"]}}`).want(200)
	var u account.User
	root.get("/users/u").want(200).json(&u)
	if u.QuotaFiles != 4 || u.Email != "" || u.Filters.MaxUploadFileSize != 0 || len(u.Filters.DeniedProtocols) != 1 || len(u.Permissions) != 2 || !u.HasPassword || u.Status != 1 {
		t.Errorf("%+v", u)
	}
	s.basic("/user/token", "u", "pw").want(200)
	root.patch("/users/u", `{"password":null}`).want(200)
	root.get("/users/u").want(200).lacks("has_password")
	root.patch("/users/u", `[]`).want(400)
	root.patch("/users/u", `{"quota_files":-3}`).want(400)
	root.patch("/users/u", `{"username":"v"}`).want(200)
	root.get("/users/v").want(404)
	root.patch("/users/none", `{}`).want(404)

	root.post("/folders", `{"name":"f","mapped_path":"/srv/f","description":"d"}`).want(201)
	root.patch("/folders/f", `{"mapped_path":"/srv/g"}`).want(200)
	root.get("/folders/f").want(200).has(`"description":"d"`).has("/srv/g")
	root.post("/groups", `{"name":"g","description":"d","user_settings":{"quota_files":2}}`).want(201)
	root.patch("/groups/g", `{"user_settings":{"quota_size":5}}`).want(200)
	root.get("/groups/g").want(200).has(`"quota_files":2`).has(`"quota_size":5`)
}

// TestNoUpdateIsLost: with If-Match an update of an old state is refused; without it concurrent merges all take effect.
func TestNoUpdateIsLost(t *testing.T) { // WEB-4
	s := newServer(t)
	root := s.root()
	root.post("/users", s.userJSON("u")).want(201)
	root.post("/folders", `{"name":"f","mapped_path":"/srv/f"}`).want(201)
	root.post("/groups", `{"name":"g"}`).want(201)
	root.post("/roles", `{"name":"r"}`).want(201)
	root.post("/admins", `{"username":"a","password":"pw","status":1,"permissions":["view_users"]}`).want(201)
	for path, body := range map[string]string{
		"/users/u": `{"status":1,"home_dir":"/x","permissions":{"/":["*"]}}`, "/folders/f": `{"mapped_path":"/srv/g"}`, "/groups/g": `{}`,
		"/roles/r": `{"description":"x"}`, "/admins/a": `{"status":1,"permissions":["view_users","add_users"]}`,
	} {
		etag := root.get(path).want(200).Header.Get("ETag")
		if etag == "" {
			t.Errorf("%s has no entity tag", path)
		}
		root.get(path, "If-None-Match", etag).want(304)
		root.put(path, body, "If-Match", `"other"`).want(412)
		root.put(path, body, "If-Match", "W/"+etag).want(412)
		root.put(path, body, "If-Match", `"other", `+etag).want(200)
		root.put(path, body, "If-Match", etag).want(412)
		root.put(path, body, "If-Match", "*").want(200)
		if root.get(path).Header.Get("ETag") == etag {
			t.Errorf("%s: the tag stays", path)
		}
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { root.patch("/users/u", fmt.Sprintf(`{"permissions":{"/d%d":["list"]}}`, i)).want(200) })
	}
	all.Wait()
	var u account.User
	root.get("/users/u").want(200).json(&u)
	if len(u.Permissions) != 9 {
		t.Errorf("%d of 9 directories: %v", len(u.Permissions), u.Permissions)
	}
}

func TestSecretsNeverLeave(t *testing.T) { // LOG-1, KEY-1
	s := newServer(t)
	root := s.root()
	fsys := `,"filesystem":{"provider":5,"sftpconfig":{"endpoint":"h:22","username":"x","password":{"status":"Plain","payload":"canary-%s"}}}`
	root.post("/users", s.userJSON("u", fmt.Sprintf(fsys, "user"))).want(201).lacks("canary").has(`"status":"Redacted"`)
	root.post("/folders", `{"name":"f","mapped_path":"/srv/f"`+fmt.Sprintf(fsys, "folder")+`}`).want(201).lacks("canary")
	root.post("/groups", `{"name":"g","user_settings":{"home_dir":""`+fmt.Sprintf(fsys, "group")+`}}`).want(201).lacks("canary")
	root.post("/eventactions", `{"name":"a","type":1,"options":{"http_config":{"endpoint":"https://h","method":"GET","timeout":5,"username":"x","password":{"status":"Plain","payload":"canary-action"}}}}`).want(201).lacks("canary")
	for _, path := range []string{"/users", "/users/u", "/folders", "/folders/f", "/groups", "/groups/g", "/eventactions", "/eventactions/a"} {
		root.get(path).want(200).lacks("canary").lacks(`"key"`).lacks("additional_data").has(`"Redacted"`)
	}
	for _, path := range []string{"/users/u", "/folders/f", "/groups/g", "/eventactions/a"} {
		root.get(path + "?confidential_data=1").want(200).lacks("canary").has(`"status":"Secretbox"`).has(`"additional_data"`)
	}
	viewer := s.as("viewer", "", "view_users")
	viewer.get("/users/u?confidential_data=1").want(200).lacks("Secretbox").lacks("$2a$")
	// What was shown can be sent back.
	shown := root.get("/users/u").Body
	root.put("/users/u", shown).want(200)
	if u, err := s.store.User(t.Context(), "u"); err != nil || u.Filesystem.SFTPConfig.Password.Status != "Secretbox" || u.Password == "" {
		t.Errorf("after a round trip: %v, password %q, %v", u.Filesystem.SFTPConfig.Password.Status, u.Password, err)
	}
	root.post("/users", strings.Replace(shown, `"username":"u"`, `"username":"v"`, 1)).want(400).has("redacted")
	for _, c := range s.hooks.all() {
		if text := string(c.Body) + strings.Join(c.Env, " "); strings.Contains(text, "canary") || strings.Contains(text, "$2a$") || strings.Contains(text, "Secretbox") {
			t.Errorf("the hook was told a secret: %s", text)
		}
	}
	if strings.Contains(s.log.String(), "canary") {
		t.Error("a secret is in the log")
	}
}

func TestFoldersGroupsAndRoles(t *testing.T) {
	s := newServer(t)
	root := s.root()
	root.post("/folders", `{"name":"f","mapped_path":"/srv/f","used_quota_size":7,"used_quota_files":2,"users":["x"]}`).want(201).has(`"used_quota_size":7`).lacks(`"users"`)
	root.post("/folders", `{"name":"n","mapped_path":"/srv/f","used_quota_size":-7}`).want(400)
	root.post("/groups", `{"name":"g","user_settings":{"quota_files":9},"virtual_folders":[{"name":"f","virtual_path":"/v","quota_size":-1,"quota_files":-1}]}`).want(201)
	root.post("/roles", `{"name":"r"}`).want(201)
	root.post("/users", s.userJSON("u", `,"role":"r","groups":[{"name":"g","type":1}],"virtual_folders":[{"name":"f","virtual_path":"/w","quota_size":0,"quota_files":0}]`)).want(201)
	root.get("/folders/f").want(200).has(`"users":["u"]`).has(`"groups":["g"]`)
	root.get("/groups/g").want(200).has(`"users":["u"]`)
	root.get("/roles/r").want(200).has(`"users":["u"]`)
	root.put("/folders/f", `{"mapped_path":"/srv/g","used_quota_size":0}`).want(200)
	root.get("/folders/f").want(200).has(`"used_quota_size":7`).has(`"users":["u"]`)
	root.delete("/groups/g").want(400)
	root.post("/admins", `{"username":"a","password":"pw","status":1,"permissions":["view_users"],"role":"r","groups":[{"name":"g"}]}`).want(201)
	root.post("/admins", `{"username":"b","password":"pw","status":1,"permissions":["*"],"role":"r"}`).want(400)
	root.delete("/roles/r").want(400)
	root.delete("/admins/a").want(200)
	root.delete("/roles/r").want(200)
	root.get("/users/u").want(200).lacks(`"role"`)
	root.delete("/folders/f").want(200)
	root.get("/users/u").want(200).lacks("virtual_folders")
	root.get("/groups/g").want(200).lacks("virtual_folders")
	root.delete("/users/u").want(200)
	root.delete("/groups/g").want(200)
}

// TestAdministratorsOfARoleSeeTheirUsersOnly: ADM-1.
func TestAdministratorsOfARoleSeeTheirUsersOnly(t *testing.T) {
	s := newServer(t)
	root := s.root()
	root.post("/roles", `{"name":"north"}`).want(201)
	root.post("/users", s.userJSON("mine", `,"role":"north"`)).want(201)
	root.post("/users", s.userJSON("other")).want(201)
	a := s.as("a", "north", "view_users", "add_users", "edit_users", "del_users", "quota_scans", "view_conns", "close_conns", "disable_mfa")
	list := a.get("/users").want(200).has("mine").lacks("other")
	if list.Header.Get("X-Total-Count") != "1" {
		t.Errorf("total %s", list.Header.Get("X-Total-Count"))
	}
	a.get("/users/other").want(404)
	a.put("/users/other", `{"status":0}`).want(404)
	a.patch("/users/other", `{"status":0}`).want(404)
	a.delete("/users/other").want(404)
	a.put("/users/other/2fa/disable", "").want(404)
	a.post("/quotas/users/other/scan", "").want(404)
	a.put("/quotas/users/other/usage", `{}`).want(404)
	a.put("/quotas/users/other/transfer-usage", `{}`).want(404)
	a.post("/users", s.userJSON("new", `,"role":"south"`)).want(201).has(`"role":"north"`)
	a.patch("/users/new", `{"role":null,"description":"x"}`).want(200)
	a.get("/users/new").want(200).has(`"role":"north"`)
	a.delete("/users/new").want(200)
	login := func(name string) *session.Session {
		t.Helper()
		at := &session.Attempt{Protocol: "SSH", Method: "password", Username: name, Password: "pw"}
		l, err := s.sessions.Authenticate(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		x, err := s.sessions.Open(t.Context(), l, session.Conn{ID: "SFTP_" + name, Protocol: "SFTP", Kill: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		return x
	}
	login("mine")
	login("other")
	a.get("/connections").want(200).has("SFTP_mine").lacks("SFTP_other")
	a.delete("/connections/SFTP_other").want(404)
	a.delete("/connections/SFTP_mine").want(200)
	root.get("/connections").want(200).has("SFTP_other")
}

// TestNobodyGrantsMoreThanTheyHave: ADM-1.
func TestNobodyGrantsMoreThanTheyHave(t *testing.T) {
	s := newServer(t)
	root := s.root()
	a := s.as("a", "", "manage_admins", "manage_apikeys", "view_users")
	a.post("/admins", `{"username":"b","password":"pw","status":1,"permissions":["*"]}`).want(403)
	a.post("/admins", `{"username":"b","password":"pw","status":1,"permissions":["add_users"]}`).want(403)
	a.post("/admins", `{"username":"b","password":"pw","status":1,"permissions":["view_users"]}`).want(201)
	a.put("/admins/b", `{"status":1,"permissions":["add_users"]}`).want(403)
	a.put("/admins/root", `{"status":0,"permissions":["view_users"]}`).want(403)
	a.put("/admins/root/2fa/disable", "").want(403)
	a.delete("/admins/root").want(403)
	a.post("/apikeys", `{"name":"k","scope":1,"admin":"root"}`).want(403)
	a.post("/apikeys", `{"name":"k","scope":1}`).want(403)
	a.post("/apikeys", `{"name":"k","scope":1,"admin":"b"}`).want(201)
	a.get("/dumpdata?output-data=1").want(403)
	a.post("/loaddata", `{}`).want(403)
	// Nobody locks themselves out either.
	root.delete("/admins/root").want(400)
	root.put("/admins/root", `{"status":0,"permissions":["*"]}`).want(400)
	root.put("/admins/root", `{"status":1,"permissions":["view_users"]}`).want(400)
	root.put("/admins/root", `{"status":1,"permissions":["*"],"email":"a@b.example","filters":{"require_two_factor":true}}`).want(200)
	root.get("/admins/root").want(200).has("a@b.example").has(`"require_two_factor":false`).lacks("$2a$")
}

// TestEveryCallAsksForItsPermission calls every row as an administrator that has all permissions but its.
func TestEveryCallAsksForItsPermission(t *testing.T) { // ADM-1
	s := newServer(t)
	callers := map[string]caller{}
	for _, r := range adminRoutes() {
		if r.Auth != Admin && r.Auth != AdminToken {
			continue
		}
		path := r.Path
		for _, p := range []string{"{name}", "{id}", "{type}", "{ipornet}"} {
			path = strings.ReplaceAll(path, p, map[string]string{"{name}": "x", "{id}": "7f", "{type}": "1", "{ipornet}": "10.0.0.0%2F8"}[p])
		}
		s.nobody().do(r.Method, path, "").want(401)
		if r.Perm == Any {
			continue
		}
		c, ok := callers[r.Perm]
		if !ok {
			var perms []string
			for _, p := range account.AdminPermissions {
				if !slices.Contains(strings.Split(r.Perm, "|"), p) && p != "*" {
					perms = append(perms, p)
				}
			}
			c = s.as(fmt.Sprintf("a%d", len(callers)), "", perms...)
			callers[r.Perm] = c
		}
		if a := c.do(r.Method, path, ""); a.Status != 403 || !strings.Contains(a.Body, "permission denied") {
			t.Errorf("%s %s without %s: got %d: %s", r.Method, r.Path, r.Perm, a.Status, a.Body)
		}
	}
}

func TestEventRulesAreChecked(t *testing.T) {
	s := newServer(t)
	root := s.root()
	root.post("/eventactions", `{"name":"a","type":4}`).want(201).has(`"http_config"`)
	root.post("/eventactions", `{"name":"b","type":1}`).want(400)
	root.post("/eventactions", `{"name":"b","type":10}`).want(400)
	root.post("/eventrules", `{"name":"r","status":1,"trigger":1,"conditions":{"fs_events":["upload"]},"actions":[{"name":"none","order":1}]}`).want(400)
	root.post("/eventrules", `{"name":"r","status":1,"trigger":1,"conditions":{"fs_events":["fly"]},"actions":[{"name":"a","order":1}]}`).want(400)
	root.post("/eventrules", `{"name":"r","status":1,"trigger":1,"conditions":{"fs_events":["upload"]},"actions":[{"name":"a","order":1,"relation_options":{"execute_sync":true}}]}`).want(201).
		has(`"type":4`).has(`"execute_sync":true`)
	root.get("/eventactions/a").want(200).has(`"rules":["r"]`)
	root.get("/eventactions").want(200).has(`"rules":["r"]`)
	root.get("/eventrules").want(200).has(`"type":4`)
	root.delete("/eventactions/a").want(400)
	root.put("/eventrules/r", `{"status":0,"trigger":6,"actions":[{"name":"a"}]}`).want(200)
	root.get("/eventrules/r").want(200).has(`"trigger":6`).has(`"status":0`)
	root.delete("/eventrules/r").want(200)
	root.delete("/eventactions/a").want(200)
}

func TestIPLists(t *testing.T) {
	s := newServer(t)
	root := s.root()
	add := root.post("/iplists/1", `{"ipornet":"10.1.2.3","mode":1}`).want(201)
	if loc := add.Header.Get("Location"); loc != "/api/v2/iplists/1/10.1.2.3%2F32" {
		t.Errorf("Location %q", loc)
	}
	root.post("/iplists/1", `{"ipornet":"10.1.2.3","mode":1}`).want(409)
	root.post("/iplists/1", `{"ipornet":"10.1.2.4","mode":2}`).want(400)
	root.post("/iplists/1", `{"ipornet":"10.1.2.4","mode":1,"type":2}`).want(400)
	root.post("/iplists/9", `{"ipornet":"10.1.2.4","mode":1}`).want(400)
	root.post("/iplists/2", `{"ipornet":"nonsense","mode":1}`).want(400)
	for _, n := range []string{"10.0.0.0/8", "10.9.0.0/16", "192.168.0.0/16", "2001:db8::/32"} {
		root.post("/iplists/2", `{"ipornet":"`+n+`","mode":2,"protocols":3}`).want(201)
	}
	names := func(path string) string {
		var list []account.IPListEntry
		a := root.get(path).want(200)
		a.json(&list)
		out := a.Header.Get("X-Total-Count") + ":"
		for _, e := range list {
			out += " " + e.IPOrNet
		}
		return out
	}
	for path, want := range map[string]string{
		"/iplists/1": "1: 10.1.2.3/32", "/iplists/2?limit=2": "4: 10.0.0.0/8 10.9.0.0/16", "/iplists/2?from=10.9.0.0/16": "4: 192.168.0.0/16 2001:db8::/32",
		"/iplists/2?filter=10.": "2: 10.0.0.0/8 10.9.0.0/16", "/iplists/2?filter=10.&order=DESC": "2: 10.9.0.0/16 10.0.0.0/8",
		"/iplists/2?filter=%25": "0:", "/iplists/3": "0:", "/iplists/2?order=DESC&from=192.168.0.0/16": "4: 10.9.0.0/16 10.0.0.0/8",
	} {
		if got := names(path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	one := "/iplists/2/" + url.PathEscape("10.9.0.0/16")
	root.get(one).want(200).has(`"protocols":3`)
	root.put(one, `{"mode":1,"ipornet":"1.1.1.1","type":1}`).want(200)
	root.get(one).want(200).has(`"mode":1`).has("10.9.0.0/16").has(`"type":2`)
	root.delete(one).want(200)
	root.get(one).want(404)
	root.get("/iplists/x").want(400)
}

func TestDefenderHosts(t *testing.T) {
	s := newServer(t)
	root := s.root()
	root.get("/defender/hosts").want(200).has("[]")
	root.get("/defender/hosts/zz").want(400)
	root.get("/defender/hosts/7f").want(400)
	root.get("/defender/hosts/31302e302e302e31").want(404)
	root.delete("/defender/hosts/31302e302e302e31").want(404)
}

func TestQuotaCallsCountAndSet(t *testing.T) {
	s := newServer(t)
	root := s.root()
	home := filepath.Join(t.TempDir(), "u")
	os.MkdirAll(home, 0o755)
	os.WriteFile(filepath.Join(home, "f"), make([]byte, 1000), 0o644)
	os.MkdirAll(filepath.Join(home, "d"), 0o755)
	os.WriteFile(filepath.Join(home, "d", "g"), make([]byte, 234), 0o644)
	root.post("/users", fmt.Sprintf(`{"username":"u","status":1,"home_dir":%q,"permissions":{"/":["*"]},"quota_files":10}`, home)).want(201)
	root.post("/folders", fmt.Sprintf(`{"name":"f","mapped_path":%q}`, filepath.Join(home, "d"))).want(201)
	root.post("/quotas/users/u/scan", "").want(202)
	root.post("/quotas/folders/f/scan", "").want(202)
	until(t, "the scans are over", func() bool {
		return root.get("/quotas/users/scans").want(200).Body == "[]\n" && root.get("/quotas/folders/scans").want(200).Body == "[]\n"
	})
	root.get("/users/u").want(200).has(`"used_quota_size":1234`).has(`"used_quota_files":2`)
	root.get("/folders/f").want(200).has(`"used_quota_size":234`)
	root.put("/quotas/users/u/usage", `{"used_quota_size":10,"used_quota_files":1}`).want(200)
	root.put("/quotas/users/u/usage?mode=add", `{"used_quota_size":5,"used_quota_files":1}`).want(200)
	root.get("/users/u").want(200).has(`"used_quota_size":15`).has(`"used_quota_files":2`)
	root.put("/quotas/users/u/usage?mode=fly", `{}`).want(400)
	root.put("/quotas/users/u/usage", `{"used_quota_size":-1}`).want(400)
	root.put("/quotas/users/none/usage", `{}`).want(404)
	root.put("/quotas/users/u/transfer-usage", `{"used_upload_data_transfer":100,"used_download_data_transfer":7}`).want(200)
	root.get("/users/u").want(200).has(`"used_upload_data_transfer":100`).has(`"used_download_data_transfer":7`)
	root.put("/quotas/users/u/transfer-usage?mode=add", `{"used_upload_data_transfer":1}`).want(400) // nothing is counted
	root.put("/quotas/folders/f/usage", `{"used_quota_size":77,"used_quota_files":7}`).want(200)
	root.get("/folders/f").want(200).has(`"used_quota_size":77`)
	root.post("/quotas/users/none/scan", "").want(404)
	root.post("/folders", `{"name":"p","mapped_path":"/srv/%username%"}`).want(201)
	root.post("/quotas/folders/p/scan", "").want(400)
}

// until waits for something that another goroutine does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("never: " + what)
}

func TestDumpsGoOutAndIn(t *testing.T) {
	s := newServer(t)
	root := s.root()
	root.post("/roles", `{"name":"r"}`).want(201)
	root.post("/folders", `{"name":"f","mapped_path":"/srv/f"}`).want(201)
	root.post("/users", s.userJSON("u", `,"role":"r"`)).want(201)
	dump := root.get("/dumpdata?output-data=1").want(200).has("$2a$")
	if !strings.HasPrefix(dump.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("%v", dump.Header)
	}
	root.get("/dumpdata?output-data=1&scopes=folders,nonsense").want(200).has(`"users":null`).has(`"f"`)
	root.get("/dumpdata?output-data=1&scopes=nonsense").want(200).lacks(`"f"`)
	for file, status := range map[string]int{"": 400, "../x": 400, "/x": 400, ".": 400, "a/../../x": 400, "x.json": 200, "sub/y.json": 200} {
		root.get("/dumpdata?output-file=" + url.QueryEscape(file)).want(status)
	}
	root.post("/dumpdata?indent=1&output-file=x.json", "").want(200)
	file := filepath.Join(s.backups, "x.json")
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), "\n  \"users\"") {
		t.Errorf("%.80s %v", b, err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	os.Symlink(t.TempDir(), filepath.Join(s.backups, "link"))
	root.get("/dumpdata?output-file=link/x.json").want(400)

	before := root.get("/users/u").Body
	root.delete("/users/u").want(200)
	root.delete("/roles/r").want(200)
	root.post("/loaddata", dump.Body).want(200)
	if after := root.get("/users/u").want(200).Body; cut(after) != cut(before) {
		t.Errorf("before %s\nafter  %s", before, after)
	}
	root.delete("/users/u").want(200)
	root.get("/loaddata?input-file=" + url.QueryEscape(file)).want(200)
	root.get("/users/u").want(200)
	for _, path := range []string{"/loaddata", "/loaddata?input-file=rel", "/loaddata?input-file=/nonexistent/x", "/loaddata?input-file=" + url.QueryEscape(s.backups)} {
		root.get(path).want(400)
	}
	// A dump with a mistake changes nothing.
	count := func() int { n, _ := s.store.Count(t.Context(), account.KindUser, account.Page{}); return n }
	for name, body := range map[string]string{
		"no JSON": "{", "empty": "", "a bad user": `{"users":[` + s.userJSON("new") + `,{"username":"","home_dir":"/x","permissions":{"/":["*"]}}]}`,
		"a dangling reference": `{"users":[` + s.userJSON("new") + `,` + s.userJSON("new2", `,"role":"none"`) + `]}`,
		"a wrong type":         `{"users":[` + s.userJSON("new") + `,{"username":5}]}`, "a version": `{"version":99}`,
	} {
		if a := root.post("/loaddata", body); a.Status != 400 || count() != 1 {
			t.Errorf("%s: got %d and %d users: %s", name, a.Status, count(), a.Body)
		}
	}
	root.post("/loaddata?mode=3", dump.Body).want(400)
	root.post("/loaddata?scan-quota=x", dump.Body).want(400)
	root.post("/loaddata?mode=1", strings.Replace(dump.Body, `"status":1,"username":"u"`, `"status":0,"username":"u"`, 1)).want(200)
	root.get("/users/u").want(200).has(`"status":1`)
	root.post("/loaddata?mode=2&scan-quota=1", strings.Replace(dump.Body, `"status":1,"username":"u"`, `"status":0,"username":"u"`, 1)).want(200)
	root.get("/users/u").want(200).has(`"status":0`)
	until(t, "the scans are over", func() bool { return root.get("/quotas/users/scans").Body == "[]\n" })
}

// cut takes off a record's JSON what a restore gives anew.
func cut(doc string) string {
	var m map[string]any
	json.Unmarshal([]byte(doc), &m)
	for _, k := range []string{"id", "updated_at", "last_quota_update", "last_password_change"} {
		delete(m, k)
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// TestTheHookHearsOfEachChange: hooks.md 2.
func TestTheHookHearsOfEachChange(t *testing.T) {
	s := newServer(t)
	root := s.root()
	root.post("/users", s.userJSON("u")).want(201)
	root.patch("/users/u", `{"description":"x"}`).want(200)
	root.delete("/users/u").want(200)
	root.post("/apikeys", `{"name":"k","scope":2}`).want(201)
	want := []string{"add admin root __system__", "update admin root root", "add user u root", "update user u root", "delete user u root", "add api_key"}
	until(t, "all calls came", func() bool {
		s.hooks.mu.Lock()
		defer s.hooks.mu.Unlock()
		var got []string
		for _, c := range s.hooks.calls {
			got = append(got, c.Query.Get("action")+" "+c.Query.Get("object_type")+" "+c.Query.Get("object_name")+" "+c.Query.Get("username"))
		}
		text := strings.Join(got, "\n")
		for _, w := range want {
			if w != "update admin root root" && !strings.Contains(text, w) {
				return false
			}
		}
		return true
	})
}

func TestDisconnectEndsLiveSessions(t *testing.T) {
	s := newServer(t)
	root := s.root()
	root.post("/users", s.userJSON("u")).want(201)
	killed := make(chan error, 3)
	open := func() {
		t.Helper()
		l, err := s.sessions.Authenticate(t.Context(), &session.Attempt{Protocol: "FTP", Method: "password", Username: "u", Password: "pw"})
		if err != nil {
			t.Fatal(err)
		}
		x, err := s.sessions.Open(t.Context(), l, session.Conn{ID: fmt.Sprint("FTP_", time.Now().UnixNano()), Protocol: "FTP", Kill: func(err error) { killed <- err }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
	}
	wait := func(what string) {
		t.Helper()
		select {
		case <-killed:
		case <-time.After(30 * time.Second):
			t.Fatal("the session lives after " + what)
		}
	}
	open()
	root.do("PATCH", "/users/u?disconnect=1", `{"description":"x"}`).want(200)
	wait("disconnect=1")
	open()
	root.do("PATCH", "/users/u", `{"status":0}`).want(200)
	wait("the account was disabled")
	root.do("PATCH", "/users/u", `{"status":1}`).want(200)
	open()
	root.delete("/users/u").want(200)
	wait("the user was deleted")
}
