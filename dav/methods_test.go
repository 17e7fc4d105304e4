package dav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
)

// bench calls the methods as a connection does, without one.
type bench struct {
	t      testing.TB
	srv    *Server
	env    *sessiontest.Env
	s      *session.Session
	prefix string
}

func newBench(t testing.TB, users ...account.User) *bench {
	t.Helper()
	if len(users) == 0 {
		users = []account.User{sessiontest.User("u")}
	}
	env := sessiontest.New(t, sessiontest.Options{}, users...)
	return &bench{t: t, env: env, s: env.Login(users[0].Username), srv: &Server{methods: methodTable(), finds: newFindCache(), walkLimit: 1000}}
}

// as is the bench for another user's session.
func (b *bench) as(name string) *bench {
	c := *b
	c.s = b.env.Login(name)
	return &c
}

type answer struct {
	code int
	head map[string]string
	body string
	err  error
}

type fieldMap map[string]string

func (f fieldMap) get(name string) string { return f[http.CanonicalHeaderKey(name)] }

// do runs one method. Headers are "Name: value" lines.
func (b *bench) do(method, target, body string, headers ...string) answer {
	b.t.Helper()
	f := fieldMap{}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		f[http.CanonicalHeaderKey(name)] = value
	}
	p, slash, err := parsePath(target, b.prefix)
	if err != nil {
		b.t.Fatalf("%s: %v", target, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r := &request{
		ctx: ctx, s: b.s, method: method, path: p, slash: slash, prefix: b.prefix, scheme: "http", host: "h",
		body: strings.NewReader(body), length: int64(len(body)), fields: f,
	}
	w := newResponse(b.srv, nil, r)
	err = r.submit()
	if err == nil {
		err = b.srv.methods[method].run(b.srv, r, w)
	}
	a := answer{code: w.code, head: map[string]string{}, body: string(w.held()), err: err}
	for _, h := range w.names {
		a.head[h.name] = h.value
	}
	if err != nil {
		if w.code != 0 && len(a.body) > 0 {
			b.t.Fatalf("%s %s: an error after the status: %v", method, target, err)
		}
		a.code = statusFor(err)
		var f *failure
		if errors.As(lockedAnswer(r, err), &f) {
			a.body = f.element
		}
	}
	return a
}

// want runs a method that must answer with a code.
func (b *bench) want(code int, method, target, body string, headers ...string) answer {
	b.t.Helper()
	a := b.do(method, target, body, headers...)
	if a.code != code {
		b.t.Errorf("%s %s %v: %d %v, want %d\n%s", method, target, headers, a.code, a.err, code, a.body)
	}
	if strings.HasPrefix(a.body, "<?xml") {
		if _, err := spell(a.body); err != nil {
			b.t.Errorf("%s %s: %v in\n%s", method, target, err, a.body)
		}
	}
	return a
}

func (b *bench) has(a answer, parts ...string) {
	b.t.Helper()
	for _, p := range parts {
		if !strings.Contains(a.body, p) {
			b.t.Errorf("no %s in\n%s", p, a.body)
		}
	}
}

func (b *bench) lacks(a answer, parts ...string) {
	b.t.Helper()
	for _, p := range parts {
		if strings.Contains(a.body, p) {
			b.t.Errorf("%s in\n%s", p, a.body)
		}
	}
}

// put makes a file.
func (b *bench) put(path, content string) {
	b.t.Helper()
	p, err := vfs.ParsePath(path)
	if err != nil {
		b.t.Fatal(err)
	}
	h, err := b.s.OpenFile(context.Background(), p, session.Flags{Write: true, Create: true, Truncate: true, Whole: true})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := h.WriteAt([]byte(content), 0); err != nil && content != "" {
		b.t.Fatal(err)
	}
	if err := h.Close(context.Background()); err != nil {
		b.t.Fatal(err)
	}
}

// get reads a file; "" and false if there is none.
func (b *bench) get(path string) (string, bool) {
	b.t.Helper()
	p, _ := vfs.ParsePath(path)
	h, err := b.s.OpenFile(context.Background(), p, session.Flags{Read: true})
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	if err != nil {
		b.t.Fatal(err)
	}
	defer h.Close(context.Background())
	text, err := io.ReadAll(io.NewSectionReader(h, 0, 1<<20))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text), true
}

func (b *bench) mkdir(path string) {
	b.t.Helper()
	b.want(201, "MKCOL", path, "")
}

var tokenPattern = regexp.MustCompile(`urn:uuid:[0-9a-f-]{36}`)

