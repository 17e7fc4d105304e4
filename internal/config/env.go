package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Var is one variable of the environment or of an env.d file.
type Var struct {
	Name, Value string
	Source      string // "env:NAME" or "env.d/file:NAME"
}

// Environment gives the variables that carry one of the prefixes, env.d first read and overridden by the
// process environment. The first one of a name wins.
func Environment(opt Options) (map[string]Var, error) {
	out := map[string]Var{}
	for _, kv := range opt.Environ {
		name, value, ok := strings.Cut(kv, "=")
		if ok && hasPrefix(name, opt.Prefixes) {
			if _, dup := out[name]; !dup {
				out[name] = Var{name, value, "env:" + name}
			}
		}
	}
	if opt.Dir == "" {
		return out, nil
	}
	dir := filepath.Join(opt.Dir, "env.d")
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return out, nil
		}
		return nil, fmt.Errorf("reading env.d: %w", err)
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		if st, err := os.Stat(file); err != nil || !st.Mode().IsRegular() {
			continue
		}
		data, err := readBounded(file, maxEnvSize)
		if err != nil {
			return nil, fmt.Errorf("reading env.d: %w", err)
		}
		vars, err := parseEnv(data, func(name string) string {
			for _, kv := range opt.Environ {
				if v, ok := strings.CutPrefix(kv, name+"="); ok {
					return v
				}
			}
			return ""
		})
		if err != nil {
			return nil, fmt.Errorf("%s:%w", file, err)
		}
		for _, v := range vars {
			if !hasPrefix(v.name, opt.Prefixes) {
				continue
			}
			if old, dup := out[v.name]; dup && strings.HasPrefix(old.Source, "env:") {
				continue
			}
			out[v.name] = Var{v.name, v.value, "env.d/" + e.Name() + ":" + v.name}
		}
	}
	return out, nil
}

// Lookup finds the variable PREFIX_name of the first prefix that has it.
func Lookup(env map[string]Var, prefixes []string, name string) (Var, bool) {
	for _, p := range prefixes {
		if v, ok := env[p+"_"+name]; ok {
			return v, true
		}
	}
	return Var{}, false
}

func hasPrefix(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p+"_") {
			return true
		}
	}
	return false
}

// assignment is one line of an env file.
type assignment struct {
	name, value string
	line        int
}

// parseEnv reads NAME=value lines: an "export" in front is allowed, a comment starts with # at the start
// of a line or after a blank, single quotes are literal, double quotes know backslash escapes and $NAME
// or ${NAME} (of lines before, else from lookup). Quoted values may span lines. A value without quotes ends
// at the line's end, trimmed, and expands $NAME too.
func parseEnv(data []byte, lookup func(string) string) ([]assignment, error) {
	p := &envParser{text: string(data), line: 1, lookup: lookup, seen: map[string]string{}}
	var out []assignment
	for {
		p.skipBlank()
		if p.text == "" {
			return out, nil
		}
		at := p.line
		name := p.name()
		if name == "export" && p.text != "" && p.text[0] != '=' {
			p.skipSpaces()
			name = p.name()
		}
		p.skipSpaces()
		if name == "" || p.text == "" || p.text[0] != '=' {
			return nil, fmt.Errorf("%d: a line must be NAME=value", at)
		}
		p.text = p.text[1:]
		p.skipSpaces()
		value, err := p.value()
		if err != nil {
			return nil, fmt.Errorf("%d: %w", at, err)
		}
		p.expanded += len(value)
		if p.expanded > 2*maxEnvSize {
			return nil, fmt.Errorf("%d: the values grow too large when expanded", at)
		}
		p.seen[name] = value
		out = append(out, assignment{name, value, at})
	}
}

type envParser struct {
	text     string
	line     int
	lookup   func(string) string
	seen     map[string]string
	expanded int // bytes
}

// skipBlank moves to the next assignment, over blank lines and comments.
func (p *envParser) skipBlank() {
	for p.text != "" {
		switch p.text[0] {
		case '\n':
			p.line++
			p.text = p.text[1:]
		case ' ', '\t', '\r':
			p.text = p.text[1:]
		case '#':
			p.skipLine()
		default:
			return
		}
	}
}

func (p *envParser) skipLine() {
	i := strings.IndexByte(p.text, '\n')
	if i < 0 {
		p.text = ""
		return
	}
	p.text = p.text[i:]
}

