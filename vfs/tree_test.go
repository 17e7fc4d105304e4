package vfs_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
)

func path(t interface{ Fatal(...any) }, s string) vfs.Path {
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTreeResolvesToTheDeepestMount(t *testing.T) {
	home, one, two := mem.New(mem.Options{}), mem.New(mem.Options{}), mem.New(mem.Options{})
	tree, err := vfs.NewTree(home, []vfs.Mount{
		{Path: path(t, "/m"), FS: one},
		{Path: path(t, "/m/in/deep"), FS: two, Base: path(t, "/sub/path")},
		{Path: path(t, "/x/y/z"), FS: one},
		{Path: path(t, "/mm"), FS: two},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at             string
		fs             vfs.FS
		inner          string
		index          int
		isMount, leads bool
	}{
		{"/", home, "/", -1, false, true},
		{"/a", home, "/a", -1, false, false},
		{"/m", one, "/", 0, true, true},
		{"/m/a/b", one, "/a/b", 0, false, false},
		{"/m/in", one, "/in", 0, false, true},
		{"/m/in/deeper", one, "/in/deeper", 0, false, false}, // PATH-3
		{"/m/in/deep", two, "/sub/path", 1, true, false},
		{"/m/in/deep/f", two, "/sub/path/f", 1, false, false},
		{"/x", home, "/x", -1, false, true},
		{"/x/y", home, "/x/y", -1, false, true},
		{"/x/y/z/f", one, "/f", 2, false, false},
		{"/mm/f", two, "/f", 3, false, false},
		{"/mmm", home, "/mmm", -1, false, false},
	} {
		r := tree.Resolve(path(t, c.at))
		if r.FS != c.fs || r.Path != path(t, c.inner) || r.Index != c.index || r.IsMount != c.isMount || r.LeadsToMount != c.leads {
			t.Errorf("%s: got %s of %d, mount %v, leads %v; want %s of %d, %v, %v", c.at, r.Path, r.Index, r.IsMount, r.LeadsToMount, c.inner, c.index, c.isMount, c.leads)
		}
		if got := tree.IsVirtual(path(t, c.at)); got != (c.isMount || c.leads) {
			t.Errorf("%s: virtual %v", c.at, got)
		}
		if v, ok := tree.Virtual(r.Index, r.Path); !ok || v != path(t, c.at) {
			t.Errorf("%s: the way back is %s, %v", c.at, v, ok)
		}
	}
	for dir, want := range map[string][]string{
		"/": {"m", "mm", "x"}, "/m": {"in"}, "/m/in": {"deep"}, "/x": {"y"}, "/x/y": {"z"}, "/x/y/z": nil, "/mm": nil,
	} {
		if got := tree.Children(path(t, dir)); !slices.Equal(got, want) {
			t.Errorf("children of %s: %q, want %q", dir, got, want)
		}
	}
	if !tree.HasChild(path(t, "/m"), "in") || tree.HasChild(path(t, "/m"), "i") {
		t.Error("HasChild")
	}
	if got := tree.Below(path(t, "/m")); !slices.Equal(got, []int{1}) {
		t.Errorf("below /m: %v", got)
	}
	if got := tree.Below(vfs.Root); len(got) != 4 {
		t.Errorf("below /: %v", got)
	}
	// One storage under two virtual paths.
	if !tree.SameStorage(path(t, "/m/a"), path(t, "/x/y/z/b")) || tree.SameStorage(path(t, "/m/a"), path(t, "/a")) {
		t.Error("SameStorage")
	}
	if _, ok := tree.Virtual(1, path(t, "/elsewhere")); ok {
		t.Error("a path outside the mounted sub-tree has a virtual path")
	}
	if _, ok := tree.Virtual(0, path(t, "/in/deep/f")); ok {
		t.Error("a path that another mount covers has a virtual path")
	}
	var all []vfs.FS
	tree.Each(func(f vfs.FS) bool { all = append(all, f); return true })
	if !slices.Equal(all, []vfs.FS{home, one, two}) {
		t.Errorf("storages: %v", all)
	}
}

func TestTreeMountAtTheRootTakesItsPlace(t *testing.T) {
	home, other := mem.New(mem.Options{}), mem.New(mem.Options{})
	tree, err := vfs.NewTree(home, []vfs.Mount{{Path: vfs.Root, FS: other}})
	if err != nil {
		t.Fatal(err)
	}
	if r := tree.Resolve(path(t, "/a")); r.FS != other || r.Index != 0 {
		t.Fatalf("%+v", r)
	}
	tree.Each(func(f vfs.FS) bool {
		if f == home {
			t.Error("the covered root is in use")
		}
		return true
	})
}

func TestTreeRefusesTwoMountsAtOnePathAndNoStorage(t *testing.T) {
	f := mem.New(mem.Options{})
	if _, err := vfs.NewTree(f, []vfs.Mount{{Path: path(t, "/a"), FS: f}, {Path: path(t, "/a"), FS: f}}); err == nil {
		t.Error("duplicate taken")
	}
	if _, err := vfs.NewTree(f, []vfs.Mount{{Path: path(t, "/a")}}); err == nil {
		t.Error("no storage taken")
	}
	if _, err := vfs.NewTree(nil, nil); err == nil {
		t.Error("no root taken")
	}
}

func TestVirtualDirLooksEmptyAndOld(t *testing.T) {
	i := vfs.VirtualDir("m")
	if !i.IsDir() || i.Size != 0 || !i.ModTime.Equal(time.Unix(0, 0)) || i.Name != "m" {
		t.Fatalf("%+v", i)
	}
}

// PATH-3: against the slow rule "the longest mount path that is an ancestor by whole names".
func TestTreeKeepsTheModelsRule(t *testing.T) {
	name := rapid.SampledFrom([]string{"a", "b", "ab", "a.b"})
	gen := rapid.Custom(func(t *rapid.T) vfs.Path {
		p := vfs.Root
		for _, n := range rapid.SliceOfN(name, 0, 4).Draw(t, "names") {
			p, _ = p.Child(n)
		}
		return p
	})
	home := mem.New(mem.Options{})
	rapid.Check(t, func(t *rapid.T) {
		var mounts []vfs.Mount
		seen := map[vfs.Path]bool{}
		for _, p := range rapid.SliceOfN(gen, 0, 6).Draw(t, "mounts") {
			if !seen[p] {
				seen[p] = true
				mounts = append(mounts, vfs.Mount{Path: p, FS: mem.New(mem.Options{})})
			}
		}
		tree, err := vfs.NewTree(home, mounts)
		if err != nil {
			t.Fatal(err)
		}
		p := gen.Draw(t, "p")
		best, bestDepth, leads := -1, -1, false
		for i, m := range mounts {
			if p.Within(m.Path) && m.Path.Depth() > bestDepth {
				best, bestDepth = i, m.Path.Depth()
			}
			leads = leads || m.Path != p && m.Path.Within(p)
		}
		r := tree.Resolve(p)
		if r.Index != best || r.LeadsToMount != leads {
			t.Fatalf("%s: index %d leads %v, want %d %v", p, r.Index, r.LeadsToMount, best, leads)
		}
		if p != vfs.Root && tree.HasChild(p.Dir(), p.Base()) != tree.IsVirtual(p) {
			t.Fatalf("%s: child and virtual disagree", p)
		}
		if leads != (len(tree.Below(p)) > 0) {
			t.Fatalf("%s: below %v", p, tree.Below(p))
		}
	})
}

func TestTreeResolveDoesNotAllocate(t *testing.T) {
	f := mem.New(mem.Options{})
	tree, _ := vfs.NewTree(f, []vfs.Mount{{Path: path(t, "/m/n"), FS: f}})
	p := path(t, "/m/n/o/p/q")
	if n := testing.AllocsPerRun(100, func() { tree.Resolve(p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
