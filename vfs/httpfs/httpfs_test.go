//go:build linux

package httpfs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/httpfs"
	"github.com/gantryhq/gantry/vfs/httpfs/httpfstest"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

var ctx = context.Background()

func start(t testing.TB) (*httpfstest.Service, httpfs.Config) {
	t.Helper()
	s := &httpfstest.Service{Root: t.TempDir()}
	srv := httptest.NewServer(s)
	t.Cleanup(func() { stop(srv) })
	return s, httpfs.Config{Endpoint: srv.URL + "/base/", Username: httpfstest.User, Password: httpfstest.Password, APIKey: httpfstest.Key}
}

// stop ends a server, with the uploads that tests dropped.
func stop(srv *httptest.Server) {
	srv.CloseClientConnections()
	srv.Close()
}

func open(t testing.TB, cfg httpfs.Config, o httpfs.Options) *httpfs.FS {
	t.Helper()
	f, err := httpfs.NewPool(o).New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func path(t testing.TB, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func put(f vfs.FS, name vfs.Path, content string) error {
	u, err := f.Create(ctx, name, vfs.OpenMode{Truncate: true})
	if err != nil {
		return err
	}
	for off := 0; off < len(content); off += 64 << 10 {
		if _, err := u.WriteAt([]byte(content[off:min(len(content), off+64<<10)]), int64(off)); err != nil {
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

func get(f vfs.FS, name vfs.Path) (string, error) {
	r, err := f.Open(ctx, name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<40))
	return string(b), err
}

func content(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%08x", i*2654435761)
	}
	return b.String()[:n]
}

func TestSuite(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		_, cfg := start(t) // of its own: what a test drops has ended when its directory goes
		return open(t, cfg, httpfs.Options{})
	}, vfstest.Caps{
		Attrs: true, Modes: true, Atomic: true, Whole: true, DirNoRepl: true, StatFS: true, DirSize: true, Sweep: true, Describe: true,
		Vague: true, Late: true, Snapshot: true, Paths: true,
	})
}

// TestStreams: large files of many pieces, in the order that clients with many requests under way send, come and go
// within the memory that the documentation states.
func TestStreams(t *testing.T) {
	_, cfg := start(t)
	f := open(t, cfg, httpfs.Options{})
	data := content(20<<20 + 123)
	name := path(t, "/f")
	u, err := f.Create(ctx, name, vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	const block = 32 << 10
	for at := 0; at < len(data); at += 8 * block { // each eight in the wrong order
		for i := 7; i >= 0; i-- {
			if off := at + i*block; off < len(data) {
				if _, err := u.WriteAt([]byte(data[off:min(len(data), off+block)]), int64(off)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if i, err := u.Commit(ctx); err != nil || i.Size != int64(len(data)) {
		t.Fatal(i, err)
	}
	r, err := f.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all sync.WaitGroup
	got := make([]byte, len(data))
	offs := make(chan int)
	for range 16 {
		all.Go(func() {
			for off := range offs {
				if _, err := r.ReadAt(got[off:min(len(got), off+block)], int64(off)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for off := 0; off < len(data); off += block {
		offs <- off
	}
	close(offs)
	all.Wait()
	if string(got) != data {
		t.Error("what comes back is not what was sent")
	}
	b := make([]byte, 1000)
	for _, off := range []int64{19 << 20, 3, 7<<20 + 1, 0} {
		if _, err := r.ReadAt(b, off); err != nil || string(b) != data[off:off+1000] {
			t.Errorf("at %d: %v", off, err)
		}
	}
	// What is outside the window is refused and may be sent again.
	if u, err = f.Create(ctx, name, vfs.OpenMode{Truncate: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := u.WriteAt([]byte("b"), 1); err != nil {
		t.Error(err)
	}
	for _, off := range []int64{3 << 20, 1 << 62} {
		if _, err := u.WriteAt([]byte("x"), off); !errors.Is(err, vfs.ErrOutOfOrder) {
			t.Errorf("a write at %d: %v", off, err)
		}
	}
	if _, err := u.Commit(ctx); !errors.Is(err, vfs.ErrOutOfOrder) {
		t.Errorf("commit with a gap: %v", err)
	}
	if _, err := u.WriteAt([]byte("a"), 0); err != nil {
		t.Error(err)
	}
	if _, err := u.Commit(ctx); err != nil {
		t.Error(err)
	}
	if got, err := get(f, name); got != "ab" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFaults is the table of what a service does wrong: what must go well all the same, or fail and leave what was.
func TestFaults(t *testing.T) {
	answer := func(w http.ResponseWriter, status int) bool {
		w.WriteHeader(status)
		io.WriteString(w, `{"message":"made by the test"}`)
		return true
	}
	reset := func() bool { panic(http.ErrAbortHandler) }
	broken := errors.New("any other error")
	for _, c := range []struct {
		name  string
		fault func(w http.ResponseWriter, r *http.Request, op string, n int) bool
		put   error // nil: it succeeds
		get   error
		size  int
	}{
		{name: "500 at first", size: 1 << 20, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			return n == 1 && (op == "stat" || op == "create" || op == "open") && answer(w, 500)
		}},
		{name: "503 twice", size: 1 << 20, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			return n <= 2 && (op == "stat" || op == "create" || op == "open") && answer(w, 503)
		}},
		{name: "503 for ever", size: 1 << 20, put: broken, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			return op == "create" && answer(w, 503)
		}},
		{name: "503 in the middle of a large one", size: 8 << 20, put: broken, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			if op != "create" {
				return false
			}
			io.CopyN(io.Discard, r.Body, 5<<20)
			return answer(w, 503)
		}},
		{name: "reset in a small upload", size: 1 << 20, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			if op != "create" || n > 1 {
				return false
			}
			io.CopyN(io.Discard, r.Body, 100<<10)
			return reset()
		}},
		{name: "reset in the answer to a read", size: 4 << 20, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			if op != "open" || n%2 == 0 {
				return false
			}
			w.Header().Set("Content-Length", "4194304")
			io.WriteString(w, content(4 << 20)[:1<<20]) // only from the beginning, below
			return reset()
		}},
		{name: "a read that ends too early", size: 1 << 20, get: io.ErrUnexpectedEOF, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			if op == "open" {
				io.WriteString(w, "short")
				w.(http.Flusher).Flush() // no length is told
			}
			return op == "open"
		}},
		{name: "a wrong length is stored", size: 1 << 20, put: broken, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			if op == "create" {
				r.Body = io.NopCloser(io.LimitReader(r.Body, 1000))
			}
			return false
		}},
		{name: "expired in the middle", size: 8 << 20, put: fs.ErrPermission, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			if op != "create" {
				return false
			}
			io.CopyN(io.Discard, r.Body, 4<<20)
			return answer(w, 401)
		}},
		{name: "no room", size: 8 << 20, put: vfs.ErrQuota, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			return op == "create" && answer(w, 507)
		}},
		{name: "the last step is refused", size: 1000, put: fs.ErrPermission, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			return op == "rename" && answer(w, 403)
		}},
		{name: "no JSON", size: 1000, put: broken, get: broken, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			if op == "stat" {
				io.WriteString(w, "<html>")
			}
			return op == "stat"
		}},
		{name: "endless JSON", size: 1000, put: broken, get: broken, fault: func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			for op == "stat" {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<20)); err != nil {
					return true
				}
			}
			return false
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, cfg := start(t)
			f := open(t, cfg, httpfs.Options{})
			name := path(t, "/f")
			if err := put(f, name, "old"); err != nil {
				t.Fatal(err)
			}
			data := content(c.size)
			s.Fault(func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
				if op == "open" && r.URL.Query().Get("offset") != "" && c.get == nil {
					return false
				}
				return c.fault(w, r, op, n)
			})
			check := func(what string, err, want error) {
				t.Helper()
				switch {
				case want == nil && err != nil, want != nil && err == nil, want != broken && !errors.Is(err, want),
					want == broken && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrExist)):
					t.Errorf("%s: error %v, want %v", what, err, want)
				}
				if err != nil && strings.Contains(err.Error(), "very secret") { // LOG-1
					t.Errorf("%s: the error tells a secret: %v", what, err)
				}
			}
			check("put", put(f, name, data), c.put)
			if c.put == nil {
				got, err := get(f, name)
				check("get", err, c.get)
				if err == nil && got != data {
					t.Errorf("%d bytes came back, not what was sent", len(got))
				}
			}
			s.Fault(nil)
			if c.put != nil {
				if got, err := get(f, name); got != "old" || err != nil {
					t.Errorf("the old file is %.20q, %v", got, err)
				}
			}
			if list, _ := filepath.Glob(filepath.Join(s.Root, ".*")); len(list) != 0 {
				t.Errorf("left: %q", list)
			}
			if n := s.Count(""); n > 60 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// TestASilentServiceEnds: what stands still ends by itself, in each direction, and with its context.
