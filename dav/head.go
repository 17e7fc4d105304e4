package dav

import (
	"bufio"
	"bytes"
	"strings"
	"sync"

	"github.com/valyala/fasthttp"
)

// Bounds of a head, in bytes and in number.
const (
	maxHead   = 32 << 10
	maxTarget = 16 << 10 // a path of 4 KiB whose every byte is escaped, and a query
	maxFields = 100
	maxMethod = 32
)

// head is a request's head: what frames the message is read by scan, which is strict; the fields are fasthttp's, of the
// same bytes. A small request may be answered without them.
type head struct {
	method string
	target string
	host   string
	length int64 // of the body in bytes; -1: chunked
	old    bool  // HTTP/1.0
	closes bool
	expect bool   // 100-continue
	names  uint64 // of the fields, by nameBit: most that are asked for are not there
	auth   []byte // Authorization, part of raw
	raw    []byte // the head itself, which is the loop's: gone when the connection's turn is over, nil when fields is read
	fields fasthttp.RequestHeader
}

var heads = sync.Pool{New: func() any { return new(head) }}

func (h *head) free() {
	h.method, h.target, h.host, h.auth, h.raw = "", "", "", nil, nil
	heads.Put(h)
}

// get implements fields. What it returns is the caller's.
func (h *head) get(name string) string {
	if h.names&nameBit(name) == 0 || h.read() != nil {
		return ""
	}
	if v := h.fields.Peek(name); len(v) == 0 {
		return ""
	}
	all := h.fields.PeekAll(name)
	if len(all) == 1 {
		return string(all[0])
	}
	return string(bytes.Join(all, []byte(", ")))
}

// nameBit is one of 64 bits for a name, whatever its case. Several names share a bit.
func nameBit[T string | []byte](name T) uint64 {
	return 1 << ((uint(len(name))*5 + uint(name[0]|0x20)) & 63)
}

// plain reports whether a GET asks for the whole of a resource in whatever state it is: no field has a say in the answer.
func (h *head) plain() bool {
	for _, name := range [...]string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Range", "If", "If-Range"} {
		if h.names&nameBit(name) != 0 {
			return false
		}
	}
	return h.method == "GET"
}

// Failures of a head. After them the connection ends: where the next request begins is not known.
var (
	errHead       = fail(400, "The request is not valid HTTP")
	errHeadLong   = fail(431, "The head of the request is too long")
	errTargetLong = fail(414, "The target of the request is too long")
	errVersion    = fail(505, "HTTP/1.1 is served")
	errCoding     = fail(501, "The transfer coding is not served")
	errExpect     = fail(417, "The expectation cannot be met")
)

// headEnd looks for the end of a head in b, whose first seen bytes were looked at before without finding it. 0 is none
// yet. Line ends are CRLF and nothing else: what proxies take bare ones for differs (HTTP-1).
func headEnd(b []byte, seen int) (int, error) {
	at := max(0, seen-3)
	for {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			break
		}
		if i += at; i == 0 || b[i-1] != '\r' {
			return 0, errHead
		}
		if i >= 3 && b[i-2] == '\n' {
			return i + 1, nil
		}
		at = i + 1
	}
	if len(b) > maxHead {
		return 0, errHeadLong
	}
	return 0, nil
}

// parser is what fasthttp reads a head through.
type parser struct {
	bytes bytes.Reader
	buf   *bufio.Reader
}

var parsers = sync.Pool{New: func() any {
	p := new(parser)
	p.buf = bufio.NewReaderSize(&p.bytes, maxHead+16)
	return p
}}

// parseHead reads a whole head, with its empty line, but for its fields: see read.
func parseHead(b []byte) (*head, error) {
	if len(b) > maxHead {
		return nil, errHeadLong
	}
	h := heads.Get().(*head)
	if err := h.scan(b); err != nil {
		h.free()
		return nil, err
	}
	h.raw = b
	return h, nil
}

// read reads the fields, once.
func (h *head) read() error {
	if h.raw == nil {
		return nil
	}
	p := parsers.Get().(*parser)
	p.bytes.Reset(h.raw)
	p.buf.Reset(&p.bytes)
	err := h.fields.Read(p.buf)
	if err == nil && (string(h.fields.Method()) != h.method || p.buf.Buffered() > 0) {
		err = errHead // it reads something else than we do
	}
	p.bytes.Reset(nil)
	parsers.Put(p)
	h.raw = nil
	if err != nil {
		h.names = 0
		return errHead
	}
	return nil
}

