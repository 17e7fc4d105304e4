//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The log's rotation keeps a goroutine for the life of the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"),
		// gnet's worker pool, which starts when it is imported.
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

// upload is an upload that was begun and waits to be gone on with.
type upload struct {
	client *sftp.Client
	file   *sftp.File
	close  func()
}

// beginUpload logs in as joe and writes the first bytes of name.
func (s *server) beginUpload(t *testing.T, name string) *upload {
	t.Helper()
	m := shownPassword.FindStringSubmatch(text(t, s.stdout))
	if m == nil {
		t.Fatal("no password was shown")
	}
	c, err := s.dial(t, "joe", m[1])
	if err != nil {
		t.Fatal(err)
	}
	sc, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sc.Close()
		c.Close()
	})
	f, err := sc.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("first ")); err != nil {
		t.Fatal(err)
	}
	return &upload{sc, f, func() { c.Close() }}
}

// waitForLog waits until the log holds a text.
func (s *server) waitForLog(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(s.dir, "gantry.log"))
		if err == nil && bytes.Contains(b, []byte(want)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log never says %q: %s", want, b)
		}
	}
}

func TestTransfersFinishWithinTheGraceTime(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, []string{"GANTRY_COMMON__UPLOAD_MODE=1"}, "--first-user", "joe", "--grace-time", "60")
	u := s.beginUpload(t, "/f")
	ended := make(chan int)
	go func() { ended <- s.end() }()
	s.waitForLog(t, `"message":"stopping"`)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := s.dial(t, "joe", "x")
		if err == nil {
			c.Close()
			t.Fatal("a wrong password logs in")
		}
		if strings.Contains(err.Error(), "refused") {
			break // no new connections
		}
		if time.Now().After(deadline) {
			t.Fatalf("connections are still accepted: %v", err)
		}
	}
	if _, err := u.file.Write([]byte("second")); err != nil {
		t.Errorf("an open transfer was cut: %v", err)
	}
	if err := u.file.Close(); err != nil {
		t.Errorf("an open transfer was cut: %v", err)
	}
	select {
	case code := <-ended: // long before the grace time is over
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the server waits although nothing is open")
	}
	if b, err := os.ReadFile(filepath.Join(dir, "users", "joe", "f")); err != nil || string(b) != "first second" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestSecondSignalEndsTheGraceTime(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, []string{"GANTRY_COMMON__UPLOAD_MODE=1"}, "--first-user", "joe", "--grace-time", "3600")
	s.beginUpload(t, "/f")
	ended := make(chan int)
	go func() { ended <- s.end() }()
	s.waitForLog(t, `"message":"stopping"`)
	s.sig <- syscall.SIGTERM
	select {
	case <-ended:
	case <-time.After(25 * time.Second):
		t.Fatal("the server does not end")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "users", "joe", "*")); len(left) != 0 {
		t.Errorf("a cut upload in mode 1 left %v", left)
	}
}

func TestStopWithoutGraceEndsTransfersInOrder(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, nil, "--first-user", "joe")
	u := s.beginUpload(t, "/f")
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := u.file.Write([]byte("late")); err == nil {
		t.Error("a write after the end works")
	}
	s.waitForLog(t, `"sender":"Upload"`) // its end is not lost (protocols.md 10.5)
	if b, err := os.ReadFile(filepath.Join(dir, "users", "joe", "f")); err != nil || string(b) != "first " {
		t.Errorf("mode 0 keeps the partial: got %q, %v", b, err)
	}
	again := startServer(t, dir, nil, "--first-user", "joe")
	users, err := again.node.store.User(t.Context(), "joe")
	if err != nil || users.UsedQuotaFiles != 0 && users.UsedQuotaFiles != 1 {
		t.Errorf("used files %d, %v", users.UsedQuotaFiles, err)
	}
}

func TestFailingListenerEndsTheServer(t *testing.T) {
	s := startServer(t, t.TempDir(), nil, "--first-user", "joe")
	s.node.listeners[0].Close()
	s.waitForLog(t, "a listener failed")
	if code := s.end(); code != 1 {
		t.Errorf("exit code %d", code)
	}
}

func TestPipeInPlaceOfADumpIsRefused(t *testing.T) { // RES-2
	dir := t.TempDir()
	pipe := filepath.Join(dir, "dump")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	if code, _, msg := run(t, cheap, "load", "-c", dir, pipe); code != 1 || !strings.Contains(msg, "regular file") {
		t.Errorf("%d %s", code, msg)
	}
}
