package scp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/ssh/command"
	"github.com/gantryhq/gantry/ssh/scp"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/nastytest"
)

func newSession(t testing.TB, perms ...string) *session.Session {
	u := sessiontest.User("u")
	if len(perms) > 0 {
		u.Permissions = map[string][]string{"/": perms}
	}
	return sessiontest.NewSession(t, sessiontest.Options{}, u)
}

// talk runs one command with all of the client's bytes at once.
func talk(t testing.TB, s *session.Session, line, in string) (int, string, error) {
	t.Helper()
	words, err := command.Split(line)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code, err := scp.Serve(context.Background(), struct {
		io.Reader
		io.Writer
	}{strings.NewReader(in), &out}, s, words)
	return code, out.String(), err
}

func content(t testing.TB, s *session.Session, name string) (string, vfs.FileInfo) {
	t.Helper()
	p, err := vfs.ParsePath(name)
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Stat(t.Context(), p)
	if err != nil {
		return "", i
	}
	h, err := s.OpenFile(t.Context(), p, session.Flags{Read: true})
	if err != nil {
		return err.Error(), i
	}
	defer h.Close(t.Context())
	b := make([]byte, i.Size)
	h.ReadAt(b, 0)
	return string(b), i
}

func TestSinkAndSourceTranscripts(t *testing.T) {
	s := newSession(t)
	for _, tt := range []struct {
		line, in, out string
		code          int
	}{
		{"-t f", "C0640 5 x\nhello\x00", "\x00\x00\x00", 0},
		{"-p -t f2", "T1600000000 0 1600000001 0\nC0600 2 x\nhi\x00", "\x00\x00\x00\x00", 0},
		{"-r -p -t tree", "T1500000000 0 1500000000 0\nD0750 0 any\nC0644 0 empty\n\x00D0755 0 sub\nC0644 1 a b\nx\x00E\nE\n", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 0},
		{"-t -d tree", "C0644 1 one\n1\x00C0644 1 two\n2\x00", "\x00\x00\x00\x00\x00", 0},
		{"-f f", "\x00\x00\x00", "C0640 5 f\nhello\x00", 0},
		{"-p -f f2", "\x00\x00\x00\x00", "T1600000000 0 1600000001 0\nC0600 2 f2\nhi\x00", 0},
		{"-r -f tree", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "D0750 0 tree\nC0644 0 empty\n\x00C0644 1 one\n1\x00D0755 0 sub\nC0644 1 a b\nx\x00E\nC0644 1 two\n2\x00E\n", 0},
		{"-f none f", "\x00\x00\x00", "\x01scp: /none: no such file or directory\nC0640 5 f\nhello\x00", 1},
		{"-f tree", "\x00", "\x01scp: /tree: not a regular file\n", 1},
		{"-f 'f*'", "\x00", "\x01scp: /f*: no such file or directory\n", 1}, // SSH-7: nothing is expanded
		{"-f -- -x", "\x00", "\x01scp: /-x: no such file or directory\n", 1},
		{"-t -d f", "", "\x02scp: /f: not a directory\n", 1},
		{"-t none/f", "C0644 1 x\n", "\x00\x01scp: /none/f: no such file or directory\n", 1},
		{"-f -t f", "", "\x02scp: bad arguments: one of -t and -f is wanted\n", 1},
		{"-S x -f f", "", "\x02scp: bad arguments: the option -'S' is not known\n", 1},
		{"-t .", "D0755 0 x\n", "\x00\x02scp: protocol error: a directory without -r\n", 1},
		{"-t .", "E\n", "\x00\x02scp: protocol error: E outside of a directory\n", 1},
		{"-r -t .", "\x01scp: a local file is gone\nC0644 1 late\nx\x00", "\x00\x00\x00", 1},
	} {
		code, out, err := talk(t, s, tt.line, tt.in)
		if code != tt.code || out != tt.out || (err == nil) != (code == 0) {
			t.Errorf("%s %q:\ngot  %d %q, %v\nwant %d %q", tt.line, tt.in, code, out, err, tt.code, tt.out)
		}
	}
	if got, i := content(t, s, "/f2"); got != "hi" || i.ModTime.Unix() != 1600000000 || i.Mode.Perm() != 0o600 {
		t.Errorf("%q %v", got, i)
	}
	if _, i := content(t, s, "/tree"); i.Mode.Perm() != 0o750 {
		t.Errorf("%v", i)
	}
	if _, i := content(t, s, "/tree/sub"); time.Since(i.ModTime) > time.Hour {
		t.Errorf("%v", i)
	}
}

