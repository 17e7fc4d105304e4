package session_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
	"github.com/gantryhq/gantry/internal/account/recordstore"
	"github.com/gantryhq/gantry/internal/account/sqlstore"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
)

// shareds are two nodes on one database and one storage. ann's limits are those of limit; bob is not limited.
type shareds struct {
	a, b  *sessiontest.Env
	store *recordstore.Store
	path  string
}

func share(t *testing.T, ann account.User, keepA bool) *shareds {
	t.Helper()
	s := &shareds{path: filepath.Join(t.TempDir(), "shared.db")}
	var err error
	if s.store, err = sqlstore.Open(t.Context(), sqlstore.Config{Path: s.path, Rules: account.DefaultRules()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	for _, n := range []string{"ann", "bob"} {
		u := accounttest.User(n)
		if err := s.store.AddUser(t.Context(), &u); err != nil {
			t.Fatal(err)
		}
	}
	s.a = sessiontest.New(t, sessiontest.Options{Counters: s.store, Shared: s.store.Shared(), Node: "a", Keep: keepA}, ann, sessiontest.User("bob"))
	s.b = sessiontest.New(t, sessiontest.Options{Counters: s.store, Shared: s.store.Shared(), Node: "b", From: s.a})
	return s
}

// kill makes the last sign of life of a node an old one.
func (s *shareds) kill(t *testing.T, node string) {
	t.Helper()
	for _, driver := range []string{"sqlite3", "sqlite"} {
		db, err := sql.Open(driver, "file:"+s.path+"?_busy_timeout=5000&_pragma=busy_timeout(5000)")
		if err != nil {
			continue // the other one is linked
		}
		defer db.Close()
		if _, err := db.Exec(`UPDATE gantry_nodes SET seen = seen - 3600000 WHERE id = ?`, node); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("there is no driver")
}

func TestQuotaHoldsOverNodes(t *testing.T) {
	ann := sessiontest.User("ann")
	ann.QuotaSize, ann.QuotaFiles = 100_000, 40
	s := share(t, ann, false)
	var ok, refused atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		e := s.a
		if w%2 == 1 {
			e = s.b
		}
		x := e.Login("ann")
		wg.Go(func() {
			for i := range 12 {
				name := path(t, fmt.Sprintf("/f%d-%d", w, i))
				err := put(x, name, strings.Repeat("x", 2500+100*w))
				switch {
				case err == nil:
					ok.Add(1)
				case errors.Is(err, vfs.ErrQuota):
					refused.Add(1)
				default:
					t.Errorf("put %s: %v", name, err)
				}
				if i%4 == 3 && err == nil {
					if err := x.Remove(ctx, name); err != nil {
						t.Error(err)
					}
				}
				if f, b := scan(s.a, annKey); f > 40 || b > 100_000 {
					t.Errorf("the storage holds %d files, %d bytes", f, b)
				}
			}
		})
	}
	wg.Wait()
	if ok.Load() < 20 || refused.Load() == 0 {
		t.Errorf("%d uploads went, %d were refused", ok.Load(), refused.Load())
	}
	for _, e := range []*sessiontest.Env{s.a, s.b} {
		if err := e.Server.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	files, bytes := scan(s.a, annKey)
	if u, err := s.store.Usage(ctx, annKey); err != nil || u.Files != files || u.Bytes != bytes {
		t.Errorf("counted %+v, %v; the storage holds %d files, %d bytes", u, err, files, bytes)
	}
	t.Logf("%d uploads, %d refused, %d files and %d bytes at the end", ok.Load(), refused.Load(), files, bytes)
	// All leases were given back: what is free can be used by one alone.
	x := s.b.Login("ann")
	if err := put(x, path(t, "/rest"), strings.Repeat("x", int(100_000-bytes))); files < 40 && err != nil {
		t.Errorf("the rest of the quota on one node: %v", err)
	}
}

func TestMaxSessionsHoldOverNodes(t *testing.T) {
	ann := sessiontest.User("ann")
	ann.MaxSessions = 2
	s := share(t, ann, false)
	one, two := s.a.Login("ann"), s.b.Login("ann")
	for name, e := range map[string]*sessiontest.Env{"a": s.a, "b": s.b} {
		if _, err := e.Open("ann", session.Conn{}); !errors.Is(err, session.ErrTooManySessions) {
			t.Errorf("a third session on %s: %v", name, err)
		}
		if _, err := e.Open("bob", session.Conn{}); err != nil {
			t.Errorf("a user without a limit on %s: %v", name, err)
		}
	}
	one.Close()
	three := s.b.Login("ann")
	two.Close()
	three.Close()
	if n, err := s.a.Server.Nodes(ctx); err != nil || len(n) != 2 {
		t.Errorf("nodes: %v, %v", n, err)
	}
}

// A node that dies in the middle leaves its lease to the others, and its accounts to be counted.
func TestADeadNodeIsCleanedUpAfter(t *testing.T) {
	ann := sessiontest.User("ann")
	ann.QuotaSize, ann.MaxSessions = 10_000, 1
	s := share(t, ann, true)
	x := s.a.Login("ann")
	if err := put(x, path(t, "/a"), strings.Repeat("x", 3000)); err != nil {
		t.Fatal(err)
	}
	h, err := x.OpenFile(ctx, path(t, "/b"), session.Flags{Write: true, Create: true, Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(make([]byte, 2000), 0); err != nil {
		t.Fatal(err)
	}
	s.a.Server.Crash()
	if _, err := s.b.Open("ann", session.Conn{}); !errors.Is(err, session.ErrTooManySessions) {
		t.Errorf("while it may live: %v", err)
	}
	s.kill(t, "a")
	if err := s.b.Server.RecoverOrphans(ctx); err != nil {
		t.Fatal(err)
	}
	files, bytes := scan(s.b, annKey)
	if u, err := s.store.Usage(ctx, annKey); err != nil || u.Files != files || u.Bytes != bytes || bytes != 5000 {
		t.Errorf("counted %+v, %v; the storage holds %d files, %d bytes", u, err, files, bytes)
	}
	y := s.b.Login("ann")
	if err := put(y, path(t, "/c"), strings.Repeat("x", 5000)); err != nil {
		t.Errorf("all that is left: %v", err)
	}
	if err := put(y, path(t, "/d"), "x"); !errors.Is(err, vfs.ErrQuota) {
		t.Errorf("more than that: %v", err)
	}
}

// A node that was taken for dead comes back with nothing, and goes on.
func TestAFencedNodeBeginsAnew(t *testing.T) {
	ann := sessiontest.User("ann")
	ann.QuotaSize, ann.MaxSessions = 10_000, 2
	s := share(t, ann, false)
	x := s.a.Login("ann")
	if err := put(x, path(t, "/a"), strings.Repeat("x", 3000)); err != nil {
		t.Fatal(err)
	}
	s.kill(t, "a")
	if err := s.a.Server.Flush(ctx); err != nil { // finds it out
		t.Fatal(err)
	}
	if u, err := s.store.Usage(ctx, annKey); err != nil || u.Bytes != 3000 {
		t.Errorf("counted %+v, %v", u, err)
	}
	s.b.Login("ann")
	if _, err := s.b.Open("ann", session.Conn{}); !errors.Is(err, session.ErrTooManySessions) {
		t.Errorf("the session of the node that came back is not counted: %v", err)
	}
	if err := put(x, path(t, "/b"), strings.Repeat("x", 7000)); err != nil {
		t.Errorf("all that is left: %v", err)
	}
	if err := put(x, path(t, "/c"), "x"); !errors.Is(err, vfs.ErrQuota) {
		t.Errorf("more than that: %v", err)
	}
}

// lossy loses answers: the batch is in the store, and the node does not know.
type lossy struct {
	account.Shared
	lose atomic.Int64
}

func (l *lossy) SettleLeased(ctx context.Context, node string, batch int64, list []account.Settlement) error {
	err := l.Shared.SettleLeased(ctx, node, batch, list)
	if err == nil && l.lose.Add(-1) >= 0 {
		return errStore
	}
	return err
}

func TestALostAnswerCountsNothingTwice(t *testing.T) {
	s := share(t, limited(100_000), false)
	l := &lossy{Shared: s.store.Shared()}
	c := sessiontest.New(t, sessiontest.Options{Counters: s.store, Shared: l, Node: "c", From: s.a})
	x := c.Login("ann")
	l.lose.Store(3)
	total := 0
	for i := range 6 {
		if err := put(x, path(t, fmt.Sprint("/f", i)), strings.Repeat("x", 1000)); err != nil {
			t.Fatal(err)
		}
		total += 1000
		c.Server.Flush(ctx)
	}
	if err := c.Server.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if u, err := s.store.Usage(ctx, annKey); err != nil || u.Files != 6 || u.Bytes != int64(total) {
		t.Errorf("counted %+v, %v; want 6 files, %d bytes", u, err, total)
	}
}
