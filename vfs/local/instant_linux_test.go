package local

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/vfs"
)

func TestInstantAnswersAreTheUsualOnes(t *testing.T) {
	for _, parent := range []string{os.TempDir(), "/dev/shm"} {
		t.Run(parent, func(t *testing.T) {
			dir, err := os.MkdirTemp(parent, "gantry-instant-")
			if err != nil {
				t.Skip(err)
			}
			defer os.RemoveAll(dir)
			fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if residenceOf(fd) == elsewhere {
				t.Skip("not a file system of this machine's own")
			}
			testInstant(t, dir)
		})
	}
}

func testInstant(t *testing.T, top string) {
	root := filepath.Join(top, "root")
	for _, d := range []string{root, filepath.Join(root, "d")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	small := bytes.Repeat([]byte("small "), 1000)
	for name, content := range map[string][]byte{"d/small": small, "empty": nil, "large": make([]byte, 100_000), "../out": small, vfs.NewTempName(): small} {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": "d/small", "escape": "../out", "absolute": filepath.Join(root, "empty"), "dangling": "none"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := New(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	temps, _ := filepath.Glob(filepath.Join(root, ".*"))
	read := map[string][]byte{"/d/small": small, "/empty": {}, "/link": small}
	stat := map[string]bool{"/d/small": true, "/empty": true, "/link": true, "/large": true, "/d": true, "/": true, "/pipe": true}
	for _, name := range []string{"/", "/d", "/d/small", "/d/none", "/none/small", "/empty", "/empty/x", "/large", "/link", "/escape", "/absolute", "/dangling", "/pipe", "/" + filepath.Base(temps[0])} {
		p := mustPath(t, name)
		f.Stat(t.Context(), p) // so that it is in memory
		b, i, ok := f.ReadInstant(p, []byte("before "), 50_000)
		want, may := read[name]
		if ok && (!may || string(b) != "before "+string(want)) || !ok && may || !ok && string(b) != "before " {
			t.Errorf("read %s: %v, %d bytes", name, ok, len(b))
		}
		usual, err := f.Stat(t.Context(), p)
		usual.AccessTime = i.AccessTime // which reading changes
		if ok && (err != nil || !reflect.DeepEqual(i, usual)) {
			t.Errorf("read %s: %+v, Stat says %+v, %v", name, i, usual, err)
		}
		usual, _ = f.Stat(t.Context(), p)
		i, ok = f.StatInstant(p)
		if ok != stat[name] || ok && (err != nil || !reflect.DeepEqual(i, usual)) {
			t.Errorf("stat %s: %v %+v, Stat says %+v, %v", name, ok, i, usual, err)
		}
	}
	// At another limit, and when the directory itself has gone.
	if _, _, ok := f.ReadInstant(mustPath(t, "/d/small"), nil, len(small)); !ok {
		t.Error("a file of just the limit is not read")
	}
	if _, _, ok := f.ReadInstant(mustPath(t, "/d/small"), nil, len(small)-1); ok {
		t.Error("a file past the limit is read")
	}
	os.RemoveAll(root)
	if _, ok := f.StatInstant(vfs.Root); ok {
		t.Error("a root that was removed has an answer")
	}
	f.Close()
	if _, _, ok := f.ReadInstant(mustPath(t, "/empty"), nil, 100); ok {
		t.Error("a closed tree has an answer")
	}
}

// TestInstantStaysOnItsFileSystem: what is mounted below may be one that waits.
func TestInstantStaysOnItsFileSystem(t *testing.T) {
	f, err := New("/", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := mustPath(t, "/proc/version")
	if _, err := f.Stat(t.Context(), p); err != nil {
		t.Skip(err)
	}
	if _, _, ok := f.ReadInstant(p, nil, 1000); ok {
		t.Error("a file of /proc is read from /")
	}
	if _, ok := f.StatInstant(p); ok {
		t.Error("a file of /proc is described from /")
	}
}

// TestReadFileClosesOnce: a descriptor is closed when its last user leaves, and never twice: its number would be another's.
func TestReadFileClosesOnce(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "f"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := New(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, withFile := range []bool{false, true} {
		h, err := tree.Open(t.Context(), mustPath(t, "/f"))
		if err != nil {
			t.Fatal(err)
		}
		f := h.(*readFile)
		var file *os.File
		if withFile {
			if file = f.OSFile(); file == nil || f.OSFile() != file {
				t.Fatal("no file, or two of them")
			}
		}
		if err := f.acquire(); err != nil { // a call under way
			t.Fatal(err)
		}
		want(t, "close", f.Close(), nil)
		want(t, "second close", f.Close(), os.ErrClosed)
		_, err = f.ReadAt(make([]byte, 1), 0)
		want(t, "read after close", err, os.ErrClosed)
		if f.OSFile() != nil && !withFile {
			t.Error("a closed file gives an os.File")
		}
		if _, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFD, 0); err != nil {
			t.Errorf("closed under a call: %v", err)
		}
		f.letGo()
		if _, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("still open after the last call: %v", err)
		}
		if withFile {
			_, err := file.Stat()
			want(t, "os.File after close", err, os.ErrClosed)
		}
	}
}
