//go:build unix

package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
	"github.com/gantryhq/gantry/internal/secret"
	"github.com/gantryhq/gantry/vfs/faultytest"
)

const passphrase = "nine long words that nobody guesses, 4711 of them"

// mixed is a server whose users have folders on several storages.
type mixed struct {
	*gantrytest.Server
	far                     *gantrytest.Server // the SFTP storages' server
	proxy                   *faultytest.Proxy  // before it
	ftp                     string             // port
	home, crypt, there, own string             // directories
}

// mount puts a folder into a user's tree; quota in bytes and files, -1 for the user's own.
func mount(f account.Folder, at string, bytes int64, files int) account.VirtualFolder {
	return account.VirtualFolder{Folder: account.Folder{Name: f.Name}, VirtualPath: at, QuotaSize: bytes, QuotaFiles: files}
}

// startMixed runs two servers: the user ann has a local home, /crypt encrypted, /far on the other server by SFTP, /far/deep
// encrypted below that, and /near, another directory of the other server. bob shares /crypt and /far.
func startMixed(t *testing.T, config string) *mixed {
	t.Helper()
	m := &mixed{home: t.TempDir(), crypt: t.TempDir(), there: t.TempDir(), own: t.TempDir()}
	m.far = gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(newUser("c", m.there))})
	for _, d := range []string{"data", "near"} {
		if err := os.Mkdir(filepath.Join(m.there, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	m.proxy = faultytest.New(t, m.far.Addr)
	crypt := account.FilesystemConfig{Provider: account.CryptProvider, CryptConfig: account.CryptConfig{Passphrase: secret.New(passphrase)}}
	far := func(prefix string) account.FilesystemConfig {
		return account.FilesystemConfig{Provider: account.SFTPProvider, SFTPConfig: account.SFTPConfig{
			Endpoint: m.proxy.Addr, Username: "c", Password: secret.New(password), Prefix: prefix,
		}}
	}
	folders := []account.Folder{
		{Name: "crypt", MappedPath: m.crypt, Filesystem: crypt},
		{Name: "deep", MappedPath: filepath.Join(m.own, "deep"), Filesystem: crypt},
		{Name: "far", Filesystem: far("/data")},
		{Name: "near", Filesystem: far("/near")},
	}
	ann, bob := newUser("ann", m.home), newUser("bob", filepath.Join(m.own, "bob"))
	ann.QuotaSize, ann.QuotaFiles = 64<<20, 1000
	ann.VirtualFolders = []account.VirtualFolder{
		mount(folders[0], "/crypt", -1, -1), mount(folders[1], "/far/deep", 0, 0), mount(folders[2], "/far", 1<<20, 10), mount(folders[3], "/near", 3<<20, 10),
	}
	bob.VirtualFolders = []account.VirtualFolder{mount(folders[0], "/a/b/crypt", 0, 0), mount(folders[2], "/far", 0, 0)}
	dump := &account.Dump{Users: []account.User{ann, bob}, Folders: folders}
	m.ftp = gantrytest.FreePort(t)
	m.Server = gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: dump, Secrets: []string{passphrase, password}, Config: fmt.Sprintf(
		`{"common":{"allowed_endpoints":["loopback"]%s},"ftpd":{"bindings":[{"address":"127.0.0.1","port":%s}],"passive_port_range":{"start":0,"end":0}}}`, config, m.ftp)})
	return m
}

func names(t *testing.T, c *sftp.Client, dir string) []string {
	t.Helper()
	list, err := c.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range list {
		out = append(out, i.Name())
	}
	slices.Sort(out)
	return out
}

