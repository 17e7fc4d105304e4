// Package nastytest holds the names that a hostile or broken peer sends, and what must become of each, for
// every protocol on every backend (PATH-2). A protocol adds its column with Run and a small Client.
package nastytest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/vfs"
)

// Nasty is one name as it is after the protocol's own decoding.
type Nasty struct {
	Raw string
	// Path is what it means where ".." is resolved lexically and clamped at the root (SFTP, FTP, SCP); ""
	// where it is refused.
	Path string
	// Dots: HTTP and WebDAV refuse it, for ".." stands in it.
	Dots bool
	// Line: a protocol of lines cannot carry it (CR or LF inside).
	Line bool
}

// Nasties is the table: every class of name in every position that matters. More than 300.
func Nasties() []Nasty {
	var raws []string
	add := func(more ...string) { raws = append(raws, more...) }

	// The root, and ways to leave it.
	add("", "/", "//", "///", ".", "./", "/.", "/./", "..", "../", "/..", "/../", "/../..", "../../..", "/../../../etc/passwd", "a/../../../../b")
	for _, up := range []string{"..", "../..", "../../../..", "./..", "../.", "..//..", "x/../..", "x/../../..", "x/y/../../..", ".//../", "x/./../.."} {
		for _, tail := range []string{"outside", "outside/secret", "etc/passwd", "jail/../outside/secret", "jail2/f"} {
			add(up+"/"+tail, "/"+up+"/"+tail)
		}
	}
	add(strings.Repeat("../", 1300)+"f", strings.Repeat("a/../", 700)+"f", "/"+strings.Repeat("./", 2000)+"f", strings.Repeat("/", 4000)+"f")

	// Each of these as a name by itself, in a directory, and as one.
	names := []string{
		// Dots that are no dot-dot.
		"...", "....", "..a", "a..", ".a", ". ", ".. ", " ..", ". .", "..\t", ".\x01.", "\u2024\u2024", "\uff0e\uff0e", "\u2025", "\u2026", "\u00b7\u00b7",
		// A second decoding, of any kind, is nobody's to make.
		"%2e%2e", "%2e%2e%2f", "..%2f", "%2f", "%2e", "%252e%252e", "%c0%ae%c0%ae", "%00", "a%00b", "%u002e", "%5c", "&#46;&#46;", "\\u002e\\u002e", "=2E=2E", "+ADw-",
		// Bytes that some decoder takes for a dot, a slash or an end.
		"\xc0\xae\xc0\xae", "\xc0\xaf", "\xe0\x80\xae", "\xe0\x80\xaf", "\xf0\x80\x80\xae", "\xc0\x80", "\xed\xa0\x80", "\xed\xb0\x80", "\xff", "\xfe\xff", "\xff\xfe.\x01", "\xe9t\xe9", "\x80", "\xf4\x90\x80\x80",
		// Look-alikes of a slash.
		"a\u2215b", "a\u2044b", "a\uff0fb", "a\u29f8b", "a\u2571b", "a\uff3cb",
		// Control bytes and what acts on a terminal, a log or a protocol of lines.
		"\x01", "\x07", "\x08", "\x1b[2J", "\x1b]0;t\x07", "\x7f", "a\rb", "a\nb", "\r\n", "a\r\n200 OK", "a\tb", "\x0b", "\x0c", "\x9b31m", "\u0085", "\u2028", "\u2029", "\xff\xfa", "\xff\xff",
		// What cannot be seen, or turns the text around.
		"\u200b", "a\u200b", "\u200d", "\u2060", "\ufeff", "\u202e", "gpj.\u202eexe", "\u2066a\u2069", "\u00ad", "\u034f", "\U000e0041",
		// The same name in two forms, and folds that surprise.
		"\u00e9", "e\u0301", "\u212b", "\u00c5", "A\u030a", "\u0130", "\u0131", "I", "i", "\u00df", "SS", "\u017f", "\u212a", "\ufb01", "\u1e9e", "\uff21",
		// What Windows reads otherwise.
		`\`, `\\`, `..\..`, `..\f`, `a\b`, `a\..\..\b`, "C:", `C:\f`, "C:f", `\\host\share`, `\\?\C:\f`, `\\.\PIPE\p`, `\??\C:`, "a:b", "a::$DATA", "a:b:$DATA", ":", "CON", "con", "con.txt", "NUL", "nul.tar.gz", "AUX", "PRN", "COM1", "COM0.x", "LPT9", "COM\u00b9", "CONIN$", "CLOCK$", "a.", "a. ", "a ", " a", "PROGRA~1", "F~1", "a*", "a?", `a"b`, "a<b", "a>b", "a|b", "$MFT", "desktop.ini",
		// What a shell or a program reads otherwise.
		"-rf", "--", "-", "-oProxyCommand=x", "--help", "~", "~root", "$HOME", "${IFS}", "$(id)", "`id`", "a;b", "a&b", "a|cat", "a b", " ", "  ", "'", `"`, "!", "#", "*", "?", "[a]", "{a,b}", "<", ">", "a\\ b", "=", "@", "file:", "http:", "%s%n", "{{.}}", "<script>", "../%s",
		// What a mac leaves, and devices of Linux by name.
		".DS_Store", "._a", "a\u2044", "null", "fd", "self",
		// Lengths.
		strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("n", 1000), strings.Repeat("\u00e9", 127), strings.Repeat("\u00e9", 128), strings.Repeat(".", 255), strings.Repeat(" ", 255),
		// NUL, in every place.
		"\x00", "a\x00", "\x00a", "a\x00b", "a\x00.txt", "..\x00", "\x00..", "a\x00/../b",
	}
	for _, n := range names {
		add(n, "/"+n, "d/"+n, n+"/f", "d/../"+n)
	}
	// Paths of every length around the limits.
	long := strings.Repeat("n", 255)
	for _, n := range []int{4094, 4095, 4096, 4097, 8192, 70_000} {
		add(strings.Repeat("/"+long, n/256+1)[:n])
	}
	add(strings.Repeat("/a", 100), strings.Repeat("/a", 2049)) // deeper ones only take longer
	slices.Sort(raws)
	var out []Nasty
	for _, raw := range slices.Compact(raws) {
		n := Nasty{Raw: raw, Line: strings.ContainsAny(raw, "\r\n")}
		n.Path, n.Dots = model(raw)
		out = append(out, n)
	}
	return out
}

// model says what a name means, step by step; nothing of it is vfs's.
func model(raw string) (meaning string, dots bool) {
	refused := len(raw) > vfs.MaxPathBytes || strings.Contains(raw, "\x00")
	var names []string
	for n := range strings.SplitSeq(raw, "/") {
		switch n {
		case "", ".":
		case "..":
			dots = true
			names = names[:max(0, len(names)-1)]
		default:
			names = append(names, n)
		}
	}
	if slices.ContainsFunc(names, func(n string) bool { return len(n) > vfs.MaxNameBytes || !hostTakes(n) }) {
		refused = true
	}
	meaning = "/" + strings.Join(names, "/")
	if refused || len(meaning) > vfs.MaxPathBytes {
		return "", dots
	}
	return meaning, dots
}

// String is short enough for a failure's text.
func (n Nasty) String() string {
	if len(n.Raw) > 60 {
		return fmt.Sprintf("%.50q… (%d bytes)", n.Raw, len(n.Raw))
	}
	return fmt.Sprintf("%q", n.Raw)
}