// lockOf takes a lock and gives its token.
func (b *bench) lockOf(path, scope, depth string) string {
	b.t.Helper()
	a := b.do("LOCK", path, lockBody(scope), "Depth: "+depth)
	if a.code != 200 && a.code != 201 {
		b.t.Fatalf("LOCK %s: %d %v", path, a.code, a.err)
	}
	return tokenPattern.FindString(a.head["Lock-Token"])
}

func lockBody(scope string) string {
	return `<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:` + scope + `/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner><D:href>me</D:href></D:owner></D:lockinfo>`
}

func TestPropfind(t *testing.T) {
	b := newBench(t)
	b.put("/a b&é.txt", "12345")
	b.mkdir("/dir")
	b.put("/dir/x", "")
	all := b.want(207, "PROPFIND", "/", "", "Depth: 1")
	b.has(all, "<D:href>/</D:href>", "<D:href>/a%20b%26%C3%A9.txt</D:href>", "<D:href>/dir/</D:href>", "<D:getcontentlength>5</D:getcontentlength>",
		"<D:displayname>a b&amp;é.txt</D:displayname>", "<D:resourcetype><D:collection/></D:resourcetype>", "<D:lockdiscovery></D:lockdiscovery>",
		"<D:getetag>\"", "<D:creationdate>", "GMT</D:getlastmodified>")
	b.lacks(all, "404", "/dir/x", "Win32")
	if strings.Count(all.body, "<D:quota-available-bytes>") != 1 { // of the resource itself alone
		t.Error(all.body)
	}
	if n := strings.Count(all.body, "<D:response>"); n != 3 {
		t.Errorf("%d responses", n)
	}
	zero := b.want(207, "PROPFIND", "/dir", "", "Depth: 0")
	b.has(zero, "<D:href>/dir/</D:href>")
	b.lacks(zero, "getcontentlength", "getcontenttype", "/dir/x")
	b.want(404, "PROPFIND", "/none", "", "Depth: 0")
	b.want(400, "PROPFIND", "/", "", "Depth: 2")
	b.want(400, "PROPFIND", "/", "<a>", "Depth: 0")
	b.want(400, "PROPFIND", "/", `<D:propfind xmlns:D="DAV:"><D:prop><a:x xmlns:a=""/></D:prop></D:propfind>`, "Depth: 0")

	named := `<propfind xmlns="DAV:"><prop><getcontentlength/><nosuch xmlns="u:&amp;x"/><x xmlns=""/><quota-used-bytes/></prop></propfind>`
	a := b.want(207, "PROPFIND", "/a%20b%26%C3%A9.txt", named, "Depth: 0")
	b.has(a, "<D:propstat><D:prop><D:getcontentlength>5</D:getcontentlength></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>",
		`<D:propstat><D:prop><x:nosuch xmlns:x="u:&amp;x"/><x/><D:quota-used-bytes/></D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>`)
	a = b.want(207, "PROPFIND", "/a%20b%26%C3%A9.txt", named, "Depth: 0", "Prefer: return=minimal")
	b.lacks(a, "404", "nosuch")
	a = b.want(207, "PROPFIND", "/a%20b%26%C3%A9.txt", `<propfind xmlns="DAV:"><prop><nosuch/></prop></propfind>`, "Depth: 0")
	b.lacks(a, "200 OK")
	a = b.want(207, "PROPFIND", "/", `<propfind xmlns="DAV:"><propname/></propfind>`, "Depth: 0")
	b.has(a, "<D:getetag/>", "<D:quota-available-bytes/>", "<D:supportedlock/>")
	a = b.want(207, "PROPFIND", "/", `<propfind xmlns="DAV:"><allprop/><include><quota-available-bytes/><quota-used-bytes/><getetag/></include></propfind>`, "Depth: 0")
	if !regexp.MustCompile(`<D:quota-available-bytes>\d+</D:quota-available-bytes><D:quota-used-bytes>\d+</D:quota-used-bytes>`).MatchString(a.body) {
		t.Errorf("no quota in %s", a.body)
	}
	if strings.Count(a.body, "<D:getetag>") != 1 || strings.Count(a.body, "<D:quota-used-bytes>") != 1 {
		t.Errorf("what is included comes twice: %s", a.body)
	}
}

func TestPropfindBelowAPrefix(t *testing.T) {
	b := newBench(t)
	b.prefix = "/dav"
	b.put("/x", "")
	a := b.want(207, "PROPFIND", "/dav", "", "Depth: 1")
	b.has(a, "<D:href>/dav/</D:href>", "<D:href>/dav/x</D:href>")
}

