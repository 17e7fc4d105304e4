//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// TestSSHFS: programs work on a mounted Gantry as on a disk: in each upload mode a file can be looked at, changed and
// renamed while it is being written.
func TestSSHFS(t *testing.T) {
	need(t, "sshfs", "sshfs")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("the system gives no FUSE: %v", err)
	}
	for mode := range 3 {
		t.Run(fmt.Sprintf("mode %d", mode), func(t *testing.T) {
			s, home := serve(t, fmt.Sprintf(`{"common":{"upload_mode":%d}}`, mode))
			writeThroughMount(t, mountSSHFS(t, s), home)
		})
	}
}

func writeThroughMount(t *testing.T, mnt, home string) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := make([]byte, 3<<20+11)
	rand.NewChaCha8([32]byte{6}).Read(data)
	cut := len(data) / 2

	f, err := os.OpenFile(filepath.Join(mnt, "writing"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	check(err)
	defer f.Close()
	_, err = f.Write(data[:cut])
	check(err)
	check(f.Sync())
	info, err := os.Stat(filepath.Join(mnt, "writing"))
	check(err)
	if info.Size() != int64(cut) {
		t.Errorf("while writing the size is %d, want %d", info.Size(), cut)
	}
	check(os.Chmod(filepath.Join(mnt, "writing"), 0o640))
	check(os.Rename(filepath.Join(mnt, "writing"), filepath.Join(mnt, "renamed")))
	_, err = f.Write(data[cut:])
	check(err)
	check(f.Sync())
	info, err = os.Stat(filepath.Join(mnt, "renamed"))
	check(err)
	if info.Size() != int64(len(data)) || info.Mode() != 0o640 {
		t.Errorf("after the rename: %d bytes, %v; want %d, %v", info.Size(), info.Mode(), len(data), os.FileMode(0o640))
	}
	check(f.Close())
	if _, err := os.Stat(filepath.Join(mnt, "writing")); !os.IsNotExist(err) {
		t.Errorf("the old name: %v", err)
	}
	for _, file := range []string{filepath.Join(mnt, "renamed"), filepath.Join(home, "renamed")} {
		got, err := os.ReadFile(file)
		check(err)
		if !bytes.Equal(got, data) {
			t.Errorf("%s is not what was written", file)
		}
	}

	// What is there can be changed in its middle and at its end, and read through the same handle.
	f, err = os.OpenFile(filepath.Join(mnt, "renamed"), os.O_RDWR, 0)
	check(err)
	defer f.Close()
	_, err = f.WriteAt([]byte("changed"), 1000)
	check(err)
	copy(data[1000:], "changed")
	part := make([]byte, 100)
	_, err = f.ReadAt(part, 980)
	check(err)
	if !bytes.Equal(part, data[980:1080]) {
		t.Error("the open file reads other than was written")
	}
	check(f.Close())
	f, err = os.OpenFile(filepath.Join(mnt, "renamed"), os.O_WRONLY|os.O_APPEND, 0)
	check(err)
	defer f.Close()
	_, err = f.Write([]byte("the end"))
	check(err)
	check(f.Close())
	data = append(data, "the end"...)
	at := time.Unix(1_100_000_000, 0)
	check(os.Chtimes(filepath.Join(mnt, "renamed"), at, at))
	check(os.Truncate(filepath.Join(mnt, "renamed"), int64(len(data)-3)))
	data = data[:len(data)-3]
	check(os.Chtimes(filepath.Join(mnt, "renamed"), at, at))

	// An editor's way to save: a new file renamed onto the old one.
	check(os.WriteFile(filepath.Join(mnt, "note"), []byte("old"), 0o644))
	check(os.WriteFile(filepath.Join(mnt, "note~"), []byte("new text"), 0o644))
	check(os.Rename(filepath.Join(mnt, "note~"), filepath.Join(mnt, "note")))
	check(os.MkdirAll(filepath.Join(mnt, "a/b/c"), 0o755))
	check(os.Symlink("note", filepath.Join(mnt, "link"))) // sshfs itself refuses to read one with ".."
	note, err := os.ReadFile(filepath.Join(mnt, "link"))
	check(err)
	if string(note) != "new text" {
		t.Errorf("through the link: %q", note)
	}
	entries, err := os.ReadDir(mnt)
	check(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "a link note renamed" {
		t.Errorf("the directory holds %s", got)
	}
	check(os.RemoveAll(filepath.Join(mnt, "a")))
	got, err := os.ReadFile(filepath.Join(home, "renamed"))
	check(err)
	info, err = os.Stat(filepath.Join(home, "renamed"))
	check(err)
	if !bytes.Equal(got, data) || info.ModTime().Unix() != at.Unix() {
		t.Errorf("at the end: %d bytes at %v, want %d at %v, equal %v", len(got), info.ModTime(), len(data), at, bytes.Equal(got, data))
	}
}

// mountSSHFS mounts the user's home until the end of the test.
func mountSSHFS(t *testing.T, s *gantrytest.Server) string {
	t.Helper()
	mnt := t.TempDir()
	cmd := exec.Command("sshfs", "-f", "c@127.0.0.1:/", mnt, "-p", s.Port(), "-F", "/dev/null", "-o", "IdentityFile="+key.File,
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "dir_cache=no")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	// A mount whose server is stuck holds every call in the kernel: its end frees the test.
	guard := time.AfterFunc(2*time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	t.Cleanup(func() {
		if err := exec.Command("fusermount3", "-u", mnt).Run(); err != nil {
			exec.Command("fusermount3", "-uz", mnt).Run()
			t.Errorf("unmount: %v", err)
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			t.Error("sshfs does not end after the unmount")
			<-ended
		}
		if !guard.Stop() {
			t.Error("sshfs was stuck for two minutes and was killed")
		}
	})
	s.Until("sshfs is mounted", func() bool {
		select {
		case <-ended:
			t.Fatalf("sshfs ended: %v\n%s", cmd.ProcessState, out.String())
		default:
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		return err == nil && strings.Contains(string(mounts), " "+mnt+" ")
	})
	return mnt
}
