package vfs

import (
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// Mount puts the sub-tree Base of FS at the virtual path Path. Several mounts may show one FS. Base only
// shifts names: a link inside may lead out of Base, though not out of FS. Where those who use the mount may
// not see the rest, mount what Subber gives instead.
type Mount struct {
	Path Path
	FS   FS
	Base Path // the root of FS unless a sub-path is mounted
}

// Tree is a mount table: which storage a virtual path is on. It knows no permissions and does no input or
// output. Immutable, so safe for concurrent use.
type Tree struct {
	mounts   []Mount // index 0 is the root; the others as given to NewTree
	at       map[Path]int
	children map[Path][]string // names of mount points and of directories that lead to one, sorted
	ids      []string
}

// NewTree makes a mount table of the root storage and of mounts in any order. A mount at "/" takes the
// root's place. Two mounts at one path are an error, and so is a mount without a storage.
func NewTree(root FS, mounts []Mount) (*Tree, error) {
	t := &Tree{
		mounts:   append([]Mount{{FS: root}}, mounts...),
		at:       make(map[Path]int, len(mounts)),
		children: make(map[Path][]string),
		ids:      make([]string, len(mounts)+1),
	}
	for i, m := range t.mounts {
		if i > 0 {
			if _, dup := t.at[m.Path]; dup {
				return nil, fmt.Errorf("two mounts at %q", m.Path)
			}
			t.at[m.Path] = i
			for p := m.Path; !p.IsRoot(); p = p.Dir() {
				t.addChild(p.Dir(), p.Base())
			}
		}
		if m.FS == nil {
			if i == 0 { // allowed if a mount takes its place
				continue
			}
			return nil, fmt.Errorf("mount at %q has no storage", m.Path)
		}
		t.ids[i] = identity(m.FS, i)
	}
	if _, ok := t.at[Root]; !ok {
		if root == nil {
			return nil, fmt.Errorf("no storage for the root")
		}
		t.at[Root] = 0
	}
	return t, nil
}

func (t *Tree) addChild(dir Path, name string) {
	names := t.children[dir]
	if i, found := slices.BinarySearch(names, name); !found {
		t.children[dir] = slices.Insert(names, i, name)
	}
}

// identity is the storage's own, or one that no other storage in the table has.
func identity(f FS, i int) string {
	if d, ok := As[Describer](f); ok {
		if id := d.Describe(Root).Identity; id != "" {
			return id
		}
	}
	return fmt.Sprintf("\x00mount %d", i)
}

// Resolved says where a virtual path is.
type Resolved struct {
	FS   FS
	Path Path // within FS
	// Index is the mount's place in the list given to NewTree, -1 for the root storage.
	Index int
	Mount *Mount // read only; its Path is "/" for the root storage
	// IsMount: the path is where a mount begins (never for the root storage). It cannot be removed, renamed
	// or made.
	IsMount bool
	// LeadsToMount: a mount lies somewhere below the path, which therefore exists as a directory whatever the
	// storage says, and cannot be removed or renamed.
	LeadsToMount bool
}

// Resolve finds the storage of p: the deepest mount that holds it.
func (t *Tree) Resolve(p Path) Resolved {
	for q := p; ; q = q.Dir() {
		i, ok := t.at[q]
		if !ok {
			continue // the root is always there
		}
		m := &t.mounts[i]
		r := Resolved{FS: m.FS, Index: i - 1, Mount: m, IsMount: i > 0 && q == p}
		inner, _ := p.Rel(q)
		if m.Base.IsRoot() {
			r.Path = inner
		} else {
			r.Path = m.Base.Join(inner)
		}
		_, r.LeadsToMount = t.children[p]
		return r
	}
}

// Children are the names in dir that exist because of the table: mount points, and directories that lead
// to one. They are sorted; the slice is read only. Listings show each as VirtualDir, instead of a real
// entry of that name.
func (t *Tree) Children(dir Path) []string { return t.children[dir] }

// HasChild reports whether name is one of dir's Children.
func (t *Tree) HasChild(dir Path, name string) bool {
	_, found := slices.BinarySearch(t.children[dir], name)
	return found
}

// IsVirtual reports whether p exists because of the table: a mount point, or a directory that leads to one.
func (t *Tree) IsVirtual(p Path) bool {
	if _, leads := t.children[p]; leads {
		return true
	}
	i, ok := t.at[p]
	return ok && i > 0
}

// Below yields the indexes, as in Resolved, of the mounts that lie strictly below p.
func (t *Tree) Below(p Path) []int {
	if _, leads := t.children[p]; !leads {
		return nil
	}
	var below []int
	for i, m := range t.mounts[1:] {
		if m.Path != p && m.Path.Within(p) {
			below = append(below, i)
		}
	}
	return below
}

// SameStorage reports whether a and b are on one storage, by its identity: only then can Rename, Link or
// Copy act on both, with either one's FS.
func (t *Tree) SameStorage(a, b Path) bool { return t.Identity(a) == t.Identity(b) }

// Identity is that of the storage of p (Description.Identity), never empty.
func (t *Tree) Identity(p Path) string { return t.ids[t.Resolve(p).Index+1] }

// IdentityAt is that of the storage of a mount index, as in Resolved.
func (t *Tree) IdentityAt(index int) string { return t.ids[index+1] }

// Virtual is the way back: the virtual path of a path in the storage of mount index (as in Resolved), or
// false if the mount does not show it, or if another mount lies over it.
func (t *Tree) Virtual(index int, inner Path) (Path, bool) {
	m := &t.mounts[index+1]
	rel, ok := inner.Rel(m.Base)
	if !ok {
		return Path{}, false
	}
	p := m.Path.Join(rel)
	return p, t.Resolve(p).Index == index
}

// Mounts are the mounts given to NewTree, in that order. The slice is read only.
func (t *Tree) Mounts() []Mount { return t.mounts[1:] }

// Each calls yield for every distinct storage in the table once, the root first, until yield returns false.
func (t *Tree) Each(yield func(FS) bool) {
	var seen []FS
	for i, m := range t.mounts {
		if i == 0 && t.at[Root] != 0 || slices.Contains(seen, m.FS) {
			continue
		}
		seen = append(seen, m.FS)
		if !yield(m.FS) {
			return
		}
	}
}

// VirtualDir is how a mount point, or a directory that leads to one, looks: a directory of size 0, made at
// the epoch.
func VirtualDir(name string) FileInfo {
	return FileInfo{Name: name, Mode: fs.ModeDir | 0o755, ModTime: time.Unix(0, 0), AccessTime: time.Unix(0, 0), Nlink: 2}
}
