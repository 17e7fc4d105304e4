//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/dbtest"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// sshFrom logs in from one of loopback's addresses.
func sshFrom(s *gantrytest.Server, source, user, password string) (*ssh.Client, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 20 * time.Second}
	c, err := d.Dial("tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	conn, chans, reqs, err := ssh.NewClientConn(c, s.Addr, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		c.Close()
		return nil, err
	}
	return ssh.NewClient(conn, chans, reqs), nil
}

// loginFrom is sshFrom that leaves at once.
func loginFrom(s *gantrytest.Server, source, user, password string) error {
	c, err := sshFrom(s, source, user, password)
	if err == nil {
		c.Close()
	}
	return err
}

// TestTwoNodes: two servers on one database and one storage are one server to their users.
func TestTwoNodes(t *testing.T) {
	var servers dbtest.Servers
	t.Cleanup(servers.Close)
	for _, driver := range []string{"postgresql", "mysql"} {
		t.Run(driver, func(t *testing.T) {
			db := servers.Postgres
			if driver == "mysql" {
				db = servers.MariaDB
			}
			twoNodes(t, db(t))
		})
	}
}

// tokensOnTwoNodes: a token is good on both nodes, and ends on both (AUTH-8).
func tokensOnTwoNodes(t *testing.T, b *gantrytest.Server, ports []string) {
	t.Helper()
	api := func(i int) string { return "http://127.0.0.1:" + ports[i] + "/api/v2" }
	get := func(i int, path, auth string) (int, string) {
		t.Helper()
		status, _, body := httpCall(t, http.MethodGet, api(i)+path, "", "Authorization", auth)
		return status, body
	}
	for _, x := range []struct{ token, path, logout, auth string }{
		{"/token", "/nodes", "/logout", basicOf("root", "pw-root")}, {"/user/token", "/user/dirs", "/user/logout", basicOf("free", "pw-free")},
	} {
		status, body := get(0, x.token, x.auth)
		var tok struct {
			Token string `json:"access_token"`
		}
		if err := json.Unmarshal([]byte(body), &tok); err != nil || status != http.StatusOK {
			t.Fatalf("token: %d %s", status, body)
		}
		bearer := "Bearer " + tok.Token
		for i := range ports {
			status, body := get(i, x.path, bearer)
			if status != http.StatusOK {
				t.Errorf("node %d %s: %d %s", i, x.path, status, body)
			}
			if n := strings.Count(body, `"last_seen"`); x.path == "/nodes" && n != 2 {
				t.Errorf("node %d knows %d nodes: %s", i, n, body)
			}
		}
		begin := time.Now()
		if status, body := get(0, x.logout, bearer); status != http.StatusOK {
			t.Errorf("logout: %d %s", status, body)
		}
		b.Until("a token that ended on a has ended on b", func() bool {
			status, _ := get(1, x.path, bearer)
			return status == http.StatusUnauthorized
		})
		t.Logf("a token ended on b %v after its logout on a", time.Since(begin))
	}
}