// TestPropfindInfinity: DAV-2. It is refused, or it has a budget.
func TestPropfindInfinity(t *testing.T) {
	b := newBench(t)
	b.mkdir("/a")
	b.mkdir("/a/b")
	for i := range 10 {
		b.put(fmt.Sprintf("/a/b/%d", i), "")
	}
	a := b.want(207, "PROPFIND", "/", "")
	if n := strings.Count(a.body, "<D:response>"); n != 13 {
		t.Errorf("%d responses, want 13\n%s", n, a.body)
	}
	b.has(a, "<D:href>/a/b/9</D:href>")
	b.srv.walkLimit = 5
	a = b.want(207, "PROPFIND", "/", "", "Depth: infinity")
	if n := strings.Count(a.body, "<D:response>"); n != 7 { // itself, five, and the one that says there is more
		t.Errorf("%d responses, want 7\n%s", n, a.body)
	}
	b.has(a, "<D:response><D:href>/</D:href><D:status>HTTP/1.1 507 Insufficient Storage</D:status>")
	b.srv.walkLimit = 0
	a = b.want(403, "PROPFIND", "/", "")
	b.has(a, "<D:propfind-finite-depth/>")
	b.want(207, "PROPFIND", "/a/b/1", "") // of a file there is no more
}

func TestPropfindShowsTheTargetsOfLinks(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	b.mkdir("/dir")
	b.put("/dir/f", "12345")
	for link, target := range map[string]string{"/d": "dir", "/f": "dir/f", "/gone": "nothing", "/dir/up": "../dir"} {
		p, _ := vfs.ParsePath(link)
		if err := b.s.Symlink(ctx, target, p); err != nil {
			t.Fatal(err)
		}
	}
	a := b.want(207, "PROPFIND", "/", "", "Depth: infinity")
	b.has(a, "<D:href>/d/</D:href>", "<D:href>/f</D:href>", "<D:href>/gone</D:href>", "<D:href>/dir/up/</D:href>")
	b.lacks(a, "/dir/up/f", "/d/f") // links are not gone into
	if strings.Count(a.body, "<D:getcontentlength>5</D:getcontentlength>") != 2 {
		t.Error(a.body)
	}
}

func TestProppatch(t *testing.T) {
	b := newBench(t)
	b.put("/f", "x")
	set := `<D:propertyupdate xmlns:D="DAV:" xmlns:Z="http://ns/z"><D:set><D:prop xml:lang="en"><Z:a>1 &lt; <Z:b c="d"/></Z:a><n xmlns="">v</n></D:prop></D:set></D:propertyupdate>`
	a := b.want(207, "PROPPATCH", "/f", set)
	b.has(a, `<D:propstat><D:prop><x:a xmlns:x="http://ns/z"/><n/></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>`)
	get := `<D:propfind xmlns:D="DAV:"><D:prop><a xmlns="http://ns/z"/><n xmlns=""/></D:prop></D:propfind>`
	want := []string{`<x:a xmlns:x="http://ns/z" xml:lang="en">1 &lt; <Z:b xmlns:Z="http://ns/z" c="d"></Z:b></x:a>`, `<n xml:lang="en">v</n>`}
	b.has(b.want(207, "PROPFIND", "/f", get, "Depth: 0"), want...)
	b.has(b.want(207, "PROPFIND", "/", get, "Depth: 1"), want...)
	b.has(b.want(207, "PROPFIND", "/f", "", "Depth: 0"), want...)
	b.has(b.want(207, "PROPFIND", "/f", `<propfind xmlns="DAV:"><propname/></propfind>`, "Depth: 0"), `<x:a xmlns:x="http://ns/z"/>`)

	// They go with the file.
	b.want(201, "COPY", "/f", "", "Destination: /g")
	b.want(201, "MOVE", "/f", "", "Destination: http://h/h")
	b.has(b.want(207, "PROPFIND", "/g", get, "Depth: 0"), want...)
	b.has(b.want(207, "PROPFIND", "/h", get, "Depth: 0"), want...)

	// All or nothing, and in their order.
	a = b.want(207, "PROPPATCH", "/g", `<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><D:getetag>x</D:getetag><n xmlns="">w</n></D:prop></D:set></D:propertyupdate>`)
	b.has(a, `<D:prop><D:getetag/></D:prop><D:status>HTTP/1.1 403 Forbidden</D:status><D:error><D:cannot-modify-protected-property/></D:error>`, `<D:prop><n/></D:prop><D:status>HTTP/1.1 424 Failed Dependency</D:status>`)
	b.has(b.want(207, "PROPFIND", "/g", get, "Depth: 0"), want...)
	b.want(207, "PROPPATCH", "/g", `<D:propertyupdate xmlns:D="DAV:"><D:remove><D:prop><n xmlns=""/><a xmlns="http://ns/z"/></D:prop></D:remove><D:set><D:prop><n xmlns="">w</n></D:prop></D:set></D:propertyupdate>`)
	a = b.want(207, "PROPFIND", "/g", get, "Depth: 0")
	b.has(a, `<n>w</n>`, `<x:a xmlns:x="http://ns/z"/>`)

	b.want(404, "PROPPATCH", "/none", set)
	b.want(400, "PROPPATCH", "/g", "")
	b.want(400, "PROPPATCH", "/g", `<D:propertyupdate xmlns:D="DAV:"/>`)
	big := strings.Repeat("x", 100_000)
	b.has(b.want(207, "PROPPATCH", "/g", strings.Replace(set, ">v<", ">"+big+"<", 1)), "507 Insufficient Storage")
}

