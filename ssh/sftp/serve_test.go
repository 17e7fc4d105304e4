package sftp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/ssh/sftp"
	client "github.com/pkg/sftp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dial serves a session and connects a client to it. The error of Serve is given once both have ended.
func dial(t testing.TB, perms ...string) (*client.Client, func() error) {
	t.Helper()
	u := sessiontest.User("u")
	if len(perms) > 0 {
		u.Permissions = map[string][]string{"/": perms}
	}
	s := sessiontest.NewSession(t, sessiontest.Options{}, u)
	here, there := net.Pipe()
	done := make(chan error, 1)
	go func() { // ends when the test closes the pipe
		done <- sftp.Serve(context.Background(), there, s, sftp.Options{})
		there.Close()
	}()
	c, err := client.NewClientPipe(here, here, client.MaxPacketUnchecked(255*1024))
	if err != nil {
		t.Fatal(err)
	}
	end := func() error {
		here.Close()
		c.Close()
		return <-done
	}
	return c, end
}

func put(t testing.TB, c *client.Client, name string, data []byte) {
	t.Helper()
	f, err := c.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFrom(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, c *client.Client, name string) []byte {
	t.Helper()
	f, err := c.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFilesGoBothWays(t *testing.T) {
	c, end := dial(t)
	defer end()
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	put(t, c, "/a", data)
	if got := get(t, c, "a"); !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, want %d", len(got), len(data))
	}
	f, err := c.OpenFile("/a", os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	f.Seek(10, io.SeekStart)
	f.Write([]byte("XX"))
	f.Seek(8, io.SeekStart)
	b := make([]byte, 6)
	if _, err := io.ReadFull(f, b); err != nil || string(b) != "89XXcd" {
		t.Errorf("read and write on one handle: %q, %v", b, err)
	}
	if err := f.Truncate(12); err != nil {
		t.Error(err)
	}
	f.Close()
	if got := string(get(t, c, "/a")); got != "0123456789XX" {
		t.Errorf("after truncate: %q", got)
	}
	f, err = c.OpenFile("/a", os.O_WRONLY|os.O_APPEND)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("end"))
	f.Close()
	if got := string(get(t, c, "/a")); got != "0123456789XXend" {
		t.Errorf("after append: %q", got)
	}
	if _, err := c.OpenFile("/a", os.O_WRONLY|os.O_CREATE|os.O_EXCL); err == nil {
		t.Error("EXCL opened an existing file")
	}
}

func TestMetadata(t *testing.T) {
	c, end := dial(t)
	defer end()
	if err := c.MkdirAll("/d/e"); err != nil {
		t.Fatal(err)
	}
	put(t, c, "/d/f", []byte("hello"))
	put(t, c, "/d/g", []byte("old"))
	when := time.Unix(1_600_000_000, 0)
	if err := c.Chtimes("/d/f", when, when); err != nil {
		t.Error(err)
	}
	if err := c.Chmod("/d/f", 0o640); err != nil {
		t.Error(err)
	}
	i, err := c.Stat("/d/f")
	if err != nil || !i.ModTime().Equal(when) || i.Mode() != 0o640 || i.Size() != 5 {
		t.Errorf("stat: %v %v", i, err)
	}
	if err := c.Rename("/d/f", "/d/g"); err != nil { // replaces, as SFTPGo does
		t.Error(err)
	}
	if err := c.PosixRename("/d/g", "/d/h"); err != nil {
		t.Error(err)
	}
	if err := c.Link("/d/h", "/d/l"); err != nil {
		t.Error(err)
	}
	if err := c.Symlink("h", "/d/s"); err != nil {
		t.Error(err)
	}
	list, err := c.ReadDir("/d")
	var names []string
	for _, i := range list {
		names = append(names, i.Name())
	}
	if err != nil || strings.Join(names, " ") != "e h l s" {
		t.Errorf("listing: %v, %v", names, err)
	}
	if st, err := c.StatVFS("/d"); err != nil || st.Bsize == 0 {
		t.Errorf("statvfs: %+v, %v", st, err)
	}
	if p, err := c.RealPath("d/../d/./x"); err != nil || p != "/d/x" {
		t.Errorf("realpath: %q, %v", p, err)
	}
	if err := c.RemoveDirectory("/d"); err == nil {
		t.Error("rmdir removed a directory with entries")
	}
	for _, err := range []error{c.Remove("/d/h"), c.Remove("/d/l"), c.Remove("/d/s"), c.RemoveDirectory("/d/e"), c.RemoveDirectory("/d")} {
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Stat("/d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after all: %v", err)
	}
}

func TestDeniedOperationsSaySo(t *testing.T) {
	c, end := dial(t, "list", "download")
	defer end()
	for name, err := range map[string]error{"mkdir": c.Mkdir("/d"), "create": func() error { _, err := c.Create("/f"); return err }()} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: got %v, want permission denied", name, err)
		}
	}
}

