package object

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/gantryhq/gantry/vfs"
)

// Names are bytes, keys are UTF-8. A byte that cannot stand in a key becomes the private character U+F700 plus its
// value. A name that holds such a character by itself has its bytes escaped too, so that the way back is unique and
// every key that another program wrote reads and writes as itself.
const (
	escapeBase = 0xF700
	escapeLast = 0xF7FF
)

// EscapeName is the text of one name in a key. refused, if not nil, says which characters the service does not take.
func EscapeName(name string, refused func(string, int) bool) string {
	plain := true
	for i := 0; i < len(name) && plain; i++ {
		plain = name[i] < utf8.RuneSelf && (refused == nil || !refused(name, i))
	}
	if plain {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && n <= 1 || r >= escapeBase && r <= escapeLast || refused != nil && refused(name, i) {
			for range n {
				b.WriteRune(escapeBase + rune(name[i]))
				i++
			}
			continue
		}
		b.WriteString(name[i : i+n])
		i += n
	}
	return b.String()
}

// UnescapeName is the name that a key's text means.
func UnescapeName(text string) string {
	if !strings.Contains(text, "\xef\x9c") && !strings.Contains(text, "\xef\x9d") && !strings.Contains(text, "\xef\x9e") && !strings.Contains(text, "\xef\x9f") {
		return text
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if r >= escapeBase && r <= escapeLast {
			b = append(b, byte(r-escapeBase))
		} else {
			b = append(b, text[i:i+n]...)
		}
		i += n
	}
	return string(b)
}

// key is the object's key for name, which is not the root.
func (f *FS) key(name vfs.Path) (string, error) {
	var b strings.Builder
	b.WriteString(f.prefix)
	for i, rest := 0, name.Relative(); rest != ""; i++ {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(EscapeName(part, f.limits.Escape))
	}
	if b.Len() >= f.limits.MaxKey { // one less, for a directory's slash
		return "", fmt.Errorf("%w: the key would be longer than %d bytes", vfs.ErrInvalidPath, f.limits.MaxKey)
	}
	return b.String(), nil
}

// dirKey is the prefix of what lies in the directory name.
func (f *FS) dirKey(name vfs.Path) (string, error) {
	if name.IsRoot() {
		return f.prefix, nil
	}
	k, err := f.key(name)
	return k + "/", err
}
