package session_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
)

var errStore = errors.New("the store is lost")

func limited(bytes int64) account.User {
	u := sessiontest.User("ann")
	u.QuotaSize = bytes
	return u
}

func failing(calls string) func(string) error {
	return func(call string) error {
		if strings.Contains(calls, call) {
			return errStore
		}
		return nil
	}
}

func TestALostStoreGrantsNoQuota(t *testing.T) {
	for _, calls := range []string{"usage", "mark"} {
		e := sessiontest.New(t, sessiontest.Options{}, limited(1000), sessiontest.User("free"))
		s, free := e.Login("ann"), e.Login("free")
		e.Store.Fault(failing(calls))
		if err := put(s, path(t, "/f"), "x"); !errors.Is(err, errStore) {
			t.Errorf("%s: a user with a quota: %v", calls, err)
		}
		if err := put(free, path(t, "/f"), "x"); err != nil {
			t.Errorf("%s: a user without: %v", calls, err)
		}
		if _, err := get(free, path(t, "/f")); err != nil {
			t.Errorf("%s: a download: %v", calls, err)
		}
		e.Store.Fault(nil)
		if err := put(s, path(t, "/f"), "x"); err != nil {
			t.Errorf("%s: after the store came back: %v", calls, err)
		}
	}
}

func TestTransfersGoOnWhenTheStoreFails(t *testing.T) {
	e := sessiontest.New(t, sessiontest.Options{}, limited(1000))
	s := e.Login("ann")
	if err := put(s, path(t, "/a"), "hello"); err != nil {
		t.Fatal(err)
	}
	e.Store.Fault(failing("settle mark clear usage login"))
	if err := put(s, path(t, "/b"), "world!"); err != nil { // the mark stands, the counters are known
		t.Fatal(err)
	}
	if err := s.Remove(ctx, path(t, "/a")); err != nil {
		t.Fatal(err)
	}
	if err := e.Server.Flush(ctx); !errors.Is(err, errStore) {
		t.Errorf("flush: %v", err)
	}
	if f, b, _, _ := e.Server.Used(annKey); f != 1 || b != 6 {
		t.Errorf("got %d, %d", f, b)
	}
	e.Store.Fault(nil)
	if err := e.Server.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if u, _ := e.Store.Usage(ctx, annKey); u.Files != 1 || u.Bytes != 6 {
		t.Errorf("stored %+v", u)
	}
	if d, _ := e.Store.Dirty(ctx, ""); len(d) != 0 {
		t.Errorf("marks: %v", d)
	}
}

func TestABusyStoreDoesNotBlockForever(t *testing.T) {
	e := sessiontest.New(t, sessiontest.Options{}, limited(1000))
	e.Server.StoreWait(100 * time.Millisecond)
	s := e.Login("ann")
	release := make(chan struct{})
	e.Store.Fault(func(call string) error {
		if call == "mark" {
			<-release
		}
		return nil
	})
	first := make(chan error, 1)
	go func() { first <- put(s, path(t, "/a"), "x") }() // waits in the store, which knows no deadline
	second := make(chan error, 1)
	go func() { second <- put(s, path(t, "/b"), "x") }()
	select {
	case err := <-second:
		if err == nil {
			t.Error("an upload got room that nobody knew")
		}
	case err := <-first:
		if err == nil {
			t.Error("an upload got room that nobody knew")
		}
	case <-time.After(20 * time.Second):
		t.Error("both wait")
	}
	close(release)
}

func TestTheMarkStandsBeforeAnythingIsPublished(t *testing.T) {
	var e *sessiontest.Env
	checked := 0
	e = sessiontest.New(t, sessiontest.Options{Mem: func(string) mem.Options {
		return mem.Options{Fault: func(op mem.Op) error {
			if op.Verb == "create" {
				checked++
				if d, _ := e.Store.Dirty(ctx, ""); len(d) != 1 || d[0] != annKey {
					t.Errorf("at create: %v", d)
				}
			}
			return nil
		}}
	}}, limited(1000))
	s := e.Login("ann")
	for range 2 {
		if err := put(s, path(t, "/f"), "x"); err != nil {
			t.Fatal(err)
		}
		if err := e.Server.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if d, _ := e.Store.Dirty(ctx, ""); len(d) != 0 {
			t.Errorf("at rest: %v", d)
		}
	}
	if checked != 2 {
		t.Errorf("checked %d times", checked)
	}
}

