package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"
)

// Bounds of what is read: a wrong file must not take the memory of the machine.
const (
	maxFileSize = 4 << 20 // bytes, a configuration file
	maxEnvSize  = 1 << 20 // bytes, one file of env.d
	maxDepth    = 64
	maxNodes    = 200_000 // of a YAML file, aliases followed
)

// format is one kind of file.
type format struct {
	exts  []string
	parse func(data []byte, source string) (*table, error)
}

// formats in the order in which a directory is searched. Read-only.
var formats = []format{
	{[]string{"json"}, parseJSON},
	{[]string{"toml"}, parseTOML},
	{[]string{"yaml", "yml"}, parseYAML},
	{[]string{"properties", "props", "prop"}, parseProperties},
	{[]string{"hcl", "tfvars"}, parseHCL},
	{[]string{"dotenv", "env"}, parseEnvKeys},
	{[]string{"ini"}, parseINI},
}

func extensions() []string {
	var out []string
	for _, f := range formats {
		out = append(out, f.exts...)
	}
	return out
}

func formatOf(file string) *format {
	ext := strings.ToLower(strings.TrimPrefix(filepath.Ext(file), "."))
	for i := range formats {
		if slices.Contains(formats[i].exts, ext) {
			return &formats[i]
		}
	}
	return nil
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(file string, limit int64) ([]byte, error) {
	st, err := os.Stat(file) // before it is opened: a pipe without a writer would block that
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, limit)
	}
	return data, nil
}

// parse reads one file's bytes. Errors name the source and the position where the format tells it.
func parse(f *format, data []byte, source string) (t *table, err error) {
	// A decoder that trips over odd input must not take the server down with a reload.
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("%s: cannot be read: %v", source, r)
		}
	}()
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if err := checkNesting(data); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return f.parse(data, source)
}

// checkNesting refuses brackets nested so deep that a recursive decoder's stack is at risk. It knows no
// strings, so its bound is far above what a real file holds.
func checkNesting(data []byte) error {
	depth := 0
	for _, c := range data {
		switch c {
		case '{', '[', '(':
			if depth++; depth > 2000 {
				return errors.New("nested too deep")
			}
		case '}', ']', ')':
			if depth > 0 {
				depth--
			}
		}
	}
	return nil
}

func parseJSON(data []byte, source string) (*table, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var m map[string]any
	err := d.Decode(&m)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = &posError{pos: position(data, d.InputOffset()), err: errors.New("something follows the last brace")}
		}
	} else {
		var syn *json.SyntaxError
		var typ *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syn):
			err = &posError{pos: position(data, syn.Offset), err: err}
		case errors.As(err, &typ):
			err = &posError{pos: position(data, typ.Offset), err: errors.New("an object is expected")}
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
			err = &posError{pos: position(data, int64(len(data))), err: errors.New("the file ends too early")}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s:%w", source, err)
	}
	return asTable(m, source)
}

// posError is an error at a place in a file.
type posError struct {
	pos string
	err error
}

func (e *posError) Error() string { return e.pos + ": " + e.err.Error() }
func (e *posError) Unwrap() error { return e.err }

// position turns an offset into line:column, from 1.
func position(data []byte, off int64) string {
	if off > int64(len(data)) {
		off = int64(len(data))
	}
	head := data[:max(off, 0)]
	line := bytes.Count(head, []byte("\n")) + 1
	col := len(head) - bytes.LastIndexByte(head, '\n')
	return fmt.Sprintf("%d:%d", line, max(col-1, 1))
}

func parseTOML(data []byte, source string) (*table, error) {
	var m map[string]any
	if err := toml.Unmarshal(data, &m); err != nil {
		var de *toml.DecodeError
		if errors.As(err, &de) {
			row, col := de.Position()
			return nil, fmt.Errorf("%s:%d:%d: %w", source, row, col, err)
		}
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return asTable(m, source)
}

func parseHCL(data []byte, source string) (*table, error) {
	var m map[string]any
	if err := hcl.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return asTable(m, source)
}

func asTable(m map[string]any, source string) (*table, error) {
	t, err := fromAny(m, source, 0)
	if err != nil {
		return nil, err
	}
	return t.(*table), nil
}

func parseYAML(data []byte, source string) (*table, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	y := yamlReader{source: source, left: maxNodes}
	if len(doc.Content) == 0 {
		return newTable(source), nil
	}
	t, err := y.tree(doc.Content[0], 0)
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case nil:
		return newTable(source), nil
	case *table:
		return t, nil
	}
	return nil, fmt.Errorf("%s: the file holds no keys", source)
}

