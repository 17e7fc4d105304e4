package dav

import (
	"reflect"
	"strings"
	"testing"
)

// RFC 4918 10.4's examples, and what clients send.
var ifSeeds = []string{
	`(<urn:uuid:181d4fae-7d8c-11d0-a765-00a0c91e6bf2> ["I am an ETag"]) (["I am another ETag"])`,
	`(Not <urn:uuid:181d4fae-7d8c-11d0-a765-00a0c91e6bf2> <urn:uuid:58f202ac-22cf-11d1-b12d-002035b29092>)`,
	`(<urn:uuid:181d4fae-7d8c-11d0-a765-00a0c91e6bf2>) (Not <DAV:no-lock>)`,
	`</resource1> (<urn:uuid:181d4fae-7d8c-11d0-a765-00a0c91e6bf2> [W/"A weak ETag"]) (["strong ETag"])`,
	`<http://www.example.com/specs/> (<urn:uuid:181d4fae-7d8c-11d0-a765-00a0c91e6bf2>)`,
	`</specs/rfc2518.doc> (["4217"])`, `</specs/rfc2518.doc> (Not ["4217"])`,
	"(<opaquelocktoken:a>)", "\t( not[ \"x\" ]<a:b>)</c>(<d:e>) ",
}

func TestParseIf(t *testing.T) {
	got, err := parseIf(`</a> (<u:1> Not ["x]"])(["y"]) <http://h/b> (not<u:2>[W/"z"])`)
	want := ifHeader{[]ifList{
		{"/a", []ifCondition{{token: "u:1"}, {not: true, etag: `"x]"`}}},
		{"/a", []ifCondition{{etag: `"y"`}}},
		{"http://h/b", []ifCondition{{not: true, token: "u:2"}, {etag: `W/"z"`}}},
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v %v, want %+v", got, err, want)
	}
}

func TestParseIfRefuses(t *testing.T) {
	for _, s := range []string{
		"", " ", "x", "()", "(", "(<u:1>", "(<u:1", "(<>)", "(<a b>)", "(<a<b>)", "([])", `(["x)`, `(["x")`, `([x])`, `([W/x])`, "(Not)", "(Not Not <u:1>)",
		"<u:1>", "<u:1> x", "(<u:1>) </a> (<u:2>)", "(<u:1>) x", "(u:1)", "</a> </b> (<u:1>)",
		"(" + strings.Repeat("<u:1>", maxIfConditions+1) + ")", strings.Repeat("(<u:1>)", maxIfConditions+1), // DAV-3
		strings.Repeat("(", 60_000), strings.Repeat("Not ", 10_000), "(" + strings.Repeat("Not ", 10_000) + "<u:1>)",
	} {
		if h, err := parseIf(s); err == nil {
			t.Errorf("%.40q: %+v", s, h)
		}
	}
}

func TestIfHolds(t *testing.T) {
	state := func(tag string) (ifState, error) {
		switch tag {
		case "": // the request's resource: locked
			return ifState{`"e"`, []string{"u:1", "u:2"}}, nil
		case "/open":
			return ifState{etag: `"o"`}, nil
		}
		return ifState{}, nil // nothing stands there
	}
	for s, want := range map[string]bool{
		`(<u:1>)`: true, `(<u:3>)`: false, `(<u:1> <u:2>)`: true, `(<u:1> <u:3>)`: false, `(<u:3>) (<u:2>)`: true,
		`(["e"])`: true, `(["x"])`: false, `([W/"e"])`: false, `(<u:1> ["e"])`: true, `(<u:1> ["x"])`: false, `(<u:3> ["e"])`: false,
		`(Not <u:1>)`: false, `(Not <u:3>)`: true, `(Not ["x"])`: true, `(Not ["e"])`: false, `(<u:1> Not <DAV:no-lock>)`: true,
		`(<u:3>) (Not <DAV:no-lock>)`: true, `(<u:3>) (Not <u:1>)`: false,
		`</open> (["o"])`: true, `</open> (<u:1>)`: false, `</open> (Not <u:1>)`: true, `</gone> (["o"])`: false, `</gone> (Not ["o"])`: true,
		`</gone> (<u:1>) </open> (["o"])`: true, `</open> (["o"] Not <u:9>)`: true,
	} {
		h, err := parseIf(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if got, err := h.holds(state); err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", s, got, err, want)
		}
	}
}

// FuzzIf: no panic, no end without error, and what is read and written again is the same.
func FuzzIf(f *testing.F) {
	for _, s := range ifSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseIf(s)
		if err != nil {
			return
		}
		again, err := parseIf(h.String())
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("%q: wrote %q, read %+v %v, want %+v", s, h, again, err, h)
		}
		h.holds(func(string) (ifState, error) { return ifState{etag: `"x"`, tokens: h.tokens()}, nil })
	})
}

