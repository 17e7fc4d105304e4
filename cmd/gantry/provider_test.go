package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/account/sqlstore"
)

const fullDump = `{"version":17,
"roles":[{"name":"team"}],
"folders":[{"name":"shared","mapped_path":"/srv/shared"}],
"groups":[{"name":"all","user_settings":{"max_sessions":3}}],
"users":[{"username":"ann","status":1,"home_dir":"/srv/ann","password":"secret-1","role":"team","permissions":{"/":["*"]},
 "groups":[{"name":"all","type":1}],"virtual_folders":[{"name":"shared","virtual_path":"/s","quota_size":-1,"quota_files":-1}],
 "filesystem":{"provider":4,"cryptconfig":{"passphrase":{"status":"Plain","payload":"a long and secret phrase, 9 words of it"}}}}],
"admins":[{"username":"root","status":1,"password":"old-password","permissions":["*"],"filters":{"totp_config":{"enabled":true,"config_name":"Default","secret":{"status":"Plain","payload":"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}}}}],
"api_keys":[{"id":"k","name":"k","key":"$2a$04$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S","scope":1,"admin":"root"}],
"shares":[{"id":"s","name":"s","scope":1,"paths":["/"],"username":"ann"}],
"event_actions":[{"name":"call","type":1,"options":{"http_config":{"endpoint":"https://example.com/","method":"GET","timeout":5}}}],
"event_rules":[{"name":"on upload","status":1,"trigger":1,"conditions":{"fs_events":["upload"]},"actions":[{"name":"call","order":1}]}],
"ip_lists":[{"ipornet":"192.0.2.0/24","type":2,"mode":2,"protocols":0}],
"configs":{"smtp":{"host":"mail.example.com","port":25,"from":"a@example.com"}}}`

// comparable is a dump without what each store sets by itself.
func comparable(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	var strip func(v any)
	strip = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if _, number := v["id"].(float64); number {
				delete(v, "id")
			}
			for _, e := range v {
				strip(e)
			}
		case []any:
			for _, e := range v {
				strip(e)
			}
		}
	}
	strip(v)
	out, _ := json.MarshalIndent(v, "", " ")
	return string(out)
}

// A dump goes through every driver and comes out as it went in.
func TestDumpsRoundTripOnEveryDriver(t *testing.T) {
	from := t.TempDir()
	src := filepath.Join(from, "in.json")
	writeFile(t, src, fullDump)
	var first string
	for _, driver := range []string{"sqlite", "bolt", "sqlite", "bolt"} {
		dir := t.TempDir()
		env := []string{"GANTRY_DATA_PROVIDER__DRIVER=" + driver, "GANTRY_DATA_PROVIDER__NAME=accounts.db"}
		if code, out, msg := run(t, env, "load", "-c", dir, src); code != 0 || msg != "" {
			t.Fatalf("%s: load: %d %s %s", driver, code, out, msg)
		}
		next := filepath.Join(dir, "out.json")
		if code, _, msg := run(t, env, "dump", "-c", dir, next); code != 0 {
			t.Fatalf("%s: dump: %d %s", driver, code, msg)
		}
		got := comparable(t, next)
		if first == "" {
			first = got
			for _, secret := range []string{"secret-1", "old-password", "9 words", "GEZDGNBV"} { // CRY-3
				if strings.Contains(got, secret) {
					t.Errorf("the dump shows %q", secret)
				}
			}
			for _, want := range []string{`"on upload"`, `"mail.example.com"`, `"192.0.2.0/24"`, `"team"`, `"virtual_path": "/s"`} {
				if !strings.Contains(got, want) {
					t.Errorf("the dump lacks %s", want)
				}
			}
		} else if got != first {
			t.Errorf("%s: the dump changed on the way:\n%s\nwas\n%s", driver, got, first)
		}
		src = next
	}
}

func TestResetPwd(t *testing.T) {
	for _, driver := range []string{"sqlite", "bolt"} {
		dir := t.TempDir()
		src, out := filepath.Join(dir, "in.json"), filepath.Join(dir, "out.json")
		writeFile(t, src, fullDump)
		env := []string{"GANTRY_DATA_PROVIDER__DRIVER=" + driver, "GANTRY_DATA_PROVIDER__NAME=accounts.db"}
		if code, _, msg := run(t, env, "load", "-c", dir, src); code != 0 {
			t.Fatal(msg)
		}
		admin := func() map[string]any {
			t.Helper()
			if code, _, msg := run(t, env, "dump", "-c", dir, out); code != 0 {
				t.Fatal(msg)
			}
			b, _ := os.ReadFile(out)
			var d struct{ Admins []map[string]any }
			if err := json.Unmarshal(b, &d); err != nil {
				t.Fatal(err)
			}
			return d.Admins[0]
		}
		before := admin()
		for _, bad := range []struct{ name, input, want string }{{"nobody", "x\n", "not found"}, {"root", "", "standard input"}, {"root", "\n", "empty"}} {
			a := testApp(t, env...)
			a.stdin = strings.NewReader(bad.input)
			if code := a.run([]string{"resetpwd", "-c", dir, "--admin", bad.name}); code != 1 || !strings.Contains(text(t, a.stderr), bad.want) {
				t.Errorf("%s %+v: %d %s", driver, bad, code, text(t, a.stderr))
			}
		}
		if now := admin(); now["password"] != before["password"] {
			t.Error("a refused reset changed the password")
		}
		a := testApp(t, env...)
		a.stdin = strings.NewReader("new-password-1\n")
		if code := a.run([]string{"resetpwd", "-c", dir, "--admin", "root"}); code != 0 || !strings.Contains(text(t, a.stdout), "root was changed") {
			t.Fatalf("%s: %d %s", driver, code, text(t, a.stderr))
		}
		now := admin()
		if hash, _ := now["password"].(string); hash == before["password"] || !strings.HasPrefix(hash, "$2a$") {
			t.Errorf("%s: the password is %v", driver, now["password"])
		}
		if factor, _ := json.Marshal(now["filters"].(map[string]any)["totp_config"]); string(factor) != "{}" {
			t.Errorf("%s: the second factor is still there: %s", driver, factor)
		}
	}
}

