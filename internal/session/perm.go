package session

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
)

// rights is a set of permissions. An operation names a set of which any one is enough.
type rights uint32

const (
	mayList rights = 1 << iota
	mayDownload
	mayUpload
	mayOverwrite
	mayDelete
	mayDeleteFiles
	mayDeleteDirs
	mayRename
	mayRenameFiles
	mayRenameDirs
	mayCreateDirs
	mayCreateSymlinks
	mayChmod
	mayChown
	mayChtimes
	mayCopy

	allRights rights = 1<<iota - 1

	anyDeleteFile = mayDelete | mayDeleteFiles
	anyDeleteDir  = mayDelete | mayDeleteDirs
	anyRenameFile = mayRename | mayRenameFiles
	anyRenameDir  = mayRename | mayRenameDirs
)

// rightOf reads the records' names. Read-only.
var rightOf = map[string]rights{
	account.PermAny:            allRights,
	account.PermList:           mayList,
	account.PermDownload:       mayDownload,
	account.PermUpload:         mayUpload,
	account.PermOverwrite:      mayOverwrite,
	account.PermDelete:         mayDelete,
	account.PermDeleteFiles:    mayDeleteFiles,
	account.PermDeleteDirs:     mayDeleteDirs,
	account.PermRename:         mayRename,
	account.PermRenameFiles:    mayRenameFiles,
	account.PermRenameDirs:     mayRenameDirs,
	account.PermCreateDirs:     mayCreateDirs,
	account.PermCreateSymlinks: mayCreateSymlinks,
	account.PermChmod:          mayChmod,
	account.PermChown:          mayChown,
	account.PermChtimes:        mayChtimes,
	account.PermCopy:           mayCopy,
}

// has reports whether one of any is held.
func (r rights) has(any rights) bool { return r&any != 0 }

// holdsRename reports whether a file and a directory may be renamed.
func (r rights) holdsRename() bool { return r.has(anyRenameFile) && r.has(anyRenameDir) }

// permTable is an account's permissions, compiled. The nearest entry on the way up from a directory wins
// entirely; at one level an exact key goes before globs, and among globs the most specific one, then the
// first by name. Immutable.
type permTable struct {
	exact map[vfs.Path]rights
	globs map[int][]globEntry // by depth
	share *Share              // takes away what a share does not give; nil for the account itself
}

type globEntry struct {
	key   string
	parts []string // one glob for each name
	held  rights
}

// newPermTable compiles the records' map. A key or name it cannot read is an error: half a table would
// grant what the other half takes away.
func newPermTable(perms map[string][]string) (*permTable, error) {
	t := &permTable{exact: make(map[vfs.Path]rights, len(perms)), globs: map[int][]globEntry{}}
	for key, names := range perms {
		p, err := vfs.ParseConfigPath(key)
		if err != nil {
			return nil, fmt.Errorf("permissions: %q: %w", key, err)
		}
		var held rights
		for _, name := range names {
			r, ok := rightOf[name]
			if !ok {
				return nil, fmt.Errorf("permissions: %q: unknown permission %q", key, name)
			}
			held |= r
		}
		if _, twice := t.exact[p]; twice {
			return nil, fmt.Errorf("permissions: two entries for %q", p)
		}
		t.exact[p] = held
		if !strings.ContainsAny(key, "*?[") {
			continue
		}
		parts := strings.Split(p.Relative(), "/")
		for _, part := range parts {
			if _, err := path.Match(part, ""); err != nil {
				return nil, fmt.Errorf("permissions: %q: %w", key, err)
			}
		}
		t.globs[len(parts)] = append(t.globs[len(parts)], globEntry{p.String(), parts, held})
	}
	for _, list := range t.globs {
		slices.SortFunc(list, func(a, b globEntry) int {
			if d := specificity(b.key) - specificity(a.key); d != 0 {
				return d
			}
			return strings.Compare(a.key, b.key)
		})
	}
	return t, nil
}

// specificity counts the characters of a glob that stand for themselves; a character class counts less.
func specificity(glob string) int {
	n, class := 0, false
	for _, c := range glob {
		switch {
		case class:
			class = c != ']'
		case c == '[':
			class, n = true, n+1
		case c == '?':
			n++
		case c != '*':
			n += 4
		}
	}
	return n
}

// at is what is held in dir.
func (t *permTable) at(dir vfs.Path) rights {
	if t.share != nil {
		return t.share.confined(dir, t.own(dir))
	}
	return t.own(dir)
}

func (t *permTable) own(dir vfs.Path) rights {
	if len(t.exact) == 1 && len(t.globs) == 0 { // most accounts; a lookup in place of one for each folder above
		if r, ok := t.exact[vfs.Root]; ok {
			return r
		}
	}
	for {
		if r, ok := t.exact[dir]; ok {
			return r
		}
		if len(t.globs) > 0 {
			for _, g := range t.globs[dir.Depth()] {
				if g.leads(dir) {
					return g.held
				}
			}
		}
		if dir.IsRoot() {
			return 0
		}
		dir = dir.Dir()
	}
}

// uniform reports whether one entry rules the whole tree.
func (t *permTable) uniform() bool { return t.share == nil && len(t.exact) == 1 && len(t.globs) == 0 }

// within is what is held everywhere at and below dir.
func (t *permTable) within(dir vfs.Path) rights {
	held := t.at(dir)
	for q, r := range t.exact {
		if q.Within(dir) {
			held &= r
		}
	}
	for depth, list := range t.globs {
		if depth < dir.Depth() {
			continue
		}
		for _, g := range list {
			if g.leads(dir) {
				held &= g.held
			}
		}
	}
	return held
}

// restrictedWithin reports whether an entry other than ["*"] stands at p or may stand below it.
func (t *permTable) restrictedWithin(p vfs.Path) bool {
	if t.share != nil {
		return true
	}
	for q, r := range t.exact {
		if r != allRights && q.Within(p) {
			return true
		}
	}
	for depth, list := range t.globs {
		if depth < p.Depth() {
			continue
		}
		for _, g := range list {
			if g.held != allRights && g.leads(p) {
				return true
			}
		}
	}
	return false
}

// leads reports whether p matches the glob's first names: all of them if p is as deep.
func (g *globEntry) leads(p vfs.Path) bool {
	rest := p.String()[1:]
	for _, part := range g.parts {
		if rest == "" {
			return true
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if ok, _ := path.Match(part, name); !ok {
			return false
		}
	}
	return rest == ""
}
