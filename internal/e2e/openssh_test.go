//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// sftpBatch runs OpenSSH's sftp with the lines as its batch file.
func sftpBatch(t *testing.T, s *gantrytest.Server, flags []string, lines ...string) string {
	t.Helper()
	args := append(sshFlags(), "-P", s.Port(), "-b", "-")
	args = append(append(args, flags...), "c@127.0.0.1")
	return program{stdin: strings.Join(lines, "\n") + "\n"}.run(t, need(t, "sftp", "openssh-client"), args...)
}

// TestOpenSSHSFTP: every verb of OpenSSH's sftp that SFTP version 3 and its extensions serve.
func TestOpenSSHSFTP(t *testing.T) {
	need(t, "sftp", "openssh-client")
	for mode := range 3 {
		t.Run(fmt.Sprintf("mode %d", mode), func(t *testing.T) {
			s, home := serve(t, fmt.Sprintf(`{"common":{"upload_mode":%d}}`, mode))
			local := t.TempDir()
			tree := filepath.Join(local, "tree")
			makeTree(t, tree)
			out := sftpBatch(t, s, nil,
				"lcd "+local,
				"mkdir d", "mkdir d/empty",
				"put -p tree/sub/deep/er/3M file", "put -pR tree d",
				"get -p file back", "get -pR d/tree treeback",
				"ls -l d/tree", "ls -1a d/tree", "df", "df -hi /d",
				"rename file moved", "chmod 600 moved", "ln -s moved link", "ln moved hard", "get link linked", "get hard harded",
				"ls -l link hard", "rmdir d/empty", "cd d/tree", "pwd", "rm empty", "!true",
			)
			for _, want := range []string{
				"Remote working directory: /d/tree", "a name with spaces.txt", "größe-日本.bin", "\n.hidden", "%",
			} {
				if !strings.Contains(strings.ReplaceAll(out, "d/tree/", ""), want) {
					t.Errorf("the output lacks %q", want)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
			file := filepath.Join(tree, "sub/deep/er/3M")
			for _, got := range []string{filepath.Join(local, "back"), filepath.Join(local, "linked"), filepath.Join(local, "harded"), filepath.Join(home, "moved")} {
				sameFile(t, file, got)
			}
			if err := os.Remove(filepath.Join(home, "d/tree/empty")); !os.IsNotExist(err) {
				t.Errorf("rm left the file: %v", err)
			}
			os.WriteFile(filepath.Join(home, "d/tree/empty"), nil, 0o644)
			at, err := os.Stat(filepath.Join(tree, "empty"))
			if err != nil {
				t.Fatal(err)
			}
			os.Chtimes(filepath.Join(home, "d/tree/empty"), at.ModTime(), at.ModTime())
			sameTree(t, tree, filepath.Join(home, "d/tree"), true)
			sameTree(t, tree, filepath.Join(local, "treeback"), true)
			if target, err := os.Readlink(filepath.Join(home, "link")); target != "moved" {
				t.Errorf("the link leads to %q, %v", target, err)
			}
			moved, err := os.Stat(filepath.Join(home, "moved"))
			if err != nil {
				t.Fatal(err)
			}
			hard, err := os.Stat(filepath.Join(home, "hard"))
			if err != nil {
				t.Fatal(err)
			}
			if moved.Mode() != 0o600 || !os.SameFile(moved, hard) {
				t.Errorf("chmod and ln made %v and %v", moved, hard)
			}
			if _, err := os.Stat(filepath.Join(home, "d/empty")); !os.IsNotExist(err) {
				t.Errorf("rmdir left the directory: %v", err)
			}
			if _, err := os.Stat(filepath.Join(home, "file")); !os.IsNotExist(err) {
				t.Errorf("rename left the old name: %v", err)
			}
		})
	}
}

// TestOpenSSHResumes: in upload mode 0 an upload that was cut by killing the client goes on where the file ends, and a
// cut download too.
func TestOpenSSHResumes(t *testing.T) {
	sftp := need(t, "sftp", "openssh-client")
	s, home := serve(t, `{"common":{"upload_mode":0}}`)
	local := t.TempDir()
	file, remote := filepath.Join(local, "file"), filepath.Join(home, "file")
	const size = 24 << 20
	randomFile(t, file, size, rand.NewChaCha8([32]byte{2}))

	cmd := exec.Command(sftp, append(sshFlags(), "-P", s.Port(), "-l", "64000", "-b", "-", "c@127.0.0.1")...) // 8 MB/s
	cmd.Stdin = strings.NewReader("put " + file + " file\n")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with its ssh
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.Until("a part is there", func() bool {
		info, err := os.Stat(remote)
		return err == nil && info.Size() > 1<<20
	})
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	cmd.Wait()
	info, err := os.Stat(remote)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() >= size {
		t.Fatal("the upload was not cut")
	}
	t.Logf("cut at %d of %d bytes", info.Size(), size)
	sftpBatch(t, s, nil, "reput "+file+" file")
	sameFile(t, file, remote)

	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(local, "part")
	if err := os.WriteFile(part, whole[:5_000_001], 0o600); err != nil {
		t.Fatal(err)
	}
	sftpBatch(t, s, nil, "reget file "+part)
	sameFile(t, file, part)
}

// TestOpenSSHLargeRequests: 200 MB with requests near the largest packet, and many of them under way.
func TestOpenSSHLargeRequests(t *testing.T) {
	need(t, "sftp", "openssh-client")
	s, home := serve(t, "")
	local := t.TempDir()
	file := filepath.Join(local, "file")
	randomFile(t, file, 200_000_000, rand.NewChaCha8([32]byte{3}))
	sftpBatch(t, s, []string{"-B", "262000", "-R", "256"}, "put "+file+" file", "get file "+filepath.Join(local, "back"))
	sameFile(t, file, filepath.Join(home, "file"))
	sameFile(t, file, filepath.Join(local, "back"))
}

// TestOpenSSHSCP: scp over SFTP and by its own old protocol.
func TestOpenSSHSCP(t *testing.T) {
	scp := need(t, "scp", "openssh-client")
	for _, mode := range []string{"-s", "-O"} {
		t.Run(mode, func(t *testing.T) {
			s, home := serve(t, "")
			local := t.TempDir()
			tree := filepath.Join(local, "tree")
			makeTree(t, tree)
			flags := append(sshFlags(), mode, "-P", s.Port(), "-r", "-p")
			program{}.run(t, scp, append(flags, tree, "c@127.0.0.1:/up")...)
			sameTree(t, tree, filepath.Join(home, "up"), true)
			program{}.run(t, scp, append(flags, "c@127.0.0.1:/up", filepath.Join(local, "back"))...)
			sameTree(t, tree, filepath.Join(local, "back"), true)
			one := filepath.Join(local, "one file")
			program{}.run(t, scp, append(flags, "c@127.0.0.1:/up/sub/32k+1", one)...)
			sameFile(t, filepath.Join(tree, "sub/32k+1"), one)
		})
	}
}

// TestOpenSSHListsManyFiles: ls -l of 100,000 files names each of them once, and the server does not hold the listing.
// RES-1.
func TestOpenSSHListsManyFiles(t *testing.T) {
	need(t, "sftp", "openssh-client")
	const files = 100_000
	s, home := serve(t, "")
	dir := filepath.Join(home, "many")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for n := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("a-file-of-many-%06d", n)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sftpBatch(t, s, nil, "ls -l /") // what a session costs is there
	before := peakMemory(t, s.PID)
	out := sftpBatch(t, s, nil, "ls -l /many")
	grown := peakMemory(t, s.PID) - before
	seen := make(map[string]int, files)
	for _, name := range regexp.MustCompile(`a-file-of-many-\d{6}\n`).FindAllString(out, -1) {
		seen[name]++
	}
	if len(seen) != files {
		t.Errorf("%d files are listed, want %d", len(seen), files)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s is listed %d times", strings.TrimSpace(name), n)
			break
		}
	}
	t.Logf("the peak of resident memory before: %d KiB, grown by %d KiB", before, grown)
	if grown > manyFilesKiB {
		t.Errorf("the listing cost %d KiB, want at most %d", grown, manyFilesKiB)
	}
}

// manyFilesKiB is what listing 100,000 files may cost at most: their longnames alone would be 8 MiB.
const manyFilesKiB = 16 << 10

// peakMemory is the largest resident memory that a process ever had, in KiB; 0 where the system has no /proc.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := bytes.Cut(data, []byte("VmHWM:"))
	f := bytes.Fields(line)
	if len(f) == 0 {
		t.Fatalf("no VmHWM in %q", data)
	}
	n, err := strconv.Atoi(string(f[0]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
