// Package config fills any structure from a configuration file, env.d files and the environment, by its
// json tags, and remembers where each value came from.
//
// Order of precedence, highest first: environment, env.d, file, the values that are there already (the
// defaults). Key names do not depend on case. A list replaces the default list; it is never merged with
// it. An element of a list of structures starts as the first default element, so that what a file leaves
// out of a binding has the same default in each binding.
//
// What cannot be right is an error that names the key and the source: an unknown key (with the nearest
// known one), a number that is not one, a value out of range. Unknown keys are only warnings where another
// program's file or variables are read: sftpgo.* files, SFTPGO_… variables, and variables without "__",
// which orchestrators inject.
//
// A field tagged `json:",inline"` is a structure whose keys stand in its parent's section. Several inlined
// structures may hold the same key: all of them get the value. `omit:"a,b"` beside it leaves keys out.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
)

// Options say where to look. The zero value reads no file and no environment.
type Options struct {
	// Dir is the configuration directory, the base of relative paths and the first place searched.
	Dir string
	// File names the file to read; empty searches SearchDirs. Relative to Dir.
	File string
	// SearchDirs are searched after Dir, in order; the first file found is the only one read.
	SearchDirs []string
	// Names are the base names of files, in order: the first is ours and strict, the others are lenient.
	Names []string
	// Prefixes are those of the environment, without the underscore, in order: the first is ours,
	// wins and is strict.
	Prefixes []string
	// Environ is the environment, as os.Environ gives it.
	Environ []string
	// Plain are the known variables without "__", without prefix ("CONFIG_DIR"): not keys, not warned about.
	Plain []string
	// Known are keys that the structure does not have.
	Known []Known
}

// State says what becomes of a known key that the structure does not have.
type State int

// The states.
const (
	NotBuilt State = iota // its feature is not there yet: one warning that names it
	Gone                  // it is read no more: one warning with the note
)

// Known is a key that is accepted without a field in the structure.
type Known struct {
	Key   string // "ftpd.bindings[].port"; a trailing ".*" takes the whole subtree
	State State
	Note  string // what to do instead, may be empty
}

// Value is one effective value.
type Value struct {
	Key    string // "sftpd.bindings[0].port"
	Text   string // for people, secrets hidden
	Source string // "default", "file:/etc/gantry/gantry.json", "env:GANTRY_…", "env.d/name:GANTRY_…"
}

// Report says what was read.
type Report struct {
	File     string // the file read, or empty
	Warnings []string
	Values   []Value
}

// Default is the source of a value that nobody set.
const Default = "default"

// Source gives where the value of key came from.
func (r *Report) Source(key string) string {
	for _, v := range r.Values {
		if v.Key == key {
			return v.Source
		}
	}
	return ""
}

// Validator is a structure that knows whether its values make sense. Its error names the key.
type Validator interface{ Validate() error }

// Load fills dst, a pointer to a structure that holds the defaults. On an error dst is in no defined
// state; the report is given with errors too, as far as it goes. The error joins everything found wrong.
func Load(dst any, opt Options) (*Report, error) {
	rep := &Report{}
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return rep, fmt.Errorf("config: Load needs a pointer to a structure, got %T", dst)
	}
	l := newLoader(v.Elem(), opt, rep)

	file, others, err := findFile(opt)
	if err != nil {
		return rep, err
	}
	for _, o := range others {
		l.warnf("%s is not read, because %s stands beside it", o, filepath.Base(file))
	}
	if file != "" {
		rep.File = file
		if err := l.readFile(file, v.Elem()); err != nil {
			return rep, err
		}
	}
	env, err := Environment(opt)
	if err != nil {
		return rep, err
	}
	l.readEnvironment(env, v.Elem())
	l.validate("", v.Elem())
	l.values("", v.Elem())
	rep.Warnings = append(rep.Warnings, l.warnings()...)
	return rep, errors.Join(l.errs...)
}

// loader is one run of Load. Owned by its goroutine.
type loader struct {
	opt     Options
	rep     *Report
	schema  *schema
	lenient bool              // the source read now is another program's
	sources map[string]string // by key, of what was set
	told    map[string]bool   // messages and errors given already
	errs    []error
	shown   map[string]bool     // keys in the report
	late    map[string][]string // keys of unbuilt features by section

	templates map[templateKey]reflect.Value // first default elements
}