func TestProppatchOfTimes(t *testing.T) {
	b := newBench(t)
	b.put("/f", "x")
	body := xmlSeeds[2]
	b.has(b.want(207, "PROPPATCH", "/f", body), "200 OK", "Win32FileAttributes")
	ask := `<propfind xmlns="DAV:" xmlns:Z="urn:schemas-microsoft-com:"><prop><getlastmodified/><Z:Win32LastModifiedTime/><Z:Win32CreationTime/><Z:Win32FileAttributes/></prop></propfind>`
	b.has(b.want(207, "PROPFIND", "/f", ask, "Depth: 0"), "<D:getlastmodified>Wed, 25 Nov 2026 09:10:11 GMT<", ">Wed, 25 Nov 2026 09:10:11 GMT</x:Win32LastModifiedTime>", ">Wed, 25 Nov 2026 09:10:11 GMT</x:Win32CreationTime>", ">00000020</x:Win32FileAttributes>")
	set := func(v string) string {
		return `<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><D:getlastmodified>` + v + `</D:getlastmodified></D:prop></D:set></D:propertyupdate>`
	}
	b.has(b.want(207, "PROPPATCH", "/f", set("2020-02-03T04:05:06Z")), "200 OK")
	a := b.want(207, "PROPFIND", "/f", "", "Depth: 0")
	b.has(a, "<D:getlastmodified>Mon, 03 Feb 2020 04:05:06 GMT<", ">Mon, 03 Feb 2020 04:05:06 GMT</x:Win32LastModifiedTime>") // not what was stored once
	b.has(b.want(207, "PROPPATCH", "/f", set("yesterday")), "409 Conflict")
	b.has(b.want(207, "PROPPATCH", "/f", `<D:propertyupdate xmlns:D="DAV:" xmlns:A="http://apache.org/dav/props/"><D:set><D:prop><A:executable>T</A:executable></D:prop></D:set></D:propertyupdate>`), "200 OK")
	b.has(b.want(207, "PROPFIND", "/f", `<propfind xmlns="DAV:"><prop><executable xmlns="http://apache.org/dav/props/"/></prop></propfind>`, "Depth: 0"), ">T</x:executable>")
}

func TestProppatchWithoutTheRightToSetTimes(t *testing.T) {
	u := sessiontest.User("u")
	u.Permissions["/"] = []string{account.PermList, account.PermDownload, account.PermUpload, account.PermOverwrite, account.PermCreateDirs}
	b := newBench(t, u)
	b.put("/f", "x")
	a := b.want(207, "PROPPATCH", "/f", xmlSeeds[2])
	b.has(a, "403 Forbidden", "424 Failed Dependency")
	b.lacks(a, "200 OK")
	a = b.want(207, "PROPFIND", "/f", "", "Depth: 0")
	b.lacks(a, "Win32")
}

func TestMkcol(t *testing.T) {
	b := newBench(t)
	b.put("/f", "x")
	b.want(201, "MKCOL", "/d/", "")
	b.want(405, "MKCOL", "/d", "")
	b.want(405, "MKCOL", "/f", "")
	b.want(405, "MKCOL", "/", "")
	b.want(409, "MKCOL", "/none/d", "")
	b.want(409, "MKCOL", "/f/d", "")
	b.want(415, "MKCOL", "/e", "afafafaf", "Content-Type: xzy-foo/bar-512")
	b.want(415, "MKCOL", "/e", "<a/>", "Content-Type: text/xml")
	b.want(400, "MKCOL", "/e", "<a", "Content-Type: text/xml")
	// RFC 5689
	body := xmlSeeds[5]
	b.want(201, "MKCOL", "/e", body, "Content-Type: application/xml; charset=utf-8")
	b.has(b.want(207, "PROPFIND", "/e", "", "Depth: 0"), "<D:displayname>Résumé</D:displayname>")
	a := b.want(403, "MKCOL", "/e2", strings.Replace(body, "<D:collection/>", `<D:collection/><C:calendar xmlns:C="c"/>`, 1), "Content-Type: text/xml")
	b.has(a, "valid-resourcetype")
	b.want(404, "PROPFIND", "/e2", "", "Depth: 0")
}

