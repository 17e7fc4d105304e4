// Package gantrytest runs the built gantry for tests, as an operator would: a process with a configuration
// directory, a dump of accounts and signals.
package gantrytest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
)

// Wait bounds everything that a test waits for.
const Wait = 60 * time.Second

// Build compiles the program into dir and gives its path. pkg is the folder of cmd/gantry.
func Build(dir, pkg string) (string, error) {
	bin := filepath.Join(dir, "gantry")
	out, err := exec.Command("go", "build", "-C", pkg, "-o", bin, ".").CombinedOutput() // from within: a test may stand in another module
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
}

// Options describe a server.
type Options struct {
	Bin     string // of Build
	Dir     string // configuration directory; empty makes one
	Config  string // gantry.json; empty for none
	Dump    *account.Dump
	Env     []string // over the defaults of the harness
	Args    []string // of serve
	Secrets []string // must never stand in a log or on the console (LOG-1)
}

// Server is a running gantry. Its methods may be called by the test's goroutine alone, except Log.
type Server struct {
	Dir  string
	Addr string // of the SFTP listener, 127.0.0.1:port
	PID  int

	t    testing.TB
	o    Options
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	code int           // valid when done is closed
}

// Start runs gantry serve and waits until clients can connect. The end of the test stops it.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Config != "" {
		WriteFile(t, filepath.Join(o.Dir, "gantry.json"), o.Config)
	}
	args := append([]string{"serve", "-c", o.Dir}, o.Args...)
	if o.Dump != nil {
		if o.Dump.Version == 0 {
			o.Dump.Version = account.DumpVersion
		}
		data, err := json.Marshal(o.Dump)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(o.Dir, "initial.json")
		WriteFile(t, file, string(data))
		args = append(args, "--loaddata-from", file)
	}
	port := FreePort(t)
	s := &Server{Dir: o.Dir, Addr: "127.0.0.1:" + port, t: t, o: o, done: make(chan struct{})}
	s.cmd = exec.Command(o.Bin, args...)
	s.cmd.Env = append(append(os.Environ(),
		"GANTRY_SFTPD__BINDINGS__0__ADDRESS=127.0.0.1", "GANTRY_SFTPD__BINDINGS__0__PORT="+port, "GANTRY_SFTPD__HOST_KEYS=id_ed25519",
		"GANTRY_HTTPD__BINDINGS__0__PORT=0",
		"GANTRY_COMMON__MAX_PER_HOST_CONNECTIONS=0", "GANTRY_DATA_PROVIDER__PASSWORD_HASHING__BCRYPT_OPTIONS__COST=4"), o.Env...)
	out, err := os.OpenFile(filepath.Join(o.Dir, "console"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	before := s.Console()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Close()
	s.PID = s.cmd.Process.Pid
	go func() {
		s.cmd.Wait()
		s.code = s.cmd.ProcessState.ExitCode()
		close(s.done)
	}()
	t.Cleanup(func() { s.Stop(syscall.SIGTERM) })
	s.Until("the server is ready", func() bool {
		select {
		case <-s.done:
			t.Fatalf("gantry serve ended with code %d:\n%s", s.code, s.Console())
		default:
		}
		return strings.Contains(strings.TrimPrefix(s.Console(), before), "is ready")
	})
	return s
}

// Signal sends a signal.
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Errorf("signal %v: %v", sig, err)
	}
}

// Ended reports whether the process has ended.
func (s *Server) Ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Stop sends sig, unless the process has ended, waits for the end and gives the exit code: -1 for a signal that
// killed it. No secret may stand in what it wrote.
func (s *Server) Stop(sig syscall.Signal) int {
	s.t.Helper()
	if !s.Ended() {
		s.cmd.Process.Signal(sig) // it may end in between
	}
	return s.WaitEnd()
}

// WaitEnd waits for the process's end and gives the exit code.
func (s *Server) WaitEnd() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(Wait):
		s.cmd.Process.Kill()
		s.t.Fatalf("the server does not stop; console:\n%s", s.Console())
	}
	files, _ := filepath.Glob(filepath.Join(s.Dir, "*.log"))
	for _, f := range append(files, filepath.Join(s.Dir, "console")) {
		data, _ := os.ReadFile(f)
		for _, secret := range s.o.Secrets {
			if bytes.Contains(data, []byte(secret)) {
				s.t.Errorf("the secret %q stands in %s", secret, f)
			}
		}
	}
	return s.code
}

// Console gives what the process printed, of all starts in this directory.
func (s *Server) Console() string {
	data, _ := os.ReadFile(filepath.Join(s.Dir, "console"))
	return string(data)
}

// Log gives the records of gantry.log.
func (s *Server) Log() []map[string]any {
	s.t.Helper()
	f, err := os.Open(filepath.Join(s.Dir, "gantry.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	var out []map[string]any
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var m map[string]any
		if json.Unmarshal(lines.Bytes(), &m) == nil { // the last line may be half written
			out = append(out, m)
		}
	}
	return out
}

// WaitLog waits for a record whose members have these values.
func (s *Server) WaitLog(want map[string]any) {
	s.t.Helper()
	s.Until(fmt.Sprintf("a record with %v", want), func() bool {
	records:
		for _, m := range s.Log() {
			for k, v := range want {
				if fmt.Sprint(m[k]) != fmt.Sprint(v) {
					continue records
				}
			}
			return true
		}
		return false
	})
}

// Until waits until ok, or fails the test.
func (s *Server) Until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(Wait); !ok(); {
		if time.Now().After(end) {
			s.t.Fatalf("waited %v for: %s; console:\n%s", Wait, what, s.Console())
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// Verb runs another verb on the server's directory and gives its exit code, -1 when it did not end in time, and output.
func (s *Server) Verb(verb string, args ...string) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.o.Bin, append([]string{verb, "-c", s.Dir}, args...)...)
	cmd.Env = s.cmd.Env
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// Dump gives what the store holds.
func (s *Server) Dump() *account.Dump {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "dump.json")
	if code, out := s.Verb("dump", file); code != 0 {
		s.t.Fatalf("gantry dump: %d\n%s", code, out)
	}
	f, err := os.Open(file)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	d, err := account.DecodeDump(f, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// Dial logs in with x/crypto/ssh by password.
func (s *Server) Dial(user, password string) (*ssh.Client, error) {
	return ssh.Dial("tcp", s.Addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: Wait,
	})
}

// Port is the port of Addr.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	return port
}

// FreePort gives a port that was free a moment ago, below those that the kernel gives to outgoing connections: what
// runs beside a test does not come upon it.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(12_000 + rand.IntN(20_000))
		if l, err := net.Listen("tcp", ":"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// WriteFile writes a file for its owner alone, with its directories.
func WriteFile(t testing.TB, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Key is a client's key as files, for clients that are programs.
type Key struct {
	File   string // private
	Public string // line of an authorized_keys file
}

// NewKey makes a key with ssh-keygen in dir.
func NewKey(dir string) (Key, error) {
	file := filepath.Join(dir, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
		return Key{}, fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	pub, err := os.ReadFile(file + ".pub")
	if err != nil {
		return Key{}, err
	}
	f := strings.Fields(string(pub))
	if len(f) < 2 {
		return Key{}, fmt.Errorf("ssh-keygen wrote %q", pub)
	}
	return Key{File: file, Public: f[0] + " " + f[1]}, nil
}
