//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// rights are all that an account can have, beside * and those of copy, which SFTP version 3 has no operation for.
var rights = []string{
	"list", "download", "upload", "overwrite", "delete", "delete_files", "delete_dirs", "rename", "rename_files", "rename_dirs",
	"create_dirs", "create_symlinks", "chmod", "chown", "chtimes", "copy",
}

// operation is one row of the matrix: what it needs by permissions-and-filters.md 1 and 2. Each element of needs
// is a choice: one of its rights is enough.
type operation struct {
	name  string
	needs [][]string
	do    func(c *sftp.Client, dir string) error
}

var operations = []operation{
	{"list", [][]string{{"list"}}, func(c *sftp.Client, d string) error { _, err := c.ReadDir(d); return err }},
	{"stat", [][]string{{"list"}}, func(c *sftp.Client, d string) error { _, err := c.Stat(d + "/file"); return err }},
	{"lstat", [][]string{{"list"}}, func(c *sftp.Client, d string) error { _, err := c.Lstat(d + "/link"); return err }},
	{"readlink", [][]string{{"list"}}, func(c *sftp.Client, d string) error { _, err := c.ReadLink(d + "/link"); return err }},
	{"download", [][]string{{"download"}}, func(c *sftp.Client, d string) error {
		f, err := c.Open(d + "/file")
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.ReadAll(f)
		return err
	}},
	{"upload", [][]string{{"upload"}}, func(c *sftp.Client, d string) error {
		return put(c, d+"/new", []byte("x"), os.O_CREATE|os.O_TRUNC)
	}},
	{"upload exclusively", [][]string{{"upload"}}, func(c *sftp.Client, d string) error {
		return put(c, d+"/new", []byte("x"), os.O_CREATE|os.O_EXCL)
	}},
	{"overwrite", [][]string{{"overwrite"}}, func(c *sftp.Client, d string) error {
		return put(c, d+"/file", []byte("x"), os.O_CREATE|os.O_TRUNC)
	}},
	{"append", [][]string{{"overwrite"}}, func(c *sftp.Client, d string) error {
		return put(c, d+"/file", []byte("x"), os.O_APPEND)
	}},
	{"truncate", [][]string{{"overwrite"}}, func(c *sftp.Client, d string) error { return c.Truncate(d+"/file", 2) }},
	{"delete a file", [][]string{{"delete", "delete_files"}}, func(c *sftp.Client, d string) error { return removeFile(c, d+"/file") }},
	{"delete a link", [][]string{{"delete", "delete_files"}}, func(c *sftp.Client, d string) error { return removeFile(c, d+"/link") }},
	{"delete a directory", [][]string{{"delete", "delete_dirs"}}, func(c *sftp.Client, d string) error { return c.RemoveDirectory(d + "/empty") }},
	{"rename a file", [][]string{{"rename", "rename_files"}}, func(c *sftp.Client, d string) error { return c.Rename(d+"/file", d+"/new") }},
	{"posix-rename a file", [][]string{{"rename", "rename_files"}}, func(c *sftp.Client, d string) error { return c.PosixRename(d+"/file", d+"/new") }},
	{"rename a link", [][]string{{"rename", "rename_files"}}, func(c *sftp.Client, d string) error { return c.Rename(d+"/link", d+"/new") }},
	{"rename onto a file", [][]string{{"rename", "rename_files"}, {"overwrite"}}, func(c *sftp.Client, d string) error {
		return c.PosixRename(d+"/file", d+"/other")
	}},
	{"rename a directory", [][]string{{"rename", "rename_dirs"}}, func(c *sftp.Client, d string) error { return c.Rename(d+"/empty", d+"/new") }},
	{"mkdir", [][]string{{"create_dirs"}}, func(c *sftp.Client, d string) error { return c.Mkdir(d + "/new") }},
	{"symlink", [][]string{{"create_symlinks"}}, func(c *sftp.Client, d string) error { return c.Symlink("file", d+"/new") }},
	{"chmod", [][]string{{"chmod"}}, func(c *sftp.Client, d string) error { return c.Chmod(d+"/file", 0o600) }},
	{"chown", [][]string{{"chown"}}, func(c *sftp.Client, d string) error { return c.Chown(d+"/file", os.Getuid(), os.Getgid()) }},
	{"chtimes", [][]string{{"chtimes"}}, func(c *sftp.Client, d string) error {
		return c.Chtimes(d+"/file", time.Unix(1e9, 0), time.Unix(1e9, 0))
	}},
}

// removeFile sends REMOVE alone: the client's Remove tries RMDIR too.
func removeFile(c *sftp.Client, name string) error {
	err := c.Remove(name)
	if errors.Is(err, fs.ErrPermission) || err == nil {
		return err
	}
	return err
}