func (p *envParser) skipSpaces() { p.text = strings.TrimLeft(p.text, " \t") }

func (p *envParser) name() string {
	i := 0
	for i < len(p.text) && isNameByte(p.text[i], true) {
		i++
	}
	name := p.text[:i]
	p.text = p.text[i:]
	return name
}

func isNameByte(c byte, dots bool) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		dots && (c == '.' || c == '-' || c == '[' || c == ']')
}

func (p *envParser) value() (string, error) {
	if p.text == "" || p.text[0] != '"' && p.text[0] != '\'' {
		i := strings.IndexByte(p.text, '\n')
		if i < 0 {
			i = len(p.text)
		}
		v := p.text[:i]
		p.text = p.text[i:]
		if strings.HasPrefix(v, "#") {
			v = ""
		}
		if c := strings.Index(v, " #"); c >= 0 {
			v = v[:c]
		}
		if c := strings.Index(v, "\t#"); c >= 0 {
			v = v[:c]
		}
		return p.expand(strings.TrimSpace(v)), nil
	}
	quote := p.text[0]
	p.text = p.text[1:]
	var b strings.Builder
	for i := 0; i < len(p.text); i++ {
		c := p.text[i]
		switch {
		case c == quote:
			p.text = p.text[i+1:]
			rest, _, _ := strings.Cut(p.text, "\n")
			rest = strings.TrimSpace(rest)
			if rest != "" && rest[0] != '#' {
				return "", errors.New("something follows the closing quote")
			}
			p.skipLine()
			return b.String(), nil
		case c == '\n':
			p.line++
			b.WriteByte(c)
		case quote == '"' && c == '\\' && i+1 < len(p.text):
			i++
			switch e := p.text[i]; e {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case '\n':
				p.line++
			default: // \" \\ \$ and what has no meaning
				b.WriteByte(e)
			}
		case quote == '"' && c == '$':
			v, n := p.variable(p.text[i:])
			b.WriteString(v)
			i += n - 1
		default:
			b.WriteByte(c)
		}
		if b.Len() > maxEnvSize {
			return "", errors.New("the value grows too large when expanded")
		}
	}
	return "", errors.New("the quote is not closed")
}

func (p *envParser) expand(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || b.Len() > maxEnvSize {
			b.WriteByte(s[i])
			continue
		}
		v, n := p.variable(s[i:])
		b.WriteString(v)
		i += n - 1
	}
	return b.String()
}

// variable expands the $NAME or ${NAME} that s starts with, and says how many bytes it took. A dollar
// without a name is a dollar: password hashes are full of them.
func (p *envParser) variable(s string) (string, int) {
	name, n := "", 0
	if strings.HasPrefix(s, "${") {
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return "$", 1
		}
		name, n = s[2:end], end+1
	} else {
		n = 1
		for n < len(s) && isNameByte(s[n], false) {
			n++
		}
		name = s[1:n]
	}
	if name == "" || '0' <= name[0] && name[0] <= '9' {
		return "$", 1
	}
	if v, ok := p.seen[name]; ok {
		return v, n
	}
	return p.lookup(name), n
}

// parseEnvKeys reads a configuration file in env form. Names may be GANTRY_A__B, SFTPGO_A__B, A__B or a.b.
func parseEnvKeys(data []byte, source string) (*table, error) {
	vars, err := parseEnv(data, func(string) string { return "" })
	if err != nil {
		return nil, fmt.Errorf("%s:%w", source, err)
	}
	t := newTable(source)
	done := map[string]bool{}
	for _, prefix := range []string{"GANTRY_", "", "SFTPGO_"} {
		for _, v := range vars {
			name, ok := strings.CutPrefix(v.name, prefix)
			if !ok || prefix == "" && (strings.HasPrefix(v.name, "GANTRY_") || strings.HasPrefix(v.name, "SFTPGO_")) {
				continue
			}
			key := strings.ReplaceAll(name, "__", ".")
			path := keyPath(key)
			if len(path) > maxDepth {
				return nil, fmt.Errorf("%s:%d: nested deeper than %d levels", source, v.line, maxDepth)
			}
			if prefix == "SFTPGO_" && done[strings.ToLower(key)] {
				continue // the alias gives way
			}
			done[strings.ToLower(key)] = true
			if err := t.put(path, scalar{text: v.value, source: fmt.Sprintf("%s:%d", source, v.line), list: true}); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}
