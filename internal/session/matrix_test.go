package session_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
)

// everyRight is each permission but "*".
var everyRight = strings.Fields("list download upload overwrite delete delete_files delete_dirs rename rename_files rename_dirs create_dirs create_symlinks chmod chown chtimes copy")

// rule is the reference model's row: an operation is allowed if, of each group, one right is held in the
// directory of that end, and more (if any) agrees.
type rule struct {
	name     string
	do       func(t testing.TB, s *session.Session) error
	src, dst []string // groups, alternatives split by "|"
	more     func(src, dst []string) bool
}

// The model's tree: /src and /dst have rights of their own. /src holds a file, an empty and a full
// directory and a link to the file; /dst a file and a link to it. What is in the full directory has the
// rights of /src too.
var rules = []rule{
	{"stat", func(t testing.TB, s *session.Session) error {
		_, err := s.Stat(ctx, path(t, "/src/file"))
		return err
	}, []string{"list"}, nil, nil},
	{"lstat a link", func(t testing.TB, s *session.Session) error {
		_, err := s.Lstat(ctx, path(t, "/src/link"))
		return err
	}, []string{"list"}, nil, nil},
	{"readlink", func(t testing.TB, s *session.Session) error {
		_, err := s.Readlink(ctx, path(t, "/src/link"))
		return err
	}, []string{"list"}, nil, nil},
	{"list", func(t testing.TB, s *session.Session) error {
		_, err := names(s, path(t, "/src"))
		return err
	}, []string{"list"}, nil, nil},
	{"download", func(t testing.TB, s *session.Session) error {
		_, err := get(s, path(t, "/src/file"))
		return err
	}, []string{"download"}, nil, nil},
	{"hash", func(t testing.TB, s *session.Session) error {
		_, err := s.Hash(ctx, path(t, "/src/file"), "md5", 0, 0)
		return err
	}, []string{"download"}, nil, nil},
	{"statfs", func(t testing.TB, s *session.Session) error {
		_, err := s.StatFS(ctx, path(t, "/src/file"))
		return err
	}, []string{"list"}, nil, nil},
	{"upload new", func(t testing.TB, s *session.Session) error { return put(s, path(t, "/src/new"), "x") }, []string{"upload"}, nil, nil},
	{"overwrite", func(t testing.TB, s *session.Session) error { return put(s, path(t, "/src/file"), "x") }, []string{"overwrite"}, nil, nil},
	{"resume", func(t testing.TB, s *session.Session) error {
		h, err := s.OpenFile(ctx, path(t, "/src/file"), session.Flags{Write: true})
		if err != nil {
			return err
		}
		return h.Close(ctx)
	}, []string{"overwrite"}, nil, nil},
	{"write through a link", func(t testing.TB, s *session.Session) error { return put(s, path(t, "/src/link"), "x") }, []string{"upload"}, nil, nil},
	{"truncate", func(t testing.TB, s *session.Session) error { return s.Truncate(ctx, path(t, "/src/file"), 1) }, []string{"overwrite"}, nil, nil},
	{"mkdir", func(t testing.TB, s *session.Session) error { return s.Mkdir(ctx, path(t, "/src/new"), vfs.Attr{}) }, []string{"create_dirs"}, nil, nil},
	{"remove a file", func(t testing.TB, s *session.Session) error { return s.Remove(ctx, path(t, "/src/file")) }, []string{"delete|delete_files"}, nil, nil},
	{"remove a link", func(t testing.TB, s *session.Session) error { return s.Remove(ctx, path(t, "/src/link")) }, []string{"delete|delete_files"}, nil, nil},
	{"rmdir", func(t testing.TB, s *session.Session) error { return s.Rmdir(ctx, path(t, "/src/empty")) }, []string{"delete|delete_dirs"}, nil, nil},
	{"remove a tree", func(t testing.TB, s *session.Session) error { return s.RemoveAll(ctx, path(t, "/src/full")) }, []string{"delete|delete_dirs", "delete|delete_files"}, nil, nil},
	{"chmod", func(t testing.TB, s *session.Session) error {
		return s.SetAttr(ctx, path(t, "/src/file"), vfs.Attr{Set: vfs.AttrMode, Mode: 0o600}, true)
	}, []string{"chmod"}, nil, nil},
	{"chown", func(t testing.TB, s *session.Session) error {
		return s.SetAttr(ctx, path(t, "/src/file"), vfs.Attr{Set: vfs.AttrOwner, UID: 3, GID: 3}, true)
	}, []string{"chown"}, nil, nil},
	{"chtimes", func(t testing.TB, s *session.Session) error {
		now := time.Unix(1e9, 0)
		return s.SetAttr(ctx, path(t, "/src/file"), vfs.Attr{Set: vfs.AttrTimes, Atime: now, Mtime: now}, true)
	}, []string{"chtimes"}, nil, nil},
	{"rename a file", rename("/src/file", "/dst/new"), []string{"rename|rename_files"}, []string{"rename|rename_files"}, nil},
	{"rename a link", rename("/src/link", "/dst/new"), []string{"rename|rename_files"}, []string{"rename|rename_files"}, linkLeadsTo},
	{"rename a directory", rename("/src/empty", "/dst/new"), []string{"rename|rename_dirs"}, []string{"rename|rename_dirs"}, nil},
	{"rename a full directory", rename("/src/full", "/dst/new"), []string{"rename|rename_dirs", "rename|rename_files"}, []string{"rename|rename_dirs", "rename|rename_files"}, nil},
	{"rename onto a file", rename("/src/file", "/dst/file"), []string{"rename|rename_files"}, []string{"rename|rename_files", "overwrite"}, nil},
	{"rename onto a link", rename("/src/file", "/dst/link"), []string{"rename|rename_files"}, []string{"rename|rename_files", "overwrite"}, nil},
	{"copy a file", copying("/src/file", "/dst/new"), []string{"copy", "download"}, []string{"copy", "upload"}, nil},
	{"copy onto a file", copying("/src/file", "/dst/file"), []string{"copy", "download"}, []string{"copy", "overwrite"}, nil},
	{"copy a directory", copying("/src/full", "/dst/new"), []string{"copy", "list", "download"}, []string{"copy", "create_dirs", "upload"}, nil},
	{"symlink", func(t testing.TB, s *session.Session) error { return s.Symlink(ctx, "/src/file", path(t, "/dst/new")) },
		[]string{"create_symlinks"}, []string{"create_symlinks"}, holdsAll},
	{"hard link", func(t testing.TB, s *session.Session) error {
		return s.Link(ctx, path(t, "/src/file"), path(t, "/dst/new"))
	}, []string{"create_symlinks", "download", "overwrite"}, []string{"create_symlinks", "upload"}, holdsAll},
}

