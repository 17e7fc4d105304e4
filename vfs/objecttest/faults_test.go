package objecttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
	"github.com/gantryhq/gantry/vfs/s3"
)

// fault is what a proxy does with a request. The zero fault passes it on.
type fault struct {
	status   int    // answered in place of the service, with code
	code     string // of S3
	cut      int64  // the connection is reset after so many bytes of the request's or the answer's body
	cutIn    bool   // of the request's
	short    int64  // the answer ends well after so many bytes, and says that these are all
	lost     bool   // the service answers, the client never sees it
	location string
	hold     chan struct{} // waited for first
}

// vendor is a service as the tables of faults see it.
type vendor struct {
	start func(t *testing.T) (url string)
	open  func(t *testing.T, url string, tries int, m *object.Memory) vfs.FS
	kind  func(r *http.Request) string
	// refuse is an answer as the service makes them.
	refuse func(w http.ResponseWriter, status int, code string)
}

// proxy stands before a service and does to its requests what decide says. n counts those of the same kind.
type proxy struct {
	*httptest.Server
	mu    sync.Mutex
	seen  map[string]int
	total atomic.Int64
}

// kind names a request of S3: PUT, PART, COMPLETE, BEGIN, ABORT, GET, HEAD, LIST, DELETE, UPLOADS.
func kind(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "PART"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "BEGIN"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "COMPLETE"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "ABORT"
	case r.Method == http.MethodGet && q.Has("uploads"):
		return "UPLOADS"
	case r.Method == http.MethodGet && q.Has("list-type"):
		return "LIST"
	}
	return r.Method
}

func newProxy(t testing.TB, target string, decide func(kind string, n int) fault) *proxy {
	t.Helper()
	return newProxyOf(t, s3Vendor, target, decide)
}

// s3Refusal is a refusal in XML.
func s3Refusal(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>made by the test</Message></Error>", code)
}

// s3Vendor is S3 in memory. Read only.
var s3Vendor = vendor{
	start: func(t *testing.T) string { return fakeS3(t, "bucket") },
	open: func(t *testing.T, url string, tries int, m *object.Memory) vfs.FS {
		return openS3(t, s3.Config{Bucket: "bucket", Endpoint: url, Retries: tries}, object.Options{Memory: m})
	},
	kind: kind, refuse: s3Refusal,
}

func newProxyOf(t testing.TB, v vendor, target string, decide func(kind string, n int) fault) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{seen: map[string]int{}}
	forward := httputil.NewSingleHostReverseProxy(u)
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	director := forward.Director
	forward.Director = func(r *http.Request) {
		host := r.Host
		director(r)
		r.Host = host // it is signed
	}
	forward.ModifyResponse = func(r *http.Response) error { // what the service names itself leads through here, too
		if l := r.Header.Get("Location"); strings.HasPrefix(l, target) {
			r.Header.Set("Location", p.URL+strings.TrimPrefix(l, target))
		}
		return nil
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k := v.kind(r)
		p.mu.Lock()
		p.seen[k]++
		n := p.seen[k]
		p.mu.Unlock()
		p.total.Add(1)
		f := decide(k, n)
		if f.hold != nil {
			select {
			case <-f.hold:
			case <-r.Context().Done():
				return
			}
		}
		switch {
		case f.location != "":
			w.Header().Set("Location", f.location)
			w.WriteHeader(f.status)
		case f.status != 0:
			io.Copy(io.Discard, r.Body)
			v.refuse(w, f.status, f.code)
		case f.cutIn:
			io.CopyN(io.Discard, r.Body, f.cut)
			panic(http.ErrAbortHandler)
		case f.lost:
			rec := httptest.NewRecorder()
			forward.ServeHTTP(rec, r)
			panic(http.ErrAbortHandler)
		case f.short > 0:
			rec := httptest.NewRecorder()
			forward.ServeHTTP(rec, r)
			for k, h := range rec.Header() {
				w.Header()[k] = h
			}
			b := rec.Body.Bytes()
			b = b[:min(int64(len(b)), f.short)]
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			w.WriteHeader(rec.Code)
			w.Write(b)
		case f.cut > 0:
			forward.ServeHTTP(&cutWriter{w, f.cut}, r)
		default:
			forward.ServeHTTP(w, r)
		}
	}))
	p.Config.ErrorLog = nil
	t.Cleanup(p.Close)
	return p
}

// cutWriter resets the connection after left bytes.
type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= int64(len(p))
	return c.ResponseWriter.Write(p)
}

func big() string { return strings.Repeat("0123456789abcdef", 17<<16) } // 17 MiB, four parts