// fixture fills a directory for the operations.
func fixture(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"file", "other"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
}

// snapshot describes a tree, to see whether anything changed.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		data := []byte{}
		if info.Mode().IsRegular() {
			data, _ = os.ReadFile(p)
		}
		mtime := int64(0)
		if !info.IsDir() {
			mtime = info.ModTime().UnixNano()
		}
		fmt.Fprintf(&b, "%s %v %d %q\n", strings.TrimPrefix(p, dir), info.Mode(), mtime, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// places are where the rights of a test stand, and the directory that they are about: the nearest entry counts
// alone, a key may be a glob, an entry on a directory governs what is inside.
var places = []struct {
	name, dir string
	perms     func(list []string) map[string][]string
}{
	{"root", "", func(l []string) map[string][]string { return map[string][]string{"/": l} }},
	{"nearest", "/a/b", func(l []string) map[string][]string {
		return map[string][]string{"/": {"*"}, "/a": {}, "/a/b": l}
	}},
	{"inherited", "/a/b/c", func(l []string) map[string][]string {
		return map[string][]string{"/": {"*"}, "/a/b": l, "/a/b/x": {"*"}, "/a/bb": {"*"}}
	}},
	{"glob", "/g1/x", func(l []string) map[string][]string {
		return map[string][]string{"/": {"*"}, "/g*": {"*"}, "/g?/x": l, "/g1/xx": {"*"}}
	}},
}

// TestPermissionMatrix: every operation with exactly the rights that it needs works; without one of them, but with all
// others, it is refused with PERMISSION_DENIED and changes nothing. PATH-4.
func TestPermissionMatrix(t *testing.T) {
	type test struct {
		user  string
		op    operation
		dir   string
		home  string
		allow bool
	}
	base := t.TempDir()
	d := &account.Dump{}
	var tests []test
	add := func(op operation, place int, list []string, allow bool) {
		name := fmt.Sprintf("u%d", len(tests))
		home := filepath.Join(base, name)
		u := newUser(name, home)
		// The rights above the place do not matter, except that a user needs list somewhere to be anybody.
		u.Permissions = places[place].perms(list)
		if len(u.Permissions["/"]) == 0 {
			u.Permissions["/"] = []string{"copy"}
		}
		d.Users = append(d.Users, u)
		tests = append(tests, test{name, op, places[place].dir, home, allow})
		fixture(t, filepath.Join(home, places[place].dir))
	}
	for place := range places {
		for _, op := range operations {
			choices := [][]string{{}}
			for _, need := range op.needs { // every combination of the choices
				var next [][]string
				for _, c := range choices {
					for _, r := range need {
						next = append(next, append(slices.Clone(c), r))
					}
				}
				choices = next
			}
			for _, c := range choices {
				add(op, place, c, true)
			}
			add(op, place, []string{"*"}, true)
			for _, need := range op.needs {
				add(op, place, slices.DeleteFunc(slices.Clone(rights), func(r string) bool { return slices.Contains(need, r) }), false)
			}
		}
	}
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: d})
	for _, tt := range tests {
		rootDir := filepath.Join(tt.home, tt.dir)
		before := snapshot(t, rootDir)
		c, conn := clientOf(t, s, tt.user)
		err := tt.op.do(c, path.Clean("/"+tt.dir))
		conn.Close()
		what := fmt.Sprintf("%s in %q with %v", tt.op.name, tt.dir, permsOf(d, tt.user))
		switch {
		case tt.allow && err != nil:
			t.Errorf("%s: %v", what, err)
		case !tt.allow && !errors.Is(err, fs.ErrPermission):
			t.Errorf("%s: %v, want permission denied", what, err)
		case !tt.allow && snapshot(t, rootDir) != before:
			t.Errorf("%s was refused but changed the tree:\n%s\nbefore\n%s", what, snapshot(t, rootDir), before)
		}
	}
	t.Logf("%d operations", len(tests))
}

func permsOf(d *account.Dump, user string) map[string][]string {
	for _, u := range d.Users {
		if u.Username == user {
			return u.Permissions
		}
	}
	return nil
}