func content(t *testing.T, c *sftp.Client, name string) string {
	t.Helper()
	f, err := c.Open(name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return string(b)
}

func status(err error) uint32 {
	var s *sftp.StatusError
	switch {
	case errors.As(err, &s):
		return s.Code
	case errors.Is(err, fs.ErrPermission):
		return 3
	case errors.Is(err, fs.ErrNotExist):
		return 2
	}
	return 0
}

// TestFoldersOnSeveralStorages: one tree of a local home and folders that are encrypted, on another server, and nested
// in one another.
func TestFoldersOnSeveralStorages(t *testing.T) {
	m := startMixed(t, "")
	ann, bob := client(t, m.Server, "ann"), client(t, m.Server, "bob")
	big := make([]byte, 600_000)
	rand.Read(big)
	const create = os.O_CREATE | os.O_TRUNC

	if got := names(t, ann, "/"); !slices.Equal(got, []string{"crypt", "far", "near"}) {
		t.Errorf("the root lists %q", got)
	}
	if got := names(t, bob, "/a"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("what leads to a folder lists %q", got)
	}
	for _, dir := range []string{"/", "/crypt", "/far", "/far/deep", "/near"} {
		name := strings.TrimSuffix(dir, "/") + "/f"
		if err := put(ann, name, big, create); err != nil {
			t.Fatalf("put %s: %v", name, err)
		}
		if got := content(t, ann, name); got != string(big) {
			t.Errorf("%s: %d bytes back", name, len(got))
		}
		if i, err := ann.Stat(name); err != nil || i.Size() != int64(len(big)) {
			t.Errorf("stat %s: %v, %v", name, i, err)
		}
	}
	if got := names(t, ann, "/far"); !slices.Equal(got, []string{"deep", "f"}) {
		t.Errorf("/far lists %q", got)
	}
	for _, dir := range []string{m.crypt, filepath.Join(m.own, "deep")} { // at rest
		stored, err := os.ReadFile(filepath.Join(dir, "f"))
		if err != nil || bytes.Contains(stored, big[:64]) || stored[0] != 0x10 {
			t.Errorf("%s holds %d bytes that are not encrypted, %v", dir, len(stored), err)
		}
	}
	if stored, err := os.ReadFile(filepath.Join(m.there, "data", "f")); err != nil || !bytes.Equal(stored, big) {
		t.Errorf("the other server has %d bytes, %v", len(stored), err)
	}
	if got := content(t, bob, "/a/b/crypt/f"); got != string(big) { // who shares the folder
		t.Errorf("bob reads %d bytes", len(got))
	}

	// Mount points stand, also those that only lead to one.
	for what, err := range map[string]error{
		"rmdir of a folder": ann.RemoveDirectory("/crypt"), "rmdir of a nested one": ann.RemoveDirectory("/far/deep"),
		"rename of a folder": ann.Rename("/near", "/other"), "rename onto one": ann.Rename("/f", "/near"),
		"mkdir on one": ann.Mkdir("/far/deep"),
	} {
		if status(err) != 3 && status(err) != 8 {
			t.Errorf("%s: %v", what, err)
		}
	}
	// What holds a mount is neither moved nor removed.
	if err := bob.Rename("/a", "/moved"); status(err) != 3 && status(err) != 8 {
		t.Errorf("rename of what leads to a folder: %v", err)
	}

	// Renames: within a storage, within one server, and never between kinds.
	if err := ann.Rename("/crypt/f", "/crypt/g"); err != nil {
		t.Errorf("rename within the encrypted folder: %v", err)
	}
	if err := ann.Rename("/far/f", "/near/g"); err != nil {
		t.Errorf("rename within one server: %v", err)
	}
	if got := content(t, ann, "/near/g"); got != string(big) {
		t.Errorf("%d bytes arrived", len(got))
	}
	for _, to := range []string{"/crypt/x", "/near/x", "/far/deep/x"} {
		if err := ann.Rename("/f", to); status(err) != 3 {
			t.Errorf("rename of a local file to %s: %v", to, err)
		}
	}
	if err := ann.Rename("/crypt/g", "/far/deep/moved"); err != nil { // both encrypted: through us
		t.Errorf("rename between two encrypted folders: %v", err)
	}
	if got := content(t, ann, "/far/deep/moved"); got != string(big) {
		t.Errorf("%d bytes were moved", len(got))
	}

	// A quota of its own stops the stream; the other accounts are not touched.
	more := make([]byte, 2<<20)
	if err := put(ann, "/near/too-much", more, create); err == nil {
		t.Error("a full folder took 2 MiB more")
	}
	if err := put(ann, "/in-the-home", more, create); err != nil {
		t.Errorf("a full folder stops the home: %v", err)
	}

	// To resume, to append and to truncate is refused where it cannot be, with the right code.
	for name, can := range map[string]bool{"/f": true, "/far/deep/f": false, "/near/g": true} {
		f, err := ann.OpenFile(name, os.O_WRONLY)
		if can != (err == nil) || !can && status(err) != 8 {
			t.Errorf("open of %s to be resumed: %v", name, err)
		}
		if err == nil {
			f.Close()
		}
		if err := ann.Truncate(name, 10); can != (err == nil) || !can && status(err) != 8 {
			t.Errorf("truncate of %s: %v", name, err)
		}
	}
	p := ftpLogin(t, m.ftp, "ann")
	for name, can := range map[string]bool{"/f": true, "/far/deep/f": false, "/near/g": true} {
		_, err := p.transfer([]byte("tail"), "APPE %s", name)
		if e, ok := errors.AsType[*textproto.Error](err); can != (err == nil) || !can && (!ok || e.Code < 500) {
			t.Errorf("APPE %s: %v", name, err)
		}
	}
	if got := content(t, ann, "/near/g"); got != string(big[:10])+"tail" {
		t.Errorf("the appended file has %d bytes", len(got))
	}
	for _, dir := range []string{"/crypt", "/far", "/far/deep", "/near"} {
		if _, err := p.transfer(big[:1000], "STOR %s/by-ftp", dir); err != nil {
			t.Errorf("STOR in %s: %v", dir, err)
		}
		if got, err := p.transfer(nil, "RETR %s/by-ftp", dir); err != nil || !bytes.Equal(got, big[:1000]) {
			t.Errorf("RETR in %s: %d bytes, %v", dir, len(got), err)
		}
		if got, err := p.transfer(nil, "MLSD %s", dir); err != nil || !strings.Contains(string(got), "size=1000;") {
			t.Errorf("MLSD %s: %q, %v", dir, got, err)
		}
		if err := p.cmd(250, "DELE %s/by-ftp", dir); err != nil {
			t.Errorf("DELE in %s: %v", dir, err)
		}
	}
	p.Close()

	// Quota is counted where it belongs, in the sizes that users see.
	want := map[string][2]int64{"far": {0, 0}, "near": {2, int64(len(big) + 14)}, "deep": {2, 2 * int64(len(big))}}
	m.Stop(15)
	d := m.Dump()
	for _, f := range d.Folders {
		if w, ok := want[f.Name]; ok && (int64(f.UsedQuotaFiles) != w[0] || f.UsedQuotaSize != w[1]) {
			t.Errorf("folder %s counts %d files, %d bytes; want %v", f.Name, f.UsedQuotaFiles, f.UsedQuotaSize, w)
		}
	}
	if files, size := used(t, d, "ann"); files != 2 || size != 14+int64(len(more)) {
		t.Errorf("ann counts %d files, %d bytes", files, size)
	}
}

// TestASilentStorageHoldsNobodyElseUp: with one storage in a black hole, logins and the other storages go on.
func TestASilentStorageHoldsNobodyElseUp(t *testing.T) { // RES-2
	m := startMixed(t, "")
	ann := client(t, m.Server, "ann")
	if err := put(ann, "/far/f", []byte("far"), os.O_CREATE|os.O_TRUNC); err != nil {
		t.Fatal(err)
	}
	m.proxy.Hole(true)
	defer m.proxy.Hole(false)
	stuck := make(chan error, 40)
	for range 20 { // in sessions of their own
		c := client(t, m.Server, "bob")
		go func() { _, err := c.ReadDir("/far"); stuck <- err }()
		go func() { stuck <- put(c, "/far/new", []byte("x"), os.O_CREATE|os.O_TRUNC) }()
	}
	begin := time.Now()
	for i := range 20 {
		c := client(t, m.Server, "ann")
		name := fmt.Sprintf("/crypt/%d", i)
		if err := put(c, name, []byte("goes on"), os.O_CREATE|os.O_TRUNC); err != nil {
			t.Fatal(err)
		}
		if got := content(t, c, name); got != "goes on" {
			t.Fatalf("%q", got)
		}
		p := ftpLogin(t, m.ftp, "ann")
		if _, err := p.transfer([]byte("x"), "STOR /home-%d", i); err != nil {
			t.Fatal(err)
		}
		p.Close()
		c.Close()
	}
	took := time.Since(begin)
	t.Logf("20 logins with files by SFTP and FTP beside 40 stuck calls: %v", took)
	if took > 30*time.Second {
		t.Errorf("they took %v", took)
	}
	if !long() {
		m.proxy.Hole(false)
	}
	for range 40 { // and what is stuck goes on, or ends by itself
		select {
		case err := <-stuck:
			if long() && err == nil {
				t.Error("a call in a black hole passed")
			}
		case <-time.After(2 * gantrytest.Wait):
			t.Fatal("a call in a black hole does not end")
		}
	}
}

// TestALostClientLeavesWhatTheModePromises, on an SFTP storage and an encrypted one.
func TestALostClientLeavesWhatTheModePromises(t *testing.T) {
	for mode := range 3 {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			m := startMixed(t, fmt.Sprintf(`,"upload_mode":%d`, mode))
			for _, c := range []struct {
				path, stored string
				partial      bool // of a new file
				old          string
			}{
				{"/far/new", filepath.Join(m.there, "data/new"), mode != 1, ""},
				{"/far/old", filepath.Join(m.there, "data/old"), mode == 0, "old"},
				{"/crypt/new", filepath.Join(m.crypt, "new"), false, ""},
				{"/crypt/old", filepath.Join(m.crypt, "old"), false, "old"},
			} {
				ann, conn := clientOf(t, m.Server, "ann")
				if c.old != "" {
					if err := put(ann, c.path, []byte(c.old), os.O_CREATE|os.O_TRUNC); err != nil {
						t.Fatal(err)
					}
				}
				f, err := ann.OpenFile(c.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write(make([]byte, 300_000)); err != nil {
					t.Fatal(err)
				}
				conn.Close()
				again := client(t, m.Server, "ann")
				dir := filepath.Dir(c.stored)
				m.Until("the upload has ended", func() bool {
					list, _ := os.ReadDir(dir)
					temp := slices.ContainsFunc(list, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".gantry-") })
					i, err := again.Stat(c.path)
					switch {
					case temp:
						return false
					case c.partial:
						return err == nil && i.Size() == 300_000
					case c.old != "":
						return err == nil && i.Size() == int64(len(c.old))
					}
					return errors.Is(err, fs.ErrNotExist)
				})
				if c.old != "" && !c.partial && content(t, again, c.path) != c.old {
					t.Errorf("%s is not what it was", c.path)
				}
			}
		})
	}
}

