package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/secret"
)

// at is the time of every record here.
var at = time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.UTC)

// line gives the JSON line of one record.
func line(t *testing.T, with []any, level slog.Level, msg string, args ...any) string {
	t.Helper()
	var b bytes.Buffer
	h := NewJSON(&b, slog.LevelDebug, true).WithAttrs(slog.Group("", with...).Value.Group())
	r := slog.NewRecord(at, level, msg, 0)
	r.Add(args...)
	if err := h.Handle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b.Bytes()) || strings.Count(b.String(), "\n") != 1 || !strings.HasSuffix(b.String(), "}\n") {
		t.Errorf("not one JSON line: %q", b.String())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestConnectionFailedIsWhatFail2banReads(t *testing.T) { // guard.md 8.4
	const want = `{"level":"warn","time":"2026-03-04T05:06:07.089","sender":"connection_failed","client_ip":"192.0.2.7",` +
		`"username":"eve","login_type":"password","protocol":"SSH","error":"wrong password"}`
	args := []any{"client_ip", "192.0.2.7", "username", "eve", "login_type", "password", "protocol", "SSH", "error", errors.New("wrong password")}
	for _, msg := range []string{"", "connection_failed", "login failed"} {
		got := line(t, nil, slog.LevelWarn, msg, append([]any{"sender", "connection_failed"}, args...)...)
		if got != want {
			t.Errorf("message %q:\ngot  %s\nwant %s", msg, got, want)
		}
	}
	if got := line(t, []any{"sender", "connection_failed"}, slog.LevelWarn, "", args...); got != want {
		t.Errorf("sender by With:\ngot  %s\nwant %s", got, want)
	}
}

func TestAttributesKeepTheirOrderAndType(t *testing.T) {
	got := line(t, []any{"conn", 7, "sender", "ssh"}, slog.LevelInfo, "said <this> & that",
		"size_bytes", int64(5), "ok", true, "ratio", 0.5, "dur", 1500*time.Millisecond, slog.Group("a", "b", 1, slog.Group("c", "d", 2)), "u", uint64(9), "nil", nil)
	want := `{"level":"info","time":"2026-03-04T05:06:07.089","sender":"ssh","conn":7,"size_bytes":5,"ok":true,"ratio":0.5,"dur":"1.5s","a.b":1,"a.c.d":2,"u":9,"nil":"<nil>","message":"said <this> & that"}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	got = line(t, nil, slog.LevelDebug, "x", "sender", "Upload", "elapsed_ms", 3)
	if !strings.HasPrefix(got, `{"level":"debug","time":"2026-03-04T05:06:07.089","sender":"Upload","elapsed_ms":3`) {
		t.Errorf("got %s", got)
	}
	if got := line(t, nil, slog.LevelError, "x"); !strings.Contains(got, `"sender":"gantry"`) {
		t.Errorf("default sender: got %s", got)
	}
}

func TestGroupsNameWhatFollows(t *testing.T) {
	var b bytes.Buffer
	slog.New(NewJSON(&b, slog.LevelDebug, true)).With("a", 1).WithGroup("g").With("b", 2).Info("m", "c", 3)
	if got := b.String(); !strings.Contains(got, `"a":1,"g.b":2,"g.c":3,"message":"m"`) {
		t.Errorf("got %s", got)
	}
}

func TestHostileTextIsEscaped(t *testing.T) { // LOG-1
	hostile := "x\n{\"level\":\"info\"}\r\x1b[2J\x9b31m\x00\x7f\u0085\u2028\u202e\u200b\xff\"\\ü"
	got := line(t, nil, slog.LevelInfo, hostile, "username", hostile, "k\n\"ey", hostile, "error", errors.New(hostile))
	for _, bad := range []string{"\n", "\r", "\x1b", "\x9b", "\x00", "\x7f", "\u0085", "\u2028", "\u202e", "\u200b", "\xff"} {
		if strings.Contains(got, bad) {
			t.Errorf("%q got through: %q", bad, got)
		}
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(got), &m); err != nil {
		t.Fatal(err)
	}
	if u := m["username"].(string); !strings.HasPrefix(u, "x\n{\"level\"") || !strings.HasSuffix(u, "\"\\ü") {
		t.Errorf("the name is not kept: %q", u)
	}
	var b bytes.Buffer
	slog.New(NewConsole(&b, slog.LevelDebug, true, false)).Info(hostile, "username", hostile, "k\n\x1b", 1)
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		if isHarmful(r) {
			t.Errorf("%q got through to the terminal: %q", r, b.String())
		}
	}
}

func TestLongTextIsBounded(t *testing.T) { // LOG-1
	long := strings.Repeat("ü", 100_000)
	got := line(t, nil, slog.LevelInfo, long, "username", long, "error", errors.New(long))
	if len(got) > maxName+2*maxText+300 {
		t.Errorf("a record of %d bytes", len(got))
	}
	var m map[string]string
	if err := json.Unmarshal([]byte(got), &m); err != nil {
		t.Fatal(err)
	}
	if n := len(m["username"]); n > maxName+len("…") {
		t.Errorf("a user name of %d bytes", n)
	}
}

func TestSecretsNeverReachTheLog(t *testing.T) { // LOG-1
	const canary = "canary-4711"
	args := []any{
		"password", canary, "new_password", canary, "key_passphrase", []string{canary}, "token", canary, "authorization", canary, "private_key", canary,
		"secret", secret.Secret{Status: secret.Plain, Payload: canary}, "config", secret.Secret{Payload: canary},
		"uri", "/share/x?sig=" + canary, "hook", "https://user:" + canary + "@host/x?t=" + canary + " then http://a@b/",
		slog.Group("g", "password", canary), "error", errors.New(`Get "https://u:` + canary + `@h/p?q=` + canary + `": refused`),
	}
	got := line(t, []any{"db_password", canary}, slog.LevelInfo, "called https://u:"+canary+"@h/?"+canary, args...)
	if strings.Contains(got, canary) {
		t.Errorf("the canary is in %s", got)
	}
	if !strings.Contains(got, "then http://[redacted]@b/") || !strings.Contains(got, "host/x?[redacted]") {
		t.Errorf("too much or too little is gone: %s", got)
	}
	var b bytes.Buffer
	slog.New(NewConsole(&b, slog.LevelDebug, true, true)).Info("x https://u:"+canary+"@h/", args...)
	if strings.Contains(b.String(), canary) {
		t.Errorf("the canary is in %s", b.String())
	}
}

func TestConsoleForm(t *testing.T) {
	var b bytes.Buffer
	h := NewConsole(&b, slog.LevelInfo, true, false).WithAttrs([]slog.Attr{slog.String("sender", "ssh")})
	r := slog.NewRecord(at, slog.LevelWarn, "slow client", 0)
	r.Add("path", "/a b", "user", "joe", "n", 3)
	h.Handle(t.Context(), r)
	if want := "05:06:07.089 WARN  ssh: slow client path=\"/a b\" user=joe n=3\n"; b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

func TestFileRotatesAndLevelChanges(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Path = filepath.Join(dir, "sub", "gantry.log")
	l, err := Open(cfg, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Debug("not yet")
	l.Info("one")
	if err := l.Rotate(); err != nil {
		t.Fatal(err)
	}
	l.SetLevel(slog.LevelDebug)
	l.Debug("two")
	l.Flush()
	data, err := os.ReadFile(cfg.Path)
	if err != nil || !strings.Contains(string(data), `"message":"two"`) || strings.Contains(string(data), "one") {
		t.Errorf("got %s, %v", data, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "sub", "gantry-*.log"))
	if err != nil || len(files) != 1 {
		t.Fatalf("rotated files: %v, %v", files, err)
	}
	data, err = os.ReadFile(files[0])
	if err != nil || !strings.Contains(string(data), `"message":"one"`) || strings.Contains(string(data), "not yet") {
		t.Errorf("got %s, %v", data, err)
	}
	if st, err := os.Stat(cfg.Path); err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode of the log: %v, %v", st.Mode(), err)
	}
}

func TestLogThatCannotBeWrittenRefusesToOpen(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Path = t.TempDir() // a directory
	if _, err := Open(cfg, os.Stdout); err == nil {
		t.Error("no error")
	}
	cfg = DefaultConfig()
	cfg.Level, cfg.MaxAge = "loud", -1
	err := cfg.Validate()
	if err == nil || !strings.Contains(err.Error(), "log-level") || !strings.Contains(err.Error(), "log-max-age") {
		t.Errorf("got %v", err)
	}
}

// sink keeps what is written, each call by itself. While it is held it writes nothing.
type sink struct {
	hold   sync.Mutex
	mu     sync.Mutex // guards what follows
	writes []string
	wrote  chan struct{} // one for each write; nil
	came   chan struct{} // a write has begun; nil
}

func (s *sink) Write(p []byte) (int, error) {
	select {
	case s.came <- struct{}{}:
	default:
	}
	s.hold.Lock()
	defer s.hold.Unlock()
	s.mu.Lock()
	s.writes = append(s.writes, string(p))
	s.mu.Unlock()
	if s.wrote != nil {
		s.wrote <- struct{}{}
	}
	return len(p), nil
}

func (s *sink) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.writes, "")
}

func TestLinesAreWrittenSoon(t *testing.T) {
	s := &sink{wrote: make(chan struct{}, 1)}
	g := newGather(s)
	s.hold.Lock()
	g.Write([]byte("one\n"))
	g.Write([]byte("two\n"))
	s.hold.Unlock()
	<-s.wrote // nobody asks for it
	if got := s.all(); !strings.HasPrefix(got, "one\n") {
		t.Errorf("got %q", got)
	}
	g.Close()
	if got := s.all(); got != "one\ntwo\n" {
		t.Errorf("got %q", got)
	}
}

func TestManyLinesAreFewWritesInOrder(t *testing.T) {
	s := &sink{}
	g := newGather(s)
	const lines, size = 10_000, 100
	for i := range lines {
		fmt.Fprintf(g, "%0*d\n", size-1, i)
	}
	g.Close()
	got := strings.Split(strings.TrimSuffix(s.all(), "\n"), "\n")
	if len(got) != lines {
		t.Fatalf("%d lines of %d", len(got), lines)
	}
	for i, l := range got {
		if n, _ := strconv.Atoi(l); n != i {
			t.Fatalf("line %d is %q", i, l)
		}
	}
	for _, w := range s.writes {
		if len(w) > gatherMost || !strings.HasSuffix(w, "\n") {
			t.Errorf("a write of %d bytes, which ends in %q", len(w), w[len(w)-5:])
		}
	}
	if least := lines * size / gatherFull; len(s.writes) > 10*least {
		t.Errorf("%d writes of %d bytes", len(s.writes), lines*size)
	}
}

func TestWhoeverLogsWaitsForASlowDisk(t *testing.T) { // RES: what is gathered is bounded
	s := &sink{came: make(chan struct{}, 1)}
	g := newGather(s)
	s.hold.Lock()
	line := []byte(strings.Repeat("x", 999) + "\n")
	g.Write(line)
	var all sync.WaitGroup
	all.Go(func() { g.Flush() })
	<-s.came // from now on whoever flushes waits for that
	for range 2 {
		all.Go(func() {
			for range 500 {
				g.Write(line)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }() // ends with them
	for full := false; !full; runtime.Gosched() {
		g.mu.Lock()
		full = len(g.lines)+len(line) > gatherMost
		g.mu.Unlock()
	}
	select {
	case <-done:
		t.Error("a million bytes were taken while nothing was written")
	default:
	}
	s.hold.Unlock()
	<-done
	g.Close()
	if got := len(s.all()); got != 1001*len(line) {
		t.Errorf("%d bytes of %d", got, 1001*len(line))
	}
}

func TestErrorsAndTheEndAreWrittenAtOnce(t *testing.T) {
	s := &sink{}
	g := newGather(s)
	log := slog.New(NewJSON(g, slog.LevelInfo, true))
	log.Info("before")
	log.Error("trouble")
	if got := s.all(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `"message":"trouble"`) {
		t.Errorf("after an error: %q", got)
	}
	log.Info("last")
	g.Close()
	if got := s.all(); !strings.Contains(got, `"message":"last"`) {
		t.Errorf("after the end: %q", got)
	}
	log.Info("late")
	if got := s.all(); !strings.Contains(got, `"message":"late"`) {
		t.Errorf("behind the end: %q", got)
	}
}

func TestNoLineIsLostBetweenThoseWhoLogAtOnce(t *testing.T) {
	s := &sink{}
	g := newGather(s)
	var all sync.WaitGroup
	const each = 2000
	for who := range 8 {
		all.Go(func() {
			for i := range each {
				fmt.Fprintf(g, "%d %d %s\n", who, i, strings.Repeat("y", 200))
				if i%500 == 0 {
					g.Flush()
				}
			}
		})
	}
	all.Wait()
	g.Close()
	next := make([]int, 8)
	for _, l := range strings.Split(strings.TrimSuffix(s.all(), "\n"), "\n") {
		var who, i int
		if _, err := fmt.Sscan(l, &who, &i); err != nil || i != next[who] {
			t.Fatalf("%q after %d", l[:20], next[who])
		}
		next[who]++
	}
	for who, n := range next {
		if n != each {
			t.Errorf("%d has %d lines of %d", who, n, each)
		}
	}
}

type broken struct{ err error }

func (b *broken) Write(p []byte) (int, error) { return len(p), b.err }

func TestLinesGoToStandardErrorWhileTheFileFails(t *testing.T) {
	var other bytes.Buffer
	b := &broken{errors.New("disk full")}
	f := &fallback{w: b, other: &other}
	f.Write([]byte("one\n"))
	f.Write([]byte("two\n"))
	b.err = nil
	f.Write([]byte("three\n"))
	if got := other.String(); !strings.HasSuffix(got, "go here\none\ntwo\n") || strings.Count(got, "disk full") != 1 {
		t.Errorf("got %q", got)
	}
}

func TestLineIsWhatHandleWrites(t *testing.T) { // LOG-1
	attrs := []slog.Attr{
		slog.String("local_addr", "127.0.0.1:80"), slog.Int64("size_bytes", 7), slog.String("username", "eve\n\u202e"+strings.Repeat("x", 400)),
		slog.String("file_path", `/a"b\c/ftp://u:canary@h/?sig=canary`), slog.String("password", "canary"), slog.Any("error", errors.New("no\x1b[2J")),
	}
	for _, with := range [][]slog.Attr{nil, {slog.String("conn", "7")}, {slog.String("sender", "other")}} {
		var a, b bytes.Buffer
		left, right := NewJSON(&a, slog.LevelDebug, true).WithAttrs(with), NewJSON(&b, slog.LevelDebug, true).WithAttrs(with)
		for _, now := range []time.Time{at, at.Add(3 * time.Millisecond), at.Add(time.Hour), at} {
			r := slog.NewRecord(now, slog.LevelInfo, "", 0)
			r.AddAttrs(slog.String("sender", "Download"))
			r.AddAttrs(attrs...)
			if err := errors.Join(left.Handle(t.Context(), r), right.(*JSON).Line(slog.LevelInfo, now, "Download", attrs)); err != nil {
				t.Fatal(err)
			}
		}
		if a.String() != b.String() {
			t.Errorf("Line wrote\n%s\nHandle\n%s", b.String(), a.String())
		}
		if strings.Contains(b.String(), "canary") || strings.Count(b.String(), "\n") != 4 || !strings.Contains(b.String(), `"2026-03-04T06:06:07.089"`) {
			t.Errorf("lines: %s", b.String())
		}
	}
}
