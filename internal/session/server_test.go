package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that tests move.
type clock struct{ now atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.now.Store(time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *clock) Now() time.Time      { return time.Unix(0, c.now.Load()) }
func (c *clock) add(d time.Duration) { c.now.Add(int64(d)) }

func TestMaxSessionsIsCheckedAndAddedInOneStep(t *testing.T) {
	u := sessiontest.User("ann")
	u.MaxSessions = 3
	e := sessiontest.New(t, sessiontest.Options{}, u)
	var in, out atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			switch _, err := e.Open("ann", session.Conn{}); {
			case err == nil:
				in.Add(1)
			case errors.Is(err, session.ErrTooManySessions):
				out.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if in.Load() != 3 || out.Load() != 17 {
		t.Errorf("%d in, %d refused", in.Load(), out.Load())
	}
	if n := len(e.Failures); n != 0 {
		t.Errorf("the defender was told of %d logins whose credentials were right", n)
	}
}

func TestSessionsCanBeListedAndKilled(t *testing.T) {
	c := newClock()
	e := sessiontest.New(t, sessiontest.Options{Now: c.Now}, sessiontest.User("ann"), sessiontest.User("bob"))
	var killed []error
	s, err := e.Open("ann", session.Conn{ID: "SFTP_abc_1", Kill: func(err error) { killed = append(killed, err) }})
	if err != nil {
		t.Fatal(err)
	}
	e.Login("bob")
	h, err := s.OpenFile(ctx, path(t, "/f"), session.Flags{Write: true, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	c.add(time.Second)
	h.WriteAt(make([]byte, 1000), 0)
	c.add(time.Second)
	h.WriteAt(make([]byte, 1000), 1000)
	list := e.Server.Sessions()
	if len(list) != 2 {
		t.Fatalf("got %+v", list)
	}
	var ann session.Info
	for _, i := range list {
		if i.Username == "ann" {
			ann = i
		}
	}
	if len(ann.Transfers) != 1 || ann.ID != "SFTP_abc_1" {
		t.Fatalf("got %+v", ann)
	}
	if x := ann.Transfers[0]; x.Operation != "upload" || x.Path != "/f" || x.Bytes != 2000 || x.Speed < 500 || x.Speed > 2000 {
		t.Errorf("got %+v", x)
	}
	if !e.Server.Kill("SFTP_abc_1", session.ErrKilled) || e.Server.Kill("none", session.ErrKilled) {
		t.Error("kill")
	}
	e.Server.Kill("SFTP_abc_1", session.ErrKilled)
	if len(killed) != 1 || killed[0] != session.ErrKilled {
		t.Errorf("the connection was told %v", killed)
	}
	if _, err := h.WriteAt([]byte("x"), 0); !errors.Is(err, session.ErrKilled) {
		t.Errorf("a write after the kill: %v", err)
	}
	s.Close()
	if _, err := s.Stat(ctx, path(t, "/")); !errors.Is(err, session.ErrClosed) {
		t.Errorf("a call after the end: %v", err)
	}
	if n := e.Server.KillUser("bob", session.ErrKilled); n != 1 {
		t.Errorf("killed %d", n)
	}
}

func TestIdleSessionsEndButNotThoseThatMove(t *testing.T) {
	c := newClock()
	e := sessiontest.New(t, sessiontest.Options{Now: c.Now}, sessiontest.User("ann"))
	ended := map[string]bool{}
	open := func(id string) *session.Session {
		s, err := e.Open("ann", session.Conn{ID: id, Kill: func(err error) { ended[id] = errors.Is(err, session.ErrIdle) }})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	open("idle")
	moving := open("moving")
	h, _ := moving.OpenFile(ctx, path(t, "/f"), session.Flags{Write: true, Create: true})
	defer h.Close(ctx)
	c.add(14 * time.Minute)
	h.WriteAt([]byte("x"), 0)
	e.Server.EndIdle()
	if len(ended) != 0 {
		t.Errorf("too soon: %v", ended)
	}
	c.add(2 * time.Minute)
	e.Server.EndIdle()
	if len(ended) != 1 || !ended["idle"] {
		t.Errorf("got %v", ended)
	}
}

// AUTH-3: a live session passes through the one gate again.
func TestRecheckEndsWhoMayNoLongerBeIn(t *testing.T) {
	e := sessiontest.New(t, sessiontest.Options{}, sessiontest.User("ann"))
	var killed error
	s, err := e.Open("ann", session.Conn{Kill: func(err error) { killed = err }})
	if err != nil {
		t.Fatal(err)
	}
	e.Store.Fault(failing("auth"))
	e.Server.Recheck(ctx, "ann")
	if killed != nil {
		t.Errorf("a lost store ended a live session: %v", killed)
	}
	if _, err := e.Open("ann", session.Conn{}); err == nil {
		t.Error("a lost store let somebody in") // AUTH-5
	}
	e.Store.Fault(nil)
	u := sessiontest.User("ann")
	u.Permissions["/"] = []string{"list"}
	e.Store.PutUser(u)
	e.Server.Recheck(ctx)
	if err := put(s, path(t, "/f"), "x"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the new rules do not hold: %v", err)
	}
	e.Store.Deny("ann", errors.New("account disabled"))
	e.Server.Recheck(ctx, "ann")
	if killed == nil {
		t.Error("the session of a disabled account lives")
	}
}

// A session is in the registry before its storages are open.
func TestASessionThatOpensIsListedAndRechecked(t *testing.T) {
	var during func()
	e := sessiontest.New(t, sessiontest.Options{NewFS: func(context.Context, session.Storage) (vfs.FS, error) {
		during()
		return mem.New(mem.Options{}), nil
	}}, sessiontest.User("ann"), sessiontest.User("bob"))
	during = func() {
		if list := e.Server.Sessions(); len(list) != 1 || list[0].Username != "ann" {
			t.Errorf("got %+v", list)
		}
		u := sessiontest.User("ann")
		u.Permissions["/"] = []string{"list"}
		e.Store.PutUser(u)
		during = func() {}
		e.Server.Recheck(ctx, "ann")
	}
	s, err := e.Open("ann", session.Conn{})
	if err != nil {
		t.Fatal(err)
	}
	if err := put(s, path(t, "/f"), "x"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the new rules do not hold: %v", err)
	}
	during = func() {
		e.Store.Deny("bob", errors.New("account disabled"))
		e.Server.Recheck(ctx, "bob")
	}
	if _, err := e.Open("bob", session.Conn{}); err == nil {
		t.Error("an account that was disabled meanwhile is in")
	}
	if list := e.Server.Sessions(); len(list) != 1 {
		t.Errorf("got %+v", list)
	}
}

func TestOpenChecksAgainAfterTheLogin(t *testing.T) {
	e := sessiontest.New(t, sessiontest.Options{}, sessiontest.User("ann"))
	l, err := e.Server.Authenticate(ctx, &auth.Attempt{Protocol: account.ProtocolSSH, Method: account.MethodPassword, Username: "ann", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	e.Store.Deny("ann", errors.New("expired"))
	if _, err := e.Server.Open(ctx, l, session.Conn{ID: "x", Protocol: "SFTP"}); err == nil {
		t.Error("let in")
	}
}

// TestOpenTransfersAreListed: whatever the order in which they end, and all that are left end with the session.
func TestOpenTransfersAreListed(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0}, {}} {
		e := sessiontest.New(t, sessiontest.Options{}, sessiontest.User("ann"))
		s := e.Login("ann")
		open := map[string]*session.Handle{}
		for i := range 4 {
			p := path(t, fmt.Sprintf("/%d", i))
			h, err := s.OpenFile(ctx, p, session.Flags{Write: true, Create: true})
			if err != nil {
				t.Fatal(err)
			}
			open[p.String()] = h
		}
		check := func() {
			t.Helper()
			var list []session.TransferInfo
			for _, i := range e.Server.Sessions() {
				list = append(list, i.Transfers...)
			}
			if len(list) != len(open) {
				t.Fatalf("%v: %d listed, want %d", order, len(list), len(open))
			}
			for _, x := range list {
				if open[x.Path] == nil {
					t.Errorf("%v: %q is listed", order, x.Path)
				}
			}
		}
		check()
		for _, i := range order {
			p := fmt.Sprintf("/%d", i)
			open[p].Close(ctx)
			open[p].Close(ctx) // which changes nothing
			delete(open, p)
			check()
		}
		s.Close()
		for p, h := range open {
			if _, err := h.WriteAt([]byte("x"), 0); err == nil {
				t.Errorf("%v: %q is open after its session", order, p)
			}
		}
	}
}

func TestSessionEndsWithItsContext(t *testing.T) {
	e := sessiontest.New(t, sessiontest.Options{}, sessiontest.User("ann"))
	cctx, cancel := context.WithCancel(ctx)
	l, _ := e.Server.Authenticate(ctx, &auth.Attempt{Protocol: account.ProtocolSSH, Method: account.MethodPassword, Username: "ann", Password: "secret"})
	s, err := e.Server.Open(cctx, l, session.Conn{ID: "x", Protocol: "SFTP"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("it lives")
	}
	if n := len(e.Server.Sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestCloseEndsEverythingAndRefusesMore(t *testing.T) {
	e := sessiontest.New(t, sessiontest.Options{Keep: true}, limited(1000))
	s := e.Login("ann")
	h, _ := s.OpenFile(ctx, path(t, "/f"), session.Flags{Write: true, Create: true})
	h.WriteAt([]byte("hello"), 0)
	if err := e.Server.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if u, _ := e.Store.Usage(ctx, annKey); u.Files != 1 || u.Bytes != 5 {
		t.Errorf("stored %+v", u)
	}
	if _, err := e.Open("ann", session.Conn{}); !errors.Is(err, session.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestDirectoriesAreMadeAtLoginOnce(t *testing.T) {
	c := newClock()
	var opened []session.Storage
	u := sessiontest.User("ann")
	u.Filters.StartDirectory = "/in/box"
	u.VirtualFolders = folderAt("/a/b/mnt", "f", "/srv/f", 0)
	u.VirtualFolders[0].Subpath = "sub"
	var e *sessiontest.Env
	e = sessiontest.New(t, sessiontest.Options{Now: c.Now, NewFS: func(ctx context.Context, st session.Storage) (vfs.FS, error) {
		opened = append(opened, st)
		return noClose{e.FS(st.Root)}, nil
	}}, u)
	s := e.Login("ann")
	if s.StartDir() != path(t, "/in/box") {
		t.Errorf("start %s", s.StartDir())
	}
	for _, p := range []string{"/a/b", "/in/box"} {
		if i, err := e.FS(u.HomeDir).Stat(ctx, path(t, p)); err != nil || !i.IsDir() {
			t.Errorf("%s: %v", p, err)
		}
	}
	if len(opened) != 2 || !opened[0].Create || opened[1].Root != "/srv/f" {
		t.Fatalf("opened %+v", opened)
	}
	s.Close()
	e.Login("ann").Close()
	if len(opened) != 2 {
		t.Errorf("opened again within ten minutes")
	}
	c.add(11 * time.Minute)
	e.Server.ForgetUsers()
	u.Filters.DisableFsChecks = true
	e.Store.PutUser(u)
	e.Login("ann")
	if len(opened) != 4 || opened[2].Create {
		t.Errorf("opened %+v", opened[2:])
	}
}

type noClose struct{ vfs.FS }

func (n noClose) Unwrap() vfs.FS { return n.FS }
func (n noClose) Close() error   { return nil }

func TestAStorageThatCannotBeOpened(t *testing.T) {
	u := sessiontest.User("ann")
	u.VirtualFolders = folderAt("/mnt", "f", "/srv/broken", 0)
	broken := "/srv/broken"
	var e *sessiontest.Env
	e = sessiontest.New(t, sessiontest.Options{NewFS: func(ctx context.Context, st session.Storage) (vfs.FS, error) {
		if st.Root == broken {
			return nil, errors.New("no route to host")
		}
		return noClose{e.FS(st.Root)}, nil
	}}, u)
	s := e.Login("ann") // a broken folder does not keep anybody out
	if l, err := names(s, path(t, "/")); err != nil || len(l) != 1 {
		t.Errorf("got %q, %v", l, err)
	}
	if _, err := names(s, path(t, "/mnt")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	s.Close()
	broken = u.HomeDir
	u.Description = "changed"
	e.Store.PutUser(u)
	if _, err := e.Open("ann", session.Conn{}); err == nil {
		t.Error("logged in without a home")
	}
	if n := len(e.Server.Sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// guard.md 8.4: the keys of the record in the order that fail2ban reads, error last. AUTH-9: keys count once.
func TestFailedLoginRecords(t *testing.T) {
	var out bytes.Buffer
	e := sessiontest.New(t, sessiontest.Options{Log: slog.New(slog.NewJSONHandler(&out, nil))}, sessiontest.User("ann"))
	from := netip.MustParseAddr("::ffff:203.0.113.9")
	try := func(method, user string) {
		e.Server.Authenticate(ctx, &auth.Attempt{Protocol: account.ProtocolSSH, Method: method, Username: user, Password: "wrong\n\"x", Remote: from})
	}
	try(account.MethodPassword, "ann")
	try(account.MethodPublicKey, "nobody")
	try(account.MethodPublicKey, "nobody")
	conn := session.Conn{Protocol: "SSH", Remote: netip.AddrPortFrom(from, 5)}
	e.Server.Abandoned(conn, "nobody", []string{"publickey", "publickey"}, nil)
	e.Server.Abandoned(conn, "", nil, errors.New("EOF"))
	e.Server.Abandoned(conn, "ann", []string{"password"}, nil) // recorded when it failed
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		`"level":"WARN".*"sender":"connection_failed","client_ip":"203.0.113.9","username":"ann","login_type":"password","protocol":"SSH","error":"wrong password"}$`,
		`"sender":"connection_failed","client_ip":"203.0.113.9","username":"nobody","login_type":"publickey","protocol":"SSH","error":"[^"]*"}$`,
		`"sender":"connection_failed","client_ip":"203.0.113.9","username":"","login_type":"no_auth_tried","protocol":"SSH","error":"EOF"}$`,
	}
	if len(lines) != len(want) {
		t.Fatalf("%d records:\n%s", len(lines), out.String())
	}
	for i, w := range want {
		if !regexp.MustCompile(w).MatchString(lines[i]) {
			t.Errorf("record %d:\n%s\nwant\n%s", i, lines[i], w)
		}
	}
	if strings.Contains(out.String(), "wrong\\n") {
		t.Error("a password in the log") // LOG-1
	}
	if len(e.Failures) != 3 {
		t.Errorf("the defender heard of %d", len(e.Failures))
	}
	out.Reset()
	e.Login("ann")
	if !strings.Contains(out.String(), `"sender":"login","ip":"192.0.2.7","username":"ann","method":"password","protocol":"SFTP"`) {
		t.Errorf("got %s", out.String())
	}
	if u, err := waitLogin(e); err != nil || u == 0 {
		t.Errorf("last login %d, %v", u, err)
	}
}

func waitLogin(e *sessiontest.Env) (int64, error) {
	err := e.Server.Flush(ctx)
	return e.Store.LastLogin("ann"), err
}

func TestBandwidthIsSharedByAllTransfersOfAUser(t *testing.T) {
	u := sessiontest.User("ann")
	u.UploadBandwidth = 1000 // KB/s
	u.Filters.BandwidthLimits = []account.BandwidthLimit{{Sources: []string{"192.0.2.0/24"}, UploadBandwidth: 400}}
	e := sessiontest.New(t, sessiontest.Options{}, u)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range 4 {
		s := e.Login("ann")
		wg.Go(func() {
			h, err := s.OpenFile(ctx, path(t, "/f"+string(rune('a'+i))), session.Flags{Write: true, Create: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer h.Close(ctx)
			for off := int64(0); off < 50<<10; off += 10 << 10 {
				h.WriteAt(make([]byte, 10<<10), off)
			}
		})
	}
	wg.Wait()
	// 200 KiB at 400 KiB/s, of which 100 ms may be caught up.
	if d := time.Since(begin); d < 350*time.Millisecond || d > 3*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestAKillWakesATransferThatWaitsForBandwidth(t *testing.T) {
	u := sessiontest.User("ann")
	u.DownloadBandwidth = 1
	e := sessiontest.New(t, sessiontest.Options{}, u)
	seedTree(t, e.FS(u.HomeDir), "/big")
	s := e.Login("ann")
	if err := put(s, path(t, "/big"), strings.Repeat("x", 1<<20)); err != nil {
		t.Fatal(err)
	}
	h, err := s.OpenFile(ctx, path(t, "/big"), session.Flags{Read: true})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		_, err := h.ReadAt(make([]byte, 1<<20), 0) // a quarter of an hour
		got <- err
	}()
	s.Close()
	if err := <-got; err == nil {
		t.Error("no error")
	}
}

func TestStatFSIsTheSmallerOfQuotaAndDisk(t *testing.T) {
	u := sessiontest.User("ann")
	u.QuotaSize, u.QuotaFiles = 40<<20, 10
	e := sessiontest.New(t, sessiontest.Options{}, u, sessiontest.User("free"))
	s := e.Login("ann")
	if err := put(s, path(t, "/f"), strings.Repeat("x", 8<<20)); err != nil {
		t.Fatal(err)
	}
	st, err := s.StatFS(ctx, path(t, "/"))
	if err != nil || st.Blocks*st.BlockSize != 40<<20 || st.Avail*st.BlockSize != 32<<20 || st.Free != st.Avail || st.Files != 10 || st.FilesFree != 9 {
		t.Errorf("got %+v, %v", st, err)
	}
	h, _ := s.OpenFile(ctx, path(t, "/g"), session.Flags{Write: true, Create: true, Size: 16 << 20})
	if st, _ := s.StatFS(ctx, path(t, "/")); st.Avail*st.BlockSize != 16<<20 {
		t.Errorf("reservations are not subtracted: %+v", st)
	}
	h.Close(ctx)
	if st, _ := e.Login("free").StatFS(ctx, path(t, "/")); st.Blocks*st.BlockSize != 1<<40 {
		t.Errorf("without limits: %+v", st)
	}
}

func TestHash(t *testing.T) {
	s := sessiontest.NewSession(t, sessiontest.Options{}, sessiontest.User("ann"))
	put(s, path(t, "/f"), "hello world")
	for _, c := range []struct {
		algo        string
		off, length int64
		want        string
	}{
		{"md5", 0, 0, "5eb63bbbe01eeed093cb22bb8f5acdc3"},
		{"md5", 0, 5, "5d41402abc4b2a76b9719d911017c592"},
		{"sha1", 6, 100, "7c211433f02071597741e6ff5a8ea34789abbf43"},
		{"crc32", 0, 0, "0d4a1185"},
		{"sha256", 0, 0, "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"},
		{"md5", 100, 0, "d41d8cd98f00b204e9800998ecf8427e"},
	} {
		sum, err := s.Hash(ctx, path(t, "/f"), c.algo, c.off, c.length)
		if got := hexOf(sum); got != c.want || err != nil {
			t.Errorf("%s %d+%d: got %s, %v", c.algo, c.off, c.length, got, err)
		}
	}
	sums, err := s.HashBlocks(ctx, path(t, "/f"), "md5", 0, 0, 5, 10)
	if len(sums) != 3 || hexOf(sums[0]) != "5d41402abc4b2a76b9719d911017c592" || err != nil {
		t.Errorf("blocks: %x, %v", sums, err)
	}
	if _, err := s.HashBlocks(ctx, path(t, "/f"), "md5", 0, 0, 1, 10); !errors.Is(err, vfs.ErrUnsupported) {
		t.Errorf("too many blocks: %v", err)
	}
	if _, err := s.Hash(ctx, path(t, "/f"), "md4", 0, 0); !errors.Is(err, vfs.ErrUnsupported) {
		t.Errorf("md4: %v", err)
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

func TestConfigIsValidated(t *testing.T) {
	if err := session.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []session.Config{{UploadMode: 3}, {IdleTimeout: -1}, {SetstatMode: 3}, {TrackQuota: 9}, {SymlinkMode: 4}, {RenameMode: 2}} {
		if err := c.Validate(); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// The per-packet path allocates nothing of ours.
func TestPacketsAllocateNothing(t *testing.T) {
	u := limited(1 << 40)
	s := sessiontest.NewSession(t, sessiontest.Options{}, u)
	h, err := s.OpenFile(ctx, path(t, "/f"), session.Flags{Write: true, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32<<10)
	h.WriteAt(buf, 0)
	if n := testing.AllocsPerRun(100, func() { h.WriteAt(buf, 0) }); n > 0 {
		t.Errorf("a write: %v allocations", n)
	}
	h.Close(ctx)
	r, _ := s.OpenFile(ctx, path(t, "/f"), session.Flags{Read: true})
	defer r.Close(ctx)
	if n := testing.AllocsPerRun(100, func() { r.ReadAt(buf, 0) }); n > 0 {
		t.Errorf("a read: %v allocations", n)
	}
}

func BenchmarkHandleReadAt(b *testing.B) {
	s := sessiontest.NewSession(b, sessiontest.Options{}, sessiontest.User("ann"))
	put(s, path(b, "/f"), strings.Repeat("x", 32<<10))
	h, err := s.OpenFile(ctx, path(b, "/f"), session.Flags{Read: true})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close(ctx)
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		h.ReadAt(buf, 0)
	}
}

func BenchmarkHandleWriteAt(b *testing.B) {
	for name, u := range map[string]account.User{"free": sessiontest.User("ann"), "quota": limited(1 << 40)} {
		b.Run(name, func(b *testing.B) {
			s := sessiontest.NewSession(b, sessiontest.Options{}, u)
			h, err := s.OpenFile(ctx, path(b, "/f"), session.Flags{Write: true, Create: true})
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close(ctx)
			buf := make([]byte, 32<<10)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				h.WriteAt(buf, 0)
			}
		})
	}
}

func BenchmarkStat(b *testing.B) {
	u := sessiontest.User("ann")
	u.Permissions["/a"] = []string{"list"}
	s := sessiontest.NewSession(b, sessiontest.Options{}, u)
	put(s, path(b, "/f"), "x")
	p := path(b, "/f")
	b.ReportAllocs()
	for b.Loop() {
		s.Stat(ctx, p)
	}
}
