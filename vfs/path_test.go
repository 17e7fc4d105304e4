package vfs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// slowResolve is the model: split, walk, join, check.
func slowResolve(base []string, raw string) ([]string, bool) {
	if len(raw) > MaxPathBytes || strings.Contains(raw, "\x00") {
		return nil, false
	}
	names := slices.Clone(base)
	if strings.HasPrefix(raw, "/") {
		names = nil
	}
	for _, n := range strings.Split(raw, "/") {
		switch {
		case n == "" || n == ".":
		case n == "..":
			if len(names) > 0 {
				names = names[:len(names)-1]
			}
		default:
			names = append(names, n)
		}
	}
	total := 0
	for _, n := range names {
		if len(n) > MaxNameBytes || hostNames && !windowsTakes(n) {
			return nil, false
		}
		total += 1 + len(n)
	}
	return names, total <= MaxPathBytes
}

func slowText(names []string) string { return "/" + strings.Join(names, "/") }

func split(p Path) []string {
	if p.IsRoot() {
		return nil
	}
	return strings.Split(p.String()[1:], "/")
}

// checkPath holds every law of Path against the model; the fuzzer and the property tests share it.
func checkPath(t interface {
	Helper()
	Fatalf(string, ...any)
}, base Path, raw string) {
	t.Helper()
	got, err := base.Resolve(raw)
	want, ok := slowResolve(split(base), raw)
	if (err == nil) != ok {
		t.Fatalf("%q from %q: error %v, the model says valid=%v", raw, base, err, ok)
	}
	if err != nil {
		if !errors.Is(err, ErrInvalidPath) {
			t.Fatalf("%q: %v is not ErrInvalidPath", raw, err)
		}
		if got != (Path{}) {
			t.Fatalf("%q: a refused path is %q", raw, got)
		}
		return
	}
	if got.String() != slowText(want) {
		t.Fatalf("%q from %q = %q, want %q", raw, base, got, slowText(want))
	}
	if again, err := ParsePath(got.String()); err != nil || again != got {
		t.Fatalf("parse(%q) = %q, %v", got, again, err)
	}
	if got.Depth() != len(want) {
		t.Fatalf("depth of %q = %d, want %d", got, got.Depth(), len(want))
	}
	if got.IsRoot() {
		if got.Dir() != got || got.Base() != "/" || got.Relative() != "." {
			t.Fatalf("root: dir %q base %q relative %q", got.Dir(), got.Base(), got.Relative())
		}
	} else {
		if c, err := got.Dir().Child(got.Base()); err != nil || c != got {
			t.Fatalf("%q: dir.Child(base) = %q, %v", got, c, err)
		}
		if "/"+got.Relative() != got.String() || got.Base() != want[len(want)-1] {
			t.Fatalf("%q: relative %q base %q", got, got.Relative(), got.Base())
		}
		if got.Dir().Compare(got) >= 0 || got.Compare(got.Dir()) <= 0 {
			t.Fatalf("%q does not come after its directory", got)
		}
	}
	if !got.Within(Root) || !got.Within(got) || !got.Within(got.Dir()) {
		t.Fatalf("%q is not within its ancestors", got)
	}
	// Within, by whole names (PATH-3).
	within := len(want) >= base.Depth() && slices.Equal(want[:base.Depth()], split(base))
	rel, has := got.Rel(base)
	if got.Within(base) != within || has != within {
		t.Fatalf("%q within %q: %v and %v, want %v", got, base, got.Within(base), has, within)
	}
	if has && base.Join(rel) != got {
		t.Fatalf("%q: join(%q, rel %q) = %q", got, base, rel, base.Join(rel))
	}
	if joined := base.Join(got); slowText(append(split(base), want...)) != joined.String() {
		t.Fatalf("join(%q, %q) = %q", base, got, joined)
	}
}

// genName draws names that are nasty on purpose.
func genName() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", ".", "..", "...", "a", "b", "aa", "bb", " ", "a ", "~", `\`, `..\`, "%2e%2e",
			"\xff", "\r\n", "é", "e\u0301", "．．", "con", strings.Repeat("n", 255), strings.Repeat("n", 256), "a\x00"}),
		rapid.StringN(0, 6, 20),
	)
}

