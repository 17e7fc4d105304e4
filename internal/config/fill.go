package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"
)

// readFile parses file and fills dst from it.
func (l *loader) readFile(file string, dst reflect.Value) error {
	data, err := readBounded(file, maxFileSize)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	t, err := parse(formatOf(file), data, file)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	base := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	l.lenient = len(l.opt.Names) > 1 && hasName(base, l.opt.Names[1:])
	l.fillStruct("", []reflect.Value{dst}, t, "file:")
	return nil
}

func hasName(base string, names []string) bool {
	for _, n := range names {
		if strings.EqualFold(base, n) {
			return true
		}
	}
	return false
}

// readEnvironment fills dst from the variables, another program's first, so that ours win.
func (l *loader) readEnvironment(env map[string]Var, dst reflect.Value) {
	names := make([]string, 0, len(env))
	for n := range env {
		names = append(names, n)
	}
	sort.Strings(names)
	for i := len(l.opt.Prefixes) - 1; i >= 0; i-- {
		prefix := l.opt.Prefixes[i] + "_"
		t := newTable("env")
		for _, n := range names {
			rest, ok := strings.CutPrefix(n, prefix)
			if !ok {
				continue
			}
			v := env[n]
			path := strings.Split(rest, "__")
			if len(path) == 1 {
				if !hasName(rest, l.opt.Plain) {
					l.warnf("%s: no such variable, it is ignored", v.Source)
				}
				continue
			}
			if len(path) > maxDepth {
				l.errorf("%s: nested deeper than %d levels", v.Source, maxDepth)
				continue
			}
			if err := t.put(path, scalar{text: v.Value, source: v.Source, list: true}); err != nil {
				if i == 0 {
					l.errorf("%s: %w", v.Source, err)
				} else {
					l.warnf("%s: %s; it is ignored", v.Source, err)
				}
			}
		}
		l.lenient = i > 0
		l.fillStruct("", []reflect.Value{dst}, t, "")
	}
}

// fill sets every target, all fields of the same key, to t. The prefix goes in front of a scalar's source.
func (l *loader) fill(key string, targets []reflect.Value, t tree, prefix string) {
	if t == nil { // null: as if the key were not there
		return
	}
	for i, v := range targets {
		if v.Kind() == reflect.Pointer && !v.Type().Implements(textUnmarshaler) {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			targets[i] = v.Elem()
		}
	}
	v := targets[0]
	switch {
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		l.fillSlice(key, targets, t, prefix)
	case isStruct(v.Type()):
		l.fillStruct(key, targets, t, prefix)
	case v.Kind() == reflect.Map || v.Kind() == reflect.Interface:
		l.fillFree(key, targets, t, prefix)
	default:
		s, ok := t.(scalar)
		if !ok {
			l.errorf("%s: %s must be one value, not a list or section", sourceOf(t), key)
			return
		}
		for _, v := range targets {
			if err := setScalar(v, s.text); err != nil {
				l.errorf("%s: %s: %w", s.source, key, hide(key, s.text, err))
				return
			}
		}
		l.note(key, prefix+s.source)
	}
}

func (l *loader) note(key, source string) { l.sources[key] = source }

func sourceOf(t tree) string {
	switch t := t.(type) {
	case scalar:
		return t.source
	case *list:
		return t.source
	case *table:
		return t.source
	}
	return ""
}

func (l *loader) fillStruct(key string, targets []reflect.Value, t tree, prefix string) {
	tab, ok := t.(*table)
	if lst, isList := t.(*list); isList { // HCL: a block, or the blocks of one name
		for _, item := range lst.items {
			if _, ok := item.(*table); !ok {
				l.errorf("%s: %s must be a section with keys", lst.source, key)
				return
			}
			l.fillStruct(key, targets, item, prefix)
		}
		return
	}
	if !ok {
		l.errorf("%s: %s must be a section with keys", sourceOf(t), key)
		return
	}
	for _, k := range tab.keys {
		var fields []reflect.Value
		name := k
		for _, v := range targets {
			f, n := lookup(v, k)
			if len(f) > 0 {
				fields, name = append(fields, f...), n
			}
		}
		full := join(key, name)
		if len(fields) == 0 {
			l.strange(full, tab.m[k], prefix)
			continue
		}
		l.fill(full, fields, tab.m[k], prefix)
	}
}

