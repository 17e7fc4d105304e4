package rest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRetentionRemovesWhatIsOld(t *testing.T) {
	s := newServer(t)
	root := s.root()
	home := filepath.Join(t.TempDir(), "u")
	old := time.Now().Add(-48 * time.Hour)
	outside := filepath.Join(t.TempDir(), "outside")
	os.WriteFile(outside, []byte("x"), 0o644)
	for _, f := range []string{"a/old", "a/new", "a/deep/er/old", "a/kept/old", "b/old", "a/hidden.tmp"} {
		p := filepath.Join(home, f)
		os.MkdirAll(filepath.Dir(p), 0o755)
		if err := os.WriteFile(p, []byte("12345"), 0o644); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(f, "new") {
			os.Chtimes(p, old, old)
		}
	}
	os.Symlink(outside, filepath.Join(home, "a", "link"))
	os.Symlink(filepath.Dir(outside), filepath.Join(home, "a", "dirlink"))
	// What the user may do does not count, nor what is hidden from them.
	root.post("/users", fmt.Sprintf(`{"username":"u","status":0,"home_dir":%q,"permissions":{"/":["list"]},"quota_files":100,
		"filters":{"file_patterns":[{"path":"/","denied_patterns":["*.tmp"],"deny_policy":1}]}}`, home)).want(201)
	root.put("/quotas/users/u/usage", `{"used_quota_size":30,"used_quota_files":6}`).want(200)
	for body, status := range map[string]int{
		`[]`: 400, `{}`: 400, `[{"path":"/a","retention":0}]`: 400, `[{"path":"/a","retention":-1}]`: 400,
		`[{"path":"/a","retention":1},{"path":"/a/","retention":1}]`: 400,
	} {
		root.post("/retention/users/u/check", body).want(status)
	}
	root.post("/retention/users/none/check", `[{"path":"/a","retention":1}]`).want(404)
	root.post("/retention/users/u/check?notifications=Email", `[{"path":"/a","retention":1}]`).want(400)
	root.post("/retention/users/u/check", `[{"path":"/a","retention":24,"delete_empty_dirs":true},{"path":"/a/kept","retention":0}]`).want(202)
	until(t, "the check is over", func() bool { return root.get("/retention/users/checks").want(200).Body == "[]\n" })
	for f, want := range map[string]bool{"a/old": false, "a/new": true, "a/deep": false, "a/kept/old": true, "b/old": true, "a/hidden.tmp": false, "a/link": true, "a/dirlink": true, "a": true} {
		if _, err := os.Lstat(filepath.Join(home, f)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", f, err, want)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error("a file behind a link was removed") // SYM-2
	}
	until(t, "the counters moved", func() bool {
		return strings.Contains(root.get("/users/u").Body, `"used_quota_size":15,"used_quota_files":3`)
	})
	root.get("/connections").want(200).has("[]")
}
