package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// Peer is a server that can be compared.
type Peer interface {
	Name() string
	// Start serves the folder e.Data/<name>. It returns once connections are taken.
	Start(ctx context.Context, e *Env) (*Server, error)
}

// SFTPPeers are the SFTP servers that can be compared, ours first.
func SFTPPeers() []Peer { return []Peer{Gantry{}, OpenSSH{}, Rclone{}} }

// Env is what all peers of one run share.
type Env struct {
	Dir    string // settings, logs, keys
	Data   string // a folder in memory, with one folder for each peer
	Gantry string // the binary
	Key    string // file of the client's private key
	Log    io.Writer

	signer gossh.Signer
}

// NewEnv makes the folders and the client's key. Close removes them.
func NewEnv(ram, gantry string, log io.Writer) (*Env, error) {
	dir, err := os.MkdirTemp("", "gantry-bench-")
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp(ram, "gantry-bench-")
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	e := &Env{Dir: dir, Data: data, Gantry: gantry, Key: filepath.Join(dir, "key"), Log: log}
	if e.signer, err = writeKey(e.Key); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// Close removes everything.
func (e *Env) Close() {
	os.RemoveAll(e.Dir)
	os.RemoveAll(e.Data)
}

// publicKey is the client's, as authorized_keys has it.
func (e *Env) publicKey() string {
	return strings.TrimSpace(string(gossh.MarshalAuthorizedKey(e.signer.PublicKey())))
}

func writeKey(file string) (gossh.Signer, error) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := gossh.MarshalPrivateKey(k, "bench")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return gossh.NewSignerFromKey(k)
}

// Server is a peer that runs.
type Server struct {
	Peer string
	Addr string
	User string
	Root string // the served folder on disk
	Base string // the same as its client names it, without a slash at the end
	PID  int

	TLSAddr string // of HTTPS, where that is a port of its own
	// Of a server with all protocols.
	FTPAddr, DAVAddr, RESTAddr string

	greeting string    // how its protocol begins; empty is SSH
	hello    string    // what is sent for the greeting, where the client speaks first
	quit     os.Signal // ends it at once; nil is os.Interrupt
	cmd      *exec.Cmd
	env      []string
	stderr   string
	log      string        // Gantry's
	took     time.Duration // from its execution to the first greeting
	ended    chan struct{}
	stop     context.CancelFunc
}

// start runs a server in the foreground and waits for its greeting.
func start(ctx context.Context, e *Env, s *Server, name string, args ...string) (*Server, error) {
	ctx, s.stop = context.WithCancel(ctx)
	s.stderr = filepath.Join(e.Dir, s.Peer+".err")
	f, err := os.Create(s.stderr)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s.cmd = exec.CommandContext(ctx, name, args...)
	s.cmd.Stdout, s.cmd.Stderr = f, f
	s.cmd.Env = append(append(os.Environ(), "GOTRACEBACK=all"), s.env...)
	s.cmd.SysProcAttr = ownGroup()
	if s.quit == nil {
		s.quit = os.Interrupt
	}
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(s.quit) } // a server with workers takes them along
	s.cmd.WaitDelay = 5 * time.Second
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.PID, s.ended = s.cmd.Process.Pid, make(chan struct{})
	go func() { // ends with the server, which Stop ends and waits for
		s.cmd.Wait()
		close(s.ended)
	}()
	for end := began.Add(30 * time.Second); ; {
		if greeted(s.Addr, s.hello, s.greeting) {
			s.took = time.Since(began)
			return s, nil
		}
		select {
		case <-s.ended:
		case <-time.After(max(time.Millisecond, min(50*time.Millisecond, time.Since(began)/20))): // often while it may be near
			if time.Now().Before(end) {
				continue
			}
		}
		out, _ := os.ReadFile(s.stderr)
		s.Stop()
		return nil, fmt.Errorf("bench: %s did not start: %s", s.Peer, bytes.TrimSpace(out))
	}
}

