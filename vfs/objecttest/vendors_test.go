package objecttest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/azblob"
	"github.com/gantryhq/gantry/vfs/gcs"
	"github.com/gantryhq/gantry/vfs/object"
)

// gcsVendor is Google's service in memory. Its kinds are PUT, BEGIN, PART, GET, HEAD, LIST, DELETE.
func gcsVendor() vendor {
	return vendor{
		start: func(t *testing.T) string { return fakeGCS(t, "bucket") },
		open: func(t *testing.T, url string, tries int, m *object.Memory) vfs.FS {
			return openGCS(t, gcs.Config{Bucket: "bucket", Endpoint: url, Retries: tries, UploadPartSize: 5}, object.Options{Memory: m})
		},
		kind: func(r *http.Request) string {
			q := r.URL.Query()
			switch {
			case q.Get("uploadType") == "multipart":
				return "PUT"
			case q.Has("upload_id"): // by POST or PUT
				return "PART"
			case r.Method == http.MethodPost && q.Get("uploadType") == "resumable":
				return "BEGIN"
			case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/o"):
				return "LIST"
			case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/storage/v1/b/") && q.Get("alt") != "media":
				return "HEAD"
			}
			return r.Method
		},
		refuse: func(w http.ResponseWriter, status int, code string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"error":{"code":%d,"message":"made by the test","errors":[{"reason":%q}]}}`, status, code)
		},
	}
}

// azureVendor is Microsoft's emulator. Its kinds are PUT, PART, COMPLETE, BLOCKS, GET, HEAD, LIST, DELETE.
func azureVendor() vendor {
	return vendor{
		start: func(t *testing.T) string { return azurite(t, "box") },
		open: func(t *testing.T, url string, tries int, m *object.Memory) vfs.FS {
			return openAzure(t, azblob.Config{Container: "box", Endpoint: url, Emulator: true, Retries: tries}, object.Options{Memory: m})
		},
		kind: func(r *http.Request) string {
			switch comp := r.URL.Query().Get("comp"); {
			case comp == "block":
				return "PART"
			case comp == "blocklist" && r.Method == http.MethodPut:
				return "COMPLETE"
			case comp == "blocklist":
				return "BLOCKS"
			case comp == "list":
				return "LIST"
			}
			return r.Method
		},
		refuse: func(w http.ResponseWriter, status int, code string) {
			w.Header().Set("x-ms-error-code", code)
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>made by the test</Message></Error>", code)
		},
	}
}

// vendorFault is a row of the table of what a service does wrong while a file is uploaded and read.
type vendorFault struct {
	name   string
	decide func(kind string, n int) fault
	want   error // nil: the upload and the read succeed; errBroken: any other error
	small  bool
}

var errBroken = errors.New("any other error")

// on is a fault of the requests of one kind that when accepts.
func on(kind string, when func(n int) bool, f fault) func(string, int) fault {
	return func(k string, n int) fault {
		if k == kind && when(n) {
			return f
		}
		return fault{}
	}
}

func always(int) bool     { return true }
func first(n int) bool    { return n == 1 }
func twice(n int) bool    { return n <= 2 }
func afterTwo(n int) bool { return n > 2 }

// runFaults uploads and reads a file through a proxy that misbehaves: what must go well all the same, or fail with the
// right error and leave nothing that is seen.
func runFaults(t *testing.T, v vendor, table []vendorFault) {
	direct := v.start(t)
	for i, c := range table {
		t.Run(c.name, func(t *testing.T) {
			p := newProxyOf(t, v, direct, c.decide)
			m := object.NewMemory(128 << 20)
			f, clean := v.open(t, p.URL, 4, m), v.open(t, direct, 4, object.NewMemory(128<<20))
			name := path(t, fmt.Sprintf("/f%d", i))
			data := big()
			if c.small {
				data = data[:1000]
			}
			u, err := f.Create(t.Context(), name, vfs.OpenMode{Truncate: true, Exclusive: true})
			for off := 0; err == nil && off < len(data); off += 64 << 10 {
				_, err = u.WriteAt([]byte(data[off:min(len(data), off+64<<10)]), int64(off))
			}
			if err == nil {
				_, err = u.Commit(t.Context())
			}
			switch {
			case c.want == nil && err != nil:
				t.Fatal(err)
			case c.want == errBroken && (err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrExist)),
				c.want != nil && c.want != errBroken && !errors.Is(err, c.want):
				t.Errorf("error %v, want %v", err, c.want)
			}
			if err != nil {
				if text := err.Error(); strings.Contains(text, azureKey) || strings.Contains(text, "upload_id") { // LOG-1
					t.Errorf("the error tells a secret: %v", err)
				}
				if u != nil {
					u.Abort(t.Context())
				}
				if _, err := clean.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the file is visible: %v", err)
				}
			} else if got, err := get(t.Context(), f, name); err != nil || got != data {
				t.Errorf("read %d bytes, %v; want %d", len(got), err, len(data))
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

func TestGCSFaults(t *testing.T) {
	runFaults(t, gcsVendor(), []vendorFault{
		{name: "500 at first", decide: func(_ string, n int) fault {
			if n == 1 {
				return fault{status: 500, code: "backendError"}
			}
			return fault{}
		}},
		{name: "503 twice", decide: on("PART", twice, fault{status: 503, code: "backendError"})},
		{name: "429 twice", decide: on("PART", twice, fault{status: 429, code: "rateLimitExceeded"})},
		{name: "503 for ever", want: errBroken, decide: on("BEGIN", always, fault{status: 503, code: "backendError"})},
		{name: "reset in a part", decide: on("PART", func(n int) bool { return n%2 == 1 && n < 6 }, fault{cutIn: true, cut: 1 << 20})},
		{name: "reset in the answer to a read", decide: on("GET", func(n int) bool { return n%2 == 1 }, fault{cut: 100_000})},
		{name: "a read that is too short", decide: on("GET", first, fault{short: 100_000})},
		{name: "expired in the middle", want: fs.ErrPermission, decide: on("PART", afterTwo, fault{status: 401, code: "authError"})},
		{name: "answer to the last step lost", decide: on("PART", func(n int) bool { return n == 4 }, fault{lost: true})},
		{name: "last step refused", want: errBroken, decide: on("PART", func(n int) bool { return n >= 4 }, fault{status: 400, code: "invalid"})},
		{name: "answer to a small file lost", small: true, decide: on("PUT", first, fault{lost: true})},
		{name: "small file refused", small: true, want: fs.ErrPermission, decide: on("PUT", always, fault{status: 403, code: "forbidden"})},
		{name: "small file: 503 twice", small: true, decide: on("PUT", twice, fault{status: 503, code: "backendError"})},
	})
}

func TestAzureFaults(t *testing.T) {
	runFaults(t, azureVendor(), []vendorFault{
		{name: "500 at first", decide: func(_ string, n int) fault {
			if n == 1 {
				return fault{status: 500, code: "InternalError"}
			}
			return fault{}
		}},
		{name: "503 ServerBusy twice", decide: on("PART", twice, fault{status: 503, code: "ServerBusy"})},
		{name: "503 for ever", want: errBroken, decide: on("PART", always, fault{status: 503, code: "ServerBusy"})},
		{name: "reset in a part", decide: on("PART", func(n int) bool { return n%2 == 1 && n < 6 }, fault{cutIn: true, cut: 1 << 20})},
		{name: "reset in the answer to a read", decide: on("GET", func(n int) bool { return n%2 == 1 }, fault{cut: 100_000})},
		{name: "a read that is too short", decide: on("GET", first, fault{short: 100_000})},
		{name: "expired in the middle", want: fs.ErrPermission, decide: func(k string, n int) fault {
			if k == "PART" && n > 2 || k == "COMPLETE" {
				return fault{status: 403, code: "AuthenticationFailed"}
			}
			return fault{}
		}},
		{name: "answer to the last step lost", decide: on("COMPLETE", first, fault{lost: true})},
		{name: "last step refused", want: errBroken, decide: on("COMPLETE", always, fault{status: 400, code: "InvalidInput"})},
		{name: "answer to a small file lost", small: true, decide: on("PUT", first, fault{lost: true})},
		{name: "small file refused", small: true, want: fs.ErrPermission, decide: on("PUT", always, fault{status: 403, code: "AuthorizationFailure"})},
		{name: "small file: 503 twice", small: true, decide: on("PUT", twice, fault{status: 503, code: "ServerBusy"})},
	})
}

// slowLastPart: Commit waits for it, and nothing shows before.
func slowLastPart(t *testing.T, v vendor) {
	direct := v.start(t)
	hold, arrived := make(chan struct{}), make(chan struct{}, 10)
	p := newProxyOf(t, v, direct, func(k string, n int) fault {
		if k == "PART" && n == 4 {
			arrived <- struct{}{}
			return fault{hold: hold}
		}
		return fault{}
	})
	f := v.open(t, p.URL, 4, object.NewMemory(128<<20))
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

func TestGCSSlowLastPart(t *testing.T)   { slowLastPart(t, gcsVendor()) }
func TestAzureSlowLastPart(t *testing.T) { slowLastPart(t, azureVendor()) }

// brokenListings: what is no listing is an error, an endless one ends, and no hostile name comes through.
func brokenListings(t *testing.T, v vendor, bodies map[string]string) {
	for name, body := range bodies {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", map[bool]string{true: "application/json", false: "application/xml"}[strings.HasPrefix(body, "{")])
			io.WriteString(w, body)
		}))
		f := v.open(t, srv.URL, 2, object.NewMemory(1<<20))
		n, failed := 0, false
		for i, err := range f.List(t.Context(), vfs.Root) {
			if n++; err == nil && (i.Name == ".." || i.Name == "" || strings.Contains(i.Name, "/")) {
				t.Errorf("%s: entry %q", name, i.Name)
			}
			failed = failed || err != nil
			if n > 100 {
				t.Fatalf("%s: the listing does not end", name)
			}
		}
		if !failed {
			t.Errorf("%s: no error in %d entries", name, n)
		}
		srv.Close()
	}
}

func TestGCSBrokenListing(t *testing.T) {
	brokenListings(t, gcsVendor(), map[string]string{
		"no JSON":      "<<<",
		"half a page":  `{"items":[{"name":"a","size":"1"},`,
		"same page":    `{"nextPageToken":"x","items":[{"name":"a","size":"1"}]}`,
		"hostile keys": `{"items":[{"name":"../../etc/passwd"},{"name":"../x"}],"prefixes":["//","../"]}`,
	})
}

func TestAzureBrokenListing(t *testing.T) {
	const head = `<?xml version="1.0"?><EnumerationResults ContainerName="box"><Blobs>`
	blob := func(n string) string {
		return `<Blob><Name>` + n + `</Name><Properties><Content-Length>1</Content-Length><Etag>x</Etag></Properties></Blob>`
	}
	brokenListings(t, azureVendor(), map[string]string{
		"no XML":       "<<<",
		"half a page":  head + blob("a"),
		"same page":    head + blob("a") + `</Blobs><NextMarker>x</NextMarker></EnumerationResults>`,
		"hostile keys": head + blob("../../etc/passwd") + `<BlobPrefix><Name>//</Name></BlobPrefix><BlobPrefix><Name>../</Name></BlobPrefix></Blobs><NextMarker/></EnumerationResults>`,
	})
}
