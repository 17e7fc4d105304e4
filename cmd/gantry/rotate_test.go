package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRotateKeySealsEverySecretAnew: CRY-2, CRY-3. Secrets of every kind of record open with the new key and not with the
// old one; a wrong key changes nothing.
func TestRotateKeySealsEverySecretAnew(t *testing.T) {
	dir := t.TempDir()
	secretJSON := func(name string) string { return `{"status":"Plain","payload":"canary-` + name + `"}` }
	fsys := func(name string) string {
		return `"filesystem":{"provider":5,"sftpconfig":{"endpoint":"h:22","username":"x","password":` + secretJSON(name) + `}}`
	}
	writeFile(t, filepath.Join(dir, "dump.json"), `{"version":17,
		"folders":[{"name":"f","mapped_path":"/srv/f",`+fsys("folder")+`}],
		"groups":[{"name":"g","user_settings":{`+fsys("group")+`},"virtual_folders":[{"name":"f","virtual_path":"/v","quota_size":-1,"quota_files":-1}]}],
		"users":[{"username":"u","status":1,"home_dir":"/srv/u","permissions":{"/":["*"]},"groups":[{"name":"g","type":1}],"virtual_folders":[{"name":"f","virtual_path":"/w","quota_size":-1,"quota_files":-1}],`+fsys("user")+`}],
		"event_actions":[{"name":"a","type":1,"options":{"http_config":{"endpoint":"https://h","method":"GET","timeout":5,"username":"x","password":`+secretJSON("action")+`}}}],
		"configs":{"smtp":{"host":"h","port":25,"password":`+secretJSON("mail")+`}}}`)
	key := func(k string) []string { return []string{"GANTRY_KMS__SECRETS__MASTER_KEY=" + k} }
	verb := func(env []string, args ...string) (int, string) {
		t.Helper()
		code, out, msg := run(t, env, append(args, "-c", dir)...)
		return code, out + msg
	}
	if code, out := verb(key("first key"), "load", filepath.Join(dir, "dump.json")); code != 0 {
		t.Fatal(out)
	}
	file := func(k string) string {
		name := filepath.Join(dir, "old")
		writeFile(t, name, k+"\n")
		return name
	}
	dump := func() string {
		t.Helper()
		_, out := verb(nil, "dump")
		return out
	}
	before := dump()
	if strings.Contains(before, "canary") || strings.Count(before, `"mode":1`) < 5 {
		t.Fatalf("not sealed: %s", before)
	}
	for name, args := range map[string][]string{"wrong key": {"--old-key-file", file("another key")}, "no key": {"--without-old-key"}, "neither": nil} {
		if name == "wrong key" {
			file("another key")
		}
		if code, out := verb(key("second key"), append([]string{"rotatekey"}, args...)...); code != 1 || strings.Contains(out, "canary") {
			t.Errorf("%s: exit code %d: %s", name, code, out)
		}
		if dump() != before {
			t.Fatalf("%s: the database was changed", name)
		}
	}
	if code, out := verb(key("second key"), "rotatekey", "--old-key-file", file("first key")); code != 0 || !strings.Contains(out, "5 records") {
		t.Fatalf("exit code %d: %s", code, out)
	}
	after := dump()
	if strings.Contains(after, "canary") || strings.Count(after, `"mode":1`) < 5 {
		t.Errorf("not sealed: %s", after)
	}
	// Opening with the new key works for all, with the old one for none.
	if code, out := verb(key("third key"), "rotatekey", "--old-key-file", file("first key")); code != 1 {
		t.Errorf("the old key opens still: %s", out)
	}
	if code, out := verb(key("third key"), "rotatekey", "--old-key-file", file("second key")); code != 0 || !strings.Contains(out, "5 records") {
		t.Errorf("the new key does not open: %s", out)
	}
	os.Remove(filepath.Join(dir, "old"))
}