// yamlReader keeps the text of scalars, so that an umask of 022 stays 022.
type yamlReader struct {
	source string
	left   int // nodes that may still be read
}

func (y *yamlReader) tree(n *yaml.Node, depth int) (tree, error) {
	source := fmt.Sprintf("%s:%d", y.source, n.Line)
	if y.left--; y.left < 0 {
		return nil, fmt.Errorf("%s: too many values", y.source)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: nested deeper than %d levels", source, maxDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return y.tree(n.Alias, depth+1)
	case yaml.SequenceNode:
		l := &list{source: source}
		for _, c := range n.Content {
			sub, err := y.tree(c, depth+1)
			if err != nil {
				return nil, err
			}
			l.items = append(l.items, sub)
		}
		return l, nil
	case yaml.MappingNode:
		return y.mapping(n, source, depth)
	case yaml.ScalarNode:
		if n.ShortTag() == "!!null" {
			return nil, nil
		}
		text := n.Value
		if n.ShortTag() == "!!bool" {
			text = strings.ToLower(text)
		}
		return scalar{text: text, source: source}, nil
	}
	return nil, fmt.Errorf("%s: cannot be read", source)
}

func (y *yamlReader) mapping(n *yaml.Node, source string, depth int) (tree, error) {
	t := newTable(source)
	var merged []*table
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		sub, err := y.tree(v, depth+1)
		if err != nil {
			return nil, err
		}
		if k.ShortTag() == "!!merge" {
			switch sub := sub.(type) {
			case *table:
				merged = append(merged, sub)
			case *list:
				for _, e := range sub.items {
					if m, ok := e.(*table); ok {
						merged = append(merged, m)
					}
				}
			}
			continue
		}
		if k.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("%s:%d: a key must be a word", y.source, k.Line)
		}
		if err := t.set(k.Value, sub); err != nil {
			return nil, err
		}
	}
	for _, m := range merged {
		for _, k := range m.keys {
			if _, ok := t.m[k]; !ok {
				if err := t.set(k, m.m[k]); err != nil {
					return nil, err
				}
			}
		}
	}
	return t, nil
}

// parseProperties reads "a.b.0.c = value" lines. Comments start with # or !, a line that ends in a
// backslash goes on in the next.
func parseProperties(data []byte, source string) (*table, error) {
	t := newTable(source)
	text := strings.ReplaceAll(string(data), "\\\r\n", "")
	text = strings.ReplaceAll(text, "\\\n", "")
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		if err := putLine(t, "", line, fmt.Sprintf("%s:%d", source, n+1)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// parseINI reads [section.sub] headers and "key = value" lines.
func parseINI(data []byte, source string) (*table, error) {
	t := newTable(source)
	section := ""
	for n, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		at := fmt.Sprintf("%s:%d", source, n+1)
		if line[0] == '[' {
			if !strings.HasSuffix(line, "]") {
				return nil, fmt.Errorf("%s: the section header has no ]", at)
			}
			section = strings.TrimSpace(line[1 : len(line)-1])
			continue
		}
		if err := putLine(t, section, line, at); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// putLine reads "key = value" or "key: value".
func putLine(t *table, section, line, source string) error {
	i := strings.IndexAny(line, "=:")
	if i < 0 {
		return fmt.Errorf("%s: a line must be key = value", source)
	}
	key, value := strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:])
	if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		value = value[1 : len(value)-1]
	}
	path := keyPath(join(section, key))
	if len(path) > maxDepth {
		return fmt.Errorf("%s: nested deeper than %d levels", source, maxDepth)
	}
	if err := t.put(path, scalar{text: value, source: source, list: true}); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return nil
}

// keyPath splits "a.b[0].c" and "a.b.0.c".
func keyPath(key string) []string {
	key = strings.NewReplacer("[", ".", "]", "").Replace(key)
	return strings.Split(key, ".")
}

func sortedKeys(m map[string]any) []string {
	keys := slices.Collect(maps.Keys(m))
	sort.Strings(keys)
	return keys
}
