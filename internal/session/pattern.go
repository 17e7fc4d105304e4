package session

import (
	"fmt"
	"path"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
)

// verdict is what the file patterns say of a name.
type verdict int

const (
	allowed verdict = iota
	denied          // shown, but not to be touched
	hidden          // not there
)

// patternTable is an account's file patterns, compiled. The first entry on the way up from an object's
// directory rules alone. Immutable; nil has no patterns.
type patternTable struct {
	filters map[vfs.Path]*nameFilter
	hides   bool
	only    []vfs.Path // nothing but these and what lies below is there; nil: all is
}

type nameFilter struct {
	allowed, denied []string // lower case
	hide            bool
}

func newPatternTable(list []account.PatternsFilter) (*patternTable, error) {
	if len(list) == 0 {
		return nil, nil
	}
	t := &patternTable{filters: make(map[vfs.Path]*nameFilter, len(list))}
	for _, in := range list {
		p, err := vfs.ParseConfigPath(in.Path)
		if err != nil {
			return nil, fmt.Errorf("file_patterns: %q: %w", in.Path, err)
		}
		f := &nameFilter{hide: in.DenyPolicy == 1}
		if f.allowed, err = lowerGlobs(in.AllowedPatterns); err == nil {
			f.denied, err = lowerGlobs(in.DeniedPatterns)
		}
		if err != nil {
			return nil, fmt.Errorf("file_patterns: %q: %w", in.Path, err)
		}
		t.filters[p] = f
		t.hides = t.hides || f.hide
	}
	return t, nil
}

func lowerGlobs(list []string) ([]string, error) {
	out := make([]string, len(list))
	for i, g := range list {
		out[i] = strings.ToLower(g)
		if _, err := path.Match(out[i], ""); err != nil {
			return nil, fmt.Errorf("%q: %w", g, err)
		}
	}
	return out, nil
}

// judge says what holds for p, whose parents may be hidden too.
func (t *patternTable) judge(p vfs.Path) verdict {
	if t == nil {
		return allowed
	}
	if !t.holds(p) {
		return hidden
	}
	if t.hides {
		for q := p.Dir(); !q.IsRoot(); q = q.Dir() {
			if t.ownName(q) == hidden {
				return hidden
			}
		}
	}
	return t.ownName(p)
}

// judgeName judges p's own name. The parents are the caller's business.
func (t *patternTable) judgeName(p vfs.Path) verdict {
	if t == nil {
		return allowed
	}
	if !t.holds(p) {
		return hidden
	}
	return t.ownName(p)
}

func (t *patternTable) ownName(p vfs.Path) verdict {
	if p.IsRoot() {
		return allowed
	}
	f, at := t.filterFor(p.Dir())
	if f == nil {
		return allowed
	}
	// An entry that lets some names through and denies all else lets everything below those names through.
	if at != p.Dir() && len(f.allowed) > 0 && len(f.denied) > 0 && f.denied[0] == "*" {
		rel, _ := p.Rel(at)
		first, _, _ := strings.Cut(rel.Relative(), "/")
		if f.passes(first) {
			return allowed
		}
	}
	switch {
	case f.passes(p.Base()):
		return allowed
	case f.hide:
		return hidden
	default:
		return denied
	}
}

// filterFor finds the entry that rules the objects in dir, and where it stands.
func (t *patternTable) filterFor(dir vfs.Path) (*nameFilter, vfs.Path) {
	for {
		if f := t.filters[dir]; f != nil {
			return f, dir
		}
		if dir.IsRoot() {
			return nil, dir
		}
		dir = dir.Dir()
	}
}

// within reports whether a rule may concern dir or something below it.
func (t *patternTable) within(dir vfs.Path) bool {
	if t == nil {
		return false
	}
	if t.only != nil {
		return true
	}
	for p := range t.filters {
		if p.Within(dir) || dir.Within(p) {
			return true
		}
	}
	return false
}

// differ reports whether a tree moved from one place to the other may meet other rules.
func (t *patternTable) differ(from, to vfs.Path) bool {
	if t == nil {
		return false
	}
	if t.only != nil {
		return true
	}
	for p := range t.filters {
		if p.Within(from) || p.Within(to) {
			return true
		}
	}
	a, _ := t.filterFor(from.Dir())
	b, _ := t.filterFor(to.Dir())
	return a != b || a != nil && len(a.allowed) > 0 && len(a.denied) > 0 && a.denied[0] == "*"
}

func (f *nameFilter) passes(name string) bool {
	name = strings.ToLower(name)
	switch {
	case matchAny(f.allowed, name):
		return true
	case matchAny(f.denied, name):
		return false
	default:
		return len(f.allowed) == 0
	}
}

func matchAny(globs []string, name string) bool {
	for _, g := range globs {
		if ok, _ := path.Match(g, name); ok {
			return true
		}
	}
	return false
}
