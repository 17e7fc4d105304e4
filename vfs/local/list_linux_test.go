package local

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/gantryhq/gantry/vfs"
)

func TestAListingCostsOneAllocationAnEntry(t *testing.T) {
	root := t.TempDir()
	const n = 2000
	for i := range n {
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprint("file-", i)), nil, 0o644))
	}
	f := open(t, root, Options{})
	seen := 0
	got := testing.AllocsPerRun(5, func() {
		seen = 0
		for _, err := range f.List(ctx, vfs.Root) {
			must(t, err)
			seen++
		}
	})
	if seen != n || got > n+20 {
		t.Errorf("%d entries, %v allocations", seen, got)
	}
}

func BenchmarkList(b *testing.B) {
	const n = 10_000
	root := b.TempDir()
	for i := range n {
		must(b, os.WriteFile(filepath.Join(root, fmt.Sprint("file-", i)), nil, 0o644))
	}
	list := func(o Options) func(b *testing.B) {
		return func(b *testing.B) {
			f := open(b, root, o)
			b.ReportAllocs()
			for b.Loop() {
				seen := 0
				for range f.List(ctx, vfs.Root) {
					seen++
				}
				if seen != n {
					b.Fatal(seen)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
		}
	}
	b.Run("system", list(Options{}))
	b.Run("os.Root", list(Options{Portable: true}))
	b.Run("names only", func(b *testing.B) { // what ls -f does
		for b.Loop() {
			d, err := os.Open(root)
			must(b, err)
			_, err = d.Readdirnames(-1)
			must(b, err)
			d.Close()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
	})
}

func BenchmarkVerbs(b *testing.B) {
	f := open(b, b.TempDir(), Options{})
	deep := vfs.Root
	for _, n := range []string{"a", "b", "c", "d"} {
		deep, _ = deep.Child(n)
		must(b, f.Mkdir(ctx, deep, vfs.Attr{}))
	}
	file, _ := deep.Child("f")
	put(b, f, file.String(), "x")
	b.Run("stat", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = f.Stat(ctx, file)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h, _ := f.Open(ctx, file)
			h.Close()
		}
	})
	for _, atomic := range []bool{false, true} {
		b.Run(fmt.Sprint("overwrite/atomic=", atomic), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				u, _ := f.Create(ctx, file, vfs.OpenMode{Truncate: true, Atomic: atomic})
				_, _ = u.WriteAt([]byte("x"), 0)
				_, _ = u.Commit(ctx)
			}
		})
	}
}
