//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/dbtest"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// basicOf is the header of a name and a password.
func basicOf(name, password string) string {
	r, _ := http.NewRequest(http.MethodGet, "http://x", nil)
	r.SetBasicAuth(name, password)
	return r.Header.Get("Authorization")
}

// TestOutage: without its database a server says so, ends the transfers that it has well, lets nobody in, and goes on by
// itself when the database is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	var servers dbtest.Servers
	t.Cleanup(servers.Close)
	db := servers.Postgres(t)
	homes := t.TempDir()
	joe, late := newUser("joe", filepath.Join(homes, "joe")), newUser("late", filepath.Join(homes, "late"))
	config := fmt.Sprintf(`{"data_provider":{"driver":"postgresql","host":%q,"port":%d,"name":%q,"username":%q,"password":%q,"track_quota":1,
		"create_default_admin":true,"auto_backup":{"enabled":false}}}`, db.Host, db.Port, db.Database(t), db.User, db.Password)
	port := gantrytest.FreePort(t)
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Config: config, Dump: &account.Dump{Users: []account.User{joe, late}}, Secrets: []string{"pw-joe", "pw-root"},
		Env: []string{"GANTRY_HTTPD__BINDINGS__0__PORT=" + port, "GANTRY_DEFAULT_ADMIN_USERNAME=root", "GANTRY_DEFAULT_ADMIN_PASSWORD=pw-root"}})
	api := "http://127.0.0.1:" + port + "/api/v2"
	bearer := func(path, name string) string {
		t.Helper()
		status, _, body := httpCall(t, http.MethodGet, api+path, "", "Authorization", basicOf(name, "pw-"+name))
		var tok struct {
			Token string `json:"access_token"`
		}
		if err := json.Unmarshal([]byte(body), &tok); err != nil || status != http.StatusOK {
			t.Fatalf("token of %s: %d %s", name, status, body)
		}
		return "Bearer " + tok.Token
	}
	root, user := bearer("/token", "root"), bearer("/user/token", "joe")
	data := make([]byte, 24<<20)
	rand.Read(data)
	if err := os.WriteFile(filepath.Join(homes, "joe", "big"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, body := httpCall(t, http.MethodPost, api+"/quotas/users/joe/scan", "", "Authorization", root); status != http.StatusAccepted {
		t.Fatalf("scan: %d %s", status, body)
	}
	s.Until("the scan is over", func() bool {
		_, _, body := httpCall(t, http.MethodGet, api+"/quotas/users/scans", "", "Authorization", root)
		return body == "[]\n"
	})

	// Three transfers under way: an upload by SFTP, an upload and a download by REST.
	c := client(t, s, "joe")
	up, err := c.Create("/by-sftp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.Write(data[:1<<20]); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	stored := make(chan error, 1)
	go func() { // ends with the answer to the request, which the client's timeout bounds
		req, _ := http.NewRequest(http.MethodPost, api+"/user/files/upload?path=/by-rest", r)
		req.Header.Set("Authorization", user)
		res, err := (&http.Client{Timeout: 2 * gantrytest.Wait}).Do(req)
		if err == nil {
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != http.StatusCreated {
				err = fmt.Errorf("%d %s", res.StatusCode, body)
			}
		}
		r.CloseWithError(io.ErrClosedPipe)
		stored <- err
	}()
	if _, err := w.Write(data[:1<<20]); err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest(http.MethodGet, api+"/user/files?path=/big", nil)
	req.Header.Set("Authorization", user)
	down, err := (&http.Client{Timeout: 2 * gantrytest.Wait}).Do(req)
	if err != nil || down.StatusCode != http.StatusOK {
		t.Fatalf("download: %v", err)
	}
	defer down.Body.Close()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(down.Body, got[:1<<20]); err != nil {
		t.Fatal(err)
	}

	db.Stop()
	for _, x := range []struct{ method, path, auth string }{
		{http.MethodGet, "/users", root}, {http.MethodGet, "/users/joe", root}, {http.MethodPut, "/users/joe", root}, {http.MethodGet, "/folders", root},
		{http.MethodGet, "/token", basicOf("root", "pw-root")}, {http.MethodGet, "/user/token", basicOf("late", "pw-late")},
	} {
		begin := time.Now()
		status, h, body := httpCall(t, x.method, api+x.path, "{}", "Authorization", x.auth)
		var e struct{ Message, Error string }
		if err := json.Unmarshal([]byte(body), &e); err != nil || status != http.StatusServiceUnavailable || e.Error == "" || h.Get("Retry-After") == "" {
			t.Errorf("%s %s without the database: %d %s, want 503 and a reason", x.method, x.path, status, body)
		}
		t.Logf("%s %s: %d %s after %v", x.method, x.path, status, body, time.Since(begin))
	}
	if status, _, body := httpCall(t, http.MethodGet, "http://127.0.0.1:"+port+"/healthz", ""); status != http.StatusOK {
		t.Errorf("healthz: %d %s", status, body)
	}
	if _, err := s.Dial("late", "pw-late"); err == nil {
		t.Error("a login without the database")
	}

	// What is under way ends well.
	if _, err := up.Write(data[1<<20:]); err != nil {
		t.Errorf("SFTP upload: %v", err)
	}
	if err := up.Close(); err != nil {
		t.Errorf("SFTP upload: %v", err)
	}
	if _, err := w.Write(data[1<<20:]); err != nil {
		t.Errorf("REST upload: %v", err)
	}
	w.Close()
	if err := <-stored; err != nil {
		t.Errorf("REST upload: %v", err)
	}
	if _, err := io.ReadFull(down.Body, got[1<<20:]); err != nil || !bytes.Equal(got, data) {
		t.Errorf("REST download: %v, right: %v", err, bytes.Equal(got, data))
	}
	for _, name := range []string{"by-sftp", "by-rest"} {
		if b, err := os.ReadFile(filepath.Join(homes, "joe", name)); err != nil || !bytes.Equal(b, data) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	if _, err := c.ReadDir("/"); err != nil {
		t.Errorf("a listing in a session that was open: %v", err)
	}

	if err := db.Start(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s.Until("administration goes again", func() bool {
		status, _, _ := httpCall(t, http.MethodGet, api+"/users", "", "Authorization", root)
		return status == http.StatusOK
	})
	s.Until("logins go again", func() bool {
		conn, err := s.Dial("late", "pw-late")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	bearer("/user/token", "late")
	t.Logf("all went again %v after the database", time.Since(begin))
	s.Until("what was stored meanwhile is counted", func() bool {
		files, size := used(t, s.Dump(), "joe")
		return files == 3 && size == 3*int64(len(data))
	})
}
