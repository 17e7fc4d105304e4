package config

import (
	"encoding"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// field is one key of a structure, its inlined structures included.
type field struct {
	name  string // of the tag
	index []int  // for reflect.Value.FieldByIndex
}

// fieldsOf gives the keys of a structure in its order. Fields without a json tag have no key. An inlined
// structure gives its keys too, without those that its omit tag names, separated by commas.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for _, f := range taggedFields(t) {
		if !f.inline {
			out = append(out, field{f.name, f.index})
			continue
		}
		for _, in := range fieldsOf(t.FieldByIndex(f.index).Type) {
			if !slices.Contains(f.omit, in.name) {
				out = append(out, field{in.name, slices.Concat(f.index, in.index)})
			}
		}
	}
	return out
}

// tagged is one field with a tag.
type tagged struct {
	field
	inline bool
	omit   []string
}

func taggedFields(t reflect.Type) []tagged {
	var out []tagged
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("json")
		if !f.IsExported() || !ok && !f.Anonymous {
			continue
		}
		name, rest, _ := strings.Cut(tag, ",")
		inline := f.Anonymous && name == "" || strings.Contains(","+rest+",", ",inline,")
		if name == "-" || name == "" && !inline {
			continue
		}
		out = append(out, tagged{field{name, f.Index}, inline, strings.Split(f.Tag.Get("omit"), ",")})
	}
	return out
}

// lookup finds the fields of a structure value that hold key.
func lookup(v reflect.Value, key string) (out []reflect.Value, name string) {
	for _, f := range fieldsOf(v.Type()) {
		if strings.EqualFold(f.name, key) {
			out, name = append(out, v.FieldByIndex(f.index)), f.name
		}
	}
	return out, name
}

// schema is every key that may appear, as patterns with [] for list elements.
type schema struct {
	keys  []string
	extra []Known
}

func newSchema(t reflect.Type, known []Known) *schema {
	s := &schema{extra: known}
	s.collect("", t, 0)
	for _, k := range known {
		s.keys = append(s.keys, strings.TrimSuffix(k.Key, ".*"))
	}
	sort.Strings(s.keys)
	return s
}

func (s *schema) collect(key string, t reflect.Type, depth int) {
	if depth > 12 { // a structure that holds itself
		return
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Slice && isStruct(t.Elem()) {
		s.collect(key+"[]", t.Elem(), depth+1)
		return
	}
	if !isStruct(t) {
		s.keys = append(s.keys, key)
		return
	}
	for _, f := range fieldsOf(t) {
		s.collect(join(key, f.name), t.FieldByIndex(f.index).Type, depth+1)
	}
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// isStruct reports whether t is a structure with keys, not a value with a text form.
func isStruct(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(textUnmarshaler)
}

// known finds key, such as "ftpd.bindings[0].port", in the table of keys without a field. A section that
// leads to a known key is not known by itself: its members are looked at one by one.
func (s *schema) known(key string) (Known, bool) {
	p := pattern(key)
	for _, k := range s.extra {
		if sub, ok := strings.CutSuffix(k.Key, ".*"); ok {
			bare := strings.TrimSuffix(sub, "[]")
			if p == bare || strings.HasPrefix(p, bare+".") || strings.HasPrefix(p, bare+"[]") {
				return k, true
			}
			continue
		}
		// A list of values may be written with indexes.
		if p == k.Key || p == k.Key+"[]" {
			return k, true
		}
	}
	return Known{}, false
}

// leads reports whether some key stands below key.
func (s *schema) leads(key string) bool {
	p := pattern(key)
	for _, k := range s.keys {
		if strings.HasPrefix(k, p+".") || strings.HasPrefix(k, p+"[]") {
			return true
		}
	}
	return false
}

// pattern turns indexes into [].
func pattern(key string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(key, '[')
		j := strings.IndexByte(key, ']')
		if i < 0 || j < i {
			b.WriteString(strings.ToLower(key))
			return b.String()
		}
		b.WriteString(strings.ToLower(key[:i]))
		b.WriteString("[]")
		key = key[j+1:]
	}
}

// suggest gives the known key nearest to key, or empty when none is near.
func (s *schema) suggest(key string) string {
	p := pattern(key)
	if len(p) > 200 { // nothing we know is as long, and the distance costs the product of the lengths
		return ""
	}
	best, bestDist := "", 1+len(p)/4
	if bestDist > 4 {
		bestDist = 4
	}
	last := p[strings.LastIndexByte(p, '.')+1:]
	var elsewhere string
	for _, k := range s.sections() {
		if d := distance(p, k, bestDist); d < bestDist {
			best, bestDist = k, d
		}
		if k != last && strings.HasSuffix(k, "."+last) && elsewhere == "" {
			elsewhere = k
		}
	}
	if best == "" { // the right name in the wrong section
		return elsewhere
	}
	return best
}

// sections gives every key and every section of keys.
func (s *schema) sections() []string {
	seen := map[string]bool{}
	var out []string
	for _, k := range s.keys {
		for i := 0; i < len(k); i++ {
			if k[i] == '.' && !seen[k[:i]] {
				seen[k[:i]] = true
				out = append(out, strings.TrimSuffix(k[:i], "[]"))
			}
		}
		out = append(out, k)
	}
	return out
}

// distance is the edit distance of a and b (a swap of neighbours counts once), or a number ≥ limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	var older []int
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], older[j-2]+1)
			}
		}
		older, prev = prev, cur
	}
	return prev[len(b)]
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}