func TestCopyAndMove(t *testing.T) {
	b := newBench(t)
	b.put("/f", "one")
	b.put("/g", "two")
	b.mkdir("/d")
	b.put("/d/x", "x")
	b.mkdir("/d/e")
	b.put("/d/e/y", "y")

	is := func(path, want string) {
		t.Helper()
		if got, ok := b.get(path); !ok || got != want {
			t.Errorf("%s holds %q %v, want %q", path, got, ok, want)
		}
	}
	none := func(path string) {
		t.Helper()
		b.want(404, "PROPFIND", path, "", "Depth: 0")
	}
	b.want(201, "COPY", "/f", "", "Destination: /f2")
	is("/f2", "one")
	b.want(412, "COPY", "/g", "", "Destination: /f2", "Overwrite: F")
	is("/f2", "one")
	b.want(204, "COPY", "/g", "", "Destination: /f2", "Overwrite: T")
	is("/f2", "two")
	b.want(400, "COPY", "/g", "", "Destination: /f2", "Overwrite: maybe")
	b.want(400, "COPY", "/g", "")
	b.want(400, "COPY", "/g", "", "Destination: /x", "Depth: 1")
	b.want(404, "COPY", "/none", "", "Destination: /x")
	b.want(409, "COPY", "/g", "", "Destination: /none/x")
	b.want(409, "COPY", "/g", "", "Destination: /f/x")
	b.want(409, "MOVE", "/g", "", "Destination: /none/x")
	b.want(502, "COPY", "/g", "", "Destination: http://elsewhere/x")

	b.want(201, "COPY", "/d/", "", "Destination: /d2/")
	is("/d2/e/y", "y")
	b.want(201, "COPY", "/d", "", "Destination: /d3", "Depth: 0")
	none("/d3/x")
	b.want(204, "COPY", "/d", "", "Destination: /d3")
	is("/d3/e/y", "y")
	b.want(412, "COPY", "/d", "", "Destination: /d3", "Overwrite: F")
	b.put("/d3/old", "")
	b.want(204, "COPY", "/d", "", "Destination: /d3")
	none("/d3/old") // what stood there went first (RFC 4918 9.8.4)
	b.want(204, "COPY", "/d", "", "Destination: /f2")
	is("/f2/x", "x")
	b.want(204, "COPY", "/f", "", "Destination: /d3")
	is("/d3", "one")

	b.want(201, "MOVE", "/d2", "", "Destination: /d4")
	none("/d2")
	is("/d4/e/y", "y")
	b.want(412, "MOVE", "/d4", "", "Destination: /d", "Overwrite: F")
	b.want(412, "MOVE", "/f", "", "Destination: /g", "Overwrite: F")
	b.put("/d/old", "")
	b.want(204, "MOVE", "/d4", "", "Destination: /d", "Depth: infinity")
	none("/d/old")
	none("/d4")
	is("/d/e/y", "y")
	b.want(204, "MOVE", "/f", "", "Destination: /g")
	is("/g", "one")
	none("/f")
	b.want(204, "MOVE", "/g", "", "Destination: /d")
	is("/d", "one")
	b.want(400, "MOVE", "/f2", "", "Destination: /x", "Depth: 0")
}

// TestCopyOntoItself: DAV-4.
func TestCopyOntoItself(t *testing.T) {
	b := newBench(t)
	b.mkdir("/d")
	b.put("/d/x", "x")
	for _, method := range []string{"COPY", "MOVE"} {
		for _, to := range []string{"/d", "/d/", "/d//.", "/d/e", "/d/e/f", "/"} {
			b.want(403, method, "/d", "", "Destination: "+to)
		}
		b.want(403, method, "/d/x", "", "Destination: /d")
		b.want(403, method, "/d/x", "", "Destination: http://h/d/x")
		b.want(403, method, "/", "", "Destination: /e")
	}
	if got, ok := b.get("/d/x"); !ok || got != "x" {
		t.Error("it is gone")
	}
}