// strange handles a key without a field: known for another reason, or unknown. Of a section that leads to
// known keys each member is looked at, so that the message names the key that is wrong.
func (l *loader) strange(key string, t tree, prefix string) {
	source := sourceOf(t)
	if l.known(key, source) {
		return
	}
	if l.schema.leads(key) {
		switch t := t.(type) {
		case nil:
			return
		case *table:
			for _, k := range t.keys {
				if n, ok := index(k); ok {
					l.strange(fmt.Sprintf("%s[%d]", key, n), t.m[k], prefix)
					continue
				}
				l.strange(join(key, k), t.m[k], prefix)
			}
			return
		case *list:
			for i, e := range t.items {
				if _, isTable := e.(*table); isTable && !l.schema.leads(fmt.Sprintf("%s[%d]", key, i)) {
					l.strange(key, e, prefix) // HCL: a block
					continue
				}
				l.strange(fmt.Sprintf("%s[%d]", key, i), e, prefix)
			}
			return
		}
	}
	if source == "" {
		source = l.rep.File
	}
	l.unknown(key, source, l.lenient)
}

// fillSlice replaces a list, or sets the elements that indexes name.
func (l *loader) fillSlice(key string, targets []reflect.Value, t tree, prefix string) {
	elem := targets[0].Type().Elem()
	switch t := t.(type) {
	case scalar:
		if isStruct(elem) {
			if strings.TrimSpace(t.text) == "" {
				l.replace(key, targets, nil, prefix, t.source)
				return
			}
			l.errorf("%s: %s is a list of sections: name its elements by index (%s[0]…)", t.source, key, key)
			return
		}
		var items []tree
		for _, s := range strings.Split(t.text, ",") {
			if s = strings.TrimSpace(s); s != "" {
				items = append(items, scalar{text: s, source: t.source})
			}
		}
		l.replace(key, targets, items, prefix, t.source)
	case *list:
		l.replace(key, targets, t.items, prefix, t.source)
	case *table:
		indexes, ok := indexesOf(t)
		if !ok {
			if isStruct(elem) { // one section where a list of them is meant
				l.replace(key, targets, []tree{t}, prefix, t.source)
				return
			}
			l.errorf("%s: %s must be a list", t.source, key)
			return
		}
		l.patch(key, targets, t, indexes, prefix)
	}
}

// replace makes the list anew. Elements start as the first default element.
func (l *loader) replace(key string, targets []reflect.Value, items []tree, prefix, source string) {
	for k := range l.sources {
		if strings.HasPrefix(k, key+"[") {
			delete(l.sources, k)
		}
	}
	fresh := make([]reflect.Value, len(targets))
	for i, v := range targets {
		fresh[i] = reflect.MakeSlice(v.Type(), len(items), len(items))
		for j := range items {
			fresh[i].Index(j).Set(l.template(key, v))
		}
	}
	l.note(key, prefix+source)
	for j, item := range items {
		at := make([]reflect.Value, len(fresh))
		for i := range fresh {
			at[i] = fresh[i].Index(j)
		}
		l.fill(fmt.Sprintf("%s[%d]", key, j), at, item, prefix)
	}
	for i, v := range targets {
		v.Set(fresh[i])
	}
}

// patch sets the elements with the given indexes and appends those beyond the list.
func (l *loader) patch(key string, targets []reflect.Value, t *table, indexes []int, prefix string) {
	had := targets[0].Len()
	next := had
	for _, n := range indexes {
		at := n
		if n >= had {
			at = next
			next++
			for _, v := range targets {
				v.Set(reflect.Append(deepCopy(v), l.template(key, v)))
			}
		}
		elems := make([]reflect.Value, len(targets))
		for i, v := range targets {
			elems[i] = v.Index(at)
		}
		l.fill(fmt.Sprintf("%s[%d]", key, at), elems, t.m[strconv.Itoa(n)], prefix)
	}
}

