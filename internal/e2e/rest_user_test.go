//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// httpCall is one request to a running server; header are pairs.
func httpCall(t *testing.T, method, url, body string, header ...string) (status int, h http.Header, answer string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(b)
}

// TestLocksHoldOverEveryProtocol: what a WebDAV client has locked, SFTP, FTP and REST leave alone, also after a restart;
// what it has said of a file goes with it, whoever moves it.
func TestLocksHoldOverEveryProtocol(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl", "curl")
	dir, home := t.TempDir(), t.TempDir()
	rest, dav, ftp := gantrytest.FreePort(t), gantrytest.FreePort(t), gantrytest.FreePort(t)
	config := fmt.Sprintf(`{"webdavd":{"bindings":[{"address":"127.0.0.1","port":%s}]},"ftpd":{"bindings":[{"address":"127.0.0.1","port":%s}]}}`, dav, ftp)
	env := []string{"GANTRY_HTTPD__BINDINGS__0__PORT=" + rest}
	u := newUser("c", home)
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dir: dir, Config: config, Env: env, Dump: oneUser(u), Secrets: []string{password}})
	file := "http://127.0.0.1:" + dav + "/doc"
	basic := func() string {
		r, _ := http.NewRequest("GET", "http://x", nil)
		r.SetBasicAuth("c", password)
		return r.Header.Get("Authorization")
	}()
	call := func(want int, method, url, body string, header ...string) (http.Header, string) {
		t.Helper()
		status, h, a := httpCall(t, method, url, body, header...)
		if status != want {
			t.Errorf("%s %s: got %d, want %d: %s", method, url, status, want, a)
		}
		return h, a
	}
	call(201, "PUT", file, "mine", "Authorization", basic)
	call(207, "PROPPATCH", file, `<propertyupdate xmlns="DAV:"><set><prop><colour xmlns="urn:x">blue</colour></prop></set></propertyupdate>`, "Authorization", basic)
	h, _ := call(200, "LOCK", file, `<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>`, "Authorization", basic)
	lock := h.Get("Lock-Token")

	token := func() string {
		t.Helper()
		_, a := call(200, "GET", "http://127.0.0.1:"+rest+"/api/v2/user/token", "", "Authorization", basic)
		var v struct {
			Token string `json:"access_token"`
		}
		if err := json.Unmarshal([]byte(a), &v); err != nil {
			t.Fatal(err)
		}
		return "Bearer " + v.Token
	}
	api := "http://127.0.0.1:" + rest + "/api/v2"
	refused := func() {
		t.Helper()
		bearer := token()
		call(423, "POST", api+"/user/files/upload?path=/doc", "theirs", "Authorization", bearer)
		call(423, "DELETE", api+"/user/files?path=/doc", "", "Authorization", bearer)
		call(423, "PUT", file, "theirs", "Authorization", basic)
		gantrytest.WriteFile(t, filepath.Join(dir, "theirs"), "theirs")
		// It ends with an error, as it should.
		out := program{dir: dir}.run(t, "sh", "-c", curl+" -sS -v -u c:"+password+" -T theirs ftp://127.0.0.1:"+ftp+"/doc 2>&1 || true")
		if !strings.Contains(out, "450 Locked") {
			t.Errorf("FTP: %s", out)
		}
		if err := client(t, s, "c").Remove("/doc"); err == nil || !strings.Contains(err.Error(), "locked") {
			t.Errorf("SFTP: %v", err)
		}
		if b, err := os.ReadFile(filepath.Join(home, "doc")); err != nil || string(b) != "mine" {
			t.Errorf("the locked file: %q, %v", b, err)
		}
	}
	refused()
	s.Stop(syscall.SIGTERM)
	s = gantrytest.Start(t, gantrytest.Options{Bin: bin, Dir: dir, Config: config, Env: env, Secrets: []string{password}})
	refused()
	call(204, "PUT", file, "mine2", "Authorization", basic, "If", "("+lock+")")
	call(204, "UNLOCK", file, "", "Authorization", basic, "Lock-Token", lock)
	call(200, "POST", api+"/user/file-actions/move?path=/doc&target=/moved", "", "Authorization", token())
	if _, a := call(207, "PROPFIND", "http://127.0.0.1:"+dav+"/moved", "", "Authorization", basic, "Depth", "0"); !strings.Contains(a, "blue") {
		t.Errorf("the property did not go with its file: %s", a)
	}
}

// TestSharesOfTheBuiltServer: somebody without an account gets what is shared, as often as may be, and no more.
func TestSharesOfTheBuiltServer(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	rest := gantrytest.FreePort(t)
	env := []string{"GANTRY_HTTPD__BINDINGS__0__PORT=" + rest}
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Env: env, Dump: oneUser(newUser("c", home)), Secrets: []string{password, "share-canary"}})
	api := "http://127.0.0.1:" + rest + "/api/v2"
	r, _ := http.NewRequest("GET", "http://x", nil)
	r.SetBasicAuth("c", password)
	_, _, a := httpCall(t, "GET", api+"/user/token", "", "Authorization", r.Header.Get("Authorization"))
	bearer := "Bearer " + regexp.MustCompile(`"access_token":"([^"]*)"`).FindStringSubmatch(a)[1]
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	if status, _, a := httpCall(t, "POST", api+"/user/files/upload?path=/pub/big&mkdir_parents=true", string(big), "Authorization", bearer); status != 201 {
		t.Fatalf("upload: %d %s", status, a)
	}
	_, h, _ := httpCall(t, "POST", api+"/user/shares", `{"scope":1,"paths":["/pub"],"password":"share-canary","max_tokens":2}`, "Authorization", bearer)
	url := api + "/shares/" + h.Get("X-Object-ID")
	r.SetBasicAuth("visitor", "share-canary")
	visitor := r.Header.Get("Authorization")
	for i, want := range []int{200, 200, 404} {
		status, _, got := httpCall(t, "GET", url+"/files?path=big", "", "Authorization", visitor)
		if status != want || want == 200 && got != string(big) {
			t.Errorf("use %d: got %d and %d bytes, want %d", i, status, len(got), want)
		}
	}
	if status, _, _ := httpCall(t, "GET", url+"/dirs", ""); status != 404 {
		t.Errorf("a share that is used up, without a password: %d", status)
	}
	s.WaitLog(map[string]any{"sender": "Download", "protocol": "HTTPShare", "virtual_path": "/pub/big"})
}