var ctx = context.Background()

func rename(from, to string) func(testing.TB, *session.Session) error {
	return func(t testing.TB, s *session.Session) error { return s.Rename(ctx, path(t, from), path(t, to), true) }
}

func copying(from, to string) func(testing.TB, *session.Session) error {
	return func(t testing.TB, s *session.Session) error { return s.Copy(ctx, path(t, from), path(t, to), true) }
}

// holdsAll: a link in dst may not give more than src does.
func holdsAll(src, dst []string) bool {
	return !slices.ContainsFunc(dst, func(r string) bool { return !slices.Contains(src, r) })
}

// linkLeadsTo: "link" means "file" beside it, in the new place /dst/file, whose rights are the same.
func linkLeadsTo(src, dst []string) bool { return true }

func (r *rule) allows(src, dst []string) bool {
	held := func(have []string, groups []string) bool {
		for _, g := range groups {
			if !slices.ContainsFunc(strings.Split(g, "|"), func(one string) bool { return slices.Contains(have, one) }) {
				return false
			}
		}
		return true
	}
	return held(src, r.src) && held(dst, r.dst) && (r.more == nil || r.more(src, dst))
}

// PATH-4: every operation, on both its ends, against the model: with each right alone taken away, with each
// alone given beside what is needed, and with random sets.
func TestPermissionMatrix(t *testing.T) {
	for _, r := range rules {
		t.Run(strings.ReplaceAll(r.name, " ", "_"), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, uint64(len(r.name))))
			var pairs [][2][]string
			for _, one := range everyRight {
				pairs = append(pairs, [2][]string{without(one), everyRight}, [2][]string{everyRight, without(one)}, [2][]string{{one}, {one}})
			}
			pairs = append(pairs, [2][]string{everyRight, everyRight}, [2][]string{{}, {}}, [2][]string{minimal(r.src), minimal(r.dst)})
			for range 60 {
				pairs = append(pairs, [2][]string{some(rnd), some(rnd)})
			}
			yes := 0
			for _, p := range pairs {
				want := r.allows(p[0], p[1])
				if want {
					yes++
				}
				checkRule(t, &r, p[0], p[1], want)
			}
			if yes == 0 || yes == len(pairs) {
				t.Errorf("the model allows %d of %d", yes, len(pairs))
			}
		})
	}
}

