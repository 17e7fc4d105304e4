//go:build unix

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// clientWait bounds one run of a client program.
const clientWait = 10 * time.Minute

// need gives the path of a client program. Where it is not installed the test is skipped with the name of the Debian
// package, or fails under GANTRY_TEST_CLIENTS, which `make test` sets.
func need(t *testing.T, program, pkg string) string {
	t.Helper()
	file, err := exec.LookPath(program)
	if err != nil {
		missing(t, program, pkg)
	}
	return file
}

func missing(t *testing.T, what, pkg string) {
	t.Helper()
	say := t.Skipf
	if os.Getenv("GANTRY_TEST_CLIENTS") != "" {
		say = t.Fatalf
	}
	say("%s is not installed: apt-get install %s, or make deps", what, pkg)
}

// serve runs a server with the user "c" and gives the user's home.
func serve(t *testing.T, config string) (s *gantrytest.Server, home string) {
	t.Helper()
	home = t.TempDir()
	return gantrytest.Start(t, gantrytest.Options{Bin: bin, Config: config, Dump: oneUser(newUser("c", home))}), home
}

// program is a client's run: it must end well and in time.
type program struct {
	dir   string   // "" is ours
	env   []string // over ours
	stdin string
}

// run gives what the program wrote on its standard output, and then on the other. Each has a pipe of its own: ssh makes
// the one for errors non-blocking, and an sftp that shared it would lose lines.
func (p program) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Dir = p.dir
	cmd.Stdin = strings.NewReader(p.stdin)
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s%s", name, args, err, p.stdin, out.Bytes(), errs.Bytes())
	}
	return out.String() + errs.String()
}

// sshFlags keep the user's own settings out of OpenSSH's programs.
func sshFlags() []string {
	return []string{
		"-F", "/dev/null", "-i", key.File, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
	}
}

// makeTree fills dir with files of many kinds of names, sizes, modes and times.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	r := rand.NewChaCha8([32]byte{1})
	at := time.Unix(1_000_000_000, 0)
	add := func(name string, size int64, mode fs.FileMode) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		randomFile(t, file, size, r)
		at = at.Add(12345 * time.Second)
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	add("empty", 0, 0o644)
	add("one", 1, 0o600)
	add("a name with spaces.txt", 4097, 0o644)
	add("größe-日本.bin", 32768, 0o640)
	add("sub/32k+1", 32769, 0o755)
	add("sub/deep/er/3M", 3<<20+7, 0o644)
	add(".hidden/.file", 100, 0o644)
	for n := range 40 {
		add(fmt.Sprintf("many/%03d", n), int64(n*997), 0o644)
	}
}

func randomFile(t *testing.T, file string, size int64, r io.Reader) {
	t.Helper()
	f, err := os.Create(file)
	if err == nil {
		_, err = io.CopyN(f, r, size)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// manifest has a line for each file below dir: name, size, modification time in seconds, hash, and with modes its
// permissions.
func manifest(t *testing.T, dir string, modes bool) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v %d %d %x", strings.TrimPrefix(file, dir), info.Mode().Type(), info.Size(), info.ModTime().Unix(), hashOf(t, file))
		if modes {
			line += " " + info.Mode().String()
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func hashOf(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return h.Sum(nil)
}

// sameTree fails the test unless got holds what want holds, with the same times. It gives the number of files.
func sameTree(t *testing.T, want, got string, modes bool) int {
	t.Helper()
	w, g := manifest(t, want, modes), manifest(t, got, modes)
	if len(w) == 0 {
		t.Fatalf("%s is empty", want)
	}
	if slices.Equal(w, g) {
		return len(w)
	}
	shown := 0
	for _, side := range []struct {
		sign     string
		of, from []string
	}{{"-", w, g}, {"+", g, w}} {
		for _, line := range side.of {
			if _, found := slices.BinarySearch(side.from, line); !found && shown < 20 {
				t.Errorf("%s %s", side.sign, line)
				shown++
			}
		}
	}
	t.Errorf("%s and %s differ", want, got)
	return len(w)
}

func sameFile(t *testing.T, want, got string) {
	t.Helper()
	if w, g := hashOf(t, want), hashOf(t, got); !slices.Equal(w, g) {
		t.Errorf("%s is not %s: %x, want %x", got, want, g, w)
	}
}
