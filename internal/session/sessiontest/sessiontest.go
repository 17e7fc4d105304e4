// Package sessiontest makes sessions for tests of protocols: a Server with accounts and counters in memory,
// on storages in memory or in directories of the test.
package sessiontest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/kvstore"
	"github.com/gantryhq/gantry/internal/account/recordstore"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
)

// Options of an Env. The zero value is usable: memory storages, the default Config.
type Options struct {
	Config *session.Config
	// NewFS opens storages; nil keeps one memory tree for each Storage.Root.
	NewFS func(ctx context.Context, st session.Storage) (vfs.FS, error)
	// Mem are the options of memory trees made for a root.
	Mem func(root string) mem.Options
	Log *slog.Logger
	Now func() time.Time
	// Keep leaves the server open at the end of the test, for tests that crash it.
	Keep bool
	// Counters keeps the use of accounts where the store must be a real one; with Shared, Node is one of the nodes on it.
	Counters account.Counters
	Shared   account.Shared
	Node     string
	// From is an Env whose storages and counters are gone on with, as after a restart.
	From *Env
}

// Env is a server and what stands behind it.
type Env struct {
	Server   *session.Server
	Store    *Store
	Kept     Kept // locks and properties
	Events   *Events
	Failures chan session.Failure // logins that failed; the newest are dropped when it is full

	trees *trees
	conns atomic.Int64
	t     testing.TB
}

// Kept is what WebDAV clients put on files.
type Kept interface {
	account.Locks
	account.Props
}

// User is a record with all permissions and a home of its own.
func User(name string) account.User {
	return account.User{
		Username: name, Status: 1, HomeDir: "/home/" + name, Password: "secret",
		Permissions: map[string][]string{"/": {account.PermAny}},
	}
}

// New makes a server that ends with the test.
func New(t testing.TB, o Options, users ...account.User) *Env {
	t.Helper()
	e := &Env{Events: &Events{}, Failures: make(chan session.Failure, 100), t: t}
	if o.From != nil {
		e.Store, e.trees, e.Kept = o.From.Store, o.From.trees, o.From.Kept
	} else {
		e.Kept = kvstore.Memory(recordstore.Config{Rules: account.DefaultRules(), Now: o.Now})
		e.Store, e.trees = NewStore(), &trees{m: map[string]*mem.FS{}, options: o.Mem}
	}
	cfg := session.DefaultConfig()
	if o.Config != nil {
		cfg = *o.Config
	}
	if o.NewFS == nil {
		o.NewFS = e.trees.open
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	for _, u := range users {
		e.Store.PutUser(u)
	}
	if o.Counters == nil {
		o.Counters = e.Store
	}
	var err error
	e.Server, err = session.New(cfg, session.Deps{
		Auth: e.Store, Counters: o.Counters, Shared: o.Shared, Node: o.Node, Member: account.Node{ID: o.Node}, Accounts: e.Store, Locks: e.Kept, Props: e.Kept, NewFS: o.NewFS, Sinks: []event.Sink{e.Events},
		Log: o.Log, Now: o.Now,
		Failed: func(f session.Failure) {
			select {
			case e.Failures <- f:
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.Shared != nil {
		if err := e.Server.Join(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if !o.Keep {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := e.Server.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return e
}

// NewSession makes a server with one user and a session of it, both ending with the test.
func NewSession(t testing.TB, o Options, u account.User) *session.Session {
	t.Helper()
	return New(t, o, u).Login(u.Username)
}

// Login opens an SFTP session of a user. It ends with the server.
func (e *Env) Login(name string) *session.Session {
	e.t.Helper()
	s, err := e.Open(name, session.Conn{})
	if err != nil {
		e.t.Fatalf("login of %q: %v", name, err)
	}
	return s
}

// Open opens a session of a user; what c leaves out is filled in.
func (e *Env) Open(name string, c session.Conn) (*session.Session, error) {
	ctx := context.Background()
	if !c.Remote.IsValid() {
		c.Remote = netip.MustParseAddrPort("192.0.2.7:4022")
	}
	if !c.Local.IsValid() {
		c.Local = netip.MustParseAddrPort("192.0.2.1:2022")
	}
	if c.Protocol == "" {
		c.Protocol = "SFTP"
	}
	if c.ID == "" {
		c.ID = fmt.Sprintf("%s_%x_1", c.Protocol, e.conns.Add(1))
	}
	if c.Client == "" {
		c.Client = "SSH-2.0-test"
	}
	u, err := e.Store.User(ctx, name)
	if err != nil {
		return nil, err
	}
	l, err := e.Server.Authenticate(ctx, &auth.Attempt{
		Protocol: account.ProtocolSSH, Method: account.MethodPassword, Username: name, Password: u.Password,
		Remote: c.Remote.Addr(), Local: c.Local, ConnID: c.ID, Client: c.Client,
	})
	if err != nil {
		return nil, err
	}
	return e.Server.Open(ctx, l, c)
}

// FS is the memory tree of a root.
func (e *Env) FS(root string) *mem.FS { return e.trees.at(root) }

// trees are memory trees by their root. They outlive the views that open them.
type trees struct {
	options func(string) mem.Options
	mu      sync.Mutex
	m       map[string]*mem.FS
}

func (t *trees) at(root string) *mem.FS {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.m[root]
	if f == nil {
		var o mem.Options
		if t.options != nil {
			o = t.options(root)
		}
		f = mem.New(o)
		t.m[root] = f
	}
	return f
}

func (t *trees) open(_ context.Context, st session.Storage) (vfs.FS, error) {
	return lasting{t.at(st.Root)}, nil
}

// lasting is a tree that is not closed.
type lasting struct{ vfs.FS }

func (l lasting) Unwrap() vfs.FS { return l.FS }
func (l lasting) Close() error   { return nil }

// Events is a sink that keeps what happened.
type Events struct {
	mu     sync.Mutex
	list   []event.Event
	refuse map[string]error
	free   map[string]bool
}

// Free has the sink say beforehand that it lets an action pass.
func (s *Events) Free(action string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == nil {
		s.free = map[string]bool{}
	}
	s.free[action] = true
}

// Refuse has Before answer err to an action; nil takes it back.
func (s *Events) Refuse(action string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse == nil {
		s.refuse = map[string]error{}
	}
	s.refuse[action] = err
}

// Asks implements event.Selective: downloads, and what Free names, are not asked about unless they are refused.
func (s *Events) Asks(action string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse[action] != nil || !s.free[action] && action != event.PreDownload
}

// Prompt implements event.Prompt.
func (s *Events) Prompt(string) bool { return true }

// Before implements event.Sink.
func (s *Events) Before(_ context.Context, e *event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse[e.Action]
}

// After implements event.Sink.
func (s *Events) After(_ context.Context, e *event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, *e)
}

// Take gives the events since the last call.
func (s *Events) Take() []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.list
	s.list = nil
	return l
}