func TestHostileLinesAreRefused(t *testing.T) { // SSH-7, CVE-2019-6111
	for _, line := range []string{
		"C0644 1 ../x", "C0644 1 /x", "C0644 1 .", "C0644 1 ..", "C0644 1 ", "C0644 1", "C0644 -1 x", "C0644 +1 x", "C0644 99999999999999999999 x", "C0644 4503599627370496000 x",
		"C644 1 x", "C0888 1 x", "C0644  1 x", "D0755 0 ..", "D0755 0 a/b", "C0644 1 a\x1b[2J", "C0644 1 a\rb", "C0644 1 a\x00b", "C0644 1 " + strings.Repeat("n", 256),
		"T1 0 1", "T-1 0 1 0", "T1 0 1 1000000", "T1 0 1 0 0", "Ex", "X", "", strings.Repeat("x", 5000), "c0644 1 x",
	} {
		s := newSession(t)
		code, out, err := talk(t, s, "-r -t .", line+"\n"+"x\x00")
		if code != 1 || err == nil || !strings.HasPrefix(out, "\x00\x02scp: ") || strings.ContainsAny(out[1:], "\x00\x1b\r") {
			t.Errorf("%.60q: %d %q, %v", line, code, out, err)
		}
		for i, err := range s.List(t.Context(), vfs.Root) {
			t.Errorf("%.60q made %q, %v", line, i.Name, err)
		}
	}
}

func TestUploadsAreWholeOrNothing(t *testing.T) {
	for mode := range 3 {
		cfg := session.DefaultConfig()
		cfg.UploadMode = mode
		s := sessiontest.NewSession(t, sessiontest.Options{Config: &cfg}, sessiontest.User("u"))
		if code, _, err := talk(t, s, "-t f", "C0644 3 f\nold\x00"); code != 0 {
			t.Fatal(err)
		}
		for _, in := range []string{"C0644 10 f\nhalf", "C0644 4 f\nfour", "C0644 4 f\nfour\x01scp: it changed\n", "C0644 4 f\nfour\x02\n", "C0644 4 f\nfour\x07", "C0644 4 f\n"} {
			if code, _, err := talk(t, s, "-t f", in); code != 1 || err == nil {
				t.Errorf("mode %d, %q: exit %d, %v", mode, in, code, err)
			}
			if got, _ := content(t, s, "/f"); got != "old" {
				t.Errorf("mode %d, after %q the file is %q", mode, in, got)
			}
			talk(t, s, "-t new", in)
			if got, i := content(t, s, "/new"); i.Mode != 0 {
				t.Errorf("mode %d, %q left %q", mode, in, got)
			}
		}
	}
}

func TestQuotaStopsAnUploadInStep(t *testing.T) { // QUO-1
	u := sessiontest.User("u")
	u.QuotaSize = 10
	s := sessiontest.NewSession(t, sessiontest.Options{}, u)
	code, out, _ := talk(t, s, "-t -d .", "C0644 8 a\n12345678\x00C0644 8 b\nC0644 1 c\nx\x00")
	if code != 1 || out != "\x00\x00\x00\x01scp: /b: no space left\n\x00\x00" {
		t.Errorf("%d %q", code, out)
	}
	if got, _ := content(t, s, "/c"); got != "x" {
		t.Errorf("the next file is %q", got)
	}
}

func TestPermissionsAreAskedForEachFile(t *testing.T) { // PATH-4
	s := newSession(t, "list", "upload")
	if code, out, _ := talk(t, s, "-t f", "C0644 1 f\nx\x00"); code != 0 {
		t.Errorf("%q", out)
	}
	for line, in := range map[string]string{"-t f": "C0644 1 f\n", "-f f": "\x00", "-r -t .": "D0755 0 d\n"} {
		if code, out, _ := talk(t, s, line, in); code != 1 || !strings.Contains(out, "permission denied") {
			t.Errorf("%s: %d %q", line, code, out)
		}
	}
}