func checkRule(t *testing.T, r *rule, src, dst []string, want bool) {
	u := sessiontest.User("ann")
	u.Permissions = map[string][]string{"/": {"list"}, "/src": src, "/dst": dst}
	e := sessiontest.New(t, sessiontest.Options{Keep: true}, u)
	defer e.Server.Close(ctx)
	seed(t, e.FS(u.HomeDir))
	before := dump(e.FS(u.HomeDir))
	err := r.do(t, e.Login("ann"))
	switch {
	case want && err != nil:
		t.Fatalf("src %v, dst %v: got %v, want it done", src, dst, err)
	case !want && !errors.Is(err, fs.ErrPermission):
		t.Fatalf("src %v, dst %v: got %v, want permission denied", src, dst, err)
	case !want && r.name != "remove a tree" && r.name != "copy a directory": // these stop where they are refused
		if after := dump(e.FS(u.HomeDir)); after != before {
			t.Fatalf("src %v, dst %v: denied, yet changed\n%s\nto\n%s", src, dst, before, after)
		}
	}
}

func seed(t testing.TB, f vfs.FS) {
	for _, d := range []string{"/src", "/dst", "/src/empty", "/src/full"} {
		if err := f.Mkdir(ctx, path(t, d), vfs.Attr{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"/src/file", "/src/full/x", "/dst/file"} {
		u, err := f.Create(ctx, path(t, p), vfs.OpenMode{})
		if err != nil {
			t.Fatal(err)
		}
		u.WriteAt([]byte(p), 0)
		if _, err := u.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
	l, _ := vfs.As[vfs.Linker](f)
	for _, d := range []string{"/src/link", "/dst/link"} {
		if err := l.Symlink(ctx, "file", path(t, d)); err != nil {
			t.Fatal(err)
		}
	}
}

// dump is a tree as text.
func dump(f vfs.FS) string {
	var b strings.Builder
	var walk func(vfs.Path)
	walk = func(p vfs.Path) {
		for i, err := range f.List(ctx, p) {
			q, _ := p.Child(i.Name)
			fmt.Fprintln(&b, q, i.Mode, i.Size, i.ModTime.UnixNano(), i.UID, err)
			if i.IsDir() {
				walk(q)
			}
		}
	}
	walk(vfs.Root)
	return b.String()
}

func without(one string) []string {
	return slices.DeleteFunc(slices.Clone(everyRight), func(r string) bool { return r == one })
}

// minimal is one right of each group.
func minimal(groups []string) (list []string) {
	for _, g := range groups {
		one, _, _ := strings.Cut(g, "|")
		list = append(list, one)
	}
	return list
}

func some(rnd *rand.Rand) (list []string) {
	for _, r := range everyRight {
		if rnd.IntN(2) == 0 {
			list = append(list, r)
		}
	}
	return list
}