func TestASilentServiceEnds(t *testing.T) { // RES-2
	s, cfg := start(t)
	f := open(t, cfg, httpfs.Options{Wait: 300 * time.Millisecond, Tries: 2})
	name := path(t, "/f")
	if err := put(f, name, "old"); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	s.Fault(func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
		if op == "open" || op == "readdir" {
			io.WriteString(w, "[")
			w.(http.Flusher).Flush()
		}
		if op == "stat" && n == 1 || op == "create" && n > 1 {
			return false
		}
		<-over
		return true
	})
	defer s.Fault(nil)
	defer close(over)
	if _, err := get(f, name); err == nil {
		t.Error("a silent read passed")
	}
	for _, err := range f.List(ctx, vfs.Root) {
		if err == nil {
			t.Error("a silent listing has entries")
		}
	}
	if _, err := f.Stat(ctx, name); err == nil {
		t.Error("a silent stat passed")
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if err := f.Remove(short, name); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestCloseAndAbortUnblock: a read and a write that wait for the service.
func TestCloseAndAbortUnblock(t *testing.T) {
	s, cfg := start(t)
	f := open(t, cfg, httpfs.Options{})
	name := path(t, "/f")
	if err := put(f, name, content(100)); err != nil {
		t.Fatal(err)
	}
	over, waits := make(chan struct{}), make(chan struct{}, 10)
	s.Fault(func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
		if op != "open" && op != "create" {
			return false
		}
		if op == "open" { // as much as an open file needs
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
		}
		waits <- struct{}{}
		<-over
		return true
	})
	defer close(over)
	r, err := f.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { _, err := r.ReadAt(make([]byte, 10), 0); done <- err }()
	<-waits
	r.Close()
	if err := <-done; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	u, err := f.Create(ctx, name, vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for off := int64(0); ; off += 64 << 10 {
			if _, err := u.WriteAt(make([]byte, 64<<10), off); err != nil {
				done <- err
				return
			}
		}
	}()
	<-waits
	if err := u.Abort(ctx); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

// TestListingsOfAHostileService: names that are no component are left out, one entry is bounded, an end that is none is
// an error.
func TestListingsOfAHostileService(t *testing.T) {
	s, cfg := start(t)
	f := open(t, cfg, httpfs.Options{})
	for what, c := range map[string]struct {
		body string
		want string
		ends bool
	}{
		"names":     {`[{"name":"../x"},{"name":""},{"name":".."},{"name":"a/b"},{"name":"a\u0000b"},{"name":"ok","size":-5}]`, "ok", false},
		"null":      {`null`, "", false},
		"no end":    {`[{"name":"a"},`, "a", true},
		"no list":   {`{"name":"a"}`, "", true},
		"a string":  {`["a"]`, "", true},
		"huge":      {`[{"name":"` + strings.Repeat("x", 1<<20) + `"}]`, "", true},
		"not JSON":  {`hello`, "", true},
		"temporary": {`[{"name":".gantry-part.x"},{"name":"b"}]`, "b", false},
	} {
		s.Fault(func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
			io.WriteString(w, c.body)
			return op == "readdir"
		})
		var got []string
		var last error
		for i, err := range f.List(ctx, vfs.Root) {
			if last = err; err == nil {
				got = append(got, i.Name)
				if i.Size < 0 {
					t.Errorf("%s: size %d", what, i.Size)
				}
			}
		}
		if strings.Join(got, " ") != c.want || (last != nil) != c.ends {
			t.Errorf("%s: %q, %v", what, got, last)
		}
	}
}

