package nastytest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/local"
	"github.com/gantryhq/gantry/vfs/mem"
)

// hostTakes reports whether the system that runs the test can hold the name at all.
func hostTakes(name string) bool {
	if runtime.GOOS != "windows" {
		return true
	}
	_, err := vfs.Root.Child(name)
	return err == nil
}

// Client is a logged-in peer of one protocol, on a tree with every permission. Its methods send raw as it is.
// An error of any kind is a refusal; the client must go on working after one.
type Client interface {
	// Put writes a file of this content.
	Put(raw, content string) error
	// Get reads a file.
	Get(raw string) (string, error)
	// Remove removes a file.
	Remove(raw string) error
}

// Resolver is a Client whose protocol tells what a name means.
type Resolver interface {
	Resolve(raw string) (string, error)
}

// Options of Run.
type Options struct {
	// Carries says whether the protocol can send the name at all; nil: all of them.
	Carries func(Nasty) bool
	// DotsRefused: names with ".." are refused, not resolved.
	DotsRefused bool
}

// Run sends every name to every backend by the client that serve connects to it, and looks at the storage
// itself for what came of it: exactly the file that the name means, or nothing.
func Run(t *testing.T, o Options, serve func(t *testing.T, f vfs.FS) Client) {
	for _, b := range []struct {
		name string
		open func(root string) (vfs.FS, error)
	}{
		{"local", func(root string) (vfs.FS, error) { return local.New(root, local.Options{}) }},
		{"os.Root", func(root string) (vfs.FS, error) { return local.New(root, local.Options{Portable: true}) }},
		{"mem", func(string) (vfs.FS, error) { return mem.New(mem.Options{}), nil }},
	} {
		t.Run(b.name, func(t *testing.T) {
			dir := t.TempDir()
			root := filepath.Join(dir, "jail")
			for _, d := range []string{"jail", "outside", "jail2"} {
				if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			secret := filepath.Join(dir, "outside", "secret")
			if err := os.WriteFile(secret, []byte("secret"), 0o666); err != nil {
				t.Fatal(err)
			}
			f, err := b.open(root)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			c := serve(t, f)
			n := 0
			for _, x := range Nasties() {
				if o.Carries == nil || o.Carries(x) {
					one(t, o, f, c, x)
					n++
				}
			}
			if n < 300 {
				t.Errorf("%d names were tried, want 300", n)
			}
			if got := strings.Join(walk(t, dir), " "); !strings.HasPrefix(got, "jail jail2 outside outside/secret") || strings.Contains(got, "jail2/") {
				t.Errorf("outside of the root there is now %q", got)
			}
			if b, err := os.ReadFile(secret); string(b) != "secret" || err != nil {
				t.Errorf("the file outside of the root is %q, %v", b, err)
			}
		})
	}
}

// one tries one name.
func one(t *testing.T, o Options, f vfs.FS, c Client, x Nasty) {
	ctx := context.Background()
	want := x.Path
	if o.DotsRefused && x.Dots {
		want = ""
	}
	if r, ok := c.(Resolver); ok {
		got, err := r.Resolve(x.Raw)
		if err != nil && want != "" || err == nil && got != want {
			t.Errorf("%s means %.80q, %v; want %.80q", x, got, err, want)
		}
	}
	var p vfs.Path
	made := false
	if want != "" && want != "/" {
		var err error
		if p, err = vfs.ParsePath(want); err != nil {
			t.Fatalf("%s: %v", x, err)
		}
		made = parents(ctx, f, p.Dir())
	}
	content := "content of " + x.Raw[:min(20, len(x.Raw))]
	err := c.Put(x.Raw, content)
	if want == "" || want == "/" {
		if err == nil {
			t.Errorf("%s was written, want a refusal", x)
		}
		if _, err := c.Get(x.Raw); err == nil {
			t.Errorf("%s was read, want a refusal", x)
		}
		if err := c.Remove(x.Raw); err == nil {
			t.Errorf("%s was removed, want a refusal", x)
		}
		if left := entries(t, f); len(left) > 0 {
			t.Errorf("%s left %q", x, left)
			clean(ctx, f)
		}
		return
	}
	defer clean(ctx, f)
	if err != nil {
		if made && len(want) < 3000 { // the system may have less room than a path of ours
			t.Errorf("%s cannot be written: %v", x, err)
		}
		return
	}
	switch i, err := f.Lstat(ctx, p); {
	case err != nil:
		t.Errorf("%s was written, but not as %.80q: %v", x, want, err)
	case i.Size != int64(len(content)):
		t.Errorf("%s holds %d bytes, want %d", x, i.Size, len(content))
	}
	if files := files(t, f); !slices.Equal(files, []string{want}) {
		t.Errorf("%s made %.200q, want %.80q alone", x, files, want)
	}
	if got, err := c.Get(x.Raw); got != content || err != nil {
		t.Errorf("%s reads %.80q, %v; want %q", x, got, err, content)
	}
	if err := c.Remove(x.Raw); err != nil {
		t.Errorf("%s cannot be removed: %v", x, err)
	}
	if left := files(t, f); len(left) > 0 {
		t.Errorf("%s is removed, and there is still %.200q", x, left)
	}
}

func parents(ctx context.Context, f vfs.FS, dir vfs.Path) bool {
	if dir.IsRoot() {
		return true
	}
	if !parents(ctx, f, dir.Dir()) {
		return false
	}
	err := f.Mkdir(ctx, dir, vfs.Attr{})
	return err == nil || errors.Is(err, fs.ErrExist)
}

// entries are the names in the root.
func entries(t *testing.T, f vfs.FS) (names []string) {
	for i, err := range f.List(context.Background(), vfs.Root) {
		if err != nil {
			t.Error(err)
			continue
		}
		names = append(names, i.Name)
	}
	return names
}

// files are the paths of all files.
func files(t *testing.T, f vfs.FS) []string {
	var out []string
	var visit func(vfs.Path)
	visit = func(dir vfs.Path) {
		for i, err := range f.List(context.Background(), dir) {
			if err != nil {
				t.Error(err)
				continue
			}
			p, err := dir.Child(i.Name)
			if err != nil {
				t.Error(err)
				continue
			}
			if i.IsDir() {
				visit(p)
			} else {
				out = append(out, p.String())
			}
		}
	}
	visit(vfs.Root)
	return out
}

// clean empties the tree.
func clean(ctx context.Context, f vfs.FS) {
	var empty func(vfs.Path)
	empty = func(dir vfs.Path) {
		var list []vfs.FileInfo
		for i, err := range f.List(ctx, dir) {
			if err == nil {
				list = append(list, i)
			}
		}
		for _, i := range list {
			if p, err := dir.Child(i.Name); err == nil {
				if i.IsDir() {
					empty(p)
				}
				f.Remove(ctx, p)
			}
		}
	}
	empty(vfs.Root)
}

// walk lists a directory of the system.
func walk(t *testing.T, dir string) (names []string) {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if p != dir {
			rel, _ := filepath.Rel(dir, p)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return names
}
