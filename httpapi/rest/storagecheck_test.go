package rest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// steps is the steps of a check as "open list write read delete", the failed one with "!" and the noted with "?".
func (a *answer) steps() string {
	a.t.Helper()
	var c struct {
		OK    bool
		Steps []struct {
			Step, Error, Note string
			OK                bool
		}
	}
	a.want(200).json(&c)
	var out []string
	failed := false
	for _, s := range c.Steps {
		text := s.Step
		if !s.OK {
			failed = true
			text += "!"
			if s.Error == "" {
				a.t.Errorf("%s: %s failed for no reason", a.call, s.Step)
			}
		}
		if s.Note != "" {
			text += "?"
		}
		out = append(out, text)
	}
	if c.OK == failed {
		a.t.Errorf("%s: ok is %v of %v", a.call, c.OK, out)
	}
	return strings.Join(out, " ")
}

// TestStorageIsTried: step by step, and nothing of it stays.
func TestStorageIsTried(t *testing.T) {
	s := newServer(t)
	root := s.root()
	s.user("ann")
	home := filepath.Join(t.TempDir(), "dir")
	quote := func(v string) string { b, _ := json.Marshal(v); return string(b) }
	root.post("/folders", `{"name":"f","mapped_path":`+quote(home)+`}`).want(201)
	root.post("/folders", `{"name":"each","mapped_path":"/srv/%username%"}`).want(201)
	check := func(body, want string) *answer {
		t.Helper()
		a := root.post("/fs/check", body)
		if got := a.steps(); got != want {
			t.Errorf("%s: got %q, want %q: %s", body, got, want, a.Body)
		}
		return a
	}
	const all = "open list write read delete"
	check(`{"folder":"f"}`, "open?")
	if l, err := os.ReadDir(filepath.Dir(home)); err != nil || len(l) != 0 {
		t.Errorf("a check left %v, %v", l, err)
	}
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	check(`{"folder":"f"}`, all)
	check(`{"folder":"f","list_only":true}`, "open list")
	check(`{"user":"ann"}`, all)
	check(`{"user":"ann","path":`+quote(home)+`}`, all)
	check(`{"filesystem":{"provider":0},"path":`+quote(home)+`}`, all)
	if l, err := os.ReadDir(home); err != nil || len(l) != 0 {
		t.Errorf("checks left %v, %v", l, err)
	}
	file := filepath.Join(home, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check(`{"filesystem":{"provider":0},"path":`+quote(file)+`}`, "open!")
	check(`{"filesystem":{"provider":0},"path":`+quote(filepath.Join(file, "below"))+`}`, "open!")
	for body, text := range map[string]string{
		`{}`: "filesystem is needed", `{"user":"ann","folder":"f"}`: "together", `{"filesystem":{"provider":0}}`: "mapped_path",
		`{"filesystem":{"provider":9},"path":"/x"}`: "provider", `{"folder":"each"}`: "stands for another place",
		`{"filesystem":{"provider":5,"sftpconfig":{"endpoint":"h:22","username":"u","password":{"status":"Redacted"}}}}`: "give the secret itself",
		`{"filesystem":7}`: "filesystem", ``: "empty",
	} {
		root.post("/fs/check", body).want(400).has(text)
	}
	root.post("/fs/check", `{"user":"none"}`).want(404)
	root.post("/fs/check", `{"folder":"none"}`).want(404)
}

// TestStoredSecretsStayWhereTheyAre: a check gives no stored secret to a place of the caller's (ADM-1).
func TestStoredSecretsStayWhereTheyAre(t *testing.T) {
	s := newServer(t)
	root := s.root()
	const stored = `{"provider":5,"sftpconfig":{"endpoint":"one.example.com:22","username":"u","password":{"status":"Plain","payload":"canary-secret"}}}`
	root.post("/folders", `{"name":"f","mapped_path":"/srv/f","filesystem":`+stored+`}`).want(201)
	with := func(endpoint, username string) string {
		return `{"folder":"f","filesystem":{"provider":5,"sftpconfig":{"endpoint":"` + endpoint + `","username":"` + username + `","password":{"status":"Redacted"}}}}`
	}
	for _, body := range []string{with("two.example.com:22", "u"), with("one.example.com:23", "u"), with("one.example.com:22", "v"),
		`{"folder":"f","filesystem":{"provider":1,"s3config":{"bucket":"b","region":"r","access_key":"k","access_secret":{"status":"Redacted"}}}}`} {
		root.post("/fs/check", body).want(400).has("another place").lacks("canary")
	}
	root.post("/fs/check", with("one.example.com:22", "u")).want(200).lacks("canary") // the harness opens a directory in its place
}

// TestWhoMayTryStorages: those who may edit what is tried (ADM-1).
func TestWhoMayTryStorages(t *testing.T) {
	s := newServer(t)
	root := s.root()
	root.post("/roles", `{"name":"north"}`).want(201)
	s.user("ann")
	s.user("bob", `,"role":"north"`)
	dir, _ := json.Marshal(t.TempDir())
	root.post("/folders", `{"name":"f","mapped_path":`+string(dir)+`}`).want(201)
	bare := `{"filesystem":{"provider":0},"path":` + string(dir) + `}`
	viewer, users, folders := s.as("viewer", "", "view_users", "add_users"), s.as("users", "", "edit_users"), s.as("folders", "", "manage_folders")
	north := s.as("north", "north", "edit_users")
	for _, x := range []struct {
		who                caller
		user, folder, bare int
	}{{viewer, 403, 403, 403}, {users, 200, 403, 200}, {folders, 403, 200, 200}, {north, 404, 403, 200}} {
		x.who.post("/fs/check", `{"user":"ann"}`).want(x.user)
		x.who.post("/fs/check", `{"folder":"f"}`).want(x.folder)
		x.who.post("/fs/check", bare).want(x.bare)
	}
	north.post("/fs/check", `{"user":"bob"}`).want(200)
	s.nobody().post("/fs/check", bare).want(401)
}
