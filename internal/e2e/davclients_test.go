//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// davServer runs a server with a WebDAV binding and the user "c", and gives its URL and the user's home.
func davServer(t *testing.T) (s *gantrytest.Server, url, home string) {
	t.Helper()
	home = t.TempDir()
	port := gantrytest.FreePort(t)
	config := fmt.Sprintf(`{"webdavd":{"bindings":[{"address":"127.0.0.1","port":%s}]}}`, port)
	s = gantrytest.Start(t, gantrytest.Options{Bin: bin, Config: config, Dump: oneUser(newUser("c", home)), Secrets: []string{password}})
	return s, "http://127.0.0.1:" + port + "/", home
}

var litmusSummary = regexp.MustCompile("<- summary for `([a-z]+)': of (\\d+) tests run: (\\d+) passed, (\\d+) failed")

// TestLitmus runs every suite of litmus: no test may fail or be left out.
func TestLitmus(t *testing.T) {
	t.Parallel()
	litmus := need(t, "litmus", "litmus")
	_, url, _ := davServer(t)
	// It writes logs where it stands, and ends with 1 at a failure.
	out := program{dir: t.TempDir()}.run(t, litmus, "-k", url, "c", password)
	passed := 0
	suites := map[string]bool{}
	for _, m := range litmusSummary.FindAllStringSubmatch(out, -1) {
		n, _ := strconv.Atoi(m[3])
		passed += n
		suites[m[1]] = m[2] == m[3] && m[4] == "0"
	}
	for _, suite := range []string{"basic", "copymove", "props", "locks", "http"} {
		if !suites[suite] {
			t.Errorf("suite %s did not pass", suite)
		}
	}
	if passed < 104 || strings.Contains(out, "SKIPPED") || strings.Contains(out, "WARNING") {
		t.Errorf("%d tests passed\n%s", passed, out)
	}
}