func TestRecoverySweepsAndScansMarkedAccountsOnly(t *testing.T) {
	cfg := session.DefaultConfig()
	cfg.UploadMode = 1
	bob := limited(500)
	bob.Username, bob.HomeDir = "bob", "/home/bob"
	e := sessiontest.New(t, sessiontest.Options{Config: &cfg, Keep: true}, limited(1000), bob)
	s := e.Login("ann")
	put(s, path(t, "/f"), "hello")
	h, err := s.OpenFile(ctx, path(t, "/g"), session.Flags{Write: true, Create: true, Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	h.WriteAt([]byte("lost in the crash"), 0)
	e.Server.Crash()
	e.Store.SetUsage(ctx, bobKey, 77, 77) // wrong, but not marked: a scan of everything would change it
	next := sessiontest.New(t, sessiontest.Options{Config: &cfg, From: e})
	if err := next.Server.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	if u, _ := next.Store.Usage(ctx, annKey); u.Files != 1 || u.Bytes != 5 {
		t.Errorf("ann: %+v", u)
	}
	if u, _ := next.Store.Usage(ctx, bobKey); u.Files != 77 {
		t.Errorf("bob: %+v", u)
	}
	if n, _ := next.FS("/home/ann").Sweep(ctx, time.Now().Add(time.Hour)); n != 0 {
		t.Errorf("%d temporary files were left", n)
	}
	if d, _ := next.Store.Dirty(ctx, ""); len(d) != 0 {
		t.Errorf("marks: %v", d)
	}
}

func TestRecoveryKeepsTheMarkOfWhatItCannotScan(t *testing.T) {
	e := sessiontest.New(t, sessiontest.Options{}, limited(1000))
	e.Store.MarkDirty(ctx, "", []account.CounterKey{annKey, {Kind: account.KindUser, Name: "deleted"}})
	e.Store.Fault(failing("set"))
	if err := e.Server.Recover(ctx); !errors.Is(err, errStore) {
		t.Errorf("got %v", err)
	}
	if d, _ := e.Store.Dirty(ctx, ""); len(d) != 1 || d[0] != annKey {
		t.Errorf("marks: %v", d)
	}
	e.Store.Fault(nil)
	if err := put(e.Login("ann"), path(t, "/f"), "x"); err != nil { // its use does not make it known
		t.Fatal(err)
	}
	if err := e.Server.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if d, _ := e.Store.Dirty(ctx, ""); len(d) != 1 {
		t.Errorf("marks after its use: %v", d)
	}
	if err := e.Server.Recover(ctx); err != nil {
		t.Error(err)
	}
	if d, _ := e.Store.Dirty(ctx, ""); len(d) != 0 {
		t.Errorf("marks at the end: %v", d)
	}
}

// A disk that fails leaves the tally right: what a scan finds.
func TestStorageFaultsKeepTheTallyRight(t *testing.T) {
	for _, verb := range []string{"create", "write", "commit", "rename", "remove", "truncate", "fstat", "copy", "link", "abort"} {
		for mode := range 3 {
			cfg := session.DefaultConfig()
			cfg.UploadMode = mode
			var on atomic.Bool
			e := sessiontest.New(t, sessiontest.Options{Config: &cfg, Mem: func(string) mem.Options {
				return mem.Options{Fault: func(op mem.Op) error {
					if op.Verb == verb && on.Load() {
						return errors.New("input/output error")
					}
					return nil
				}}
			}}, limited(1000))
			s := e.Login("ann")
			put(s, path(t, "/a"), "aaaa")
			put(s, path(t, "/b"), "bb")
			h, _ := s.OpenFile(ctx, path(t, "/open"), session.Flags{Write: true, Create: true, Truncate: true})
			h.WriteAt([]byte("0123456789"), 0)
			on.Store(true)
			put(s, path(t, "/c"), "ccc")
			put(s, path(t, "/a"), "AAAAAAAA")
			s.Rename(ctx, path(t, "/a"), path(t, "/b"), true)
			s.Copy(ctx, path(t, "/b"), path(t, "/copy"), true)
			s.Link(ctx, path(t, "/b"), path(t, "/link"))
			s.Truncate(ctx, path(t, "/b"), 1)
			s.Remove(ctx, path(t, "/b"))
			h.WriteAt([]byte("more"), 10)
			h.Close(ctx)
			on.Store(false)
			files, bytes := scan(e, annKey)
			if f, b, hf, hb := e.Server.Used(annKey); f != int64(files) || b != bytes || hf+hb != 0 {
				t.Errorf("%s fails, mode %d: tally %d, %d (held %d, %d), scan %d, %d", verb, mode, f, b, hf, hb, files, bytes)
			}
			if f, p, n, _ := e.Server.Leftovers(); p+n != 0 || f != 0 {
				t.Errorf("%s fails, mode %d: left %d %d %d", verb, mode, f, p, n)
			}
		}
	}
}

func TestAFullOrReadOnlyStorageGivesCleanErrors(t *testing.T) {
	full := sessiontest.New(t, sessiontest.Options{Mem: func(string) mem.Options { return mem.Options{MaxBytes: 4} }}, limited(1000))
	if err := put(full.Login("ann"), path(t, "/f"), "hello"); !errors.Is(err, vfs.ErrQuota) || errors.Is(err, session.ErrQuota) {
		t.Errorf("a full disk: %v", err)
	}
	files, bytes := scan(full, annKey)
	if f, b, _, _ := full.Server.Used(annKey); f != int64(files) || b != bytes {
		t.Errorf("tally %d, %d, scan %d, %d", f, b, files, bytes)
	}
	ro := sessiontest.New(t, sessiontest.Options{Mem: func(string) mem.Options { return mem.Options{ReadOnly: true} }}, limited(1000))
	if err := put(ro.Login("ann"), path(t, "/f"), "x"); !errors.Is(err, vfs.ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
	if f, b, hf, hb := ro.Server.Used(annKey); f+b+hf+hb != 0 {
		t.Errorf("counted %d %d %d %d", f, b, hf, hb)
	}
}

func TestQuotaAtOpenAndCut(t *testing.T) {
	for mode := range 3 {
		cfg := session.DefaultConfig()
		cfg.UploadMode = mode
		u := limited(10)
		u.QuotaFiles = 2
		e := sessiontest.New(t, sessiontest.Options{Config: &cfg}, u)
		s := e.Login("ann")
		if err := put(s, path(t, "/a"), "0123456789"); err != nil { // to the last byte
			t.Fatal(err)
		}
		if err := put(s, path(t, "/b"), ""); !errors.Is(err, session.ErrQuota) {
			t.Errorf("mode %d: a new file in a full account: %v", mode, err)
		}
		if err := put(s, path(t, "/a"), "x"); !errors.Is(err, session.ErrQuota) {
			t.Errorf("mode %d: an overwrite in a full account: %v", mode, err)
		}
		if err := s.Truncate(ctx, path(t, "/a"), 4); err != nil {
			t.Fatal(err)
		}
		if err := put(s, path(t, "/a"), "0123456789"); err != nil { // net: 10 - 4 = 6 more
			t.Errorf("mode %d: an overwrite counts net: %v", mode, err)
		}
		if err := s.Truncate(ctx, path(t, "/a"), 4); err != nil {
			t.Fatal(err)
		}
		if err := s.Truncate(ctx, path(t, "/a"), 11); !errors.Is(err, session.ErrQuota) { // QUO-2
			t.Errorf("mode %d: truncate past the limit: %v", mode, err)
		}
		if err := put(s, path(t, "/b"), "01234567"); !errors.Is(err, session.ErrQuota) {
			t.Errorf("mode %d: past the limit: %v", mode, err)
		}
		if got := content(t, e, u.HomeDir, "/b"); got != "-" {
			t.Errorf("mode %d: a cut upload left %q", mode, got)
		}
		h, err := s.OpenFile(ctx, path(t, "/a"), session.Flags{Write: true, Append: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.WriteAt(make([]byte, 7), 0); !errors.Is(err, session.ErrQuota) { // QUO-2: append
			t.Errorf("mode %d: append past the limit: %v", mode, err)
		}
		h.Close(ctx)
		if got := content(t, e, u.HomeDir, "/a"); got != "0123" {
			t.Errorf("mode %d: a cut resume left %q", mode, got)
		}
		if err := s.Copy(ctx, path(t, "/a"), path(t, "/c"), false); err != nil {
			t.Fatal(err)
		}
		if err := s.Link(ctx, path(t, "/a"), path(t, "/d")); !errors.Is(err, session.ErrQuota) { // QUO-2
			t.Errorf("mode %d: a third file by a link: %v", mode, err)
		}
		if err := s.Copy(ctx, path(t, "/a"), path(t, "/d"), false); !errors.Is(err, session.ErrQuota) {
			t.Errorf("mode %d: a third file by a copy: %v", mode, err)
		}
		if f, b, hf, hb := e.Server.Used(annKey); f != 2 || b != 8 || hf+hb != 0 {
			t.Errorf("mode %d: %d files, %d bytes, held %d %d", mode, f, b, hf, hb)
		}
	}
}

func TestTrackQuota(t *testing.T) {
	for track, want := range map[int][2]int64{session.TrackNone: {0, 0}, session.TrackAll: {1, 1}, session.TrackLimited: {1, 0}} {
		cfg := session.DefaultConfig()
		cfg.TrackQuota = track
		e := sessiontest.New(t, sessiontest.Options{Config: &cfg}, limited(3), sessiontest.User("bob"))
		for _, name := range []string{"ann", "bob"} {
			if err := put(e.Login(name), path(t, "/f"), "hi"); err != nil {
				t.Fatal(err)
			}
		}
		if err := put(e.Login("ann"), path(t, "/g"), "past"); (err == nil) != (track == session.TrackNone) {
			t.Errorf("track_quota %d: past the limit: %v", track, err)
		}
		a, _, _, _ := e.Server.Used(annKey)
		b, _, _, _ := e.Server.Used(bobKey)
		if [2]int64{a, b} != want {
			t.Errorf("track_quota %d: counted %d, %d, want %v", track, a, b, want)
		}
	}
}

func TestDataTransferLimits(t *testing.T) {
	const mb = 1 << 20
	u := sessiontest.User("ann")
	u.UploadDataTransfer, u.DownloadDataTransfer = 2, 1
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	if err := put(s, path(t, "/half"), strings.Repeat("x", mb/2)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, nil, session.ErrReadQuota} {
		if _, err := get(s, path(t, "/half")); !errors.Is(err, want) {
			t.Errorf("download %d: %v", i, err)
		}
	}
	if err := put(s, path(t, "/two"), strings.Repeat("x", 2*mb)); !errors.Is(err, session.ErrQuota) {
		t.Errorf("upload: %v", err)
	}
	if err := e.Server.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got, _ := e.Store.Usage(ctx, annKey); got.Uploaded != mb/2 || got.Downloaded != mb {
		t.Errorf("stored %+v", got)
	}
}

// Concurrent transfers are summed: together they move no more than the limit.
func TestDataTransferLimitHoldsForTheSum(t *testing.T) {
	const mb = 1 << 20
	u := sessiontest.User("ann")
	u.TotalDataTransfer = 1
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	var sum atomic.Int64
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			h, err := s.OpenFile(ctx, path(t, "/f"+string(rune('0'+g))), session.Flags{Write: true, Create: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer h.Close(ctx)
			buf := make([]byte, 10_000)
			for off := int64(0); off < mb; off += 10_000 {
				n, err := h.WriteAt(buf, off)
				sum.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if got := sum.Load(); got > mb || got < mb-6*10_000 {
		t.Errorf("moved %d of %d", got, mb)
	}
}