// TestCopyNeedsNoRightToCopy: reading and writing are enough, as WebDAV's users have always had it; and both ends are
// asked (PATH-4).
func TestCopyNeedsNoRightToCopy(t *testing.T) {
	u := sessiontest.User("u")
	plain := []string{account.PermList, account.PermDownload, account.PermUpload, account.PermCreateDirs}
	u.Permissions["/"] = plain
	u.Permissions["/ro"] = []string{account.PermList, account.PermDownload}
	u.Permissions["/wo"] = []string{account.PermList, account.PermUpload}
	root := sessiontest.User("root")
	root.HomeDir = u.HomeDir
	b := newBench(t, u, root)
	r := b.as("root")
	for _, d := range []string{"/ro", "/wo", "/d"} {
		r.mkdir(d)
		r.put(d+"/f", d)
	}
	b.want(201, "COPY", "/d", "", "Destination: /d2")
	b.want(201, "COPY", "/ro/f", "", "Destination: /f")
	b.want(403, "COPY", "/wo/f", "", "Destination: /g")
	b.want(403, "COPY", "/f", "", "Destination: /ro/g")
	b.want(403, "COPY", "/ro/f", "", "Destination: /f") // no right to overwrite
	b.want(403, "COPY", "/d", "", "Destination: /d2")
	b.want(403, "MOVE", "/d/f", "", "Destination: /h")
	// What may not be read in a tree is told, the rest is copied.
	a := b.want(207, "COPY", "/wo", "", "Destination: /w2")
	b.has(a, "<D:href>/w2/f</D:href><D:status>HTTP/1.1 403 Forbidden</D:status>")
}

func TestLock(t *testing.T) {
	u2 := sessiontest.User("u2")
	u2.HomeDir = "/home/u"
	b := newBench(t, sessiontest.User("u"), u2)
	other := b.as("u2")
	b.put("/f", "x")

	a := b.want(200, "LOCK", "/f", lockBody("exclusive"), "Timeout: Infinite, Second-4100000000", "Depth: 0")
	token := tokenPattern.FindString(a.head["Lock-Token"])
	b.has(a, "<D:activelock>", "<D:exclusive/>", "<D:depth>0</D:depth>", `<D:owner><D:href xmlns:D="DAV:">me</D:href></D:owner>`,
		"<D:timeout>Second-3600</D:timeout>", "<D:locktoken><D:href>"+token+"</D:href>", "<D:lockroot><D:href>/f</D:href>")
	if a.head["Lock-Token"] != "<"+token+">" {
		t.Error(a.head)
	}
	b.has(other.want(423, "LOCK", "/f", lockBody("shared")), "<D:no-conflicting-lock><D:href>/f</D:href>")
	b.has(other.want(207, "PROPFIND", "/f", "", "Depth: 0"), "<D:activelock>", token)
	b.has(other.want(207, "PROPFIND", "/", "", "Depth: 1"), "<D:activelock>", token)

	set := `<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><n xmlns="">v</n></D:prop></D:set></D:propertyupdate>`
	for _, s := range []*bench{b, other} {
		s.has(s.want(423, "PROPPATCH", "/f", set), "<D:lock-token-submitted><D:href>/f</D:href>")
		s.want(423, "MOVE", "/f", "", "Destination: /g")
		s.put("/o"+s.s.Username(), "")
		s.want(423, "COPY", "/o"+s.s.Username(), "", "Destination: /f")
		s.want(423, "MOVE", "/o"+s.s.Username(), "", "Destination: /f")
	}
	// Somebody else's token is worth nothing (DAV-3).
	other.want(423, "PROPPATCH", "/f", set, "If: (<"+token+">)")
	other.want(403, "UNLOCK", "/f", "", "Lock-Token: <"+token+">")
	other.want(403, "LOCK", "/f", "", "If: (<"+token+">)")

	b.want(207, "PROPPATCH", "/f", set, "If: (<"+token+">)")
	b.want(412, "PROPPATCH", "/f", set, "If: (<"+token+"0>)")
	b.want(423, "PROPPATCH", "/f", set, "If: (<"+token+"0>) (Not <DAV:no-lock>)")
	b.want(412, "PROPPATCH", "/f", set, `If: (<`+token+`> ["nope"])`)
	b.want(400, "PROPPATCH", "/f", set, "If: ("+token+")")
	b.want(207, "PROPPATCH", "/f", set, "If: <http://h/f> (<"+token+">)")

	a = b.want(200, "LOCK", "/f", "", "If: (<"+token+">)", "Timeout: Second-100")
	b.has(a, token, "<D:timeout>Second-100</D:timeout>")
	b.want(400, "LOCK", "/f", "")
	b.want(412, "LOCK", "/f", "", "If: (<urn:uuid:00000000-0000-4000-8000-000000000000>)")
	b.want(400, "LOCK", "/f", lockBody("exclusive"), "Depth: 1")
	b.want(400, "LOCK", "/f", lockBody("odd"))

	b.want(400, "UNLOCK", "/f", "")
	b.want(400, "UNLOCK", "/f", "", "Lock-Token: <"+token)
	b.want(409, "UNLOCK", "/f", "", "Lock-Token: <urn:uuid:00000000-0000-4000-8000-000000000000>")
	b.want(409, "UNLOCK", "/ou", "", "Lock-Token: <"+token+">")
	b.want(204, "UNLOCK", "/f", "", "Lock-Token: <"+token+">")
	other.want(207, "PROPPATCH", "/f", set)

	// Shared ones stand beside each other.
	one, two := b.lockOf("/f", "shared", "0"), other.lockOf("/f", "shared", "0")
	b.has(b.want(423, "LOCK", "/f", lockBody("exclusive")), "no-conflicting-lock")
	b.want(207, "PROPPATCH", "/f", set, "If: (<"+one+">)")
	other.want(207, "PROPPATCH", "/f", set, "If: (<"+two+">)")
	b.want(423, "PROPPATCH", "/f", set)
	b.want(204, "UNLOCK", "/f", "", "Lock-Token: "+one)
}

