package dav

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
)

// oddFS is a storage whose directory "/odd" lists what the test says.
type oddFS struct {
	vfs.FS
	list func(yield func(vfs.FileInfo, error) bool)
}

func (f oddFS) List(ctx context.Context, dir vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	if dir.String() == "/odd" {
		return f.list
	}
	return f.FS.List(ctx, dir)
}

func (f oddFS) Close() error { return nil }

// oddEnv is an environment on such a storage.
func oddEnv(t testing.TB, list func(yield func(vfs.FileInfo, error) bool)) *sessiontest.Env {
	t.Helper()
	tree := mem.New(mem.Options{})
	p, _ := vfs.ParsePath("/odd")
	if err := tree.Mkdir(t.Context(), p, vfs.Attr{}); err != nil {
		t.Fatal(err)
	}
	return sessiontest.New(t, sessiontest.Options{NewFS: func(context.Context, session.Storage) (vfs.FS, error) {
		return oddFS{tree, list}, nil
	}}, sessiontest.User("u"))
}

func oddFile(i int) vfs.FileInfo {
	return vfs.FileInfo{Name: fmt.Sprintf("file %06d", i), Size: int64(i), Mode: 0o644, ModTime: time.Unix(1e9, 0)}
}

// TestOneBadEntryNeverFailsAListing, nor a name that is no text.
func TestOneBadEntryNeverFailsAListing(t *testing.T) {
	env := oddEnv(t, func(yield func(vfs.FileInfo, error) bool) {
		_ = yield(oddFile(1), nil) &&
			yield(vfs.FileInfo{Name: "bad"}, errors.New("input/output error")) &&
			yield(vfs.FileInfo{Name: "secret"}, fs.ErrPermission) &&
			yield(vfs.FileInfo{Name: "\xff\x01&<\n", ModTime: time.Unix(1e9, 0)}, nil) &&
			yield(oddFile(2), nil)
	})
	b := &bench{t: t, env: env, s: env.Login("u"), srv: &Server{methods: methodTable(), finds: newFindCache()}}
	a := b.want(207, "PROPFIND", "/odd", "", "Depth: 1")
	b.has(a, "<D:href>/odd/bad</D:href><D:status>HTTP/1.1 500 Internal Server Error</D:status>", "<D:href>/odd/secret</D:href><D:status>HTTP/1.1 403 Forbidden</D:status>",
		"<D:href>/odd/file%20000002</D:href>", "<D:href>/odd/%FF%01%26%3C%0A</D:href>", "<D:displayname>\uFFFD\uFFFD&amp;&lt;\n</D:displayname>")
}

// propfindRaw sends a PROPFIND of "/odd" and gives its answer.
func propfindRaw(t *testing.T, addr, depth string) (*http.Response, net.Conn) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(nc, "PROPFIND /odd HTTP/1.1\r\nHost: h\r\nDepth: %s\r\nContent-Length: 0\r\nAuthorization: Basic dTpzZWNyZXQ=\r\n\r\n", depth)
	answer, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer, nc
}

// TestABrokenListingIsNotAShortOne: a client that synchronizes would remove what is not told of. An error that comes before
// anything has been sent has a status of its own, a later one cuts the answer off.
func TestABrokenListingIsNotAShortOne(t *testing.T) {
	for _, c := range []struct{ entries, code int }{{0, 500}, {3, 500}, {5000, 207}} {
		addr := listenOn(t, oddEnv(t, func(yield func(vfs.FileInfo, error) bool) {
			for i := range c.entries {
				if !yield(oddFile(i), nil) {
					return
				}
			}
			yield(vfs.FileInfo{}, errors.New("the disk is gone"))
		}))
		answer, _ := propfindRaw(t, addr, "1")
		body, err := io.ReadAll(answer.Body)
		if answer.StatusCode != c.code || (err != nil) != (c.code == 207) || strings.Contains(string(body), multistatusEnd) {
			t.Errorf("%d entries: %s, %v after %d bytes", c.entries, answer.Status, err, len(body))
		}
	}
}

// TestListingStreams: DAV-2. The first entries arrive while the storage still lists, and it waits for a client that does
// not read.
func TestListingStreams(t *testing.T) {
	arrived := make(chan struct{})
	addr := listenOn(t, oddEnv(t, func(yield func(vfs.FileInfo, error) bool) {
		for i := range 1000 {
			if !yield(oddFile(i), nil) {
				return
			}
		}
		select {
		case <-arrived:
		case <-time.After(20 * time.Second):
			return
		}
		for i := range 100_000 {
			if !yield(oddFile(1000+i), nil) {
				return
			}
		}
	}))
	answer, _ := propfindRaw(t, addr, "1")
	in := bufio.NewReader(answer.Body)
	for range 10 {
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	close(arrived)
	n := 0
	for {
		line, err := in.ReadString('\n')
		if strings.HasPrefix(line, "<D:response>") {
			n++
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n != 101_001-8 { // beside two lines of the head and eight entries
		t.Errorf("%d more entries", n)
	}
}
