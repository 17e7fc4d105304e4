package rest

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// form makes a multipart body of files, by pairs of name and content.
func form(t testing.TB, files ...string) (kind, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		p, err := w.CreateFormFile("filenames", files[i])
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(p, files[i+1])
	}
	w.Close()
	return w.FormDataContentType(), b.String()
}

// unzip reads an archive as "name=content" lines, sorted; directories end in "/".
func unzip(t testing.TB, a *answer) string {
	t.Helper()
	r, err := zip.NewReader(strings.NewReader(a.Body), int64(len(a.Body)))
	if err != nil {
		t.Fatalf("%s: %v (%d bytes)", a.call, err, len(a.Body))
	}
	var out []string
	for _, f := range r.File {
		line := f.Name
		if !strings.HasSuffix(line, "/") {
			rc, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(rc)
			rc.Close()
			line += "=" + string(b)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// names lists a directory.
func (a *answer) names() string {
	a.t.Helper()
	var list []struct {
		Name string   `json:"name"`
		Size *int64   `json:"size"`
		Mode uint32   `json:"mode"`
		At   string   `json:"last_modified"`
		_    struct{} `json:"-"`
	}
	a.want(200).json(&list)
	var out []string
	for _, e := range list {
		if _, err := time.Parse(time.RFC3339, e.At); err != nil {
			a.t.Errorf("%s: last_modified %q", a.call, e.At)
		}
		s := e.Name
		if e.Mode&(1<<31) != 0 {
			s += "/"
		} else if e.Size != nil {
			s += fmt.Sprint(":", *e.Size)
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestUsersFiles(t *testing.T) {
	s := newServer(t)
	u := s.user("ann")
	if got := u.get("/user/dirs").names(); got != "" {
		t.Errorf("an empty home: %q", got)
	}
	u.post("/user/dirs?path=a/b/c", "").want(404)
	u.post("/user/dirs?path=a/b/c&mkdir_parents=true", "").want(201)
	u.post("/user/dirs?path=a", "").want(400)
	u.post("/user/files/upload?path=/a/one.txt", "0123456789", "X-SFTPGO-MTIME", "1600000000000").want(201)
	u.post("/user/files/upload", "x").want(400)
	u.post("/user/files/upload?path=/n/m/two&mkdir_parents=true", "two").want(201)
	kind, body := form(t, "x.txt", "xx", `C:\dir\y.txt`, "yy", "../z.txt", "zz")
	u.post("/user/files?path=/a/b", body, "Content-Type", kind).want(201)
	u.post("/user/files?path=/a/b", "no form").want(400)
	if got := u.get("/user/dirs?path=/a/b").names(); got != "c/ x.txt:2 y.txt:2 z.txt:2" {
		t.Errorf("after a form of three files: %q", got)
	}

	a := u.get("/user/files?path=/a/one.txt").want(200).has("0123456789")
	for k, want := range map[string]string{
		"Content-Disposition": `attachment; filename="one.txt"; filename*=UTF-8''one.txt`, "X-Content-Type-Options": "nosniff",
		"Last-Modified": time.UnixMilli(1600000000000).UTC().Format(http.TimeFormat), "Content-Type": "text/plain; charset=utf-8",
	} {
		if got := a.Header.Get(k); got != want { // WEB-2
			t.Errorf("%s: got %q, want %q", k, got, want)
		}
	}
	old := "Sun, 01 Jan 2017 00:00:00 GMT"
	for _, c := range []struct {
		header, value string
		status        int
		body, ranged  string
	}{
		{"Range", "bytes=2-4", 206, "234", "bytes 2-4/10"},
		{"Range", "bytes=-3", 206, "789", "bytes 7-9/10"},
		{"Range", "bytes=8-", 206, "89", "bytes 8-9/10"},
		{"Range", "bytes=8-99", 206, "89", "bytes 8-9/10"},
		{"Range", "bytes=10-", 416, "", "bytes */10"},
		{"Range", "bytes=1-2,4-5", 416, "", "bytes */10"}, // WEB-4
		{"Range", "bytes=5-2", 416, "", "bytes */10"},
		{"Range", "lines=1-2", 200, "0123456789", ""},
		{"If-Modified-Since", time.UnixMilli(1600000000000).UTC().Format(http.TimeFormat), 304, "", ""},
		{"If-Modified-Since", old, 200, "0123456789", ""},
		{"If-Unmodified-Since", old, 412, "", ""},
	} {
		a := u.get("/user/files?path=/a/one.txt", c.header, c.value).want(c.status)
		if c.status < 300 && a.Body != c.body || a.Header.Get("Content-Range") != c.ranged {
			t.Errorf("%s: %s: got %q, %q", c.header, c.value, a.Body, a.Header.Get("Content-Range"))
		}
	}
	u.get("/user/files?path=/a/one.txt", "Range", "bytes=1-2", "If-Range", old).want(200)
	if a := u.do("HEAD", "/user/files?path=/a/one.txt", "").want(200); a.Header.Get("Content-Length") != "10" || a.Body != "" {
		t.Errorf("HEAD: %v", a.Header)
	}
	u.get("/user/files?path=/a").want(400)
	u.get("/user/files?path=/none").want(404)

	u.patch("/user/files/metadata?path=/a/one.txt", `{"modification_time":1500000000000}`).want(200)
	u.patch("/user/files/metadata?path=/a/one.txt", `{}`).want(400)
	if got := u.do("HEAD", "/user/files?path=/a/one.txt", "").Header.Get("Last-Modified"); got != time.UnixMilli(1500000000000).UTC().Format(http.TimeFormat) {
		t.Errorf("modification time: %q", got)
	}
	u.patch("/user/dirs?path=/n&target=/o", "").want(200)
	u.post("/user/file-actions/move?path=/o/m/two&target=/o/three", "").want(200)
	u.post("/user/file-actions/copy?path=/o/three&target=/a/", "").want(200)
	u.post("/user/file-actions/copy?path=/a/b/&target=/copied", "").want(200)
	if got := u.get("/user/dirs?path=/copied").names(); got != "c/ x.txt:2 y.txt:2 z.txt:2" {
		t.Errorf("the contents of a directory: %q", got)
	}
	if got := u.get("/user/dirs?path=/a").names(); got != "b/ one.txt:10 three:3" {
		t.Errorf("a copy into a directory: %q", got)
	}
	u.do("DELETE", "/user/files?path=/a", "").want(400)
	u.do("DELETE", "/user/files?path=/a/three", "").want(200)
	u.do("DELETE", "/user/dirs?path=/o", "").want(200)
	u.get("/user/dirs?path=/o").want(404)

	z := u.post("/user/streamzip", `["/a","copied/x.txt"]`).want(200)
	if got, want := unzip(t, z), "a/ a/b/ a/b/c/ a/b/x.txt=xx a/b/y.txt=yy a/b/z.txt=zz a/one.txt=0123456789 copied/x.txt=xx"; got != want {
		t.Errorf("archive: got %q, want %q", got, want)
	}
	u.post("/user/streamzip", `["/a","/none"]`).want(404)
	u.post("/user/streamzip", `[]`).want(400)
}

// PATH-2: what leads elsewhere by one decoding or two is refused, or is a name like others.
func TestUsersPaths(t *testing.T) {
	s := newServer(t)
	u := s.user("ann")
	for _, p := range []string{"..", "/..", "/a/../b", "%2e%2e/x", "a/%2e%2e", "/a%00b", "%00", strings.Repeat("a", 300), strings.Repeat("a/", 3000)} {
		u.get("/user/files?path=" + p).want(400)
		u.post("/user/dirs?path="+p, "").want(400)
		u.post("/user/files/upload?path="+p, "x").want(400)
		u.post("/user/file-actions/move?path=/x&target="+p, "").want(400)
	}
	for _, name := range []string{"%2e%2e", `a\..\b`, "..x", `"><img src=x onerror=alert(1)>`, "ü ✓", "\xff\xfe", "a\tb\nc"} {
		p := url.QueryEscape("/" + name)
		u.post("/user/files/upload?path="+p, "data").want(201)
		u.get("/user/files?path=" + p).want(200).has("data")
		if a := u.get("/user/files?path=" + p); strings.ContainsFunc(a.Header.Get("Content-Disposition"), func(r rune) bool { return r < ' ' || r > '~' || r == '<' || r == '>' }) {
			t.Errorf("%q in a header: %q", name, a.Header.Get("Content-Disposition"))
		}
		z := unzip(t, u.post("/user/streamzip", `["/"]`).want(200)) // ZIP-1
		if strings.ContainsAny(z, "\\\t\n") || strings.Contains(z, "/..") || !strings.HasSuffix(z, "=data") {
			t.Errorf("%q in an archive: %q", name, z)
		}
		a := u.get("/user/dirs").want(200)
		if !json.Valid([]byte(a.Body)) {
			t.Errorf("%q in a listing: %s", name, a.Body)
		}
		u.do("DELETE", "/user/files?path="+p, "").want(200)
	}
	u.post("/user/files/upload?path=%FF", "x").want(201)
	u.get("/user/dirs").want(200).has(`"\udcff"`)
}

func TestUsersRights(t *testing.T) { // PATH-4
	s := newServer(t)
	up := s.user("up", `,"permissions":{"/":["upload","download"]}`)
	up.post("/user/files/upload?path=/f", "x").want(201)
	up.get("/user/files?path=/f").want(200).has("x")
	up.get("/user/dirs").want(403)
	up.post("/user/files/upload?path=/f", "y").want(403) // no overwrite
	up.do("DELETE", "/user/files?path=/f", "").want(403)
	up.patch("/user/files?path=/f&target=/g", "").want(403)
	up.post("/user/dirs?path=/d", "").want(403)
	full := s.user("full", `,"quota_size":1000`)
	full.post("/user/files/upload?path=/f", strings.Repeat("x", 2000)).want(413) // QUO-2
	full.get("/user/files?path=/f").want(404)
	kind, body := form(t, "a", "ok", "b", strings.Repeat("x", 2000), "c", "never")
	full.post("/user/files", body, "Content-Type", kind).want(413)
	if got := full.get("/user/dirs").names(); got != "a:2" {
		t.Errorf("after a form that met the quota: %q", got)
	}
	ro := s.user("ro", `,"filters":{"web_client":["write-disabled"]}`)
	ro.get("/user/dirs").want(200)
	ro.post("/user/dirs?path=/d", "").want(403)
	ro.post("/user/files/upload?path=/f", "x").want(403)
	s.nobody().get("/user/dirs").want(401)
	s.root().get("/user/dirs").want(401) // another audience
}

func TestUsersOwnAccount(t *testing.T) {
	s := newServer(t)
	u := s.user("ann", `,"filters":{"web_client":["publickey-change-disabled"]}`)
	u.put("/user/profile", `{"email":"a@b.example","description":"d","allow_api_key_auth":true,"public_keys":["junk"]}`).want(200)
	u.get("/user/profile").want(200).has(`"email":"a@b.example"`).has(`"allow_api_key_auth":true`).lacks("junk")
	u.put("/user/changepwd", `{"current_password":"wrong","new_password":"new-pw"}`).want(400)
	u.put("/user/changepwd", `{"current_password":"pw","new_password":"pw"}`).want(400)
	u.put("/user/changepwd", `{"current_password":"pw","new_password":"$2a$10$abcdefghijklmnopqrstuv"}`).want(400)
	u.put("/user/changepwd", `{"current_password":"pw","new_password":"new-pw"}`).want(200)
	u.get("/user/profile").want(401) // AUTH-8: the token has ended
	s.basic("/user/token", "ann", "pw").want(401)
	u = s.bearer(s.basic("/user/token", "ann", "new-pw"))
	var configs []struct{ Name string }
	u.get("/user/totp/configs").want(200).json(&configs)
	var sec struct{ Secret string }
	u.post("/user/totp/generate", fmt.Sprintf(`{"config_name":%q}`, configs[0].Name)).want(200).json(&sec)
	u.get("/user/2fa/recoverycodes").want(403)
	u.post("/user/totp/save", fmt.Sprintf(`{"enabled":true,"config_name":%q,"protocols":["HTTP"],"secret":{"status":"Plain","payload":"short"}}`, configs[0].Name)).want(400)
	u.post("/user/totp/save", fmt.Sprintf(`{"enabled":true,"config_name":%q,"protocols":["HTTP"],"secret":{"status":"Plain","payload":%q}}`, configs[0].Name, sec.Secret)).want(200).has(`"recovery_codes":["`)
	u.get("/user/2fa/recoverycodes").want(200).has("code").has("[**redacted**]")
	s.basic("/user/token", "ann", "new-pw").want(401) // AUTH-7: the code is needed now
	u.post("/user/2fa/recoverycodes", "").want(200).has(`["`)
	u.post("/user/totp/save", `{"enabled":false}`).want(200)
	s.basic("/user/token", "ann", "new-pw").want(200)
}

// makeShare makes a share and gives its id.
func makeShare(t testing.TB, u caller, doc string) string {
	t.Helper()
	a := u.post("/user/shares", doc).want(201)
	id := a.Header.Get("X-Object-ID")
	if len(id) != 22 || !strings.HasSuffix(a.Header.Get("Location"), "/user/shares/"+id) {
		t.Fatalf("id %q, location %q", id, a.Header.Get("Location"))
	}
	return id
}

func basicAuth(password string) []string {
	r, _ := http.NewRequest("GET", "http://x", nil)
	r.SetBasicAuth("anybody", password)
	return []string{"Authorization", r.Header.Get("Authorization")}
}

func TestShares(t *testing.T) {
	s := newServer(t)
	u, other := s.user("ann"), s.user("bob")
	v := s.nobody()
	for _, f := range []string{"/pub/a.txt", "/pub/sub/b.txt", "/secret/c.txt", "/publi/d.txt"} {
		u.post("/user/files/upload?mkdir_parents=true&path="+f, "in "+f).want(201)
	}
	id := makeShare(t, u, `{"name":"docs","scope":1,"paths":["/pub"]}`)
	u.get("/user/shares/" + id).want(200).has(`"name":"docs"`)
	other.get("/user/shares/" + id).want(404)
	other.put("/user/shares/"+id, `{"scope":1,"paths":["/"]}`).want(404)
	other.delete("/user/shares/" + id).want(404)
	if a := other.get("/user/shares").want(200); strings.TrimSpace(a.Body) != "[]" {
		t.Errorf("another user's list: %s", a.Body)
	}
	if got, want := unzip(t, v.get("/shares/"+id).want(200)), "pub/ pub/a.txt=in /pub/a.txt pub/sub/ pub/sub/b.txt=in /pub/sub/b.txt"; got != want {
		t.Errorf("archive: got %q, want %q", got, want)
	}
	if got, want := unzip(t, v.get("/shares/"+id+"?path=a.txt&path=/sub").want(200)), "a.txt=in /pub/a.txt sub/ sub/b.txt=in /pub/sub/b.txt"; got != want {
		t.Errorf("partial archive: got %q, want %q", got, want)
	}
	if got := v.get("/shares/" + id + "/dirs").names(); got != "a.txt:13 sub/" {
		t.Errorf("listing: %q", got)
	}
	v.get("/shares/" + id + "/files?path=sub/b.txt").want(200).has("in /pub/sub/b.txt")
	v.get("/shares/"+id+"/files?path=sub/b.txt", "Range", "bytes=0-1").want(206)
	v.get("/shares/" + id + "/files?path=../secret/c.txt").want(400)
	v.get("/shares/" + id + "/files?path=%2e%2e/secret/c.txt").want(400)
	v.get("/shares/" + id + "/files?path=/secret/c.txt").want(404)
	v.get("/shares/" + id + "/files?path=sub").want(400)
	v.post("/shares/"+id+"/x.txt", "x").want(403) // the scope
	v.get("/shares/nothing").want(404)
	v.get("/shares/nothing").lacks("nothing")
	u.get("/user/shares/" + id).has(`"used_tokens":4`)

	// One file, as it is.
	one := makeShare(t, u, `{"scope":1,"paths":["/secret/c.txt"]}`)
	v.get("/shares/" + one + "?compress=false").want(200).has("in /secret/c.txt")
	if got := unzip(t, v.get("/shares/"+one).want(200)); got != "c.txt=in /secret/c.txt" {
		t.Errorf("archive of one file: %q", got)
	}
	v.get("/shares/" + one + "/dirs").want(400)
	v.get("/shares/" + one + "/files?path=c.txt").want(400)

	// Writing.
	in := makeShare(t, u, `{"scope":2,"paths":["/pub/sub"]}`)
	kind, body := form(t, "n1", "1", "n2", "2")
	v.post("/shares/"+in, body, "Content-Type", kind).want(201)
	v.post("/shares/"+in+"/deep%2Fn3?mkdir_parents=true", "3").want(201)
	v.post("/shares/"+in+"/..%2Fout", "x").want(403)
	v.post("/shares/"+in+"/%2e%2e%2Fout", "x").want(403)
	v.get("/shares/" + in + "/dirs").want(403)
	v.get("/shares/" + in).want(403)
	if got := u.get("/user/dirs?path=/pub/sub").names(); got != "b.txt:17 deep/ n1:1 n2:1" {
		t.Errorf("after uploads: %q", got)
	}
	u.get("/user/files?path=/pub/sub/deep/n3").want(200)
	u.get("/user/shares/" + in).has(`"used_tokens":3`)
	both := makeShare(t, u, `{"scope":3,"paths":["/pub/sub"]}`)
	v.post("/shares/"+both+"/n4", "4").want(201)
	v.get("/shares/" + both + "/files?path=n4").want(200).has("4")

	u.post("/user/shares", `{"scope":2,"paths":["/a","/b"]}`).want(400)
	u.post("/user/shares", `{"scope":1,"paths":["/a"],"expires_at":1}`).want(400)
	u.post("/user/shares", `{"scope":9,"paths":["/a"]}`).want(400)
	u.put("/user/shares/"+id, `{"name":"docs2","scope":1,"paths":["/pub/sub"],"used_tokens":99}`).want(200)
	u.get("/user/shares/" + id).has(`"docs2"`).has(`"used_tokens":4`)
	u.delete("/user/shares/" + id).want(200)
	v.get("/shares/" + id + "/dirs").want(404)
}

func TestSharesWithConditions(t *testing.T) { // SHARE-1
	s := newServer(t)
	u := s.user("ann")
	v := s.nobody()
	u.post("/user/files/upload?mkdir_parents=true&path=/d/f", "data").want(201)
	secret := makeShare(t, u, `{"scope":1,"paths":["/d"],"password":"canary-pw"}`)
	for _, a := range []*answer{u.get("/user/shares/" + secret), u.get("/user/shares")} {
		a.want(200).lacks("canary-pw").lacks("$2a$").has("[**redacted**]") // KEY-1
	}
	if a := v.get("/shares/" + secret).want(401); !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic") {
		t.Errorf("challenge: %q", a.Header.Get("WWW-Authenticate"))
	}
	v.get("/shares/"+secret, basicAuth("wrong")...).want(401)
	v.get("/shares/"+secret, basicAuth("")...).want(401) // AUTH-5
	v.get("/shares/"+secret, basicAuth("canary-pw")...).want(200)
	v.get("/shares/"+secret+"/dirs", basicAuth("canary-pw")...).want(200)
	v.get("/shares/" + secret + "/dirs").want(401)
	u.put("/user/shares/"+secret, `{"scope":1,"paths":["/d"],"password":"[**redacted**]"}`).want(200) // it stays
	v.get("/shares/" + secret).want(401)
	v.get("/shares/"+secret, basicAuth("canary-pw")...).want(200)
	if strings.Contains(s.log.String(), "canary-pw") { // LOG-1
		t.Error("a share's password is in the log")
	}

	away := makeShare(t, u, `{"scope":1,"paths":["/d"],"allow_from":["192.0.2.0/24"]}`)
	v.get("/shares/" + away).want(403)
	near := makeShare(t, u, `{"scope":1,"paths":["/d"],"allow_from":["127.0.0.0/8","::1/128"]}`)
	v.get("/shares/" + near).want(200)
	soon := makeShare(t, u, fmt.Sprintf(`{"scope":1,"paths":["/d"],"expires_at":%d}`, time.Now().Add(time.Hour).UnixMilli()))
	v.get("/shares/" + soon).want(200)

	// A use that comes to nothing costs nothing.
	few := makeShare(t, u, `{"scope":1,"paths":["/d"],"max_tokens":2}`)
	v.get("/shares/" + few + "/files?path=none").want(404)
	v.get("/shares/" + few + "/dirs").want(200)
	v.do("HEAD", "/shares/"+few+"/files?path=f", "").want(200)
	v.get("/shares/" + few + "/files?path=f").want(200)
	v.get("/shares/" + few + "/files?path=f").want(200)
	v.get("/shares/" + few + "/files?path=f").want(404)
	v.get("/shares/" + few + "/dirs").want(404)
	in := makeShare(t, u, `{"scope":2,"paths":["/d"],"max_tokens":2}`)
	kind, body := form(t, "1", "1", "2", "2", "3", "3")
	v.post("/shares/"+in, body, "Content-Type", kind).want(400)
	if got := u.get("/user/dirs?path=/d").names(); got != "1:1 2:1 f:4" {
		t.Errorf("more files than uses: %q", got)
	}

	// The owner's rights of the moment.
	rights := func(more string) {
		t.Helper()
		s.root().patch("/users/ann", more).want(200)
	}
	open := makeShare(t, u, `{"scope":3,"paths":["/d"]}`)
	rights(`{"permissions":{"/":["*"],"/d":["list"]}}`)
	v.get("/shares/" + open + "/dirs").want(200)
	v.get("/shares/" + open + "/files?path=f").want(403)
	v.post("/shares/"+open+"/new", "x").want(403)
	rights(`{"permissions":{"/":["*"],"/d":null}}`)
	v.get("/shares/" + open + "/files?path=f").want(200)
	rights(`{"filters":{"file_patterns":[{"path":"/d","denied_patterns":["f"],"deny_policy":1}]}}`)
	v.get("/shares/" + open + "/files?path=f").want(404)
	rights(`{"filters":{"file_patterns":null}}`)
	rights(`{"filters":{"web_client":["shares-without-password-disabled"]}}`)
	v.get("/shares/" + open + "/dirs").want(403)
	v.get("/shares/"+secret+"/dirs", basicAuth("canary-pw")...).want(200)
	rights(`{"filters":{"web_client":["shares-disabled"]}}`)
	v.get("/shares/" + open + "/dirs").want(404)
	rights(`{"filters":{"web_client":null},"status":0}`)
	v.get("/shares/" + open + "/dirs").want(404)
	rights(`{"status":1}`)
	v.get("/shares/" + open + "/dirs").want(200)
	s.root().delete("/users/ann").want(200)
	v.get("/shares/" + open + "/dirs").want(404)
}

// TestSharesEndAtLinks: a link in what is shared leads nobody out of it.
func TestSharesEndAtLinks(t *testing.T) { // SHARE-1, SYM-1
	s := newServer(t)
	u := s.user("ann")
	v := s.nobody()
	u.post("/user/files/upload?mkdir_parents=true&path=/pub/a", "shared").want(201)
	u.post("/user/files/upload?mkdir_parents=true&path=/secret/c", "hidden").want(201)
	var home struct {
		Dir string `json:"home_dir"`
	}
	s.root().get("/users/ann").want(200).json(&home)
	for link, target := range map[string]string{"dir": "../secret", "file": "../secret/c"} {
		if err := os.Symlink(target, filepath.Join(home.Dir, "pub", link)); err != nil {
			if runtime.GOOS == "windows" { // it asks for a privilege there
				t.Skip(err)
			}
			t.Fatal(err)
		}
	}
	u.get("/user/files?path=/pub/file").want(200).has("hidden") // the owner's own link
	id := makeShare(t, u, `{"scope":3,"paths":["/pub"]}`)
	v.get("/shares/" + id + "/files?path=file").want(404)
	v.get("/shares/" + id + "/files?path=dir/c").want(404)
	v.get("/shares/" + id + "/dirs?path=dir").want(404)
	v.get("/shares/" + id + "?path=dir").want(404)
	v.post("/shares/"+id+"/dir%2Fnew", "x").want(404)
	v.post("/shares/"+id+"/dir%2Fn%2Fm?mkdir_parents=true", "x").want(404)
	v.post("/shares/"+id+"/file", "x").want(404)
	if got := v.get("/shares/" + id + "/dirs").names(); got != "a:6" {
		t.Errorf("listing: %q", got)
	}
	if got := unzip(t, v.get("/shares/"+id).want(200)); got != "pub/ pub/a=shared" {
		t.Errorf("archive: %q", got)
	}
	if got := u.get("/user/dirs?path=/secret").names(); got != "c:6" {
		t.Errorf("beside the share: %q", got)
	}
}

// TestShareUsesAreExact: of 100 who come at once as many get in as may (SHARE-1).
func TestShareUsesAreExact(t *testing.T) {
	s := newServer(t)
	u := s.user("ann")
	v := s.nobody()
	u.post("/user/files/upload?path=/f", strings.Repeat("data", 1000)).want(201)
	id := makeShare(t, u, `{"scope":1,"paths":["/"],"max_tokens":7}`)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[int]int{}
	for range 100 {
		wg.Go(func() {
			a := v.get("/shares/" + id + "/files?path=f")
			mu.Lock()
			defer mu.Unlock()
			count[a.Status]++
			if a.Status == 200 && len(a.Body) != 4000 {
				t.Errorf("%d bytes", len(a.Body))
			}
		})
	}
	wg.Wait()
	if count[200] != 7 || count[404] != 93 {
		t.Errorf("got %v, want 7 that have the file and 93 that do not", count)
	}
}
