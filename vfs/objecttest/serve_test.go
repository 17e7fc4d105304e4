package objecttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pkg/sftp"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// Set by TestMain.
var buildDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gantry-objecttest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	buildDir = dir
	return m.Run()
}

// program is gantry, built when the first test wants it.
var program = sync.OnceValues(func() (string, error) { return gantrytest.Build(buildDir, "../../cmd/gantry") })

// serve runs the built program with users whose password is "pw", on storages of this machine.
func serve(t testing.TB, secrets, env []string, users map[string]account.FilesystemConfig) *gantrytest.Server {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	d := &account.Dump{}
	for name, f := range users {
		d.Users = append(d.Users, account.User{
			Username: name, Password: "pw", HomeDir: t.TempDir(), Status: 1, Permissions: map[string][]string{"/": {"*"}}, Filesystem: f,
		})
	}
	return gantrytest.Start(t, gantrytest.Options{
		Bin: bin, Dump: d, Secrets: secrets, Env: env, Args: []string{"--log-level", "debug"},
		Config: `{"common":{"allowed_endpoints":["loopback"],"rename_mode":1}}`,
	})
}

// checks runs the built program and gives what tries a storage by its REST: the last step and its error.
func checks(t testing.TB, allowed string, secrets, env []string) func(account.FilesystemConfig, string) (ok bool, step, text string) {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	port := gantrytest.FreePort(t)
	s := gantrytest.Start(t, gantrytest.Options{
		Bin: bin, Secrets: secrets, Config: fmt.Sprintf(`{"common":{"allowed_endpoints":[%s]},"data_provider":{"create_default_admin":true}}`, allowed),
		Env: append(env, "GANTRY_HTTPD__BINDINGS__0__PORT="+port, "GANTRY_DEFAULT_ADMIN_USERNAME=root", "GANTRY_DEFAULT_ADMIN_PASSWORD=pw-root"),
	})
	call := func(method, path, body string, auth func(*http.Request), into any) (text string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:"+port+"/api/v2"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		auth(req)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(b, into) != nil {
			t.Fatalf("%s %s: %s, %v, %s", method, path, resp.Status, err, b)
		}
		return string(b)
	}
	var token struct {
		Text string `json:"access_token"`
	}
	call(http.MethodGet, "/token", "", func(r *http.Request) { r.SetBasicAuth("root", "pw-root") }, &token)
	t.Cleanup(func() { s.Stop(syscall.SIGTERM) })
	return func(f account.FilesystemConfig, dir string) (bool, string, string) {
		t.Helper()
		body, err := json.Marshal(map[string]any{"filesystem": f, "path": dir})
		if err != nil {
			t.Fatal(err)
		}
		var out struct {
			OK    bool
			Steps []struct{ Step, Error string }
		}
		text := call(http.MethodPost, "/fs/check", string(body), func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token.Text) }, &out)
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("the answer tells the secret %q: %s", s, text) // LOG-1
			}
		}
		if len(out.Steps) == 0 {
			t.Fatalf("no steps: %s", text)
		}
		last := out.Steps[len(out.Steps)-1]
		return out.OK, last.Step, last.Error
	}
}

func login(t testing.TB, s *gantrytest.Server, user string) *sftp.Client {
	t.Helper()
	conn, err := s.Dial(user, "pw")
	if err != nil {
		t.Fatalf("login of %s: %v", user, err)
	}
	t.Cleanup(func() { conn.Close() })
	c, err := sftp.NewClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sftpPut(c *sftp.Client, name, content string) error {
	f, err := c.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, struct{ io.Reader }{strings.NewReader(content)})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func sftpGet(c *sftp.Client, name string) (string, error) {
	f, err := c.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b bytes.Buffer
	_, err = f.WriteTo(&b)
	return b.String(), err
}

// useBySFTP uploads, reads, lists, renames and removes. The files that look is called with are in the storage then.
func useBySFTP(t testing.TB, c *sftp.Client, look func(name, content string)) {
	t.Helper()
	files := map[string]string{"/small": "content", "/d/big": big()}
	if err := c.Mkdir("/d"); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := sftpPut(c, name, content); err != nil {
			t.Fatalf("put %s: %v", name, err)
		}
		if got, err := sftpGet(c, name); err != nil || got != content {
			t.Errorf("get %s: %d bytes, %v; want %d", name, len(got), err, len(content))
		}
		look(name, content)
		if err := c.Rename(name, name+"2"); err != nil {
			t.Errorf("rename %s: %v", name, err)
		}
		look(name+"2", content)
	}
	for dir, want := range map[string]string{"/": "d small2", "/d": "big2"} {
		list, err := c.ReadDir(dir)
		var got []string
		for _, i := range list {
			got = append(got, i.Name())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("list %s: %q, %v; want %q", dir, got, err, want)
		}
	}
	for name := range files {
		if err := c.Remove(name + "2"); err != nil {
			t.Errorf("remove %s: %v", name+"2", err)
		}
	}
	if err := c.RemoveDirectory("/d"); err != nil {
		t.Error(err)
	}
	if list, err := c.ReadDir("/"); err != nil || len(list) != 0 {
		t.Errorf("%d entries stayed, %v", len(list), err)
	}
}
