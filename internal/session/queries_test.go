package session_test

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/sqlstore"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
)

// hashes counts password hashes.
type hashes struct {
	auth.Passwords
	n int
}

func (h *hashes) Verify(ctx context.Context, hash, password string) (bool, error) {
	h.n++
	return h.Passwords.Verify(ctx, hash, password)
}

// A warm login on any protocol begins no transaction of the store and hashes no password; with a max_sessions that
// nodes share it is one.
func TestAWarmLoginReadsNoStore(t *testing.T) {
	for name, x := range map[string]struct {
		shared bool
		max    int
		want   int64
	}{"alone": {false, 5, 0}, "shared": {true, 0, 0}, "shared, limited": {true, 5, 1}} {
		t.Run(name, func(t *testing.T) {
			hasher, err := auth.NewHasher(auth.HashConfig{Algo: "bcrypt", Bcrypt: auth.BcryptOptions{Cost: 4}, Argon2: auth.DefaultHashConfig().Argon2}, 1)
			if err != nil {
				t.Fatal(err)
			}
			rules := account.DefaultRules()
			rules.HashPassword = hasher.Hash
			store, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "q.db"), Rules: rules})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			if err := store.AddGroup(t.Context(), &account.Group{Name: "g"}); err != nil {
				t.Fatal(err)
			}
			u := account.User{Username: "ann", Status: 1, HomeDir: "/home/ann", Password: "secret", MaxSessions: x.max, Permissions: map[string][]string{"/": {"*"}},
				Groups: []account.GroupMapping{{Name: "g", Type: account.GroupPrimary}}}
			if err := store.AddUser(t.Context(), &u); err != nil {
				t.Fatal(err)
			}
			log := slog.New(slog.NewTextHandler(io.Discard, nil))
			counting := &hashes{Passwords: hasher}
			// Two polls, so that the changes are followed, and then none.
			tick := make(chan time.Time, 1)
			a, err := auth.New(auth.Config{Caching: true, Follow: cache.FollowConfig{Tick: tick}}, store, counting, log, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			deps := session.Deps{Auth: a, Counters: store, Log: log, NewFS: func(context.Context, session.Storage) (vfs.FS, error) { return mem.New(mem.Options{}), nil }}
			if x.shared {
				deps.Shared, deps.Node, deps.Member = store.Shared(), "n", account.Node{ID: "n"}
			}
			srv, err := session.New(session.DefaultConfig(), deps)
			if err != nil {
				t.Fatal(err)
			}
			defer srv.Close(ctx)
			if x.shared { // without the signs of life, which are no login's
				if err := srv.Beat(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			remote := netip.MustParseAddrPort("127.0.0.1:1")
			login := func(id, protocol string) (transactions int64, hashed int) {
				t.Helper()
				before, h := store.Transactions(), counting.n
				l, err := srv.Authenticate(ctx, &auth.Attempt{Username: "ann", Password: "secret", Method: account.MethodPassword, Protocol: protocol, Remote: remote.Addr()})
				if err != nil {
					t.Fatal(err)
				}
				s, err := srv.Open(ctx, l, session.Conn{ID: id, Protocol: protocol, Remote: remote})
				if err != nil {
					t.Fatal(err)
				}
				transactions, hashed = store.Transactions()-before, counting.n-h
				s.Close()
				return transactions, hashed
			}
			warm := func() bool { // the follower polls in its own time
				n, h := login("warm-up", account.ProtocolSSH)
				return n == x.want && h == 0
			}
			for end := time.Now().Add(30 * time.Second); !warm(); {
				if time.Now().After(end) {
					t.Fatal("no login becomes warm")
				}
				time.Sleep(10 * time.Millisecond) // between two looks
			}
			if err := srv.Flush(ctx); err != nil { // the time of the first login is written
				t.Fatal(err)
			}
			for _, p := range []string{account.ProtocolSSH, account.ProtocolFTP, account.ProtocolDAV, account.ProtocolHTTP} {
				if n, h := login("id-"+p, p); n != x.want || h != 0 {
					t.Errorf("a warm login on %s: %d transactions, %d hashes; want %d and none", p, n, h, x.want)
				}
			}
			if _, err := srv.Authenticate(ctx, &auth.Attempt{Username: "ann", Password: "wrong", Method: account.MethodPassword, Protocol: account.ProtocolSSH, Remote: remote.Addr()}); err == nil {
				t.Error("a wrong password came in")
			}
		})
	}
}