func genRaw() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := strings.Join(rapid.SliceOfN(genName(), 0, 20).Draw(t, "names"), "/")
		if rapid.Bool().Draw(t, "absolute") {
			s = "/" + s
		}
		return s
	})
}

// PATH-1, PATH-2, PATH-3
func TestPathKeepsTheModelsLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, err := ParsePath(genRaw().Draw(t, "base"))
		if err != nil {
			t.Skip()
		}
		checkPath(t, base, genRaw().Draw(t, "raw"))
	})
}

func TestPathOrderIsTotalAndKeepsTreesTogether(t *testing.T) {
	small := rapid.Custom(func(t *rapid.T) Path {
		p, err := ParsePath(strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a!", "a.b", "b", "\x01"}), 0, 4).Draw(t, "p"), "/"))
		if err != nil {
			t.Skip()
		}
		return p
	})
	sign := func(n int) int { return min(1, max(-1, n)) }
	rapid.Check(t, func(t *rapid.T) {
		a, b := small.Draw(t, "a"), small.Draw(t, "b")
		want := slices.Compare(split(a), split(b))
		if got := sign(a.Compare(b)); got != want || sign(b.Compare(a)) != -want {
			t.Fatalf("%q against %q = %d, want %d", a, b, got, want)
		}
	})
}

// PATH-2, PATH-5
func TestPathNasties(t *testing.T) {
	if hostNames {
		t.Skip("names are judged by Windows's rules here; see TestWindowsNames")
	}
	long := strings.Repeat("n", MaxNameBytes)
	deep := strings.Repeat("/"+long, MaxPathBytes/(MaxNameBytes+1)) // 4096 bytes
	for _, c := range []struct{ raw, want string }{
		{"", "/"}, {"/", "/"}, {"//", "/"}, {".", "/"}, {"/.", "/"}, {"./", "/"}, {"..", "/"}, {"/..", "/"},
		{"../../..", "/"}, {"/../../../etc/passwd", "/etc/passwd"}, {"a/../../../b", "/b"},
		{"a", "/a"}, {"/a", "/a"}, {"/a/", "/a"}, {"//a//b//", "/a/b"}, {"/a/./b", "/a/b"}, {"/a/b/..", "/a"},
		{"/a/b/../", "/a"}, {"/a/../b", "/b"}, {"./a", "/a"}, {"/./././a", "/a"}, {"/a/b/../../..", "/"},
		{"...", "/..."}, {"/.../a", "/.../a"}, {"/..a", "/..a"}, {"/a..", "/a.."}, {"/. .", "/. ."}, {"/.. ", "/.. "},
		// One decoding is the protocol's; none is ours.
		{"/%2e%2e/a", "/%2e%2e/a"}, {"/%00", "/%00"}, {"/a%2fb", "/a%2fb"}, {"/%252e", "/%252e"},
		// "\" and what Windows reads otherwise are data here.
		{`\`, `/\`}, {`..\..\a`, `/..\..\a`}, {`C:\a`, `/C:\a`}, {"a:b", "/a:b"}, {"/con", "/con"}, {"/a.", "/a."},
		{`\\host\share`, `/\\host\share`},
		// Bytes are bytes: control, Latin-1, overlong UTF-8, a lone surrogate, bidi.
		{"/\x01\x1b[2J", "/\x01\x1b[2J"}, {"/\r\n", "/\r\n"}, {"/\xe9", "/\xe9"}, {"/\xc0\xae\xc0\xae", "/\xc0\xae\xc0\xae"},
		{"/\xc0\xaf", "/\xc0\xaf"}, {"/\xed\xa0\x80", "/\xed\xa0\x80"}, {"/\u202e", "/\u202e"}, {"/\xff\xfe", "/\xff\xfe"},
		// Look-alikes of dots and slashes are names.
		{"/．．/a", "/．．/a"}, {"/‥", "/‥"}, {"/a∕b", "/a∕b"}, {"/a⁄b", "/a⁄b"}, {"/\u200b", "/\u200b"},
		{"/-rf", "/-rf"}, {"/~", "/~"}, {"~/a", "/~/a"}, {"/$HOME", "/$HOME"}, {"/*", "/*"}, {"/ ", "/ "}, {" ", "/ "},
		{"/" + long, "/" + long}, {deep, deep}, {deep + "/", ""}, {"/" + long + "n", ""},
		{"/" + long + "n/..", "/"}, {strings.Repeat("/a/..", 800), "/"}, {strings.Repeat("../", 1365), "/"},
		{strings.Repeat("a", MaxPathBytes+1), ""}, {strings.Repeat("/", MaxPathBytes), "/"}, {strings.Repeat("/", MaxPathBytes+1), ""},
		{"\x00", ""}, {"/a\x00", ""}, {"/a\x00/../b", ""}, {"/a\x00.txt", ""},
	} {
		got, err := ParsePath(c.raw)
		if c.want == "" {
			if !errors.Is(err, ErrInvalidPath) {
				t.Errorf("ParsePath(%.40q) = %.40q, %v; want ErrInvalidPath", c.raw, got, err)
			}
			continue
		}
		if err != nil || got.String() != c.want {
			t.Errorf("ParsePath(%.40q) = %.40q, %v; want %.40q", c.raw, got, err, c.want)
		}
	}
}

// PATH-5: names that look or fold alike are different paths.
func TestPathIsByteExact(t *testing.T) {
	names := []string{"é", "e\u0301", "É", "I", "i", "ı", "İ", "ß", "ss", "SS", "ẞ", "a", "A", "ａ", ".", "．", "ﬁ", "fi", "K", "\u212a"}
	seen := map[Path]string{}
	for _, n := range names {
		p, err := ParsePath("/x/" + n)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[p]; ok {
			t.Errorf("%q and %q are one path", n, other)
		}
		seen[p] = n
	}
}

// PATH-3
func TestPathWithinTakesWholeNames(t *testing.T) {
	for _, c := range []struct {
		p, dir string
		want   bool
	}{
		{"/a/b", "/a", true}, {"/a/b", "/a/b", true}, {"/a/bb", "/a/b", false}, {"/a", "/a/b", false},
		{"/ab", "/a", false}, {"/", "/", true}, {"/", "/a", false}, {"/a", "/", true}, {"/a/b/c", "/a/b", true},
	} {
		if got := mustParse(t, c.p).Within(mustParse(t, c.dir)); got != c.want {
			t.Errorf("%s within %s = %v", c.p, c.dir, got)
		}
	}
}

func TestChildTakesOneName(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "/", "a/b", "/a", "a/", "a\x00", strings.Repeat("n", 256)} {
		if got, err := Root.Child(bad); !errors.Is(err, ErrInvalidPath) {
			t.Errorf("Child(%.20q) = %q, %v", bad, got, err)
		}
	}
	if got, err := mustParse(t, "/a").Child("b"); err != nil || got.String() != "/a/b" {
		t.Errorf("Child = %q, %v", got, err)
	}
}

func TestARelativePathMayNotGrowTooLong(t *testing.T) {
	base := mustParse(t, strings.Repeat("/"+strings.Repeat("n", 255), 15)) // 3840 bytes
	fits := strings.Repeat("x", 255)                                       // 4096 with its slash
	for _, name := range []string{fits, "./" + fits} {
		if got, err := base.Resolve(name); err != nil || len(got.String()) != MaxPathBytes {
			t.Errorf("the longest path: %d bytes, %v", len(got.String()), err)
		}
	}
	full, err := base.Child(fits)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := full.Resolve("x"); !errors.Is(err, ErrInvalidPath) {
		t.Errorf("%d bytes, %v", len(got.String()), err)
	}
	if got, err := base.Resolve(fits[:254] + "/"); err != nil {
		t.Errorf("%d bytes, %v", len(got.String()), err)
	}
	if _, err := base.Resolve("a/" + fits[:253]); err != nil { // 4096
		t.Error(err)
	}
	if _, err := base.Resolve("a/" + fits[:254]); !errors.Is(err, ErrInvalidPath) {
		t.Errorf("one too many: %v", err)
	}
}

func TestConfigPathTakesBackslashes(t *testing.T) {
	got, err := ParseConfigPath(`\a\b/..\c`)
	if err != nil || got.String() != "/a/c" {
		t.Fatalf("= %q, %v", got, err)
	}
}

// PATH-2
func TestWindowsNames(t *testing.T) {
	for _, bad := range []string{`a\b`, "a:b", "a::$DATA", "con", "CON", "Con.txt", "con .txt", "nul", "aux.h", "com1", "COM9.log",
		"LPT1", "a.", "a ", "...", " ", "a?", "a*", "<", ">", "|", `"`, "a\x1f", "PROGRA~1", "FILE~12.TXT", "COM¹", "conin$"} {
		if windowsTakes(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, good := range []string{"a", ".a", "a.b", "console", "com", "com10", "a b", "~", "~1", "backup~", "a~b", "é", "nulls.txt", "long-name~1.txt"} {
		if !windowsTakes(good) {
			t.Errorf("%q is refused", good)
		}
	}
}

func TestLinkTargetsStayInside(t *testing.T) { // SYM-1
	link := mustParse(t, "/a/b/link")
	for target, want := range map[string]error{
		"x": nil, "../x": nil, "../../x": nil, "./.././../x": nil, "c/../../../x": nil, "../../..": ErrEscape,
		"../../../x": ErrEscape, "/x": ErrEscape, "/": ErrEscape, "c/../../../../x": ErrEscape,
		"": ErrInvalidPath, "a\x00": ErrInvalidPath, strings.Repeat("a/", 2048): ErrInvalidPath,
		TempPrefix + "x": ErrEscape, "c/" + TempPrefix + "x": ErrEscape,
	} {
		if err := CheckLinkTarget(target, link); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%.20q: %v, want %v", target, err, want)
		}
	}
}

func TestTempNames(t *testing.T) {
	a, b := NewTempName(), NewTempName()
	if a == b || len(a) != len(TempPrefix)+20 || !IsTempName(a) || !mustParse(t, "/x/"+a+"/y").HasTempName() {
		t.Fatalf("%q %q", a, b)
	}
	for _, no := range []string{"", ".", "a" + a, ".gantry-uploads", ".gantry-upload"} {
		if IsTempName(no) {
			t.Errorf("%q is a temp name", no)
		}
	}
	if !IsTempName(".sftpgo-upload.x.y") || mustParse(t, "/x-upload.y/a").HasTempName() {
		t.Error("prefixes")
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"", "/", "/a/../b", "a//b", "../..", "/a\x00", "/\xff", "/a/./", strings.Repeat("n", 256)} {
		f.Add("/", s)
		f.Add("/x/y", s)
	}
	f.Fuzz(func(t *testing.T, base, raw string) {
		b, err := ParsePath(base)
		if err != nil {
			return
		}
		checkPath(t, b, raw)
	})
}

func TestResolveOfACleanPathDoesNotAllocate(t *testing.T) {
	raw := "/some/ordinary/directory/with/a/file.txt"
	p := mustParse(t, raw)
	dir := mustParse(t, "/some/ordinary")
	for name, f := range map[string]func(){
		"resolve": func() { _, _ = Root.Resolve(raw) },
		"walk":    func() { _, _ = p.Rel(dir); _ = p.Dir().Dir(); _ = p.Compare(dir) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	base, _ := ParsePath("/home/user")
	for _, raw := range []string{"/some/ordinary/directory/with/a/file.txt", "relative/file.txt", "/a/../b/"} {
		b.Run(fmt.Sprint(raw), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = base.Resolve(raw)
			}
		})
	}
}

func mustParse(t testing.TB, s string) Path {
	t.Helper()
	p, err := ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
