package rest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "deflate, gzip;q=0.5": true, "gzip;q=0": false, "gzip; q=0.0, *": false, "*": true, "*;q=0": false,
		"br": false, "x-gzip": true, "gzipped": false, "gzip;q=x": false, "br;q=1, *;q=0.1": true,
	} {
		if got := acceptsGzip(header); got != want {
			t.Errorf("%q: got %v", header, got)
		}
	}
}

// TestListsAreCompressed where the client asks for it, and are the same then.
func TestListsAreCompressed(t *testing.T) {
	s := newServer(t)
	root, u := s.root(), s.user("ann")
	for i := range 40 {
		root.post("/roles", fmt.Sprintf(`{"name":"role%02d","description":"one of many roles that look like each other"}`, i)).want(201)
		u.post(fmt.Sprintf("/user/files/upload?path=/file-of-the-user-%02d", i), "x").want(201)
	}
	for _, x := range []struct {
		who  caller
		path string
	}{{root, "/roles"}, {u, "/user/dirs"}} {
		plain := x.who.get(x.path).want(200)
		zipped := x.who.get(x.path, "Accept-Encoding", "gzip").want(200)
		if e := zipped.Header.Get("Content-Encoding"); e != "gzip" || len(zipped.Body) > len(plain.Body)/2 {
			t.Errorf("%s: encoding %q, %d bytes of %d", x.path, e, len(zipped.Body), len(plain.Body))
			continue
		}
		if plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("Vary") == "" || zipped.Header.Get("Vary") == "" {
			t.Errorf("%s: %v and %v", x.path, plain.Header, zipped.Header)
		}
		r, err := gzip.NewReader(strings.NewReader(zipped.Body))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil || len(body) != len(plain.Body) {
			t.Errorf("%s: %d bytes inside, %v, want %d", x.path, len(body), err, len(plain.Body))
		}
	}
	if a := root.get("/roles?limit=1", "Accept-Encoding", "gzip").want(200); a.Header.Get("Content-Encoding") != "" || !strings.HasPrefix(a.Body, "[{") {
		t.Errorf("a short list: %v %q", a.Header, a.Body)
	}
	if a := root.get("/roles", "Accept-Encoding", "gzip;q=0").want(200); a.Header.Get("Content-Encoding") != "" {
		t.Errorf("who does not take it: %v", a.Header)
	}
	if a := root.do(http.MethodHead, "/roles", "", "Accept-Encoding", "gzip").want(200); a.Body != "" {
		t.Errorf("HEAD: %d bytes", len(a.Body))
	}
}
