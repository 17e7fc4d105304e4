package ftp

import (
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// timeVal is the time of RFC 3659 2.3.
const timeVal = "20060102150405"

// parseTime reads a time-val, with or without fractions of a second.
func parseTime(s string) (time.Time, error) {
	whole, frac, dotted := strings.Cut(s, ".")
	if len(whole) != len(timeVal) || dotted && (frac == "" || len(frac) > 9) {
		return time.Time{}, errSyntax
	}
	t, err := time.Parse(timeVal, whole)
	if err != nil {
		return time.Time{}, errSyntax
	}
	if dotted {
		n, err := decimal(frac, 9, 1e9)
		if err != nil {
			return time.Time{}, errSyntax
		}
		for range 9 - len(frac) {
			n *= 10
		}
		t = t.Add(time.Duration(n))
	}
	return t, nil
}

// listArg takes what looks like the options of ls off an argument: clients send LIST -la and mean the directory.
func listArg(arg string) string {
	for {
		s := strings.TrimLeft(arg, " ")
		word, rest, _ := strings.Cut(s, " ")
		if len(word) < 2 || word[0] != '-' || strings.Trim(word[1:], "1AaCcdFfghikLlnopqRrSTtux") != "" {
			return arg
		}
		arg = rest
	}
}

// appendLong writes an entry as ls -l does.
func appendLong(b []byte, i *vfs.FileInfo, now time.Time) []byte {
	b = appendMode(b, i.Mode)
	b = append(b, "    1 ftp      ftp      "...)
	size := strconv.FormatInt(i.Size, 10)
	for range 12 - len(size) {
		b = append(b, ' ')
	}
	b = append(append(b, size...), ' ')
	t := i.ModTime.UTC()
	if d := now.Sub(t); d > -24*time.Hour && d < 180*24*time.Hour {
		b = t.AppendFormat(b, "Jan _2 15:04")
	} else {
		b = t.AppendFormat(b, "Jan _2  2006")
	}
	b = append(b, ' ')
	return append(appendName(b, i.Name), '\r', '\n')
}

func appendMode(b []byte, m fs.FileMode) []byte {
	switch {
	case m.IsDir():
		b = append(b, 'd')
	case m&fs.ModeSymlink != 0:
		b = append(b, 'l')
	default:
		b = append(b, '-')
	}
	const bits = "rwxrwxrwx"
	for i := range bits {
		if m&(1<<(8-i)) != 0 {
			b = append(b, bits[i])
		} else {
			b = append(b, '-')
		}
	}
	return b
}

// appendName writes a name on a data connection. Control bytes become "?": a name must not begin a line of its
// own (FTP-5).
func appendName(b []byte, name string) []byte {
	for i := 0; i < len(name); i++ {
		if c := name[i]; c < ' ' || c == 0x7f {
			b = append(b, '?')
		} else {
			b = append(b, c)
		}
	}
	return b
}

// facts are those of RFC 3659 7.5 that MLST and MLSD show.
type facts uint8

const (
	factType facts = 1 << iota
	factSize
	factModify
	factUnique
	factMode
	factsDefault = factType | factSize | factModify | factMode
	factsAll     = factsDefault | factUnique
)

// factNames in the order of their bits. Read-only.
var factNames = []string{"type", "size", "modify", "unique", "UNIX.mode"}

// parseFacts reads the argument of OPTS MLST: what is not known is left out (RFC 3659 7.9).
func parseFacts(arg string) facts {
	var f facts
	for s := range strings.SplitSeq(arg, ";") {
		for i, name := range factNames {
			if strings.EqualFold(s, name) {
				f |= 1 << i
			}
		}
	}
	return f
}

// list writes the facts as FEAT does, with a star at each that is on, or those that are on alone.
func (f facts) list(all bool) string {
	var b strings.Builder
	for i, name := range factNames {
		on := f&(1<<i) != 0
		if !on && !all {
			continue
		}
		b.WriteString(name)
		if on && all {
			b.WriteByte('*')
		}
		b.WriteByte(';')
	}
	return b.String()
}

// append writes the facts of an entry and its name (RFC 3659 7.2). kind is file, dir, cdir or pdir; "" finds out.
func (f facts) append(b []byte, i *vfs.FileInfo, kind, name string) []byte {
	if kind == "" {
		switch {
		case i.IsDir():
			kind = "dir"
		case i.IsSymlink():
			kind = "OS.unix=symlink"
		default:
			kind = "file"
		}
	}
	if f&factType != 0 {
		b = append(append(append(b, "type="...), kind...), ';')
	}
	if f&factSize != 0 && kind == "file" {
		b = append(strconv.AppendInt(append(b, "size="...), i.Size, 10), ';')
	}
	if f&factModify != 0 && !i.ModTime.IsZero() {
		b = append(i.ModTime.UTC().AppendFormat(append(b, "modify="...), timeVal), ';')
	}
	if f&factUnique != 0 && (i.Dev != 0 || i.Ino != 0) {
		b = strconv.AppendUint(append(b, "unique="...), i.Dev, 16)
		b = append(strconv.AppendUint(append(b, 'g'), i.Ino, 16), ';')
	}
	if f&factMode != 0 {
		b = append(b, "UNIX.mode=0"...)
		m := strconv.FormatUint(uint64(i.Mode.Perm()), 8)
		for range 3 - len(m) {
			b = append(b, '0')
		}
		b = append(append(b, m...), ';')
	}
	return appendName(append(b, ' '), name)
}