func FuzzServe(f *testing.F) {
	for _, s := range []string{"C0640 5 x\nhello\x00", "T1 0 1 0\nD0750 0 any\nC0644 0 empty\n\x00E\n", "\x00\x00\x00\x00", "\x01text\n", "\x02"} {
		f.Add("-r -p -t .", s)
		f.Add("-r -f .", s)
		f.Add("-t x", s)
	}
	f.Fuzz(func(t *testing.T, line, in string) {
		words, err := command.Split(line)
		if err != nil {
			return
		}
		code, err := scp.Serve(t.Context(), struct {
			io.Reader
			io.Writer
		}{strings.NewReader(in), io.Discard}, newSession(t), words)
		if (code == 0) != (err == nil) {
			t.Fatalf("exit %d, %v", code, err)
		}
	})
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{"C0640 5 x", "D0755 0 a b", "E", "T1 2 3 4", "C0644 1 \xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := scp.ParseLine(s)
		if err != nil {
			return
		}
		again := "E"
		switch l.Kind {
		case 'T':
			again = fmt.Sprintf("T%d %d %d %d", l.Mtime.Unix(), l.Mtime.Nanosecond()/1000, l.Atime.Unix(), l.Atime.Nanosecond()/1000)
		case 'C', 'D':
			again = fmt.Sprintf("%c%04o %d %s", l.Kind, l.Mode, l.Size, l.Name)
		}
		if m, err := scp.ParseLine(again); err != nil || m != l {
			t.Fatalf("%q is %+v, and %q is %+v, %v", s, l, again, m, err)
		}
	})
}

func TestNastyNames(t *testing.T) { // PATH-1, PATH-2
	carries := func(n nastytest.Nasty) bool { // as an argument, quoted
		return n.Raw != "" && !strings.Contains(n.Raw, "\x00") && len(n.Raw) < command.MaxLine/4 && n.Raw != "~" && !strings.HasPrefix(n.Raw, "~/")
	}
	nastytest.Run(t, nastytest.Options{Carries: carries}, func(t *testing.T, f vfs.FS) nastytest.Client {
		return nasty{t, sessiontest.NewSession(t, sessiontest.Options{NewFS: func(context.Context, session.Storage) (vfs.FS, error) {
			return kept{f}, nil
		}}, sessiontest.User("u"))}
	})
}

type kept struct{ vfs.FS }

func (k kept) Unwrap() vfs.FS { return k.FS }
func (k kept) Close() error   { return nil }

type nasty struct {
	t *testing.T
	s *session.Session
}

func (n nasty) Put(raw, content string) error {
	// To a directory the name in the line would be used: it is made to be refused there.
	code, out, err := talk(n.t, n.s, "-t -- "+command.Quote(raw), fmt.Sprintf("C0644 %d .\n", len(content)))
	if strings.Contains(out, "unexpected name") {
		p, perr := command.Resolve(n.s, raw)
		if perr != nil || p.IsRoot() {
			return errors.New("a directory")
		}
		code, out, err = talk(n.t, n.s, "-t -- "+command.Quote(raw), fmt.Sprintf("C0644 %d x\n%s\x00", len(content), content))
	}
	if code != 0 {
		return fmt.Errorf("%q: %w", out, err)
	}
	return nil
}

func (n nasty) Get(raw string) (string, error) {
	code, out, err := talk(n.t, n.s, "-f -- "+command.Quote(raw), "\x00\x00\x00")
	_, rest, _ := strings.Cut(out, "\n")
	if code != 0 {
		// A name with control bytes cannot go over the wire in this direction.
		if p, perr := vfs.ParsePath(raw); strings.Contains(out, "cannot carry") && perr == nil {
			got, _ := content(n.t, n.s, p.String())
			return got, nil
		}
		return "", fmt.Errorf("%q: %w", out, err)
	}
	return strings.TrimSuffix(rest, "\x00"), nil
}

func (n nasty) Remove(raw string) error {
	var errs bytes.Buffer
	words := []string{"gantry-remove", "--", raw}
	if code := command.Run(context.Background(), n.s, words, command.Streams{Out: io.Discard, Err: &errs}); code != 0 {
		return errors.New(errs.String())
	}
	return nil
}