func newLoader(dst reflect.Value, opt Options, rep *Report) *loader {
	l := &loader{
		opt: opt, rep: rep, schema: newSchema(dst.Type(), opt.Known),
		sources: map[string]string{}, told: map[string]bool{}, shown: map[string]bool{}, late: map[string][]string{},
		templates: map[templateKey]reflect.Value{},
	}
	l.keepTemplates("", dst)
	return l
}

func (l *loader) errorf(format string, a ...any) {
	err := fmt.Errorf(format, a...)
	if !l.told[err.Error()] {
		l.told[err.Error()] = true
		l.errs = append(l.errs, err)
	}
}

func (l *loader) warnf(format string, a ...any) {
	s := fmt.Sprintf(format, a...)
	if !l.told[s] {
		l.told[s] = true
		l.rep.Warnings = append(l.rep.Warnings, s)
	}
}

// known handles a key that the structure does not have. It reports whether the key is a known one.
func (l *loader) known(key, source string) bool {
	k, ok := l.schema.known(key)
	if !ok {
		return false
	}
	if k.State == NotBuilt {
		section, _, _ := strings.Cut(key, ".")
		l.late[section] = append(l.late[section], key)
		return true
	}
	note := ""
	if k.Note != "" {
		note = ": " + k.Note
	}
	l.warnf("%s: %s has no effect any more%s", source, key, note)
	return true
}

// unknown says that nobody knows key.
func (l *loader) unknown(key, source string, lenient bool) {
	hint := ""
	if s := l.schema.suggest(key); s != "" {
		hint = fmt.Sprintf(", did you mean %s?", s)
	}
	if lenient {
		l.warnf("%s: unknown key %s is ignored%s", source, key, hint)
		return
	}
	l.errorf("%s: unknown key %s%s", source, key, hint)
}

// warnings gives one line for each section with keys of features that are not built yet.
func (l *loader) warnings() []string {
	var out []string
	sections := make([]string, 0, len(l.late))
	for s := range l.late {
		sections = append(sections, s)
	}
	sort.Strings(sections)
	for _, s := range sections {
		keys := unique(l.late[s])
		const most = 4
		more := ""
		if len(keys) > most {
			more = fmt.Sprintf(" and %d more", len(keys)-most)
			keys = keys[:most]
		}
		out = append(out, fmt.Sprintf("not built yet, so without effect: %s%s", strings.Join(keys, ", "), more))
	}
	return out
}

func unique(in []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range in {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// validate calls Validate on dst and every structure inside, and names their keys.
func (l *loader) validate(key string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			l.validate(key, v.Elem())
		}
	case reflect.Struct:
		if v.CanAddr() {
			if val, ok := v.Addr().Interface().(Validator); ok {
				l.complain(key, val.Validate())
			}
		}
		for _, f := range taggedFields(v.Type()) {
			k := key
			if !f.inline {
				k = join(key, f.name)
			}
			l.validate(k, v.FieldByIndex(f.index))
		}
	case reflect.Slice:
		for i := range v.Len() {
			l.validate(fmt.Sprintf("%s[%d]", key, i), v.Index(i))
		}
	}
}

// complain adds what Validate found, each error with the section's key in front.
func (l *loader) complain(key string, err error) {
	if err == nil {
		return
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			l.complain(key, e)
		}
		return
	}
	text := err.Error()
	if key == "" || strings.HasPrefix(text, key+".") || strings.HasPrefix(text, key+":") {
		l.errorf("%w", err)
		return
	}
	l.errorf("%s: %w", key, err)
}

// findFile gives the file to read, or empty, and the files of the same directory that give way to it.
func findFile(opt Options) (file string, others []string, err error) {
	if opt.File != "" {
		file := opt.File
		if !filepath.IsAbs(file) {
			file = filepath.Join(opt.Dir, file)
		}
		if formatOf(file) == nil {
			return "", nil, fmt.Errorf("configuration file %s: unknown extension; use one of %s", file, strings.Join(extensions(), ", "))
		}
		return file, nil, nil
	}
	dirs := opt.SearchDirs
	if opt.Dir != "" {
		dirs = append([]string{opt.Dir}, dirs...)
	}
	for _, dir := range dirs {
		var found []string
		for _, name := range opt.Names {
			for _, ext := range extensions() {
				file := filepath.Join(dir, name+"."+ext)
				if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() {
					found = append(found, file)
				}
			}
		}
		if len(found) > 0 {
			return found[0], found[1:], nil
		}
	}
	return "", nil, nil
}
