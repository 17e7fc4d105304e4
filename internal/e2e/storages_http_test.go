//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
	"github.com/gantryhq/gantry/internal/secret"
	"github.com/gantryhq/gantry/vfs/httpfs/httpfstest"
)

// TestAStorageBehindAService: a user whose home is a REST service, by SFTP and FTP, with a quota, a lost client, and a
// second user who shares it.
func TestAStorageBehindAService(t *testing.T) {
	svc := &httpfstest.Service{Root: t.TempDir()}
	srv := httptest.NewServer(svc)
	t.Cleanup(srv.Close)
	u := newUser("ann", t.TempDir())
	u.QuotaSize, u.QuotaFiles = 8<<20, 100
	u.Filesystem = account.FilesystemConfig{Provider: account.HTTPProvider, HTTPConfig: account.HTTPConfig{
		Endpoint: srv.URL + "/base/", Username: httpfstest.User, Password: secret.New(httpfstest.Password), APIKey: secret.New(httpfstest.Key),
	}}
	folder := account.Folder{Name: "web", Filesystem: u.Filesystem}
	bob := newUser("bob", t.TempDir())
	bob.VirtualFolders = []account.VirtualFolder{mount(folder, "/web", 0, 0)}
	port := gantrytest.FreePort(t)
	s := gantrytest.Start(t, gantrytest.Options{
		Bin: bin, Dump: &account.Dump{Users: []account.User{u, bob}, Folders: []account.Folder{folder}}, Secrets: []string{httpfstest.Password, httpfstest.Key},
		Config: fmt.Sprintf(`{"common":{"allowed_endpoints":["loopback"]},"ftpd":{"bindings":[{"address":"127.0.0.1","port":%s}]}}`, port),
	})
	ann, conn := clientOf(t, s, "ann")
	big := make([]byte, 3_000_000)
	rand.Read(big)
	const create = os.O_CREATE | os.O_TRUNC
	if err := ann.Mkdir("/d"); err != nil {
		t.Fatal(err)
	}
	if err := put(ann, "/d/f", big, create); err != nil {
		t.Fatal(err)
	}
	if stored, err := os.ReadFile(filepath.Join(svc.Root, "d/f")); err != nil || !bytes.Equal(stored, big) {
		t.Errorf("the service has %d bytes, %v", len(stored), err)
	}
	other := client(t, s, "bob")
	if got := content(t, other, "/web/d/f"); got != string(big) {
		t.Errorf("bob reads %d bytes", len(got))
	}
	if err := ann.Rename("/d/f", "/d/g"); err != nil {
		t.Error(err)
	}
	if err := ann.Chmod("/d/g", 0o640); err != nil {
		t.Error(err)
	}
	if i, err := os.Stat(filepath.Join(svc.Root, "d/g")); err != nil || i.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", i, err)
	}
	if err := put(ann, "/too-much", make([]byte, 9<<20), create); err == nil {
		t.Error("a full quota takes 9 MiB")
	}
	if err := ann.Truncate("/d/g", 10); status(err) != 8 {
		t.Errorf("truncate: %v", err)
	}
	p := ftpLogin(t, port, "ann")
	if _, err := p.transfer(big[:1000], "STOR /d/by-ftp"); err != nil {
		t.Error(err)
	}
	if got, err := p.transfer(nil, "RETR /d/g"); err != nil || !bytes.Equal(got, big) {
		t.Errorf("RETR: %d bytes, %v", len(got), err)
	}
	if got := names(t, ann, "/d"); !slices.Equal(got, []string{"by-ftp", "g"}) {
		t.Errorf("/d lists %q", got)
	}
	// A client that is lost leaves the old file and nothing else.
	f, err := ann.OpenFile("/d/g", os.O_WRONLY|create)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 500_000)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	again := client(t, s, "ann")
	s.Until("the upload has ended", func() bool {
		list, _ := filepath.Glob(filepath.Join(svc.Root, "d", ".gantry-*"))
		return len(list) == 0
	})
	if got := content(t, again, "/d/g"); got != string(big) {
		t.Errorf("%d bytes are left", len(got))
	}
	// What the service refuses has its code, and its words stay in the log.
	svc.Fault(func(w http.ResponseWriter, r *http.Request, op string, n int) bool {
		if op != "readdir" {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"message":"words of the service"}`)
		return true
	})
	if _, err := again.ReadDir("/d"); !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "words") {
		t.Errorf("a refused listing: %v", err)
	}
	svc.Fault(nil)
	if err := again.Remove("/d/g"); err != nil {
		t.Error(err)
	}
	s.Stop(15)
	if files, size := used(t, s.Dump(), "ann"); files != 1 || size != 1000 {
		t.Errorf("ann counts %d files, %d bytes", files, size)
	}
}