// orphans counts the unfinished uploads by sweeping them away.
func orphans(t testing.TB, f vfs.FS) int {
	t.Helper()
	n, err := f.(vfs.Sweeper).Sweep(t.Context(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestS3Faults is the table of what a service does wrong while a file is uploaded and read: what must go well all the
// same, or fail with the right error and leave nothing.
func TestS3Faults(t *testing.T) {
	broken := errors.New("any other error")
	for _, c := range []struct {
		name   string
		decide func(kind string, n int) fault
		want   error // nil: the upload and the read succeed
		left   int   // unfinished uploads, which the sweep finds
		small  bool
	}{
		{name: "500 at first", decide: func(_ string, n int) fault {
			if n == 1 {
				return fault{status: 500, code: "InternalError"}
			}
			return fault{}
		}},
		{name: "503 SlowDown twice", decide: func(k string, n int) fault {
			if k == "PART" && n <= 2 {
				return fault{status: 503, code: "SlowDown"}
			}
			return fault{}
		}},
		{name: "503 for ever", want: broken, decide: func(k string, _ int) fault {
			if k == "PART" {
				return fault{status: 503, code: "SlowDown"}
			}
			return fault{}
		}},
		{name: "reset in a part", decide: func(k string, n int) fault {
			if k == "PART" && n%2 == 1 && n < 6 {
				return fault{cutIn: true, cut: 1 << 20}
			}
			return fault{}
		}},
		{name: "reset in the answer to a read", decide: func(k string, n int) fault {
			if k == "GET" && n%2 == 1 {
				return fault{cut: 100_000}
			}
			return fault{}
		}},
		{name: "a read that is too short", decide: func(k string, n int) fault {
			if k == "GET" && n == 1 {
				return fault{short: 100_000}
			}
			return fault{}
		}},
		{name: "expired in the middle", want: fs.ErrPermission, left: 1, decide: func(k string, n int) fault {
			if k == "PART" && n >= 2 || k == "COMPLETE" || k == "ABORT" {
				return fault{status: 400, code: "ExpiredToken"}
			}
			return fault{}
		}},
		{name: "no room", want: vfs.ErrQuota, decide: func(k string, n int) fault {
			if k == "PART" && n >= 2 {
				return fault{status: 507, code: "InsufficientStorage"}
			}
			return fault{}
		}},
		{name: "answer to the last step lost", decide: func(k string, n int) fault {
			return fault{lost: k == "COMPLETE" && n == 1}
		}},
		{name: "last step refused", want: broken, decide: func(k string, _ int) fault {
			if k == "COMPLETE" {
				return fault{status: 400, code: "InvalidPart"}
			}
			return fault{}
		}},
		{name: "checksums not known", decide: func(k string, n int) fault {
			if k == "BEGIN" && n == 1 {
				return fault{status: 501, code: "NotImplemented"}
			}
			return fault{}
		}},
		{name: "answer to a small file lost", small: true, decide: func(k string, n int) fault {
			return fault{lost: k == "PUT" && n == 1}
		}},
		{name: "small file refused", small: true, want: fs.ErrPermission, decide: func(k string, n int) fault {
			if k == "PUT" {
				return fault{status: 403, code: "AccessDenied"}
			}
			return fault{}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			direct := fakeS3(t, "bucket")
			p := newProxy(t, direct, c.decide)
			m := object.NewMemory(128 << 20)
			f := openS3(t, s3.Config{Bucket: "bucket", Endpoint: p.URL, Retries: 4}, object.Options{Memory: m})
			clean := openS3(t, s3.Config{Bucket: "bucket", Endpoint: direct}, object.Options{})
			data := big()
			if c.small {
				data = data[:1000]
			}
			u, err := f.Create(t.Context(), path(t, "/f"), vfs.OpenMode{Truncate: true, Exclusive: true})
			for off := 0; err == nil && off < len(data); off += 64 << 10 {
				_, err = u.WriteAt([]byte(data[off:min(len(data), off+64<<10)]), int64(off))
			}
			if err == nil {
				_, err = u.Commit(t.Context())
			}
			switch {
			case c.want == nil && err != nil:
				t.Fatal(err)
			case c.want == broken && (err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrExist)),
				c.want != nil && c.want != broken && !errors.Is(err, c.want):
				t.Errorf("error %v, want %v", err, c.want)
			}
			if err != nil {
				if strings.Contains(err.Error(), "testtest") {
					t.Errorf("the error tells the key: %v", err) // LOG-1
				}
				u.Abort(t.Context())
				if got := names(t, clean, "/"); got != "" {
					t.Errorf("%q is visible", got)
				}
			} else if got, err := get(t.Context(), f, path(t, "/f")); err != nil || got != data {
				t.Errorf("read %d bytes, %v; want %d", len(got), err, len(data))
			}
			if n := orphans(t, clean); n != c.left {
				t.Errorf("%d unfinished uploads, want %d", n, c.left)
			}
			if now, _ := m.Use(); now != 0 {
				t.Errorf("%d bytes are still reserved", now)
			}
			if n := p.total.Load(); n > 60 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func get(ctx context.Context, f vfs.FS, name vfs.Path) (string, error) {
	r, err := f.Open(ctx, name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<40))
	return string(b), err
}

// TestS3SlowLastPart: Commit waits for it, and nothing shows before.
func TestS3SlowLastPart(t *testing.T) {
	direct := fakeS3(t, "bucket")
	hold, arrived := make(chan struct{}), make(chan struct{}, 10)
	p := newProxy(t, direct, func(k string, n int) fault {
		if k == "PART" && n == 4 {
			arrived <- struct{}{}
			return fault{hold: hold}
		}
		return fault{}
	})
	f := openS3(t, s3.Config{Bucket: "bucket", Endpoint: p.URL}, object.Options{})
	done := make(chan error)
	go func() { done <- tryPut(t.Context(), f, path(t, "/f"), big()) }()
	<-arrived
	if got := names(t, f, "/"); got != "" {
		t.Errorf("%q is visible", got)
	}
	close(hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := names(t, f, "/"); got != "f" {
		t.Errorf("%q is there", got)
	}
}

// TestS3GoesWhereTheRecordSays: an address that the policy refuses is not dialled, and a redirect is not followed (SSRF-1).
func TestS3GoesWhereTheRecordSays(t *testing.T) {
	refused := errors.New("refused by the policy")
	f := openS3(t, s3.Config{Bucket: "bucket", Endpoint: "http://127.0.0.1:1", Retries: 1, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refused }}, object.Options{})
	if _, err := f.Stat(t.Context(), path(t, "/x")); !errors.Is(err, refused) {
		t.Errorf("stat: %v", err)
	}
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	p := newProxy(t, fakeS3(t, "bucket"), func(string, int) fault { return fault{status: 307, location: other.URL + "/bucket/x"} })
	f = openS3(t, s3.Config{Bucket: "bucket", Endpoint: p.URL, Retries: 2}, object.Options{})
	if _, err := f.Stat(t.Context(), path(t, "/x")); err == nil {
		t.Error("a redirect is taken for an answer")
	}
	if err := tryPut(t.Context(), f, path(t, "/x"), "x"); err == nil {
		t.Error("a redirect of an upload is taken for an answer")
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

// TestS3BrokenListing: what is no listing is an error, and an endless one ends.
func TestS3BrokenListing(t *testing.T) {
	for name, body := range map[string]string{
		"no XML":       "<<<",
		"other XML":    "<html></html>",
		"same page":    `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken><Contents><Key>a</Key></Contents></ListBucketResult>`,
		"half a page":  `<ListBucketResult><Contents><Key>a</Key>`,
		"hostile keys": `<ListBucketResult><Contents><Key>../../etc/passwd</Key></Contents><Contents><Key></Key></Contents><CommonPrefixes><Prefix>//</Prefix></CommonPrefixes><CommonPrefixes><Prefix>../</Prefix></CommonPrefixes></ListBucketResult>`,
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
		f := openS3(t, s3.Config{Bucket: "bucket", Endpoint: srv.URL, Retries: 2}, object.Options{})
		n := 0
		for i, err := range f.List(t.Context(), vfs.Root) {
			if n++; err == nil && (i.Name == ".." || strings.Contains(i.Name, "/")) {
				t.Errorf("%s: entry %q", name, i.Name)
			}
			if n > 100 {
				t.Fatalf("%s: the listing does not end", name)
			}
		}
		srv.Close()
	}
}

// TestS3RequestsOfASmallFile: a new one costs a look, which is two questions (is it an object, is it a directory), the
// look before it is published, and the upload.
func TestS3RequestsOfASmallFile(t *testing.T) {
	p := newProxy(t, fakeS3(t, "bucket"), func(string, int) fault { return fault{} })
	f := openS3(t, s3.Config{Bucket: "bucket", Endpoint: p.URL}, object.Options{})
	if err := f.Mkdir(t.Context(), path(t, "/d"), vfs.Attr{}); err != nil {
		t.Fatal(err)
	}
	for _, exclusive := range []bool{false, true} {
		name := path(t, fmt.Sprintf("/d/f%t", exclusive))
		p.mu.Lock()
		clear(p.seen)
		p.mu.Unlock()
		if _, err := f.Lstat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		u, err := f.Create(t.Context(), name, vfs.OpenMode{Truncate: true, Missing: true, Exclusive: exclusive})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.WriteAt([]byte("small"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := u.(vfs.Stander).Standing(t.Context()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("before it is committed %v stands there", err)
		}
		if _, err := u.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		got := fmt.Sprint(p.seen)
		p.mu.Unlock()
		if got != "map[HEAD:2 LIST:1 PUT:1]" {
			t.Errorf("exclusive %t: %s", exclusive, got)
		}
		if i, err := f.Stat(t.Context(), name); err != nil || i.Size != 5 {
			t.Errorf("%+v, %v", i, err)
		}
	}
}
