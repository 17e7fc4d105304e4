//go:build unix

// Package dbtest starts real database servers for tests: PostgreSQL and MariaDB from Debian's packages, on a free
// loopback port, with their data in a temporary directory and without fsync.
package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Servers starts each server when it is first asked for. The zero value is ready; a TestMain closes it after m.Run. A
// test binary that is killed takes its servers along.
type Servers struct {
	mu       sync.Mutex // guards what follows
	postgres *Server
	mariadb  *Server
	failed   error // of a start: it is not tried again
}

// Server is a running database server.
type Server struct {
	Driver         string // postgresql or mysql, as in the configuration
	Host           string
	Port           int
	User, Password string

	dir   string
	start func() error
	cmd   *exec.Cmd
	stdin io.Closer // the server ends when this is closed
	mu    *sync.Mutex
	made  int // databases; guarded by mu
}

// ready bounds the wait for a server.
const ready = 2 * time.Minute

// Close ends the servers.
func (s *Servers) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range []*Server{s.postgres, s.mariadb} {
		if x != nil {
			x.Stop()
			os.RemoveAll(x.dir)
		}
	}
	s.postgres, s.mariadb = nil, nil
}

// Postgres is the PostgreSQL server. Without the package the test is skipped, or fails with GANTRY_TEST_CLIENTS.
func (s *Servers) Postgres(t testing.TB) *Server {
	t.Helper()
	return s.get(t, &s.postgres, newPostgres)
}

// MariaDB is the MariaDB server, see Postgres.
func (s *Servers) MariaDB(t testing.TB) *Server {
	t.Helper()
	return s.get(t, &s.mariadb, newMariaDB)
}

func (s *Servers) get(t testing.TB, at **Server, make func(*Server) error) *Server {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if *at != nil {
		return *at
	}
	if s.failed != nil {
		t.Fatalf("start a database server: %v", s.failed)
	}
	x := &Server{Host: "127.0.0.1", mu: new(sync.Mutex)}
	err := make(x)
	if missing, ok := err.(missing); ok && os.Getenv("GANTRY_TEST_CLIENTS") == "" {
		t.Skip(missing)
	}
	if err == nil {
		err = x.start()
	}
	if err != nil {
		os.RemoveAll(x.dir)
		s.failed = err
		t.Fatalf("start a database server: %v", err)
	}
	*at = x
	return x
}

// missing is a program that is not installed.
type missing string

func (m missing) Error() string { return string(m) + " is not installed" }

// find gives the path of a server's program: the newest of a pattern, or what PATH has.
func find(name, pattern string) (string, error) {
	list, _ := filepath.Glob(pattern)
	slices.SortFunc(list, func(a, b string) int { return len(a)*1000 - len(b)*1000 + strings.Compare(a, b) })
	if len(list) > 0 {
		return list[len(list)-1], nil
	}
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	return "", missing(name)
}

// credential is whom a server runs as: root is refused by both.
func credential(names ...string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return &syscall.SysProcAttr{Setpgid: true}, nil
	}
	for _, n := range append(names, "nobody") {
		if u, err := user.Lookup(n); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			return &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
		}
	}
	return nil, fmt.Errorf("there is no user %v to run it as", names)
}

// prepare makes the server's directory, the owner's alone.
func (s *Server) prepare(as *syscall.SysProcAttr) error {
	var err error
	if s.dir, err = os.MkdirTemp("", "gantry-db-"); err != nil {
		return err
	}
	if c := as.Credential; c != nil {
		return os.Chown(s.dir, int(c.Uid), int(c.Gid))
	}
	return nil
}

func run(as *syscall.SysProcAttr, dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr, cmd.Dir = as, dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "TMPDIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, out)
	}
	return nil
}

// launch starts the server under a shell that ends it when our end of its input goes.
func (s *Server) launch(as *syscall.SysProcAttr, args ...string) error {
	const script = `signal=$1; shift; "$@" & pid=$!; read x; kill -$signal $pid; wait $pid; exit 0`
	signal := "KILL"
	if s.Driver == "postgresql" {
		signal = "QUIT" // at once, with its children
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command("/bin/sh", append([]string{"-c", script, "sh", signal}, args...)...)
	s.cmd.SysProcAttr, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = as, s.dir, log, log
	s.cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "TMPDIR="+s.dir)
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(ready); ; {
		db, err := s.open("")
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			err = db.PingContext(ctx)
			cancel()
			db.Close()
		}
		if err == nil {
			return nil
		}
		if time.Now().After(end) || syscall.Kill(s.cmd.Process.Pid, 0) != nil {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.Stop()
			return fmt.Errorf("%s does not answer: %w\n%s", s.Driver, err, text)
		}
		time.Sleep(50 * time.Millisecond) // between two looks at what is starting
	}
}

