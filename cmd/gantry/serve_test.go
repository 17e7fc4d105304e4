package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/sqlstore"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// testApp is a program whose output goes to files.
func testApp(t *testing.T, environ ...string) *app {
	t.Helper()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	// Tests run at the same time, and beside servers of others.
	environ = append([]string{"GANTRY_HTTPD__BINDINGS__0__PORT=0"}, environ...)
	return &app{stdin: strings.NewReader(""), stdout: open("stdout"), stderr: open("stderr"), environ: environ}
}

// text gives what was written to an output of a.
func text(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// run executes a verb and gives its exit code and outputs.
func run(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	a := testApp(t, environ...)
	code = a.run(args)
	return code, text(t, a.stdout), text(t, a.stderr)
}

// server is a serve under test.
type server struct {
	*app
	dir  string
	addr string
	node *node
	sig  chan os.Signal
	end  func() int // stops it, and gives the exit code; may be called again
}

// cheap is a host key that costs little to make, and hashes likewise.
var cheap = []string{"GANTRY_SFTPD__HOST_KEYS=id_ed25519", "GANTRY_DATA_PROVIDER__PASSWORD_HASHING__BCRYPT_OPTIONS__COST=4"}

// startServer serves dir on a free port until the end of the test.
func startServer(t *testing.T, dir string, environ []string, args ...string) *server {
	t.Helper()
	environ = append([]string{"GANTRY_SFTPD__BINDINGS__0__ADDRESS=127.0.0.1", "GANTRY_SFTPD__BINDINGS__0__PORT=" + gantrytest.FreePort(t)}, environ...)
	environ = append(environ, cheap...)
	s := &server{app: testApp(t, environ...), dir: dir, sig: make(chan os.Signal, 4)}
	f := &serveFlags{}
	cmd := s.serveCmd()
	cmd.ResetFlags()
	f.add(cmd.Flags())
	f.addLog(cmd.Flags())
	f.addLoad(cmd.Flags())
	cmd.Flags().IntVar(&f.scan, "loaddata-scan", 0, "")
	cmd.Flags().IntVar(&f.grace, "grace-time", 0, "")
	cmd.Flags().StringVar(&f.firstUser, "first-user", "", "")
	if err := cmd.ParseFlags(append([]string{"-c", dir}, args...)); err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan *node, 1), make(chan error, 1)
	go func() { done <- s.serve(context.Background(), f, cmd.Flags(), s.sig, func(n *node) { ready <- n }) }()
	s.end = sync.OnceValue(func() int {
		s.sig <- os.Interrupt
		select {
		case err := <-done:
			if err != nil {
				t.Logf("serve: %v", err)
				return 1
			}
			return 0
		case <-time.After(30 * time.Second):
			t.Error("the server does not stop")
			return 1
		}
	})
	select {
	case s.node = <-ready:
	case err := <-done:
		t.Fatalf("serve: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("the server does not start")
	}
	s.addr = s.node.addresses()[0]
	t.Cleanup(func() { s.end() })
	return s
}

// dial logs in by password.
func (s *server) dial(t *testing.T, user, password string) (*gossh.Client, error) {
	t.Helper()
	return gossh.Dial("tcp", s.addr, &gossh.ClientConfig{
		User: user, Auth: []gossh.AuthMethod{gossh.Password(password)}, HostKeyCallback: gossh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second,
	})
}

var shownPassword = regexp.MustCompile(`shown this once:\s+(\S+)`)

func TestFirstUserLogsInAndIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, nil, "--first-user", "joe", "--log-level", "debug")
	out := text(t, s.stdout)
	m := shownPassword.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no password is shown in %s", out)
	}
	c, err := s.dial(t, "joe", m[1])
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := s.dial(t, "joe", m[1]+"x"); err == nil {
		t.Error("a wrong password logs in")
	}
	for _, want := range []string{s.addr, "SHA256:", dir, "sftp -P"} {
		if !strings.Contains(out, want) {
			t.Errorf("the greeting lacks %q: %s", want, out)
		}
	}
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	log, err := os.ReadFile(filepath.Join(dir, "gantry.log"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(log, []byte(m[1])) || strings.Contains(text(t, s.stderr), m[1]) { // LOG-1
		t.Error("the password is in the log")
	}
	if !bytes.Contains(log, []byte(`"sender":"connection_failed","client_ip":"127.0.0.1","username":"joe","login_type":"password","protocol":"SSH","error":`)) {
		t.Errorf("no connection_failed record in %s", log)
	}
	for line := range bytes.Lines(log) {
		if !json.Valid(line) {
			t.Errorf("not JSON: %q", line)
		}
	}

	again := startServer(t, dir, nil, "--first-user", "joe")
	if out := text(t, again.stdout); shownPassword.MatchString(out) || !strings.Contains(out, "was there already") {
		t.Errorf("second start: %s", out)
	}
	if c, err := again.dial(t, "joe", m[1]); err != nil {
		t.Errorf("the password changed: %v", err)
	} else {
		c.Close()
	}
}

func TestStartWithoutAccountsSaysWhatToDo(t *testing.T) {
	s := startServer(t, t.TempDir(), nil)
	if out := text(t, s.stdout); !strings.Contains(out, "There is no account yet") || !strings.Contains(out, "FIRST_USER=") || !strings.Contains(out, "gantry load") {
		t.Errorf("got %s", out)
	}
}

// dumpOf is a dump with one user.
func dumpOf(name, password, home string) string {
	return fmt.Sprintf(`{"users":[{"username":%q,"password":%q,"home_dir":%q,"status":1,"permissions":{"/":["*"]}}],"version":10}`, name, password, home)
}

func TestInitialLoadIsAllOrTheStartFails(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.json"), filepath.Join(dir, "bad.json")
	writeFile(t, good, dumpOf("ann", "secret-1", filepath.Join(dir, "ann")))
	writeFile(t, bad, strings.Replace(dumpOf("bob", "secret-2", filepath.Join(dir, "bob")), `["*"]`, `["fly"]`, 1))

	s := startServer(t, dir, []string{"SFTPGO_LOADDATA_FROM=" + good, "SFTPGO_LOADDATA_CLEAN=1", "SFTPGO_LOADDATA_QUOTA_SCAN=1"})
	c, err := s.dial(t, "ann", "secret-1")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	s.end()
	if _, err := os.Stat(good); err == nil {
		t.Error("--loaddata-clean did not remove the dump")
	}

	a := testApp(t, "HOME=/nonexistent", "GANTRY_SFTPD__BINDINGS__0__PORT="+gantrytest.FreePort(t), "GANTRY_SFTPD__HOST_KEYS=id_ed25519")
	if code := a.run([]string{"serve", "-c", dir, "--loaddata-from", bad, "--loaddata-clean"}); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if msg := text(t, a.stderr); !strings.Contains(msg, "bob") || !strings.Contains(msg, "fly") || !strings.Contains(msg, "nothing was changed") {
		t.Errorf("the message: %s", msg)
	}
	if _, err := os.Stat(bad); err != nil {
		t.Error("a dump that was not loaded is gone")
	}
	if got := usersIn(t, dir); got != "ann" {
		t.Errorf("users: %s", got)
	}
}

// usersIn lists the users of the database in dir.
func usersIn(t *testing.T, dir string) string {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "gantry.db"), Rules: account.DefaultRules()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	users, err := store.ListUsers(t.Context(), account.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, u := range users {
		names = append(names, u.Username)
	}
	return strings.Join(names, " ")
}

func TestFailedStartLeavesTheAccountsAlone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for name, tt := range map[string]struct{ environ, want string }{
		"port in use":  {"GANTRY_SFTPD__BINDINGS__0__PORT=" + port, "in use"},
		"no binding":   {"GANTRY_SFTPD__BINDINGS__0__PORT=0", "no service is enabled"},
		"bad value":    {"GANTRY_COMMON__UPLOAD_MODE=9x", "common.upload_mode"},
		"bad log":      {"GANTRY_LOG_FILE_PATH=" + t.TempDir(), "log file"},
		"bad grace":    {"GANTRY_GRACE_TIME=-1", "grace-time"},
		"bad database": {"GANTRY_DATA_PROVIDER__NAME=/dev/null", "not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := testApp(t, "GANTRY_SFTPD__BINDINGS__0__ADDRESS=127.0.0.1", "GANTRY_SFTPD__HOST_KEYS=id_ed25519", tt.environ)
			if name != "port in use" && name != "no binding" {
				a.environ = append(a.environ, "GANTRY_SFTPD__BINDINGS__0__PORT="+gantrytest.FreePort(t))
			}
			dump := filepath.Join(dir, "dump.json")
			writeFile(t, dump, dumpOf("ann", "secret", "/x"))
			if code := a.run([]string{"serve", "-c", dir, "--loaddata-from", dump}); code != 1 {
				t.Errorf("exit code %d", code)
			}
			if msg := text(t, a.stderr); !strings.Contains(msg, tt.want) {
				t.Errorf("the message %q lacks %q", msg, tt.want)
			}
			if _, err := os.Stat(filepath.Join(dir, "gantry.db")); err == nil {
				t.Error("a database was made")
			}
		})
	}
}