func TestLockOfNothingMakesAFile(t *testing.T) {
	b := newBench(t)
	token := ""
	if a := b.want(201, "LOCK", "/new", lockBody("exclusive"), "Timeout: Second-10"); a.code == 201 {
		token = tokenPattern.FindString(a.head["Lock-Token"])
	}
	if got, ok := b.get("/new"); !ok || got != "" {
		t.Errorf("%q %v", got, ok)
	}
	b.put("/f", "x")
	b.want(423, "COPY", "/f", "", "Destination: /new", "If: (<urn:x>) (Not <urn:x>)")
	b.want(204, "UNLOCK", "/new", "", "Lock-Token: <"+token+">")
	b.want(409, "LOCK", "/none/new", lockBody("exclusive"))
}

func TestLockOfATree(t *testing.T) {
	b := newBench(t)
	b.mkdir("/d")
	b.put("/d/x", "x")
	b.put("/f", "f")
	in := b.lockOf("/d/x", "exclusive", "0")
	a := b.want(207, "LOCK", "/d", lockBody("exclusive"), "Depth: infinity")
	b.has(a, "<D:href>/d/x</D:href><D:status>HTTP/1.1 423 Locked</D:status>", "<D:status>HTTP/1.1 424 Failed Dependency</D:status>")
	b.want(423, "MOVE", "/d", "", "Destination: /e")
	b.want(204, "UNLOCK", "/d/x", "", "Lock-Token: <"+in+">")

	token := b.lockOf("/d", "exclusive", "infinity")
	b.want(423, "MKCOL", "/d/new", "")
	b.want(423, "COPY", "/f", "", "Destination: /d/f")
	b.want(423, "LOCK", "/d/x", lockBody("shared"), "Depth: 0")
	b.want(412, "COPY", "/f", "", "Destination: /d/f", "If: (<"+token+">)") // untagged: of /f
	b.want(201, "COPY", "/f", "", "Destination: /d/f", "If: </d> (<"+token+">)")
	b.want(201, "MKCOL", "/d/new", "", "If: (<"+token+">)")
	b.has(b.want(200, "LOCK", "/d/x", "", "If: (<"+token+">)"), "<D:lockroot><D:href>/d</D:href>")
	b.has(b.want(207, "PROPFIND", "/d/x", "", "Depth: 0"), token, "<D:depth>infinity</D:depth>")
	b.want(204, "UNLOCK", "/d/x", "", "Lock-Token: <"+token+">") // any resource in its scope (RFC 4918 9.11)
	b.want(201, "MKCOL", "/d/new2", "")
}

// TestLockFlood: DAV-3. There is a bound for one user, and an answer for what is beyond.
func TestLockFlood(t *testing.T) {
	if code := statusFor(session.ErrTooManyLocks); code != 507 {
		t.Errorf("too many locks: %d", code)
	}
	b := newBench(t)
	b.put("/f", "")
	big := strings.Replace(lockBody("shared"), "me", strings.Repeat("x", session.MaxLockOwner+1), 1)
	if a := b.do("LOCK", "/f", big); a.code != 403 {
		t.Errorf("a huge owner: %d", a.code)
	}
	n, code := 0, 200
	for ; n < 2000 && code == 200; n++ {
		code = b.do("LOCK", "/f", lockBody("shared"), "Depth: 0").code
	}
	if code != 507 {
		t.Errorf("after %d locks: %d", n, code)
	}
}