func twoNodes(t *testing.T, db *dbtest.Server) {
	homes := t.TempDir()
	home := func(name string) string { return filepath.Join(homes, name) }
	joe, two, free := newUser("joe", home("joe")), newUser("two", home("two")), newUser("free", home("free"))
	joe.QuotaSize = 2_000_000
	two.MaxSessions = 2
	config := fmt.Sprintf(`{"common":{"defender":{"enabled":true,"driver":"provider","threshold":6,"ban_time":5,"login_delay":{"password_failed":1}}},
		"data_provider":{"driver":%q,"host":%q,"port":%d,"name":%q,"username":%q,"password":%q,"is_shared":1,"sql_tables_prefix":"gt_","pool_size":10,
		"track_quota":1,"auto_backup":{"enabled":false},"create_default_admin":true},"httpd":{"signing_passphrase":"one for both nodes"}}`, db.Driver, db.Host, db.Port, db.Database(t), db.User, db.Password)
	ports := []string{gantrytest.FreePort(t), gantrytest.FreePort(t)}
	env := func(port string) []string {
		return []string{"GANTRY_HTTPD__BINDINGS__0__PORT=" + port, "GANTRY_DEFAULT_ADMIN_USERNAME=root", "GANTRY_DEFAULT_ADMIN_PASSWORD=pw-root"}
	}
	a := gantrytest.Start(t, gantrytest.Options{Bin: bin, Config: config, Env: env(ports[0]), Dump: &account.Dump{Users: []account.User{joe, two, free}}, Secrets: []string{"pw-joe", "pw-root"}})
	b := gantrytest.Start(t, gantrytest.Options{Bin: bin, Config: config, Env: env(ports[1])})
	nodes := []*gantrytest.Server{a, b}

	tokensOnTwoNodes(t, b, ports)

	// A change on one is a change on the other.
	for range 2 { // the second login is warm
		client(t, b, "joe")
	}
	changed := joe
	changed.Password = "new-joe"
	data, err := json.Marshal(&account.Dump{Version: account.DumpVersion, Users: []account.User{changed}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "joe.json")
	gantrytest.WriteFile(t, file, string(data))
	if code, out := a.Verb("load", file); code != 0 {
		t.Fatalf("load: %d\n%s", code, out)
	}
	begin := time.Now()
	b.Until("the new password holds on b", func() bool { return loginFrom(b, "127.0.0.9", "joe", "pw-joe") != nil }) // one failure
	t.Logf("a change on a held on b after %v", time.Since(begin))
	connect := func(s *gantrytest.Server) *sftp.Client {
		t.Helper()
		conn, err := s.Dial("joe", "new-joe")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		c, err := sftp.NewClient(conn)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	connect(b)

	// max_sessions holds over both.
	var open, most, got atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		s := nodes[i%2]
		wg.Go(func() {
			for j := range 6 { // each from another address, for what is refused is scored
				conn, err := sshFrom(s, fmt.Sprintf("127.0.%d.%d", 10+i, 1+j), "two", "pw-two")
				if err != nil {
					continue
				}
				if c, err := sftp.NewClient(conn); err == nil {
					got.Add(1)
					n := open.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					c.ReadDir("/")
					open.Add(-1)
					c.Close()
				}
				conn.Close()
			}
		})
	}
	wg.Wait()
	if most.Load() > 2 || got.Load() == 0 {
		t.Errorf("%d sessions at once of %d in all, want at most 2", most.Load(), got.Load())
	}
	t.Logf("storm: %d of 48 logins got a session, at most %d at once", got.Load(), most.Load())

	// The quota holds over both, and what is counted is what is there.
	full := make([]byte, 300_000)
	var refused atomic.Int64
	for w := range 4 {
		c := connect(nodes[w%2])
		wg.Go(func() {
			for i := range 4 {
				if err := put(c, fmt.Sprintf("/f%d-%d", w, i), full, os.O_CREATE|os.O_TRUNC); err != nil {
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	same := func(what string) {
		t.Helper()
		b.Until(what, func() bool {
			files, size := used(t, b.Dump(), "joe")
			n, bytes := onDisk(t, home("joe"))
			return files == n && size == bytes
		})
	}
	_, bytes := onDisk(t, home("joe"))
	if bytes > 2_000_000 || bytes < 1_200_000 || refused.Load() == 0 {
		t.Errorf("%d bytes of 2000000, %d uploads refused", bytes, refused.Load())
	}
	same("the counters are what the storage holds")
	t.Logf("quota: %d bytes of 2000000 on disk, %d uploads refused", bytes, refused.Load())

	// A ban on one holds on the other; failures on both count together.
	for i := range 8 {
		loginFrom(nodes[i%2], "127.0.0.3", "free", "wrong")
	}
	for name, s := range map[string]*gantrytest.Server{"a": a, "b": b} {
		s.Until("the ban holds on "+name, func() bool {
			line, _ := from(t, "127.0.0.3", s.Addr)
			return !strings.HasPrefix(line, "SSH-")
		})
		if err := loginFrom(s, "127.0.0.1", "free", "pw-free"); err != nil {
			t.Errorf("another address on %s: %v", name, err)
		}
	}

	// Without the database nobody comes in, and who is in goes on.
	c := client(t, a, "free")
	db.Stop()
	if err := put(c, "/while-it-is-gone", full, os.O_CREATE|os.O_TRUNC); err != nil {
		t.Errorf("an upload without the database: %v", err)
	}
	if _, err := c.ReadDir("/"); err != nil {
		t.Errorf("a listing without the database: %v", err)
	}
	a.Until("logins are refused without the database", func() bool { return loginFrom(a, "127.0.0.4", "free", "pw-free") != nil })
	if err := db.Start(); err != nil {
		t.Fatal(err)
	}
	for _, s := range nodes {
		tries := 0
		s.Until("logins go again", func() bool {
			tries++
			return loginFrom(s, fmt.Sprintf("127.0.%d.%d", 20+tries/200, 1+tries%200), "free", "pw-free") == nil
		})
	}
	b.Until("what was uploaded meanwhile is counted", func() bool {
		n, _ := used(t, b.Dump(), "free")
		return n == 1
	})

	// A node that is killed leaves the other right.
	if db.Driver != "postgresql" && !long() {
		return
	}
	on := connect(a)
	list, err := on.ReadDir("/")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list[:2] { // the other node may hold what little room is left
		if err := on.Remove("/" + i.Name()); err != nil {
			t.Fatal(err)
		}
	}
	h, err := on.Create("/cut")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	client(t, a, "two")
	client(t, a, "two")
	a.Stop(syscall.SIGKILL)
	begin = time.Now()
	tries := 0
	b.Until("the sessions of the dead node are free", func() bool {
		tries++
		conn, err := sshFrom(b, fmt.Sprintf("127.0.%d.%d", 30+tries/200, 1+tries%200), "two", "pw-two")
		if err != nil {
			return false
		}
		defer conn.Close()
		_, err = sftp.NewClient(conn)
		return err == nil
	})
	t.Logf("the sessions of a were free %v after its death", time.Since(begin))
	same("what the dead node was writing is counted")
	t.Logf("its uploads were counted %v after its death", time.Since(begin))
}
