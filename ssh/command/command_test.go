package command_test

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/ssh/command"
	"github.com/gantryhq/gantry/vfs"
	"pgregory.net/rapid"
)

func TestSplitTakesWordsAsAShellDoes(t *testing.T) { // SSH-7
	for _, line := range []string{
		`md5sum a`, `  a  b	c `, `'a b' "c d" e\ f`, `"a\"b\\c\x"`, `''`, `"" ''x`, `a'b'"c"\d`, `a\'b`, `'it'\''s'`, `"it's"`, `-- -x`, `é 'ü'`, "'a\nb'", "\"a\nb\"", `"\a"`,
	} {
		got, err := command.Split(line)
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		out, err := exec.Command("sh", "-c", `for w in `+line+`; do printf '%s\0' "$w"; done`).Output()
		if err != nil {
			t.Skip(err)
		}
		if want := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, a shell has %q", line, got, want)
		}
	}
	// What a shell would expand or run is data.
	if got, err := command.Split("a $HOME `id` $(id) ; b | c & d > e * ? [x] {y,z} # f"); err != nil || len(got) != 18 {
		t.Errorf("%q, %v", got, err)
	}
	for _, line := range []string{`'`, `"`, `a "b`, `a\`, "a\nb", "a\rb", "a\x00b", "'a\x00'", "a\\\n", `"a\`, strings.Repeat("a", command.MaxLine+1), strings.Repeat("a ", command.MaxWords+1)} {
		if got, err := command.Split(line); !errors.Is(err, command.ErrLine) {
			t.Errorf("%.40q: got %q, %v; want a refusal", line, got, err)
		}
	}
}

func TestQuoteIsOneWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.StringN(0, 20, 60), 1, 5).Draw(t, "words")
		var quoted []string
		for _, w := range want {
			if strings.Contains(w, "\x00") {
				t.Skip()
			}
			quoted = append(quoted, command.Quote(w))
		}
		if got, err := command.Split(strings.Join(quoted, " ")); err != nil || !slices.Equal(got, want) {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	})
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{`scp -t "a b"`, `md5sum 'it'\''s'`, `a\`, `"\$"`, "\x00", "'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := command.Split(line)
		if err != nil {
			return
		}
		total := 0
		var quoted []string
		for _, w := range words {
			total += len(w)
			quoted = append(quoted, command.Quote(w))
		}
		if total > len(line) || len(words) > command.MaxWords {
			t.Fatalf("%d words of %d bytes out of %q", len(words), total, line)
		}
		again, err := command.Split(strings.Join(quoted, " "))
		if err != nil && len(strings.Join(quoted, " ")) <= command.MaxLine || err == nil && !slices.Equal(again, words) {
			t.Fatalf("%q: %q, and quoted %q, %v", line, words, again, err)
		}
	})
}

func newSession(t *testing.T, perms ...string) *session.Session {
	u := sessiontest.User("u")
	if len(perms) > 0 {
		u.Permissions = map[string][]string{"/": {"*"}, "/locked": perms}
	}
	s := sessiontest.NewSession(t, sessiontest.Options{}, u)
	for _, d := range []string{"/d", "/locked"} {
		if err := s.Mkdir(t.Context(), pathOf(t, d), vfs.Attr{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/f", "/d/x", "/d/a b", "/-n", "/l\nine"} {
		h, err := s.OpenFile(t.Context(), pathOf(t, name), session.Flags{Write: true, Create: true})
		if err != nil {
			t.Fatal(err)
		}
		h.WriteAt([]byte("abc"), 0)
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func pathOf(t *testing.T, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func run(t *testing.T, s *session.Session, line, stdin string) (int, string, string) {
	t.Helper()
	words, err := command.Split(line)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := command.Run(t.Context(), s, words, command.Streams{In: strings.NewReader(stdin), Out: &out, Err: &errs})
	return code, out.String(), errs.String()
}

func TestChecksums(t *testing.T) {
	s := newSession(t)
	long := strings.Repeat("more than one chunk of standard input\n", 10_000)
	for _, algo := range []string{"md5", "sha1", "sha256", "sha384", "sha512"} {
		sum := func(in string) string {
			c := exec.Command(algo + "sum")
			c.Stdin = strings.NewReader(in)
			out, err := c.Output()
			if err != nil {
				t.Skip(err)
			}
			return strings.Fields(string(out))[0]
		}
		abc := sum("abc")
		for line, want := range map[string]string{
			algo + "sum f":             abc + "  f\n",
			algo + "sum /d/x '/d/a b'": abc + "  /d/x\n" + abc + "  /d/a b\n",
			algo + "sum -- -n":         abc + "  -n\n",
			algo + "sum '/l\nine'":     `\` + abc + "  /l\\nine\n",
			algo + "sum ../../f":       abc + "  ../../f\n",
			algo + "sum ~/f":           abc + "  ~/f\n",
			algo + "sum":               sum(long) + "  -\n",
		} {
			if code, out, errs := run(t, s, line, long); code != 0 || out != want || errs != "" {
				t.Errorf("%s: %d %q %q, want %q", line, code, out, errs, want)
			}
		}
	}
}

func TestCommandsAndTheirRefusals(t *testing.T) { // HOOK-2, PATH-4
	s := newSession(t, "list", "create_dirs")
	for _, tt := range []struct {
		line      string
		code      int
		out, errs string
	}{
		{"pwd", 0, "/\n", ""},
		{"cd /anything", 0, "", ""},
		{"gantry-copy f g", 0, "OK\n", ""},
		{"sftpgo-copy d e", 0, "OK\n", ""},
		{"md5sum e/x", 0, "900150983cd24fb0d6963f7d28e17f72  e/x\n", ""},
		{"gantry-copy f g", 1, "", "gantry-copy: /f: file already exists\n"},
		{"gantry-copy f", 1, "", "gantry-copy: bad arguments: 2 are wanted, 1 were given\n"},
		{"gantry-copy f locked/f", 1, "", "gantry-copy: /locked/f: permission denied\n"},
		{"gantry-remove e", 0, "OK\n", ""},
		{"sftpgo-remove g", 0, "OK\n", ""},
		{"gantry-remove g", 1, "", "gantry-remove: /g: no such file or directory\n"},
		{"gantry-remove -rf", 1, "", "gantry-remove: bad arguments: the option \"-rf\" is not known\n"},
		{"gantry-remove ''", 1, "", "gantry-remove: bad arguments: an empty name\n"},
		{"gantry-remove /", 1, "", "gantry-remove: /: permission denied\n"},
		{"md5sum none", 1, "", "md5sum: /none: no such file or directory\n"},
		{"md5sum -c f", 1, "", "md5sum: bad arguments: the option \"-c\" is not known\n"},
		{"md5sum d", 1, "", "md5sum: /d: is a directory\n"},
		{"id", 127, "", "id: unknown command\n"},
	} {
		code, out, errs := run(t, s, tt.line, "")
		if code != tt.code || out != tt.out || errs != tt.errs {
			t.Errorf("%s: got %d %q %q, want %d %q %q", tt.line, code, out, errs, tt.code, tt.out, tt.errs)
		}
	}
	if code, _, errs := run(t, s, "md5sum "+command.Quote("/x\x1b]0;y\x07"), ""); code != 1 || strings.ContainsAny(errs, "\x1b\x07") { // LOG-1
		t.Errorf("%d %q", code, errs)
	}
	if got := fmt.Sprint(command.Names()); !strings.Contains(got, "gantry-copy") {
		t.Error(got)
	}
}