func TestMemoryProviderServesTheDumpItNames(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "accounts.json"), dumpOf("ann", "secret-1", filepath.Join(dir, "ann")))
	s := startServer(t, dir, []string{"SFTPGO_DATA_PROVIDER__DRIVER=memory", "SFTPGO_DATA_PROVIDER__NAME=accounts.json"})
	c, err := s.dial(t, "ann", "secret-1")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := os.Stat(filepath.Join(dir, "gantry.db")); err == nil {
		t.Error("a database was made")
	}
}

func TestDatabaseOfAnotherProgramIsRefusedUntouched(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "gantry.db")
	db, err := sql.Open(sqlDriver(), file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE users (id INTEGER)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a := testApp(t, append(cheap, "GANTRY_SFTPD__BINDINGS__0__PORT="+gantrytest.FreePort(t), "GANTRY_SFTPD__BINDINGS__0__ADDRESS=127.0.0.1")...)
	if code := a.run([]string{"serve", "-c", dir}); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if msg := text(t, a.stderr); !strings.Contains(msg, "gantry load") {
		t.Errorf("the message does not say how to import: %s", msg)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file changed: %v", err)
	}
}

// sqlDriver names the SQLite driver of this build.
func sqlDriver() string {
	if cgo {
		return "sqlite3"
	}
	return "sqlite"
}

func TestLogOnStandardOutputStaysJSON(t *testing.T) {
	s := startServer(t, t.TempDir(), nil, "-l", "", "--first-user", "joe")
	s.end()
	for line := range strings.Lines(text(t, s.stdout)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %q", line)
		}
	}
	if !shownPassword.MatchString(text(t, s.stderr)) {
		t.Error("the password is not on standard error")
	}
}