func TestResetProvider(t *testing.T) {
	for _, driver := range []string{"sqlite", "bolt"} {
		dir := t.TempDir()
		src := filepath.Join(dir, "in.json")
		writeFile(t, src, fullDump)
		env := []string{"GANTRY_DATA_PROVIDER__DRIVER=" + driver, "GANTRY_DATA_PROVIDER__NAME=accounts.db"}
		if code, _, msg := run(t, env, "load", "-c", dir, src); code != 0 {
			t.Fatal(msg)
		}
		dump := func() string {
			_, out, _ := run(t, env, "dump", "-c", dir)
			return out
		}
		for _, answer := range []string{"", "n\n", "yes please\n"} {
			a := testApp(t, env...)
			a.stdin = strings.NewReader(answer)
			if code := a.run([]string{"resetprovider", "-c", dir}); code != 1 || !strings.Contains(text(t, a.stderr), "nothing was removed") {
				t.Errorf("answer %q: %d %s", answer, code, text(t, a.stderr))
			}
		}
		if !strings.Contains(dump(), "ann") {
			t.Fatal("a refused reset removed something")
		}
		a := testApp(t, env...)
		a.stdin = strings.NewReader("Y\n")
		if code := a.run([]string{"resetprovider", "-c", dir}); code != 0 {
			t.Fatalf("%s: %d %s", driver, code, text(t, a.stderr))
		}
		if got := dump(); strings.Contains(got, "ann") || strings.Contains(got, "root") || strings.Contains(got, "call") {
			t.Errorf("%s: after a reset: %s", driver, got)
		}
		if code, out, msg := run(t, env, "resetprovider", "-c", dir, "--force"); code != 0 || !strings.Contains(out, "is empty") {
			t.Errorf("--force: %d %s", code, msg)
		}
	}
}

func TestRevertProvider(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "in.json")
	writeFile(t, src, fullDump)
	if code, _, msg := run(t, nil, "load", "-c", dir, src); code != 0 {
		t.Fatal(msg)
	}
	if code, out, msg := run(t, nil, "revertprovider", "-c", dir, "--to-version", "1"); code != 0 || !strings.Contains(out, fmt.Sprintf("from version %d to 1", sqlstore.Newest())) {
		t.Fatalf("%d %s %s", code, out, msg)
	}
	if code, out, _ := run(t, nil, "revertprovider", "-c", dir, "--to-version", "1"); code != 0 || !strings.Contains(out, "already") {
		t.Errorf("again: %d %s", code, out)
	}
	if code, _, msg := run(t, nil, "revertprovider", "-c", dir, "--to-version", "77"); code != 1 || !strings.Contains(msg, fmt.Sprintf("there are 1 to %d", sqlstore.Newest())) {
		t.Errorf("an unknown version: %d %s", code, msg)
	}
	if code, _, msg := run(t, nil, "revertprovider", "-c", dir); code == 0 || !strings.Contains(msg, "to-version") {
		t.Errorf("without a version: %d %s", code, msg)
	}
	if code, out, _ := run(t, nil, "dump", "-c", dir); code != 0 || !strings.Contains(out, `"ann"`) {
		t.Errorf("after a revert and an upgrade: %d %s", code, out)
	}
	if l, _ := filepath.Glob(filepath.Join(dir, "*.bak")); len(l) != 2 {
		t.Errorf("backups: %v", l)
	}
	env := []string{"GANTRY_DATA_PROVIDER__DRIVER=memory"}
	if code, _, msg := run(t, env, "revertprovider", "-c", dir, "--to-version", "1"); code != 1 || !strings.Contains(msg, "memory") {
		t.Errorf("memory: %d %s", code, msg)
	}
}

// A bolt file belongs to the server that has it, and says so.
func TestServeOnBolt(t *testing.T) {
	dir := t.TempDir()
	env := []string{"GANTRY_DATA_PROVIDER__DRIVER=bolt", "GANTRY_DATA_PROVIDER__NAME=accounts.bolt"}
	src := filepath.Join(dir, "in.json")
	writeFile(t, src, dumpOf("ann", "secret-1", filepath.Join(dir, "ann")))
	if code, _, msg := run(t, env, "load", "-c", dir, src); code != 0 {
		t.Fatal(msg)
	}
	s := startServer(t, dir, env)
	c, err := s.dial(t, "ann", "secret-1")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if code, _, msg := run(t, env, "dump", "-c", dir); code != 1 || !strings.Contains(msg, "in use by another process") {
		t.Errorf("dump beside the server: %d %s", code, msg)
	}
	s.end()
	if code, out, msg := run(t, env, "dump", "-c", dir); code != 0 || !strings.Contains(out, "ann") {
		t.Errorf("dump after it: %d %s", code, msg)
	}
}