// TestPatternMatrix: permissions-and-filters.md 3.
func TestPatternMatrix(t *testing.T) {
	home := t.TempDir()
	u := newUser("p", home)
	u.Filters.FilePatterns = []account.PatternsFilter{
		{Path: "/show", DeniedPatterns: []string{"*.exe"}},
		{Path: "/hide", DeniedPatterns: []string{"*.exe"}, DenyPolicy: 1},
		{Path: "/only", AllowedPatterns: []string{"*.txt"}},
		{Path: "/only/free", AllowedPatterns: []string{"*"}},
	}
	for _, dir := range []string{"show", "show/sub", "hide", "hide/sub", "hide/dir.exe", "only", "only/sub.txt", "only/free"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"a.exe", "A.EXE", "a.txt", "B.TXT", "c.bin"} {
			gantrytest.WriteFile(t, filepath.Join(home, dir, f), f)
		}
	}
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: &account.Dump{Users: []account.User{u}}})
	c := client(t, s, "p")

	const ok, denied, missing = "ok", "denied", "not found"
	for _, tt := range []struct{ op, name, want string }{
		{"stat", "/show/a.exe", ok}, {"stat", "/show/sub/A.EXE", ok}, {"stat", "/hide/a.exe", missing}, {"stat", "/hide/sub/A.EXE", missing},
		{"stat", "/hide/dir.exe", missing}, {"stat", "/hide/dir.exe/a.txt", missing}, {"stat", "/hide/a.txt", ok},
		{"read", "/show/a.exe", denied}, {"read", "/show/A.EXE", denied}, {"read", "/show/sub/a.exe", denied}, {"read", "/show/a.txt", ok},
		{"read", "/hide/a.exe", missing}, {"read", "/hide/sub/A.EXE", missing}, {"read", "/hide/dir.exe/a.txt", missing}, {"read", "/hide/c.bin", ok},
		{"read", "/only/a.txt", ok}, {"read", "/only/B.TXT", ok}, {"read", "/only/c.bin", denied}, {"read", "/only/sub.txt/c.bin", denied}, {"read", "/only/free/c.bin", ok},
		{"write", "/show/n.exe", denied}, {"write", "/show/a.exe", denied}, {"write", "/show/n.txt", ok}, {"write", "/hide/n.exe", denied},
		{"write", "/hide/a.exe", denied}, {"write", "/only/n.bin", denied}, {"write", "/only/n.txt", ok}, {"write", "/only/free/n.bin", ok},
		{"mkdir", "/show/n2.exe", denied}, {"mkdir", "/hide/n2.exe", denied}, {"mkdir", "/only/n2", denied}, {"mkdir", "/only/n2.txt", ok}, {"mkdir", "/show/n2", ok},
		{"rename to", "/show/m.exe", denied}, {"rename to", "/hide/m.exe", denied}, {"rename to", "/only/m.bin", denied}, {"rename to", "/only/m.txt", ok},
		{"rename from", "/show/a.exe", denied}, {"rename from", "/hide/a.exe", denied}, {"rename from", "/show/c.bin", ok},
		{"remove", "/show/a.exe", denied}, {"remove", "/hide/a.exe", missing}, {"remove", "/only/c.bin", denied}, {"remove", "/only/a.txt", ok},
		{"truncate", "/show/A.EXE", denied}, {"truncate", "/hide/A.EXE", missing}, {"chmod", "/hide/A.EXE", missing},
	} {
		gantrytest.WriteFile(t, filepath.Join(home, "free"), "free")
		before := snapshot(t, home)
		var err error
		switch tt.op {
		case "stat":
			_, err = c.Stat(tt.name)
		case "read":
			var f *sftp.File
			if f, err = c.Open(tt.name); err == nil {
				_, err = io.ReadAll(f)
				f.Close()
			}
		case "write":
			err = put(c, tt.name, []byte("x"), os.O_CREATE|os.O_TRUNC)
		case "mkdir":
			err = c.Mkdir(tt.name)
		case "rename to":
			err = c.PosixRename("/free", tt.name)
		case "rename from":
			err = c.PosixRename(tt.name, "/renamed")
		case "remove":
			err = c.Remove(tt.name)
		case "truncate":
			err = c.Truncate(tt.name, 1)
		case "chmod":
			err = c.Chmod(tt.name, 0o600)
		}
		got := ok
		switch {
		case errors.Is(err, fs.ErrPermission):
			got = denied
		case errors.Is(err, fs.ErrNotExist):
			got = missing
		case err != nil:
			got = err.Error()
		}
		if got != tt.want {
			// The reference gives "denied" for a rename and "not found" for what is hidden: both keep the file.
			if tt.op == "rename from" && tt.want == denied && got == missing {
				continue
			}
			t.Errorf("%s %s: %s, want %s", tt.op, tt.name, got, tt.want)
		}
		if got != ok && snapshot(t, home) != before {
			t.Errorf("%s %s was refused but changed something", tt.op, tt.name)
		}
	}
	for dir, want := range map[string]bool{"/show": true, "/hide": false, "/hide/sub": false} {
		list, err := c.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		seen := slices.ContainsFunc(list, func(f fs.FileInfo) bool { return strings.HasSuffix(strings.ToLower(f.Name()), ".exe") })
		if seen != want {
			t.Errorf("a denied name in the listing of %s: %v, want %v", dir, seen, want)
		}
	}
}