// indexesOf gives the keys of t as sorted indexes, if all are.
func indexesOf(t *table) ([]int, bool) {
	var out []int
	for _, k := range t.keys {
		n, ok := index(k)
		if !ok || strconv.Itoa(n) != k {
			return nil, false
		}
		out = append(out, n)
	}
	sort.Ints(out)
	return out, len(out) > 0
}

// templateKey names the list at key of one of its targets.
type templateKey struct {
	pattern string
	elem    reflect.Type
}

// keepTemplates copies the first default element of every list of structures.
func (l *loader) keepTemplates(key string, v reflect.Value) {
	switch {
	case v.Kind() == reflect.Pointer:
		if !v.IsNil() {
			l.keepTemplates(key, v.Elem())
		}
	case v.Kind() == reflect.Slice && isStruct(v.Type().Elem()):
		if v.Len() > 0 {
			l.templates[templateKey{key, v.Type().Elem()}] = deepCopy(v.Index(0))
			l.keepTemplates(key+"[]", v.Index(0))
		}
	case isStruct(v.Type()):
		for _, f := range fieldsOf(v.Type()) {
			l.keepTemplates(join(key, f.name), v.FieldByIndex(f.index))
		}
	}
}

// template is what a new element of list starts as.
func (l *loader) template(key string, list reflect.Value) reflect.Value {
	if v, ok := l.templates[templateKey{pattern(key), list.Type().Elem()}]; ok {
		return deepCopy(v)
	}
	return reflect.Zero(list.Type().Elem())
}

// deepCopy copies v so that no slice or pointer is shared.
func deepCopy(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(deepCopy(v.Index(i)))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(deepCopy(v.Elem()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out.Field(i).Set(deepCopy(v.Field(i)))
			}
		}
	}
	return out
}

// fillFree gives a map or an any what the source holds, through JSON.
func (l *loader) fillFree(key string, targets []reflect.Value, t tree, prefix string) {
	data, err := json.Marshal(plain(t))
	for _, v := range targets {
		if err == nil {
			err = json.Unmarshal(data, v.Addr().Interface())
		}
	}
	if err != nil {
		l.errorf("%s: %s: %w", sourceOf(t), key, err)
		return
	}
	l.note(key, prefix+sourceOf(t))
}

func plain(t tree) any {
	switch t := t.(type) {
	case scalar:
		return t.text
	case *list:
		out := make([]any, len(t.items))
		for i, e := range t.items {
			out[i] = plain(e)
		}
		return out
	case *table:
		out := map[string]any{}
		for k, e := range t.m {
			out[k] = plain(e)
		}
		return out
	}
	return nil
}

// setScalar sets a value from its text. An empty text empties a string and is an error elsewhere.
func setScalar(v reflect.Value, text string) error {
	if v.CanAddr() {
		if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			return u.UnmarshalText([]byte(text))
		}
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 30s or 2m", text)
		}
		v.SetInt(int64(d))
		return nil
	}
	trimmed := strings.TrimSpace(text)
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(strings.ToLower(trimmed))
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := parseInt(trimmed)
		if err != nil || v.OverflowInt(n) {
			return fmt.Errorf("%q is not a whole number in range", text)
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := parseInt(trimmed)
		if err != nil || n < 0 || v.OverflowUint(uint64(n)) {
			return fmt.Errorf("%q is not a whole number in range", text)
		}
		v.SetUint(uint64(n))
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(trimmed, 64)
		if err != nil || f != f || v.OverflowFloat(f) {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(f)
	default:
		return fmt.Errorf("a %s cannot be configured", v.Type())
	}
	return nil
}

// parseInt reads a whole number; 1e3 and 5.0 are whole numbers too, since some formats write them so.
func parseInt(s string) (int64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != float64(int64(f)) || f > 1<<53 || f < -(1<<53) {
		return 0, fmt.Errorf("not a whole number")
	}
	return int64(f), nil
}