func TestLongListingsStream(t *testing.T) {
	c, end := dial(t)
	defer end()
	const n = 3000
	for i := range n {
		put(t, c, fmt.Sprintf("/file-%05d-%s", i, strings.Repeat("x", i%200)), nil)
	}
	list, err := c.ReadDir("/")
	if err != nil || len(list) != n {
		t.Errorf("got %d entries, %v; want %d", len(list), err, n)
	}
}

func TestHandlesAreBounded(t *testing.T) { // SFTP-1
	c, end := dial(t)
	defer end()
	put(t, c, "/f", []byte("x"))
	var open []*client.File
	for range sftp.DefaultMaxHandles + 1 {
		f, err := c.Open("/f")
		if err != nil {
			break
		}
		open = append(open, f)
	}
	if len(open) != sftp.DefaultMaxHandles {
		t.Errorf("opened %d handles, want %d", len(open), sftp.DefaultMaxHandles)
	}
	for _, f := range open {
		f.Close()
	}
	if _, err := c.Open("/f"); err != nil {
		t.Errorf("after closing all: %v", err)
	}
}

func TestHugeOffsetsAreRefused(t *testing.T) { // SFTP-1
	c, end := dial(t)
	defer end()
	f, err := c.Create("/bomb")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 1<<62); err == nil {
		t.Error("a write at 2^62 was taken")
	}
}

func TestMalformedPacketEndsTheSession(t *testing.T) { // SFTP-1, SSH-1
	for name, raw := range map[string]string{
		"length 0":        "\x00\x00\x00\x00",
		"length too long": "\x7f\xff\xff\xff\x01",
		"not INIT":        "\x00\x00\x00\x05\x10\x00\x00\x00\x01",
		"short string":    "\x00\x00\x00\x05\x01\x00\x00\x00\x03\x00\x00\x00\x09\x10\x00\x00\x00\x01\x00\x00\x00\xff",
		"cut":             "\x00\x00\x00\x05\x01",
	} {
		s := sessiontest.NewSession(t, sessiontest.Options{}, sessiontest.User("u"))
		rw := struct {
			io.Reader
			io.Writer
			io.Closer
		}{strings.NewReader(raw), io.Discard, io.NopCloser(nil)}
		if err := sftp.Serve(t.Context(), rw, s, sftp.Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzPacket(f *testing.F) {
	for _, s := range []string{"\x01\x00\x00\x00\x03", "\x05\x00\x00\x00\x01\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x80\x00",
		"\x03\x00\x00\x00\x07\x00\x00\x00\x02/a\x00\x00\x00\x1a\x00\x00\x00\x04\x00\x00\x01\xa4", "\xc8\x00\x00\x00\x01\x00\x00\x00\x09copy-data"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, q sftp.Packet
		if sftp.Parse(b, &p) != nil {
			return
		}
		out := sftp.Append(nil, &p)
		if err := sftp.Parse(out[4:], &q); err != nil {
			t.Fatalf("formatted packet is refused: %v", err)
		}
		if again := sftp.Append(nil, &q); !bytes.Equal(out, again) {
			t.Fatalf("parse(format(x)) differs:\n%x\n%x", out, again)
		}
	})
}

// FuzzSession sends any bytes after INIT: no panic, no hang, nothing left behind.
func FuzzSession(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0b\x10\x00\x00\x00\x01\x00\x00\x00\x02/a"))
	f.Add([]byte("\x00\x00\x00\x13\x03\x00\x00\x00\x01\x00\x00\x00\x02/a\x00\x00\x00\x1a\x00\x00\x00\x00"))
	for _, name := range []string{"openssh", "paramiko", "rclone", "sshfs"} {
		f.Add(clientBytes(f, "testdata/transcripts/"+name+".txt"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := sessiontest.NewSession(t, sessiontest.Options{}, sessiontest.User("u"))
		rw := struct {
			io.Reader
			io.Writer
			io.Closer
		}{io.MultiReader(strings.NewReader("\x00\x00\x00\x05\x01\x00\x00\x00\x03"), bytes.NewReader(b)), io.Discard, io.NopCloser(nil)}
		sftp.Serve(t.Context(), rw, s, sftp.Options{})
	})
}

func BenchmarkServe(b *testing.B) {
	for _, size := range []int{32 << 10, 255 << 10} {
		c, end := dial(b)
		put(b, c, "/f", make([]byte, 16<<20))
		f, err := c.OpenFile("/f", os.O_RDWR)
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, size)
		b.Run(fmt.Sprintf("read%dK", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				f.ReadAt(buf, 0)
			}
		})
		b.Run(fmt.Sprintf("write%dK", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				f.WriteAt(buf, 0)
			}
		})
		f.Close()
		end()
	}
}
