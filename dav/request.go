package dav

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// request is one request. It lives until its handler returns, which must not keep it.
type request struct {
	ctx    context.Context // ends with the connection, the session's kill or the request's deadline
	s      *session.Session
	method string
	path   vfs.Path // decoded, below the binding's prefix
	slash  bool     // the target ended in "/"
	prefix string   // of the binding: "" or "/dav"
	query  string   // raw
	// scheme and host are those that the client knows: a trusted proxy's header has been applied.
	scheme, host string
	remote       netip.AddrPort // the client; the port is 0 behind a proxy's header
	body         io.Reader      // never nil; has deadlines; 100 Continue goes out at the first Read
	length       int64          // of the body in bytes; -1: chunked

	row    method
	auth   string // the Authorization
	fields fields
	old    bool // HTTP/1.0
	// closes: the client wants the connection to end after the answer.
	closes bool
	expect bool // 100-continue is waited for
}

// requests keeps those that have been answered.
var requests = sync.Pool{New: func() any { return new(request) }}

// free gives r back. Nothing may use it any more.
func (r *request) free() {
	*r = request{}
	requests.Put(r)
}

// fields are the header fields of a request.
type fields interface {
	// get gives a field's value, those of several joined by ", "; "" without one.
	get(name string) string
}

// header gives a field's value, "" if it is absent; several are joined by ", ".
func (r *request) header(name string) string {
	if r.fields == nil {
		return ""
	}
	return r.fields.get(name)
}

// target is what a request's target names.
type target struct {
	path   vfs.Path
	slash  bool
	query  string
	scheme string // of an absolute target, else ""
	host   string // the same
	star   bool   // "*"
}

// errTarget is a request target that is not served (PATH-2).
var errTarget = fail(400, "The path of the request is not valid")

// parseTarget reads a request target (RFC 9112 3.2). prefix is the binding's.
func parseTarget(raw, prefix string) (t target, err error) {
	if raw == "*" {
		t.star = true
		return t, nil
	}
	if !strings.HasPrefix(raw, "/") {
		scheme, rest, ok := strings.Cut(raw, "://")
		if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" {
			return t, errTarget
		}
		t.scheme = scheme
		i := strings.IndexAny(rest, "/?")
		if i < 0 {
			i = len(rest)
		}
		t.host, raw = rest[:i], rest[i:]
		if t.host == "" || strings.Contains(t.host, "@") {
			return t, errTarget
		}
		if !strings.HasPrefix(raw, "/") {
			raw = "/" + raw
		}
	}
	raw, t.query, _ = strings.Cut(raw, "?")
	if strings.Contains(raw, "#") {
		return t, errTarget
	}
	t.path, t.slash, err = parsePath(raw, prefix)
	return t, err
}

// parsePath decodes the path of a URL, once, and takes the prefix off. The error is a 404 outside of the prefix.
func parsePath(raw, prefix string) (p vfs.Path, slash bool, err error) {
	text, err := unescape(raw)
	if err != nil {
		return p, false, err
	}
	for rest, more := text, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if name == ".." {
			return p, false, errTarget // what it means differs between proxies and us (PATH-2)
		}
	}
	if prefix != "" {
		rest, ok := strings.CutPrefix(text, prefix)
		if !ok || rest != "" && rest[0] != '/' {
			return p, false, fail(404, "Nothing is served here")
		}
		text = rest
	}
	p, err = vfs.ParsePath(text)
	if err != nil {
		return p, false, fmt.Errorf("%w: %w", errTarget, err)
	}
	return p, strings.HasSuffix(text, "/"), nil
}

// unescape decodes percent-encoding. An encoded "/" or NUL is refused: neither can stand in a name.
func unescape(s string) (string, error) {
	i := strings.IndexByte(s, '%')
	if i < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	b = append(b, s[:i]...)
	for ; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", errTarget
			}
			h, l := unhex(s[i+1]), unhex(s[i+2])
			if h > 15 || l > 15 {
				return "", errTarget
			}
			if c = h<<4 | l; c == '/' || c == 0 {
				return "", errTarget
			}
			i += 2
		}
		b = append(b, c)
	}
	return string(b), nil
}

// unhex gives a hexadecimal digit's value, more than 15 of others.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// appendHref writes the URL path of p: percent-encoded, below prefix, with "/" at the end of a directory's.
func appendHref(b []byte, prefix string, p vfs.Path, dir bool) []byte {
	b = appendEscaped(b, prefix)
	s := p.String()
	if s == "/" {
		return append(b, '/')
	}
	b = appendEscaped(b, s)
	if dir {
		b = append(b, '/')
	}
	return b
}

// appendEscaped percent-encodes all but what stands for itself in a path (RFC 3986 3.3), without the characters that
// XML or old clients read as something else.
func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '/', c == '-', c == '_', c == '.', c == '~',
			c == '!', c == '$', c == '(', c == ')', c == '*', c == ',', c == ':', c == '@', c == '=', c == '+':
			b = append(b, c)
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}