// Stop ends the server at once, as a crash would. Start starts it again with what it held.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	s.stdin.Close()
	s.cmd.Wait()
	s.cmd = nil
}

// Start starts a stopped server again, at the same port.
func (s *Server) Start() error { return s.start() }

// open opens a database as the server's administrator; empty is the server's own.
func (s *Server) open(name string) (*sql.DB, error) {
	if s.Driver == "mysql" {
		return sql.Open("mysql", fmt.Sprintf("%s:%s@tcp(%s:%d)/%s", s.User, s.Password, s.Host, s.Port, name))
	}
	if name == "" {
		name = "postgres"
	}
	return sql.Open("pgx", fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable", s.Host, s.Port, s.User, s.Password, name))
}

// Exec runs statements in a database as its administrator.
func (s *Server) Exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	db, err := s.open(database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range statements {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// Open opens a database as its administrator, until the test ends.
func (s *Server) Open(t testing.TB, database string) *sql.DB {
	t.Helper()
	db, err := s.open(database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// Database makes an empty database and gives its name.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	s.mu.Lock()
	s.made++
	name := fmt.Sprintf("gantry%d", s.made)
	s.mu.Unlock()
	s.Exec(t, "", "CREATE DATABASE "+name)
	return name
}

// freePort gives a port that was free a moment ago, below those that the kernel gives to outgoing connections.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 12_000 + rand.IntN(20_000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port, nil
		}
	}
	return 0, err
}

func newPostgres(s *Server) error {
	initdb, err := find("initdb", "/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return err
	}
	if initdb, err = filepath.EvalSymlinks(initdb); err != nil {
		return err
	}
	as, err := credential("postgres")
	if err == nil {
		err = s.prepare(as)
	}
	if err != nil {
		return err
	}
	s.Driver, s.User, s.Password = "postgresql", "postgres", "app"
	if s.Port, err = freePort(); err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	if err := run(as, s.dir, initdb, "-D", data, "-A", "trust", "-U", s.User, "-E", "UTF8", "--no-sync"); err != nil {
		return err
	}
	s.start = func() error {
		return s.launch(as, filepath.Join(filepath.Dir(initdb), "postgres"), "-D", data, "-p", strconv.Itoa(s.Port), "-c", "listen_addresses=127.0.0.1",
			"-k", s.dir, "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200", "-c", "shared_buffers=64MB")
	}
	return nil
}

func newMariaDB(s *Server) error {
	daemon, err := find("mariadbd", "/usr/sbin/mariadbd")
	if err != nil {
		return err
	}
	install, err := find("mariadb-install-db", "/usr/bin/mariadb-install-db")
	if err != nil {
		return err
	}
	as, err := credential("mysql")
	if err == nil {
		err = s.prepare(as)
	}
	if err != nil {
		return err
	}
	s.Driver, s.User, s.Password = "mysql", "app", "app"
	if s.Port, err = freePort(); err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	if err := run(as, s.dir, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--tmpdir="+s.dir, "--innodb-log-file-size=16M"); err != nil {
		return err
	}
	// The account stands in a file that the server runs at each start.
	grants := filepath.Join(s.dir, "grants.sql")
	if err := os.WriteFile(grants, []byte("CREATE USER IF NOT EXISTS 'app'@'127.0.0.1' IDENTIFIED BY 'app';\nGRANT ALL ON *.* TO 'app'@'127.0.0.1';\n"), 0o644); err != nil {
		return err
	}
	// A commit is with the operating system, so that Stop loses none.
	s.start = func() error {
		return s.launch(as, daemon, "--no-defaults", "--datadir="+data, "--bind-address=127.0.0.1", "--port="+strconv.Itoa(s.Port), "--socket="+filepath.Join(s.dir, "s.sock"),
			"--tmpdir="+s.dir, "--init-file="+grants, "--skip-name-resolve", "--skip-log-bin", "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync", "--max-connections=200")
	}
	return nil
}
