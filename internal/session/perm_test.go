package session

import (
	"slices"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
	"pgregory.net/rapid"
)

func mustPath(t testing.TB, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNearestPermissionEntryWinsEntirely(t *testing.T) {
	table, err := newPermTable(map[string][]string{
		"/":           {"*"},
		"/a":          {"list"},
		"/a/b":        {},
		"/a/*":        {"download"},
		"/a/x*":       {"upload"},
		"/a/xy*":      {"delete"},
		"/a/?z":       {"rename"},
		"/a/[q]z":     {"copy"},
		"/*/deep/er":  {"chmod"},
		"/home/*/pub": {"list", "download"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir  string
		want rights
	}{
		{"/", allRights},
		{"/other", allRights},
		{"/ab", allRights}, // PATH-3: /a is not a prefix of /ab
		{"/a", mayList},
		{"/a/b", 0},
		{"/a/b/c/d", 0},
		{"/a/c", mayDownload},
		{"/a/c/d", mayDownload}, // from the glob one level up
		{"/a/x1", mayUpload},
		{"/a/xyz", mayDelete}, // the most specific glob
		{"/a/1z", mayRename},
		{"/a/qz", mayRename}, // the same weight: the first by name
		{"/z/deep/er", mayChmod},
		{"/z/deep/er/x", mayChmod},
		{"/z/deep", allRights},
		{"/home/ann/pub", mayList | mayDownload},
		{"/home/ann/x/pub", allRights}, // * does not cross a slash
	} {
		if got := table.at(mustPath(t, c.dir)); got != c.want {
			t.Errorf("%s: got %b, want %b", c.dir, got, c.want)
		}
	}
}

func TestPermissionTableRefusesWhatItCannotRead(t *testing.T) {
	for _, m := range []map[string][]string{
		{"/": {"lst"}},
		{"/": {"*"}, "/a[": {"list"}},
		{"/": {"*"}, "/a": {"list"}, "/a/": {}},
	} {
		if _, err := newPermTable(m); err == nil {
			t.Errorf("%v was taken", m)
		}
	}
}

func TestRestrictedEntriesBelowAreFound(t *testing.T) {
	table, _ := newPermTable(map[string][]string{"/": {"*"}, "/a/b": {"list"}, "/c/*/d": {"list"}, "/e": {"*"}})
	for p, want := range map[string]bool{"/a": true, "/a/b": true, "/a/b/c": false, "/c": true, "/c/x": true, "/c/x/d": true, "/c/x/e": false, "/e": false, "/f": false} {
		if got := table.restrictedWithin(mustPath(t, p)); got != want {
			t.Errorf("%s: got %v, want %v", p, got, want)
		}
	}
}

// The lookup agrees with a model that tries every key at every level.
func TestPermissionLookupAgainstModel(t *testing.T) {
	names := []string{"a", "b", "ab", "*", "a*", "?", "[ab]"}
	rapid.Check(t, func(rt *rapid.T) {
		perms := map[string][]string{"/": {"list"}}
		for range rapid.IntRange(0, 6).Draw(rt, "keys") {
			key := ""
			for range rapid.IntRange(1, 3).Draw(rt, "depth") {
				key += "/" + rapid.SampledFrom(names).Draw(rt, "name")
			}
			perms[key] = []string{rapid.SampledFrom([]string{"upload", "download", "delete", "copy"}).Draw(rt, "right")}
		}
		table, err := newPermTable(perms)
		if err != nil {
			rt.Fatal(err)
		}
		dir := ""
		for range rapid.IntRange(0, 4).Draw(rt, "levels") {
			dir += "/" + rapid.SampledFrom([]string{"a", "b", "ab", "c"}).Draw(rt, "dir")
		}
		p, _ := vfs.ParsePath(dir)
		got, want := table.at(p), modelRights(perms, dir)
		if !slices.Contains(want, got) {
			rt.Fatalf("%v at %q: got %b, want one of %b", perms, dir, got, want)
		}
		if again := table.at(p); again != got {
			rt.Fatalf("not the same twice")
		}
	})
}

// modelRights are the rights that may be meant: all matching globs of the nearest level, an exact key alone.
func modelRights(perms map[string][]string, dir string) []rights {
	for {
		key := dir
		if key == "" {
			key = "/"
		}
		if list, ok := perms[key]; ok {
			return []rights{rightOf[list[0]]}
		}
		var found []rights
		for k, list := range perms {
			if modelMatch(k, dir) {
				found = append(found, rightOf[list[0]])
			}
		}
		if len(found) > 0 {
			return found
		}
		dir = dir[:strings.LastIndex(dir, "/")]
	}
}

func modelMatch(glob, dir string) bool {
	g, d := strings.Split(glob, "/"), strings.Split(dir, "/")
	if len(g) != len(d) {
		return false
	}
	for i := range g {
		ok := g[i] == d[i]
		switch g[i] {
		case "*":
			ok = true
		case "?":
			ok = len(d[i]) == 1
		case "a*":
			ok = strings.HasPrefix(d[i], "a")
		case "[ab]":
			ok = d[i] == "a" || d[i] == "b"
		}
		if !ok {
			return false
		}
	}
	return true
}

func TestFilePatterns(t *testing.T) {
	table, err := newPatternTable([]account.PatternsFilter{
		{Path: "/", DeniedPatterns: []string{"*.EXE"}},
		{Path: "/pics", AllowedPatterns: []string{"*.jpg", "*.png"}},
		{Path: "/hide", DeniedPatterns: []string{"secret*"}, DenyPolicy: 1},
		{Path: "/both", AllowedPatterns: []string{"*.txt"}, DeniedPatterns: []string{"a*"}},
		{Path: "/teams", AllowedPatterns: []string{"red"}, DeniedPatterns: []string{"*"}, DenyPolicy: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]verdict{
		"/a.exe":               denied,
		"/A.Exe":               denied, // case does not matter
		"/d/e/a.exe":           denied, // from above
		"/a.txt":               allowed,
		"/pics/a.jpg":          allowed,
		"/pics/a.exe":          denied,
		"/pics/sub/a.gif":      denied,
		"/hide/x.exe":          allowed, // the nearest entry rules alone
		"/hide/Secret1":        hidden,
		"/hide/secret/x":       hidden, // all below what is hidden
		"/hide/d/secret":       hidden,
		"/both/ab.txt":         allowed, // allowed wins over denied
		"/both/ab":             denied,
		"/both/b":              denied, // there is an allowed list
		"/teams/red":           allowed,
		"/teams/blue":          hidden,
		"/teams/blue/x":        hidden,
		"/teams/red/any/thing": allowed, // an entry that lets names through filters no deeper
		"/":                    allowed,
	} {
		if got := table.judge(mustPath(t, p)); got != want {
			t.Errorf("%s: got %v, want %v", p, got, want)
		}
	}
	if _, err := newPatternTable([]account.PatternsFilter{{Path: "/", DeniedPatterns: []string{"[a"}}}); err == nil {
		t.Error("a bad glob was taken")
	}
}

func FuzzPermissionKeys(f *testing.F) {
	for _, s := range []string{"/a", "/*/b", "/[a-z]/?", `\a\*`, "/a//b/..", "/[", "/é*"} {
		f.Add(s, "/a/b")
	}
	f.Fuzz(func(t *testing.T, key, dir string) {
		table, err := newPermTable(map[string][]string{"/": {"list"}, key: {}})
		if err != nil {
			return
		}
		p, err := vfs.ParsePath(dir)
		if err != nil {
			return
		}
		if got := table.at(p); got != mayList && got != 0 {
			t.Errorf("%q at %q: got %b", key, dir, got)
		}
		table.restrictedWithin(p)
	})
}
