package sftpfs_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/ssh"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/local"
	"github.com/gantryhq/gantry/vfs/sftpfs"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

var ctx = context.Background()

// server is where a storage connects to.
type server struct {
	cfg  sftpfs.Config
	root string // its directory here
}

// gantry serves a directory with our own server.
func gantry(t testing.TB) server {
	t.Helper()
	root := t.TempDir()
	u := sessiontest.User("ann")
	u.HomeDir = root
	cfg := session.DefaultConfig()
	env := sessiontest.New(t, sessiontest.Options{Config: &cfg, NewFS: func(_ context.Context, st session.Storage) (vfs.FS, error) {
		return local.New(st.Root, local.Options{})
	}}, u)
	sc := ssh.DefaultConfig()
	sc.ConfigDir, sc.HostKeys = t.TempDir(), []string{"id_ed25519"}
	sc.KeyboardInteractive = false
	srv, err := ssh.New(sc, env.Server, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		l.Close()
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		srv.Shutdown(short)
		<-done
	})
	return server{sftpfs.Config{Endpoint: l.Addr().String(), Username: "ann", Password: u.Password, Fingerprints: []string{srv.HostKeys()[0].Fingerprint}}, root}
}

// openssh serves the directories of this machine with OpenSSH's server.
func openssh(t testing.TB) server {
	t.Helper()
	const sshd = "/usr/sbin/sshd" // it runs itself again, so that it wants an absolute path
	if _, err := os.Stat(sshd); err != nil {
		if os.Getenv("GANTRY_TEST_CLIENTS") != "" {
			t.Fatal("no sshd: install openssh-server")
		}
		t.Skip("no sshd: install openssh-server")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for d := dir; d != "/" && me.Uid == "0"; d = filepath.Dir(d) { // sshd looks at who may write there
		os.Chmod(d, 0o755|os.ModeSticky&modeOf(d))
	}
	hostFile, host := newKey(t, filepath.Join(dir, "host"))
	_, signer := newKey(t, filepath.Join(dir, "mine"))
	keys := filepath.Join(dir, "authorized_keys")
	writeFile(t, keys, gossh.MarshalAuthorizedKey(signer.PublicKey()))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	conf := filepath.Join(dir, "sshd_config")
	writeFile(t, conf, []byte(strings.Join([]string{
		"Port " + port, "ListenAddress 127.0.0.1", "HostKey " + hostFile, "PidFile none", "UsePAM no", "StrictModes no", "MaxStartups 100", "MaxSessions 100",
		"AuthorizedKeysFile " + keys, "PermitRootLogin yes", "Subsystem sftp internal-sftp", "",
	}, "\n")))
	if me.Uid == "0" {
		os.MkdirAll("/run/sshd", 0o755) // Debian's wants it
	}
	cmd := exec.Command(sshd, "-D", "-e", "-f", conf)
	log := &strings.Builder{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("sshd: %.4000s", log)
		}
	})
	addr := net.JoinHostPort("127.0.0.1", port)
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not listen: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // between two looks, not in place of one
	}
	return server{sftpfs.Config{Endpoint: addr, Username: me.Username, Key: signer, Fingerprints: []string{gossh.FingerprintSHA256(host.PublicKey())}}, "/"}
}

// newKey makes a key in a file.
func newKey(t testing.TB, file string) (string, gossh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := gossh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, pem.EncodeToMemory(b))
	signer, err := gossh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return file, signer
}

func writeFile(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func modeOf(d string) os.FileMode {
	i, err := os.Stat(d)
	if err != nil {
		return 0
	}
	return i.Mode()
}

func pool(t testing.TB, o sftpfs.Options) *sftpfs.Pool {
	p := sftpfs.NewPool(o)
	t.Cleanup(p.Close)
	return p
}

// fresh is a storage on an empty directory of s.
func (s server) fresh(t testing.TB, p *sftpfs.Pool) *sftpfs.FS {
	t.Helper()
	dir, err := os.MkdirTemp(s.base(t), "t")
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.cfg
	cfg.Prefix = "/" + strings.TrimPrefix(strings.TrimPrefix(dir, s.root), "/")
	return s.open(t, p, cfg)
}

// base is a directory of the test that s serves.
func (s server) base(t testing.TB) string {
	if s.root == "/" {
		return t.TempDir()
	}
	return s.root
}

func (s server) open(t testing.TB, p *sftpfs.Pool, cfg sftpfs.Config) *sftpfs.FS {
	t.Helper()
	f, err := p.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func caps() vfstest.Caps {
	c := vfstest.All
	c.Owners, c.DirNoRepl, c.Copy, c.Sub = false, false, false, false
	c.Vague, c.Snapshot, c.Paths, c.Times = true, true, true, time.Second
	return c
}

func TestSuiteOnOurServer(t *testing.T) { suite(t, gantry(t)) }
func TestSuiteOnOpenSSH(t *testing.T)   { suite(t, openssh(t)) }

func suite(t *testing.T, s server) {
	t.Parallel()
	p := pool(t, sftpfs.Options{})
	vfstest.Run(t, func(t *testing.T) vfs.FS { return s.fresh(t, p) }, caps())
}

func path(t testing.TB, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