func greeted(addr, hello, want string) bool {
	if want == "" {
		want = "SSH-"
	}
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, hello); err != nil {
		return false
	}
	b := make([]byte, len(want))
	_, err = io.ReadFull(c, b)
	return err == nil && string(b) == want
}

// Stop ends the server, waits for it, kills what it leaves and removes its files.
func (s *Server) Stop() {
	s.halt()
	os.RemoveAll(s.Root)
}

// halt is Stop that leaves the files.
func (s *Server) halt() {
	s.stop()
	<-s.ended
	killGroup(s.PID)
}

// at is the same server seen at another of its addresses. Stop is the first one's.
func (s *Server) at(addr string) *Server {
	v := *s
	v.Addr = addr
	return &v
}

// goroutines ends a Go server by SIGQUIT, which makes its runtime write all goroutines, and counts them.
func (s *Server) goroutines() (int, error) {
	if err := s.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		return 0, err
	}
	<-s.ended
	out, err := os.ReadFile(s.stderr)
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range bytes.Lines(out) {
		if bytes.HasPrefix(line, []byte("goroutine ")) {
			n++
		}
	}
	return n, nil
}

// freeAddr finds a port on loopback.
func freeAddr() (addr, port string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer l.Close()
	_, port, err = net.SplitHostPort(l.Addr().String())
	return l.Addr().String(), port, err
}

// Gantry is ours.
type Gantry struct {
	PasswordHash string // of the account; empty: it logs in by key alone
	Cold         int    // more accounts with the same key, named as coldUser has it
}

func (Gantry) Name() string { return "gantry" }

func (g Gantry) Start(ctx context.Context, e *Env) (*Server, error) {
	addr, port, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &Server{Peer: "gantry", Addr: addr, User: "bench", Root: filepath.Join(e.Data, "gantry")}
	account := gantryUser(s.User, s.Root, "public_keys", []string{e.publicKey()})
	if g.PasswordHash != "" {
		account["password"] = g.PasswordHash
	}
	users := []any{account}
	for i := range g.Cold {
		users = append(users, gantryUser(coldUser(i), s.Root, "public_keys", []string{e.publicKey()}))
	}
	return startGantry(ctx, e, s, ways{ssh: port}, map[string]any{"users": users})
}

// OpenSSH is sshd with its internal-sftp.
type OpenSSH struct{}

func (OpenSSH) Name() string { return "openssh" }

func (OpenSSH) Start(ctx context.Context, e *Env) (*Server, error) {
	sshd := "/usr/sbin/sshd" // it re-executes itself, so it wants an absolute path
	if _, err := os.Stat(sshd); err != nil {
		return nil, errors.New("bench: no /usr/sbin/sshd")
	}
	u, err := user.Current()
	if err != nil {
		return nil, err
	}
	addr, port, err := freeAddr()
	if err != nil {
		return nil, err
	}
	root := filepath.Join(e.Data, "openssh")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(e.Dir, "openssh-")
	if err != nil {
		return nil, err
	}
	if _, err := writeKey(filepath.Join(dir, "host")); err != nil {
		return nil, err
	}
	auth := filepath.Join(dir, "authorized_keys")
	if err := os.WriteFile(auth, gossh.MarshalAuthorizedKey(e.signer.PublicKey()), 0o600); err != nil {
		return nil, err
	}
	if u.Uid == "0" {
		os.MkdirAll("/run/sshd", 0o755) // Debian's sshd refuses to start without
	}
	conf := fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s\nPidFile none\nUsePAM no\nStrictModes no\n"+
		"PermitRootLogin prohibit-password\nAuthorizedKeysFile %s\nMaxStartups 2000\nSubsystem sftp internal-sftp\n",
		port, filepath.Join(dir, "host"), auth)
	file := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return start(ctx, e, &Server{Peer: "openssh", Addr: addr, User: u.Username, Root: root, Base: root}, sshd, "-D", "-e", "-f", file)
}