func FuzzDestination(f *testing.F) {
	for _, s := range []string{
		"/a", "http://h/dav/a%20b/", "https://h:443/dav", "http://h", "http://other/dav/x", "/dav/../etc", "/dav/%2e%2e/x", "/dav/%00", "/dav/a%2fb",
		"//h/dav", "http://h/dav?x", "http://u@h/dav", "/dav/%252e%252e/x", "/dav/\\..\\x", "/davx", "*", "http://h/dav/é",
	} {
		f.Add(s, "/dav")
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, s, prefix string) {
		if prefix != "" {
			prefix = "/dav"
		}
		p, err := parseReference(s, "h", prefix)
		if err != nil {
			return
		}
		// PATH-1: what comes out goes in again, as a target and as a Destination.
		href := string(appendHref(nil, prefix, p, false))
		again, err := parseReference("http://h"+href, "H:80", prefix)
		if err != nil || again != p {
			t.Fatalf("%q: %v, written %q, read %v %v", s, p, href, again, err)
		}
		if tg, err := parseTarget(href, prefix); err != nil || tg.path != p {
			t.Fatalf("%q: %v, as a target %v %v", s, p, tg.path, err)
		}
	})
}

// TestDestination: DAV-4. Only this authority and this prefix; PATH-2 as in a request's own path.
func TestDestination(t *testing.T) {
	for _, c := range []struct {
		raw, host, prefix, want string
		code                    int
	}{
		{"http://h/a", "h", "", "/a", 0}, {"/a/", "h", "", "/a", 0}, {"http://h", "h", "", "/", 0}, {"http://h/", "h", "", "/", 0},
		{"https://h/a", "h", "", "/a", 0}, {"https://H:443/a", "h", "", "/a", 0}, {"http://h:80/a", "h", "", "/a", 0}, {"http://h/a", "h:80", "", "/a", 0},
		{"http://h:8080/a", "h:8080", "", "/a", 0}, {"http://[::1]:8080/a", "[::1]:8080", "", "/a", 0},
		{"http://h/dav/a%20b%25", "h", "/dav", "/a b%", 0}, {"http://h/dav", "h", "/dav", "/", 0}, {"/dav/a//./b", "h", "/dav", "/a/b", 0},
		{"http://other/a", "h", "", "", 502}, {"http://h:8080/a", "h", "", "", 502}, {"https://h:80/a", "h", "", "", 502}, {"http://h.evil/a", "h", "", "", 502},
		{"http://h/a", "h", "/dav", "", 502}, {"http://h/davx/a", "h", "/dav", "", 502},
		{"", "h", "", "", 400}, {"a", "h", "", "", 400}, {"//h/a", "h", "", "", 400}, {"*", "h", "", "", 400}, {"ftp://h/a", "h", "", "", 400},
		{"http://u:p@h/a", "h", "", "", 400}, {"http://h@h/a", "h", "", "", 400}, {"http://h/a?b", "h", "", "", 400}, {"http://h/a#b", "h", "", "", 400},
		{"/a/../b", "h", "", "", 400}, {"/%2e%2e/b", "h", "", "", 400}, {"/..", "h", "", "", 400}, {"/a%2fb", "h", "", "", 400}, {"/a%00", "h", "", "", 400}, {"/a%zz", "h", "", "", 400},
		{"/a%252fb", "h", "", "/a%2fb", 0},
	} {
		p, err := parseReference(c.raw, c.host, c.prefix)
		switch {
		case c.code == 0 && (err != nil || p.String() != c.want):
			t.Errorf("%q on %q%s: %v %v, want %s", c.raw, c.host, c.prefix, p, err, c.want)
		case c.code != 0 && (err == nil || statusFor(err) != c.code):
			t.Errorf("%q on %q%s: %v %v, want %d", c.raw, c.host, c.prefix, p, err, c.code)
		}
	}
}
