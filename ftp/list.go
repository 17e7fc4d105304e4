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
	var number [20]byte
	size := strconv.AppendInt(number[:0], i.Size, 10)
	for range 12 - len(size) {
		b = append(b, ' ')
	}
	b = append(append(b, size...), ' ')
	b = appendLongTime(b, i.ModTime, now)
	b = append(b, ' ')
	return append(appendName(b, i.Name), '\r', '\n')
}

// appendLongTime writes t as ls -l does: "Jan _2 15:04", or "Jan _2  2006" if it is not of the last half year. Like
// appendTimeVal it takes a third of what the time package takes for a format, which it reads each time.
func appendLongTime(b []byte, t, now time.Time) []byte {
	d := now.Sub(t)
	t = t.UTC()
	year, month, day := t.Date()
	b = append(b, "JanFebMarAprMayJunJulAugSepOctNovDec"[3*month-3:3*month]...)
	b = append(b, ' ', byte('0'+day/10), byte('0'+day%10), ' ')
	if day < 10 {
		b[len(b)-3] = ' '
	}
	if d > -24*time.Hour && d < 180*24*time.Hour {
		hour, minute, _ := t.Clock()
		return appendTwo(append(appendTwo(b, hour), ':'), minute)
	}
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, " 2006")
	}
	return appendTwo(appendTwo(append(b, ' '), year/100), year%100)
}

// appendTimeVal writes t in timeVal.
func appendTimeVal(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, timeVal)
	}
	hour, minute, second := t.Clock()
	b = appendTwo(appendTwo(b, year/100), year%100)
	b = appendTwo(appendTwo(b, int(month)), day)
	return appendTwo(appendTwo(appendTwo(b, hour), minute), second)
}

// appendTwo writes n, of 0 to 99, with two digits.
func appendTwo(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

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
		b = append(appendTimeVal(append(b, "modify="...), i.ModTime), ';')
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
