package config

import (
	"fmt"
	"strconv"
	"strings"
)

// A tree is what every format is read into: nil, scalar, *list or *table.
type tree any

// scalar is one value as it was written.
type scalar struct {
	text   string
	source string // "file:/x/gantry.json", with ":line" where the format tells
	list   bool   // text is a comma list when a list is wanted
}

// list is an ordered list.
type list struct {
	items  []tree
	source string
}

// table maps keys, lower-cased, to trees, in the order written.
type table struct {
	keys   []string
	m      map[string]tree
	source string
}

func newTable(source string) *table { return &table{m: map[string]tree{}, source: source} }

// set adds a key. The same key in two spellings is an error: one of them would be lost.
func (t *table) set(key string, v tree) error {
	key = strings.ToLower(key)
	if _, ok := t.m[key]; ok {
		return fmt.Errorf("%s: the key %q is given twice", t.source, key)
	}
	t.m[key] = v
	t.keys = append(t.keys, key)
	return nil
}

// put sets the value at path, making tables on the way. Indexes are keys of digits.
func (t *table) put(path []string, v tree) error {
	at := t
	for i, p := range path {
		p = strings.ToLower(p)
		if p == "" {
			return fmt.Errorf("%s: empty part in the key %q", t.source, strings.Join(path, "."))
		}
		if i == len(path)-1 {
			return at.set(p, v)
		}
		next, ok := at.m[p]
		if !ok {
			sub := newTable(t.source)
			at.m[p] = sub
			at.keys = append(at.keys, p)
			at = sub
			continue
		}
		sub, ok := next.(*table)
		if !ok {
			return fmt.Errorf("%s: %q is both a value and a section", t.source, strings.Join(path[:i+1], "."))
		}
		at = sub
	}
	return nil
}

// maxIndex bounds the elements that indexes may name, so that one variable cannot ask for a huge list.
const maxIndex = 1000

// index reads a list index.
func index(s string) (int, bool) {
	if s == "" || len(s) > 4 {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n < maxIndex
}

// fromAny makes a tree of what a decoder gave.
func fromAny(v any, source string, depth int) (tree, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: nested deeper than %d levels", source, maxDepth)
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		t := newTable(source)
		for _, k := range sortedKeys(v) {
			sub, err := fromAny(v[k], source, depth+1)
			if err != nil {
				return nil, err
			}
			if err := t.set(k, sub); err != nil {
				return nil, err
			}
		}
		return t, nil
	case []map[string]any: // HCL: every block is a list of blocks
		l := &list{source: source}
		for _, m := range v {
			sub, err := fromAny(m, source, depth+1)
			if err != nil {
				return nil, err
			}
			l.items = append(l.items, sub)
		}
		return l, nil
	case []any:
		l := &list{source: source}
		for _, e := range v {
			sub, err := fromAny(e, source, depth+1)
			if err != nil {
				return nil, err
			}
			l.items = append(l.items, sub)
		}
		return l, nil
	case string:
		return scalar{text: v, source: source}, nil
	case float64:
		return scalar{text: strconv.FormatFloat(v, 'f', -1, 64), source: source}, nil
	default:
		return scalar{text: fmt.Sprint(v), source: source}, nil
	}
}