// TestAddressesAreJudged: the dial is the policy's, and a redirect leads nowhere (SSRF-1).
func TestAddressesAreJudged(t *testing.T) {
	no := errors.New("refused by the policy")
	var asked []string
	deny := func(_ context.Context, network, address string) (net.Conn, error) {
		asked = append(asked, network+" "+address)
		return nil, no
	}
	for _, endpoint := range []string{"http://127.0.0.1:1/x", "http://unix/v1?socket_path=/run/docker.sock"} {
		f := open(t, httpfs.Config{Endpoint: endpoint}, httpfs.Options{Dial: deny, Tries: 1})
		if _, err := f.Stat(ctx, path(t, "/x")); !errors.Is(err, no) {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	if got := strings.Join(asked, ", "); got != "tcp 127.0.0.1:1, unix /run/docker.sock" {
		t.Errorf("dialled %s", got)
	}
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	s, cfg := start(t)
	s.Fault(func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		return true
	})
	f := open(t, cfg, httpfs.Options{})
	if _, err := f.Stat(ctx, path(t, "/x")); err == nil || elsewhere.Load() != 0 {
		t.Errorf("a redirect was followed: %v", err)
	}
}

// TestSettingsThatCannotBe are refused without their text (LOG-1).
func TestSettingsThatCannotBe(t *testing.T) {
	for _, endpoint := range []string{"", "ftp://h", "http://", "http://user:verysecret@host", "http://unix?socket_path=verysecret", "::verysecret"} {
		if _, err := httpfs.NewPool(httpfs.Options{}).New(httpfs.Config{Endpoint: endpoint}); err == nil || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

// TestAServiceOnASocket of this machine, below a prefix.
func TestAServiceOnASocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: &httpfstest.Service{Root: t.TempDir()}}
	go srv.Serve(l)
	defer srv.Close()
	f := open(t, httpfs.Config{Endpoint: "http://unix?socket_path=" + socket + "&api_prefix=base", Username: httpfstest.User, Password: httpfstest.Password, APIKey: httpfstest.Key}, httpfs.Options{})
	if err := put(f, path(t, "/f"), "x"); err != nil {
		t.Fatal(err)
	}
	if got, err := get(f, path(t, "/f")); got != "x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestEqualSettingsShareAClient, and what is one resource.
func TestEqualSettingsShareAClient(t *testing.T) {
	s, cfg := start(t)
	p := httpfs.NewPool(httpfs.Options{})
	a, err := p.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := p.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Reaches(b) || a.Describe(vfs.Root).Identity != b.Describe(vfs.Root).Identity {
		t.Error("two storages with equal settings are not one resource")
	}
	other := cfg
	other.Username = "other"
	c, err := p.New(other)
	if err != nil {
		t.Fatal(err)
	}
	other.ByUser = true
	d, err := p.New(other)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Reaches(c) || a.Reaches(d) || d.Reaches(a) {
		t.Error("the user name counts where it should not, or does not where it should")
	}
	b.Close()
	if err := put(a, path(t, "/f"), "x"); err != nil {
		t.Errorf("after the other was closed: %v", err)
	}
	if n := s.Count(""); n > 6 {
		t.Errorf("a new small file took %d calls", n)
	}
	for _, x := range []*httpfs.FS{c, d} {
		x.Close()
	}
}
