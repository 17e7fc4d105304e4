package vfs

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of a path, in bytes. A longer path or name is ErrInvalidPath: no file system that we serve takes it.
const (
	MaxPathBytes = 4096
	MaxNameBytes = 255
)

// ErrInvalidPath says that a peer's bytes are not a path: NUL inside, or too long.
var ErrInvalidPath = errors.New("invalid path")

// Path is a canonical virtual path: absolute, clean, slash-separated, without NUL. Any other byte may
// stand in a name. The zero Path is the root. Paths are comparable and may be map keys (PATH-1).
type Path struct{ s string } // "" for the root, else "/a/b"

// Root is the top of every tree.
var Root Path

// ParsePath makes a Path of a peer's bytes, taken relative to the root. ".." is resolved lexically and
// clamped at the root, as SFTP, FTP and SCP clients expect (PATH-2).
func ParsePath(raw string) (Path, error) { return Root.Resolve(raw) }

// ParseConfigPath is ParsePath for paths in configuration and account records, where "\" means "/".
func ParseConfigPath(raw string) (Path, error) {
	return Root.Resolve(strings.ReplaceAll(raw, `\`, "/"))
}

// Resolve makes a Path of a peer's bytes: absolute if raw begins with "/", else relative to p.
// It is the only constructor; the others call it.
func (p Path) Resolve(raw string) (Path, error) {
	if len(raw) > MaxPathBytes {
		return Path{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalidPath, MaxPathBytes)
	}
	if strings.IndexByte(raw, 0) >= 0 {
		return Path{}, fmt.Errorf("%w: NUL byte", ErrInvalidPath)
	}
	base := p.s
	if strings.HasPrefix(raw, "/") {
		base = ""
	}
	if isClean(raw) { // the common case: what clients send back is what we listed
		return Path{raw}.checked()
	}
	buf := make([]byte, 0, len(base)+1+len(raw))
	buf = append(buf, base...)
	for len(raw) > 0 {
		var name string
		name, raw, _ = strings.Cut(raw, "/")
		switch name {
		case "", ".":
		case "..":
			buf = buf[:max(0, strings.LastIndexByte(string(buf), '/'))]
		default:
			buf = append(append(buf, '/'), name...)
		}
	}
	return Path{string(buf)}.checked()
}

// isClean reports whether raw is the text of a Path other than the root.
func isClean(raw string) bool {
	if len(raw) < 2 || raw[0] != '/' {
		return false
	}
	start := 1
	for i := 1; i <= len(raw); i++ {
		if i < len(raw) && raw[i] != '/' {
			continue
		}
		switch raw[start:i] {
		case "", ".", "..":
			return false
		}
		start = i + 1
	}
	return true
}

func (p Path) checked() (Path, error) {
	if len(p.s) > MaxPathBytes {
		return Path{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalidPath, MaxPathBytes)
	}
	for i, n := 0, 0; i < len(p.s); i++ {
		if n++; p.s[i] == '/' {
			n = 0
		}
		if n > MaxNameBytes {
			return Path{}, fmt.Errorf("%w: name longer than %d bytes", ErrInvalidPath, MaxNameBytes)
		}
	}
	return p, nil
}

// Child is p with one more name. The name comes from a storage or a peer and must be a single component.
func (p Path) Child(name string) (Path, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return Path{}, fmt.Errorf("%w: %q is not one name", ErrInvalidPath, name)
	}
	return Path{p.s + "/" + name}.checked()
}

// Join is p with the whole of sub below it: the way from a mount's storage back to the virtual tree.
func (p Path) Join(sub Path) Path { return Path{p.s + sub.s} }

// String is the absolute text, "/" for the root.
func (p Path) String() string {
	if p.s == "" {
		return "/"
	}
	return p.s
}

// IsRoot reports whether p is "/".
func (p Path) IsRoot() bool { return p.s == "" }

// Base is the last name, "/" for the root.
func (p Path) Base() string {
	if p.s == "" {
		return "/"
	}
	return p.s[strings.LastIndexByte(p.s, '/')+1:]
}

// Dir is the parent. The root's parent is the root.
func (p Path) Dir() Path {
	if p.s == "" {
		return p
	}
	return Path{p.s[:strings.LastIndexByte(p.s, '/')]}
}

// Within reports whether p is dir or lies below it, by whole names: /a/bb is not within /a/b (PATH-3).
func (p Path) Within(dir Path) bool {
	return strings.HasPrefix(p.s, dir.s) && (len(p.s) == len(dir.s) || p.s[len(dir.s)] == '/')
}

// Rel is p as seen from dir, which must hold it: /a/b/c from /a is /b/c. It reports false if p is not within dir.
func (p Path) Rel(dir Path) (Path, bool) {
	if !p.Within(dir) {
		return Path{}, false
	}
	return Path{p.s[len(dir.s):]}, true
}

// Depth is the number of names; 0 for the root.
func (p Path) Depth() int { return strings.Count(p.s, "/") }

// Relative is the text without the leading slash, "." for the root: what *at system calls take.
func (p Path) Relative() string {
	if p.s == "" {
		return "."
	}
	return p.s[1:]
}

// Compare orders paths so that a directory comes before what lies in it.
func (p Path) Compare(q Path) int {
	return strings.Compare(strings.ReplaceAll(p.s, "/", "\x00"), strings.ReplaceAll(q.s, "/", "\x00"))
}
