//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
	"github.com/gantryhq/gantry/internal/secret"
)

// TestStoragesAreTriedByREST: a configuration that works is said to, one that does not says what failed, without
// secrets; an address that is not allowed is not dialled (SSRF-1, LOG-1).
func TestStoragesAreTriedByREST(t *testing.T) {
	t.Parallel()
	there := t.TempDir()
	far := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(newUser("c", there))})
	hangsUp := func() (addr string, dialled *atomic.Int64) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		dialled = new(atomic.Int64)
		go func() { // ends with l
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				dialled.Add(1)
				c.Close()
			}
		}()
		return l.Addr().String(), dialled
	}
	sftpTo := func(endpoint, pw string) account.FilesystemConfig {
		return account.FilesystemConfig{Provider: account.SFTPProvider, SFTPConfig: account.SFTPConfig{Endpoint: endpoint, Username: "c", Password: secret.New(pw)}}
	}
	start := func(allowed string) (check func(body any) (ok bool, last, text string)) {
		t.Helper()
		port := gantrytest.FreePort(t)
		dump := &account.Dump{Folders: []account.Folder{{Name: "far", Filesystem: sftpTo(far.Addr, password)}}}
		gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: dump, Secrets: []string{password, "canary-wrong", "canary-key"},
			Config: fmt.Sprintf(`{"common":{"allowed_endpoints":[%s]},"data_provider":{"create_default_admin":true}}`, allowed),
			Env:    []string{"GANTRY_HTTPD__BINDINGS__0__PORT=" + port, "GANTRY_DEFAULT_ADMIN_USERNAME=root", "GANTRY_DEFAULT_ADMIN_PASSWORD=pw-root"}})
		api := "http://127.0.0.1:" + port + "/api/v2"
		_, _, body := httpCall(t, http.MethodGet, api+"/token", "", "Authorization", basicOf("root", "pw-root"))
		var tok struct {
			Token string `json:"access_token"`
		}
		if err := json.Unmarshal([]byte(body), &tok); err != nil {
			t.Fatalf("token: %s", body)
		}
		return func(v any) (bool, string, string) {
			t.Helper()
			in, _ := json.Marshal(v)
			status, _, body := httpCall(t, http.MethodPost, api+"/fs/check", string(in), "Authorization", "Bearer "+tok.Token)
			var out struct {
				OK    bool
				Steps []struct{ Step, Error string }
			}
			if err := json.Unmarshal([]byte(body), &out); err != nil || status != http.StatusOK || len(out.Steps) == 0 {
				t.Fatalf("check of %s: %d %s", in, status, body)
			}
			for _, s := range []string{password, "canary-wrong", "canary-key"} {
				if strings.Contains(body, s) {
					t.Errorf("the answer shows the secret %q: %s", s, body)
				}
			}
			last := out.Steps[len(out.Steps)-1]
			t.Logf("%s", body)
			return out.OK, last.Step, last.Error
		}
	}
	type body map[string]any
	s3 := func(addr string) account.FilesystemConfig {
		return account.FilesystemConfig{Provider: account.S3Provider, S3Config: account.S3Config{Bucket: "b", Region: "us-east-1", Endpoint: "http://" + addr,
			AccessKey: "key", AccessSecret: secret.New("canary-key"), ForcePathStyle: true}}
	}

	near := start(`"loopback"`)
	if ok, last, text := near(body{"folder": "far"}); !ok || last != "delete" {
		t.Errorf("a storage that works: %s: %s", last, text)
	}
	if names := onDiskNames(t, there); len(names) != 0 {
		t.Errorf("the check left %v", names)
	}
	if ok, last, text := near(body{"filesystem": sftpTo(far.Addr, "canary-wrong")}); ok || last != "open" && last != "list" || !strings.Contains(text, "auth") {
		t.Errorf("a wrong password: %v at %s: %s", ok, last, text)
	}
	addr, dialled := hangsUp()
	if ok, _, text := near(body{"filesystem": s3(addr)}); ok || text == "" || dialled.Load() == 0 {
		t.Errorf("a server that hangs up: %v %q, dialled %d times", ok, text, dialled.Load())
	}

	public := start("")
	addr, dialled = hangsUp()
	for _, f := range []account.FilesystemConfig{s3(addr), sftpTo(addr, "canary-wrong")} {
		if ok, _, text := public(body{"filesystem": f}); ok || !strings.Contains(text, "not allowed") {
			t.Errorf("provider %d on loopback: %v %q", f.Provider, ok, text)
		}
	}
	if ok, _, text := public(body{"folder": "far"}); ok || !strings.Contains(text, "not allowed") {
		t.Errorf("the stored folder on loopback: %v %q", ok, text)
	}
	if n := dialled.Load(); n != 0 {
		t.Errorf("an address that is not allowed was dialled %d times", n)
	}
}