func TestParseTimeout(t *testing.T) {
	for h, want := range map[string]time.Duration{
		"": 0, "Infinite": session.MaxLockTimeout, "Second-60": time.Minute, "Extended, Second-5": 5 * time.Second, "second-1": time.Second,
		"Second-0": 0, "Second--1": 0, "Second-x": 0, "Second-4294967296": (1 << 32) * time.Second, "Second-99999999999999999999": 0,
		"Second-" + strconv.FormatUint(1<<63, 10): (1 << 32) * time.Second,
	} {
		if got := parseTimeout(h); got != want {
			t.Errorf("%q: %v, want %v", h, got, want)
		}
	}
}

func TestConditionsOfMethods(t *testing.T) {
	b := newBench(t)
	b.put("/f", "x")
	a := b.want(207, "PROPFIND", "/f", "", "Depth: 0")
	etag := regexp.MustCompile(`"[^"]+"`).FindString(strings.SplitAfter(a.body, "<D:getetag>")[1])
	b.want(412, "COPY", "/f", "", "Destination: /g", `If-Match: "nope"`)
	b.want(201, "COPY", "/f", "", "Destination: /g", "If-Match: "+etag)
	b.want(412, "MOVE", "/g", "", "Destination: /h", "If-None-Match: *")
	b.want(412, "MKCOL", "/f", "", "If-None-Match: *")
	b.want(412, "LOCK", "/f", lockBody("exclusive"), "If-None-Match: *")
	b.want(201, "COPY", "/f", "", "Destination: /i", "If: (["+etag+"])")
	b.want(412, "COPY", "/f", "", "Destination: /j", "If: (Not ["+etag+"])")
	b.want(201, "COPY", "/f", "", "Destination: /j", "If: </none> (Not ["+etag+"])")
}

// TestCopyWithinTheQuota: QUO-2. What does not fit is told, and nothing of it stays.
func TestCopyWithinTheQuota(t *testing.T) {
	u := sessiontest.User("u")
	u.QuotaSize = 100
	b := newBench(t, u)
	b.put("/f", strings.Repeat("x", 60))
	b.want(507, "COPY", "/f", "", "Destination: /g")
	b.want(404, "PROPFIND", "/g", "", "Depth: 0")
	b.want(201, "MOVE", "/f", "", "Destination: /h")
	b.mkdir("/d")
	b.put("/d/a", strings.Repeat("x", 10))
	b.want(201, "MOVE", "/h", "", "Destination: /d/h")
	a := b.want(207, "COPY", "/d", "", "Destination: /e")
	b.has(a, "<D:href>/e/h</D:href><D:status>HTTP/1.1 507 Insufficient Storage</D:status>")
	b.lacks(a, "/e/a")
	if got, ok := b.get("/e/a"); !ok || len(got) != 10 {
		t.Errorf("what fits was not copied: %q", got)
	}
	b.want(404, "PROPFIND", "/e/h", "", "Depth: 0")
}

// TestHiddenNamesAreNotThere: neither listed, nor a target of anything (PATH-4).
func TestHiddenNamesAreNotThere(t *testing.T) {
	u := sessiontest.User("u")
	u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/", DeniedPatterns: []string{"*.key"}, DenyPolicy: 1}}
	root := sessiontest.User("root")
	root.HomeDir = u.HomeDir
	b := newBench(t, u, root)
	r := b.as("root")
	r.put("/id.key", "secret")
	r.put("/f", "x")
	b.lacks(b.want(207, "PROPFIND", "/", "", "Depth: 1"), "id.key")
	b.want(404, "PROPFIND", "/id.key", "", "Depth: 0")
	b.want(404, "COPY", "/id.key", "", "Destination: /g")
	b.want(404, "PROPPATCH", "/id.key", xmlSeeds[2])
	b.want(403, "COPY", "/f", "", "Destination: /new.key")
	b.want(403, "MKCOL", "/new.key", "")
	for _, a := range []answer{b.do("MOVE", "/id.key", "", "Destination: /g"), b.do("LOCK", "/id.key", lockBody("exclusive"))} {
		if a.code != 403 && a.code != 404 && a.code != 409 {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
	if got, _ := r.get("/id.key"); got != "secret" {
		t.Errorf("it holds %q", got)
	}
}