// TestCadaver: a session of a person with a shell of WebDAV.
func TestCadaver(t *testing.T) {
	t.Parallel()
	cadaver := need(t, "cadaver", "cadaver")
	_, url, home := davServer(t)
	dir := t.TempDir()
	gantrytest.WriteFile(t, filepath.Join(dir, ".netrc"), "machine 127.0.0.1 login c password "+password+"\n")
	text := strings.Repeat("0123456789abcde\n", 10_000)
	gantrytest.WriteFile(t, filepath.Join(dir, "text"), text)
	out := program{dir: dir, env: []string{"HOME=" + dir}, stdin: `mkcol box
cd box
put text
copy text two
lock two
put text two
unlock two
copy two three
move three nine
move nine three
propset text mood happy
propget text mood
copy text four
propget four mood
ls
get text back
delete text
cd ..
move box/ chest/
ls
quit
`}.run(t, cadaver, url)
	for _, want := range []string{
		"Creating `box': succeeded", "Copying `/box/text' to `/box/two':  succeeded", "Locking `two': succeeded", "Unlocking `two': succeeded", "Moving `/box/nine' to `/box/three':  succeeded",
		"Setting property on `text': succeeded", "Value of mood is: happy", "Deleting `text': succeeded", "Listing collection `/box/': succeeded", "Coll:   chest",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(out, "failed") || strings.Count(out, "Value of mood is: happy") != 2 {
		t.Error("something failed")
	}
	for name, want := range map[string]string{dir + "/back": text, home + "/chest/three": text, home + "/chest/two": text, home + "/chest/four": text} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// davPeer is a minimal client.
type davPeer struct {
	client    *http.Client
	url, user string
}

// davRefused is an answer other than the one that was wanted.
type davRefused struct {
	code int
	body string
}

func (e *davRefused) Error() string { return fmt.Sprintf("%d %s", e.code, e.body) }

// do sends a request; an answer other than code is a *davRefused. Headers are "Name: value" lines.
func (p *davPeer) do(code int, method, path, body string, headers ...string) error {
	_, err := p.ask(code, method, path, body, headers...)
	return err
}

func (p *davPeer) ask(code int, method, path, body string, headers ...string) (*http.Response, error) {
	r, err := http.NewRequest(method, p.url+strings.TrimPrefix(path, "/"), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.SetBasicAuth(p.user, "pw-"+p.user)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != code {
		return nil, &davRefused{answer.StatusCode, string(text)}
	}
	if code == 207 && strings.Contains(string(text), "403 Forbidden") {
		return nil, &davRefused{403, string(text)}
	}
	return answer, nil
}

const (
	davSetTime = `<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><D:getlastmodified>Mon, 03 Feb 2020 04:05:06 GMT</D:getlastmodified></D:prop></D:set></D:propertyupdate>`
	davSetMood = `<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><mood xmlns="u">happy</mood></D:prop></D:set></D:propertyupdate>`
	davLock    = `<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>`
)

// davOperations are the rows of the matrix that WebDAV has.
var davOperations = []struct {
	name  string
	needs [][]string
	do    func(p *davPeer, dir string) error
}{
	{"PROPFIND 1", [][]string{{"list"}}, func(p *davPeer, d string) error { return p.do(207, "PROPFIND", d+"/file", "", "Depth: 1") }},
	{"HEAD", [][]string{{"list"}}, func(p *davPeer, d string) error { return p.do(200, "HEAD", d+"/file", "") }},
	{"GET", [][]string{{"download"}}, func(p *davPeer, d string) error { return p.do(200, "GET", d+"/file", "") }},
	{"PUT new", [][]string{{"upload"}}, func(p *davPeer, d string) error { return p.do(201, "PUT", d+"/new", "x") }},
	{"PUT", [][]string{{"overwrite"}}, func(p *davPeer, d string) error {
		err := p.do(204, "PUT", d+"/file", "x")
		if e, ok := errors.AsType[*davRefused](err); ok && e.code == 201 {
			return nil // who may not list is not told that it was there
		}
		return err
	}},
	{"DELETE", [][]string{{"list"}, {"delete", "delete_files"}}, func(p *davPeer, d string) error { return p.do(204, "DELETE", d+"/file", "") }},
	{"DELETE of a directory", [][]string{{"list"}, {"delete", "delete_dirs"}}, func(p *davPeer, d string) error { return p.do(204, "DELETE", d+"/empty", "") }},
	{"MKCOL", [][]string{{"create_dirs"}}, func(p *davPeer, d string) error { return p.do(201, "MKCOL", d+"/new", "") }},
	{"MOVE", [][]string{{"rename", "rename_files"}}, func(p *davPeer, d string) error {
		return p.do(201, "MOVE", d+"/file", "", "Destination: "+d+"/new")
	}},
	{"MOVE onto a file", [][]string{{"rename", "rename_files"}, {"overwrite"}}, func(p *davPeer, d string) error {
		return p.do(204, "MOVE", d+"/file", "", "Destination: "+d+"/other")
	}},
	{"MOVE onto a directory", [][]string{{"rename", "rename_files"}, {"overwrite"}, {"delete", "delete_dirs"}}, func(p *davPeer, d string) error {
		return p.do(204, "MOVE", d+"/file", "", "Destination: "+d+"/empty")
	}},
	{"COPY", [][]string{{"download"}, {"upload"}}, func(p *davPeer, d string) error {
		return p.do(201, "COPY", d+"/file", "", "Destination: "+d+"/new")
	}},
	{"COPY onto a file", [][]string{{"download"}, {"overwrite"}}, func(p *davPeer, d string) error {
		return p.do(204, "COPY", d+"/file", "", "Destination: "+d+"/other")
	}},
	{"PROPPATCH", [][]string{{"list"}, {"upload", "overwrite", "create_dirs"}}, func(p *davPeer, d string) error { return p.do(207, "PROPPATCH", d+"/file", davSetMood) }},
	{"PROPPATCH of the time", [][]string{{"list"}, {"chtimes"}}, func(p *davPeer, d string) error { return p.do(207, "PROPPATCH", d+"/file", davSetTime) }},
	{"LOCK of nothing", [][]string{{"upload"}}, func(p *davPeer, d string) error { return p.do(201, "LOCK", d+"/new", davLock) }},
}

// TestDAVPermissionMatrix is TestPermissionMatrix over WebDAV. PATH-4.
func TestDAVPermissionMatrix(t *testing.T) {
	t.Parallel()
	type test struct {
		user, dir, home string
		op              int
		allow           bool
	}
	base := t.TempDir()
	d := &account.Dump{}
	var tests []test
	for op, o := range davOperations {
		for place, pl := range places {
			add := func(list []string, allow bool) {
				name := fmt.Sprintf("u%d", len(tests))
				home := filepath.Join(base, name)
				u := newUser(name, home)
				u.Permissions = places[place].perms(list)
				if len(u.Permissions["/"]) == 0 {
					u.Permissions["/"] = []string{"chown"}
				}
				d.Users = append(d.Users, u)
				tests = append(tests, test{name, pl.dir, home, op, allow})
				fixture(t, filepath.Join(home, pl.dir))
			}
			var minimal []string
			for _, need := range o.needs {
				minimal = append(minimal, need[len(need)-1])
				add(slices.DeleteFunc(slices.Clone(rights), func(r string) bool { return slices.Contains(need, r) }), false)
			}
			add(minimal, true)
			add([]string{"*"}, true)
		}
	}
	port := gantrytest.FreePort(t)
	config := fmt.Sprintf(`{"webdavd":{"bindings":[{"address":"127.0.0.1","port":%s}]}}`, port)
	gantrytest.Start(t, gantrytest.Options{Bin: bin, Config: config, Dump: d})
	client := &http.Client{Timeout: gantrytest.Wait}
	for _, tt := range tests {
		rootDir := filepath.Join(tt.home, tt.dir)
		before := snapshot(t, rootDir)
		p := &davPeer{client, "http://127.0.0.1:" + port + "/", tt.user}
		err := davOperations[tt.op].do(p, strings.TrimSuffix(path.Clean("/"+tt.dir), "/"))
		what := fmt.Sprintf("%s in %q with %v", davOperations[tt.op].name, tt.dir, permsOf(d, tt.user))
		refused, _ := errors.AsType[*davRefused](err)
		switch {
		case tt.allow && err != nil:
			t.Errorf("%s: %v", what, err)
		case !tt.allow && (refused == nil || refused.code != 403 && refused.code != 207):
			t.Errorf("%s: %v, want 403", what, err)
		case !tt.allow && snapshot(t, rootDir) != before:
			t.Errorf("%s was refused but changed the tree", what)
		}
	}
	t.Logf("%d operations", len(tests))
	client.CloseIdleConnections()
}

// TestLocksAndPropertiesAreOfEveryProtocol: what WebDAV puts on a file holds for SFTP too, outlives the server, and goes
// where SFTP moves the file.
func TestLocksAndPropertiesAreOfEveryProtocol(t *testing.T) {
	t.Parallel()
	home, port := t.TempDir(), gantrytest.FreePort(t)
	o := gantrytest.Options{
		Bin: bin, Dir: t.TempDir(), Dump: oneUser(newUser("c", home)), Secrets: []string{password},
		Config: fmt.Sprintf(`{"webdavd":{"bindings":[{"address":"127.0.0.1","port":%s}]}}`, port),
	}
	s, url := gantrytest.Start(t, o), "http://127.0.0.1:"+port+"/"
	gantrytest.WriteFile(t, filepath.Join(home, "f"), "text")
	p := &davPeer{&http.Client{Timeout: gantrytest.Wait}, url, "c"}
	defer p.client.CloseIdleConnections()
	if err := p.do(207, "PROPPATCH", "/f", davSetMood); err != nil {
		t.Fatal(err)
	}
	answer, err := p.ask(200, "LOCK", "/f", davLock, "Timeout: Second-3600")
	if err != nil {
		t.Fatal(err)
	}
	token := answer.Header.Get("Lock-Token")
	if code := s.Stop(syscall.SIGTERM); code != 0 {
		t.Fatalf("the server ended with %d", code)
	}
	o.Dump = nil
	s = gantrytest.Start(t, o)
	c := client(t, s, "c")
	if err := c.Rename("/f", "/g"); err == nil {
		t.Error("SFTP moved what is locked")
	}
	if f, err := c.OpenFile("/f", os.O_WRONLY|os.O_TRUNC); err == nil {
		f.Close()
		t.Error("SFTP opened for writing what is locked")
	}
	if err := c.Remove("/f"); err == nil {
		t.Error("SFTP removed what is locked")
	}
	if got, err := os.ReadFile(filepath.Join(home, "f")); err != nil || string(got) != "text" {
		t.Errorf("it holds %q %v", got, err)
	}
	if err := p.do(204, "PUT", "/f", "other", "If: ("+token+")"); err != nil {
		t.Error(err)
	}
	if err := p.do(204, "UNLOCK", "/f", "", "Lock-Token: "+token); err != nil {
		t.Error(err)
	}
	if err := c.Rename("/f", "/g"); err != nil {
		t.Error(err)
	}
	r, err := http.NewRequest("PROPFIND", url+"g", strings.NewReader(`<propfind xmlns="DAV:"><prop><mood xmlns="u"/></prop></propfind>`))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("c", password)
	r.Header.Set("Depth", "0")
	found, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Body.Close()
	if text, _ := io.ReadAll(found.Body); !strings.Contains(string(text), `<x:mood xmlns:x="u">happy</x:mood>`) {
		t.Errorf("the property did not go along: %s", text)
	}
}