// TestAServerThatIsOurselves is refused by its host key, also where the address does not show it.
func TestAServerThatIsOurselves(t *testing.T) {
	port := gantrytest.FreePort(t)
	self := func(as string) account.FilesystemConfig {
		return account.FilesystemConfig{Provider: account.SFTPProvider, SFTPConfig: account.SFTPConfig{
			Endpoint: "localhost:" + port, Username: as, Password: secret.New("pw-" + as),
		}}
	}
	home := t.TempDir()
	loop, nested, plain := newUser("loop", t.TempDir()), newUser("nested", t.TempDir()), newUser("plain", home)
	loop.Filesystem, nested.Filesystem = self("plain"), self("loop")
	dump := &account.Dump{Users: []account.User{loop, nested, plain}}
	try := func(config, user string) error {
		s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: dump, Config: `{"common":{"allowed_endpoints":["loopback"]` + config + `}}`, Env: []string{
			"GANTRY_SFTPD__BINDINGS__1__ADDRESS=127.0.0.1", "GANTRY_SFTPD__BINDINGS__1__PORT=" + port,
		}})
		defer s.Stop(15)
		return put(client(t, s, user), "/f", []byte("x"), os.O_CREATE|os.O_TRUNC)
	}
	if err := try("", "loop"); err == nil {
		t.Error("a storage on this server passed")
	}
	if err := try(`,"allow_self_connections":1`, "loop"); err != nil {
		t.Errorf("where it is allowed: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(home, "f")); err != nil || string(b) != "x" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if err := try(`,"allow_self_connections":1`, "nested"); err == nil {
		t.Error("a storage on a storage of this server passed")
	}
}

// TestEndpointsArePublicUnlessAllowed is SSRF-1 on the program: the log says which key allows it.
func TestEndpointsArePublicUnlessAllowed(t *testing.T) {
	u := newUser("c", t.TempDir())
	u.Filesystem = account.FilesystemConfig{Provider: account.SFTPProvider, SFTPConfig: account.SFTPConfig{
		Endpoint: "localhost:" + gantrytest.FreePort(t), Username: "x", Password: secret.New("pw-of-far"),
	}}
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(u), Secrets: []string{"pw-of-far"}})
	if _, err := client(t, s, "c").ReadDir("/"); err == nil {
		t.Error("a storage on loopback passed")
	}
	s.Until("the log says what allows it", func() bool { return strings.Contains(fmt.Sprint(s.Log()), "common.allowed_endpoints") })
}
