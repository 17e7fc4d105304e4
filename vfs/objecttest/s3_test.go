package objecttest

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
	"github.com/gantryhq/gantry/vfs/s3"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

// caps are what every object store declares.
var caps = vfstest.Caps{
	Attrs: true, Atomic: true, DirNoRepl: true, Copy: true, DirSize: true, Sweep: true, Sub: true, Describe: true, Stream: true, Files: true,
}

// fakeS3 serves a bucket in memory.
func fakeS3(t testing.TB, bucket string) string {
	t.Helper()
	b := s3mem.New()
	if err := b.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(b, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(srv.Close)
	return srv.URL
}

func openS3(t testing.TB, c s3.Config, o object.Options) vfs.FS {
	t.Helper()
	if o.Memory == nil {
		o.Memory = object.NewMemory(128 << 20)
	}
	o.RenameDirs = true
	c.ForcePathStyle = true
	if c.AccessKey == "" {
		c.AccessKey, c.Secret = "test", "testtest"
	}
	f, err := s3.New(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestS3InMemory(t *testing.T) {
	url := fakeS3(t, "bucket")
	var n atomic.Int64
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		return openS3(t, s3.Config{Bucket: "bucket", Endpoint: url}, object.Options{Prefix: fmt.Sprintf("tree%d/", n.Add(1))})
	}, caps)
}

// server starts an emulator that is installed, and waits for it to listen.
func server(t testing.TB, ready func() error, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	deadline := time.Now().Add(time.Minute)
	for {
		err := ready()
		if err == nil {
			return cmd
		}
		if time.Now().After(deadline) {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("%s does not answer: %v\n%s", name, err, b)
		}
		time.Sleep(50 * time.Millisecond) // between questions to a process that only answers them
	}
}

// emulator finds a program on the path, or where make emulators puts it.
func emulator(t testing.TB, name, kept string) string {
	t.Helper()
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	if p, err := exec.LookPath(filepath.Join(os.Getenv("GANTRY_TEST_EMULATORS"), kept)); err == nil && filepath.IsAbs(p) {
		return p
	}
	if os.Getenv("GANTRY_TEST_LONG") != "" {
		t.Fatalf("%s is not installed: make emulators", name)
	}
	t.Skipf("%s is not installed: make emulators", name)
	return ""
}

// versity starts versitygw, real files behind S3, where it is installed.
func versity(t testing.TB, bucket string) string {
	t.Helper()
	gw := emulator(t, "versitygw", "bin/versitygw")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	t.Setenv("ROOT_ACCESS_KEY", "test")
	t.Setenv("ROOT_SECRET_KEY", "testtest")
	server(t, dials(addr), gw, "--port", addr, "--quiet", "posix", dir)
	return "http://" + addr
}

func TestS3OnVersityGW(t *testing.T) {
	url := versity(t, "bucket")
	var n atomic.Int64
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		f := openS3(t, s3.Config{Bucket: "bucket", Endpoint: url}, object.Options{})
		dir, err := vfs.ParsePath(fmt.Sprintf("/tree%d", n.Add(1)))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Mkdir(t.Context(), dir, vfs.Attr{}); err != nil {
			t.Fatal(err)
		}
		sub, err := f.(vfs.Subber).Sub(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { sub.Close() })
		return sub
	}, caps)
}

func path(t testing.TB, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func put(t testing.TB, f vfs.FS, name, content string) {
	t.Helper()
	if err := tryPut(t.Context(), f, path(t, name), content); err != nil {
		t.Fatal(err)
	}
}

func tryPut(ctx context.Context, f vfs.FS, name vfs.Path, content string) error {
	u, err := f.Create(ctx, name, vfs.OpenMode{Truncate: true})
	if err != nil {
		return err
	}
	for off := 0; off < len(content); off += 256 << 10 {
		if _, err := u.WriteAt([]byte(content[off:min(len(content), off+256<<10)]), int64(off)); err != nil {
			u.Abort(ctx)
			return err
		}
	}
	if _, err := u.Commit(ctx); err != nil {
		u.Abort(ctx)
		return err
	}
	return nil
}

func names(t testing.TB, f vfs.FS, dir string) string {
	t.Helper()
	var out []string
	for i, err := range f.List(t.Context(), path(t, dir)) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, i.Name)
	}
	return strings.Join(out, " ")
}