// scan reads what a request is framed by, and refuses what others may read otherwise.
func (h *head) scan(b []byte) error {
	line, rest := cutLine(b)
	if err := h.requestLine(line); err != nil {
		return err
	}
	h.length, h.closes, h.expect, h.host, h.names, h.auth = 0, h.old, false, "", 0, nil
	var seen uint32 // bits of onlyOnce
	var coded, hosted, sized, alive bool
	for n := 0; ; n++ {
		if line, rest = cutLine(rest); len(line) == 0 {
			break
		}
		if n == maxFields {
			return errHeadLong
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 { // obs-fold, too: it begins with a space, which no name has
			return errHead
		}
		name, value := line[:colon], trim(line[colon+1:])
		if !isToken(name) {
			return errHead
		}
		h.names |= nameBit(name)
		for _, c := range value {
			if c < ' ' && c != '\t' || c == 0x7f {
				return errHead
			}
		}
		if i := onlyOnce(name); i >= 0 {
			if seen&(1<<i) != 0 {
				return errHead
			}
			seen |= 1 << i
		}
		switch {
		case is(name, "authorization"):
			h.auth = value
		case is(name, "host"):
			if hosted || !isHost(value) {
				return errHead
			}
			hosted, h.host = true, string(value)
		case is(name, "content-length"):
			n, ok := decimal(value)
			if sized || !ok {
				return errHead
			}
			sized, h.length = true, n
		case is(name, "transfer-encoding"):
			if coded || h.old {
				return errHead
			}
			if coded = true; !is(value, "chunked") {
				return errCoding
			}
		case is(name, "connection"):
			for v := range strings.SplitSeq(string(value), ",") {
				switch v = strings.TrimSpace(v); {
				case strings.EqualFold(v, "close"):
					h.closes, alive = true, false
				case strings.EqualFold(v, "keep-alive") && h.old:
					alive = true
				}
			}
		case is(name, "expect") && !h.old:
			if !is(value, "100-continue") {
				return errExpect
			}
			h.expect = true
		}
	}
	if alive {
		h.closes = false
	}
	switch {
	case coded && sized: // RFC 9112 6.1: an attempt to smuggle
		return errHead
	case coded:
		h.length = -1
	case !hosted && !h.old: // RFC 9112 3.2
		return errHead
	}
	return nil
}

func (h *head) requestLine(line []byte) error {
	i := bytes.IndexByte(line, ' ')
	j := bytes.LastIndexByte(line, ' ')
	if i <= 0 || j <= i {
		return errHead
	}
	name, target, version := line[:i], line[i+1:j], line[j+1:]
	if i > maxMethod || !isToken(name) || len(target) == 0 {
		return errHead
	}
	if len(target) > maxTarget {
		return errTargetLong
	}
	for _, c := range target {
		if c <= ' ' || c == 0x7f {
			return errHead
		}
	}
	switch {
	case string(version) == "HTTP/1.1":
		h.old = false
	case string(version) == "HTTP/1.0":
		h.old = true
	case len(version) == 8 && string(version[:5]) == "HTTP/" && digit(version[5]) && version[6] == '.' && digit(version[7]):
		return errVersion
	default:
		return errHead
	}
	h.method, h.target = methodName(name), string(target)
	return nil
}

// methodName is b as a string, without an allocation for the usual ones.
func methodName(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "PROPFIND":
		return "PROPFIND"
	case "PUT":
		return "PUT"
	case "HEAD":
		return "HEAD"
	case "OPTIONS":
		return "OPTIONS"
	}
	return string(b)
}

// cutLine takes the first line of b, which ends in CRLF, or is empty at the end of b.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 {
		return nil, nil
	}
	return b[:i-1], b[i+1:]
}

// onlyOnce is the place in its list of a field that must not come twice, or -1: two values would mean one thing to us and
// another to a proxy.
func onlyOnce(name []byte) int {
	switch len(name) {
	case 5:
		if is(name, "depth") {
			return 0
		}
		if is(name, "range") {
			return 1
		}
	case 6:
		if is(name, "expect") {
			return 2
		}
	case 7:
		if is(name, "timeout") {
			return 3
		}
	case 8:
		if is(name, "if-range") {
			return 4
		}
	case 9:
		if is(name, "overwrite") {
			return 5
		}
	case 10:
		if is(name, "lock-token") {
			return 6
		}
		if is(name, "x-oc-mtime") {
			return 7
		}
	case 11:
		if is(name, "destination") {
			return 8
		}
	case 12:
		if is(name, "content-type") {
			return 9
		}
	case 13:
		if is(name, "authorization") {
			return 10
		}
		if is(name, "content-range") {
			return 11
		}
	case 16:
		if is(name, "content-encoding") {
			return 12
		}
	}
	return -1
}

// is compares without regard to ASCII case; lower is in lower case.
func is(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// decimal reads digits and nothing else: no sign, no list (RFC 9112 6.3).
func decimal(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if !digit(c) {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// isToken reports whether b is a token (RFC 9110 5.6.2).
func isToken(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 || !tokens[c] {
			return false
		}
	}
	return len(b) > 0
}

// tokens are the bytes of a token. Read-only.
var tokens = func() (t [128]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
	}
	return t
}()

// isHost reports whether b may be a Host: a name or an address with a port, nothing that belongs elsewhere in a URL.
func isHost(b []byte) bool {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '.', c == '-', c == '_', c == ':', c == '[', c == ']', c == '%', c == '~':
		default:
			return false
		}
	}
	return len(b) > 0 && len(b) <= 300
}
