package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Dumps of every version load, with the permissions that later versions dropped kept as what they were: nobody gains
// rights. One from the future, or from before all others, changes nothing.
func TestDumpsOfOtherVersions(t *testing.T) {
	for _, v := range []int{0, 6, 8, 10, 12, 13, 16, 17} {
		dir := t.TempDir()
		src := filepath.Join(dir, "in.json")
		writeFile(t, src, fmt.Sprintf(`{"version":%d,"admins":[{"username":"old","status":1,"password":"some-password","permissions":["manage_admins","manage_apikeys","manage_system","retention_checks","metadata_checks","manage_event_rules","manage_roles","manage_ip_lists"]}],
			"users":[{"username":"ann","status":1,"home_dir":"/srv/ann","password":"x1-y2-z3","permissions":{"/":["list","download"]},"virtual_folders":[{"name":"f","mapped_path":"/srv/f","virtual_path":"/f","quota_size":-1,"quota_files":-1}]}]}`, v))
		if code, out, msg := run(t, nil, "load", "-c", dir, src); code != 0 {
			t.Errorf("version %d: %d %s %s", v, code, out, msg)
			continue
		}
		_, out, _ := run(t, nil, "dump", "-c", dir)
		for _, want := range []string{`"manage_system"`, `"retention_checks"`, `"manage_ip_lists"`, `"mapped_path":"/srv/f"`, `"version":17`} {
			if !strings.Contains(out, want) {
				t.Errorf("version %d: the records lack %s: %s", v, want, out)
			}
		}
		if strings.Contains(out, `"*"`) {
			t.Errorf("version %d: somebody has all permissions now: %s", v, out)
		}
	}
	for _, v := range []int{-1, 5, 18, 1000} {
		dir := t.TempDir()
		src := filepath.Join(dir, "in.json")
		writeFile(t, src, fmt.Sprintf(`{"version":%d,"users":[{"username":"ann","status":1,"home_dir":"/srv/ann","permissions":{"/":["*"]}}]}`, v))
		code, _, msg := run(t, nil, "load", "-c", dir, src)
		if code != 1 || !strings.Contains(msg, fmt.Sprint("version ", v)) {
			t.Errorf("version %d: %d %s", v, code, msg)
		}
		if _, out, _ := run(t, nil, "dump", "-c", dir); strings.Contains(out, "ann") {
			t.Errorf("version %d: something was stored", v)
		}
	}
}

// CRY-1: a master key that is empty seals nothing.
func TestEmptyMasterKeyFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "master.key")
	writeFile(t, key, " \n")
	src := filepath.Join(dir, "in.json")
	writeFile(t, src, fullDump)
	code, _, msg := run(t, []string{"GANTRY_KMS__SECRETS__MASTER_KEY_PATH=" + key}, "load", "-c", dir, src)
	if code != 1 || !strings.Contains(msg, "master_key_path") {
		t.Errorf("%d %s", code, msg)
	}
}