// TestQuotaMatrix: permissions-and-filters.md 5, for the user's own storage and a folder with its own limits.
func TestQuotaMatrix(t *testing.T) { // QUO-1, QUO-2
	home, shared := t.TempDir(), t.TempDir()
	u := newUser("q", home)
	u.QuotaFiles, u.QuotaSize = 4, 100_000
	u.VirtualFolders = []account.VirtualFolder{{VirtualPath: "/shared", QuotaFiles: 2, QuotaSize: 50_000}}
	u.VirtualFolders[0].Name = "shared"
	folder := account.Folder{Name: "shared", MappedPath: shared}
	for mode := range 3 {
		t.Run(fmt.Sprintf("mode %d", mode), func(t *testing.T) {
			for _, d := range []string{home, shared} {
				os.RemoveAll(d)
				os.MkdirAll(d, 0o755)
			}
			s := gantrytest.Start(t, gantrytest.Options{
				Bin: bin, Dump: &account.Dump{Users: []account.User{u}, Folders: []account.Folder{folder}}, Config: fmt.Sprintf(`{"common":{"upload_mode":%d}}`, mode),
			})
			c := client(t, s, "q")
			kb := func(n int) []byte { return make([]byte, n*1000) }
			const trunc = os.O_CREATE | os.O_TRUNC
			steps := []struct {
				name string
				do   func() error
				ok   bool
			}{
				{"first", func() error { return put(c, "/a", kb(40), trunc) }, true},
				{"second", func() error { return put(c, "/b", kb(40), trunc) }, true},
				{"larger than what is left", func() error { return put(c, "/big", kb(30), trunc) }, false},
				{"exactly what is left", func() error { return put(c, "/c", kb(20), trunc) }, true},
				{"one byte more", func() error { return put(c, "/d", []byte{1}, trunc) }, false},
				{"an overwrite at the limit", func() error { return put(c, "/a", kb(30), trunc) }, false},
				{"remove", func() error { return c.Remove("/b") }, true},
				{"an overwrite with room", func() error { return put(c, "/a", kb(30), trunc) }, true},
				{"an overwrite that grows too much", func() error { return put(c, "/a", kb(90), trunc) }, false},
				{"what the cut left is removed", func() error {
					if err := c.Remove("/a"); err != nil && !errors.Is(err, fs.ErrNotExist) {
						return err
					}
					return nil
				}, true},
				{"small ones", func() error {
					return errors.Join(put(c, "/e", kb(1), trunc), put(c, "/f", kb(1), trunc), put(c, "/g", kb(1), trunc))
				}, true},
				{"one file too many", func() error { return put(c, "/h", nil, trunc) }, false},
				{"into the folder", func() error { return put(c, "/shared/a", kb(10), trunc) }, true},
				{"more than the folder's bytes", func() error { return put(c, "/shared/b", kb(41), trunc) }, false},
				{"rename into the folder", func() error { return c.PosixRename("/e", "/shared/e") }, true},
				{"rename into the full folder", func() error { return c.PosixRename("/f", "/shared/f") }, false},
				{"onto a file of the folder", func() error { return c.PosixRename("/f", "/shared/e") }, true},
				{"rename out", func() error { return c.PosixRename("/shared/a", "/a") }, true},
			}
			for _, st := range steps {
				err := st.do()
				if (err == nil) != st.ok {
					t.Errorf("%s: %v", st.name, err)
				}
				files, size := onDisk(t, home)
				ffiles, fsize := onDisk(t, shared)
				if files > u.QuotaFiles || size > u.QuotaSize || ffiles > 2 || fsize > 50_000 {
					t.Errorf("after %s the disk holds %d files and %d bytes, the folder %d and %d: over the limit", st.name, files, size, ffiles, fsize)
				}
			}
			c.Close()
			if code := s.Stop(syscall.SIGTERM); code != 0 {
				t.Errorf("exit code %d", code)
			}
			d := s.Dump()
			files, size := used(t, d, "q")
			if wantFiles, wantSize := onDisk(t, home); files != wantFiles || size != wantSize {
				t.Errorf("the user is charged %d files and %d bytes, the disk holds %d and %d", files, size, wantFiles, wantSize)
			}
			wantFiles, wantSize := onDisk(t, shared)
			if f := d.Folders[0]; f.UsedQuotaFiles != wantFiles || f.UsedQuotaSize != wantSize {
				t.Errorf("the folder is charged %d files and %d bytes, the disk holds %d and %d", f.UsedQuotaFiles, f.UsedQuotaSize, wantFiles, wantSize)
			}
		})
	}
}
