package vfs

import (
	"bytes"
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
	if isClean(raw) { // the common case: what clients send back is what we listed
		return Path{raw}.checked()
	}
	base := p.s
	if strings.HasPrefix(raw, "/") {
		base = ""
	}
	var room [512]byte // most paths need one allocation, the string
	buf := append(room[:0], base...)
	for len(raw) > 0 {
		var name string
		name, raw, _ = strings.Cut(raw, "/")
		switch name {
		case "", ".":
		case "..":
			buf = buf[:max(0, bytes.LastIndexByte(buf, '/'))]
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
	for rest, more := raw[1:], true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if name == "" || name[0] == '.' && (name == "." || name == "..") {
			return false
		}
	}
	return true
}

// checked refuses what no storage takes: too long, or a name that means something else to this system.
func (p Path) checked() (Path, error) {
	if len(p.s) > MaxPathBytes {
		return Path{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalidPath, MaxPathBytes)
	}
	if len(p.s) <= MaxNameBytes && !hostNames {
		return p, nil
	}
	for rest := strings.TrimPrefix(p.s, "/"); rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if len(name) > MaxNameBytes {
			return Path{}, fmt.Errorf("%w: name longer than %d bytes", ErrInvalidPath, MaxNameBytes)
		}
		if hostNames && !windowsTakes(name) {
			return Path{}, fmt.Errorf("%w: this system cannot hold the name %q", ErrInvalidPath, name)
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

// Join is p with the whole of sub below it: the way from a mount's storage back to the virtual tree. The
// result may be longer than MaxPathBytes; the storage refuses it then.
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

// Compare orders paths so that a directory comes before what lies in it, and that before its siblings.
func (p Path) Compare(q Path) int {
	n := min(len(p.s), len(q.s))
	for i := range n {
		a, b := p.s[i], q.s[i]
		switch {
		case a == b:
		case a == '/':
			return -1
		case b == '/':
			return 1
		case a < b:
			return -1
		default:
			return 1
		}
	}
	return len(p.s) - len(q.s)
}
