package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/kvstore"
	"github.com/gantryhq/gantry/internal/account/recordstore"
	"github.com/gantryhq/gantry/internal/admin"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/event/hook"
	"github.com/gantryhq/gantry/internal/guard"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/local"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// counting hashes cheaply and counts.
type counting struct {
	*auth.Hasher
	mu             sync.Mutex
	verifies, fake int
}

func (c *counting) Verify(ctx context.Context, stored, plain string) (bool, error) {
	c.mu.Lock()
	c.verifies++
	c.mu.Unlock()
	return c.Hasher.Verify(ctx, stored, plain)
}

func (c *counting) Dummy(ctx context.Context, plain string) error {
	c.mu.Lock()
	c.fake++
	c.mu.Unlock()
	return c.Hasher.Dummy(ctx, plain)
}

func (c *counting) counts() (verifies, fake int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verifies, c.fake
}

// doer takes the calls of the hook of changed records.
type doer struct {
	mu    sync.Mutex
	calls []hook.Call
}

func (d *doer) Do(_ context.Context, c hook.Call) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, c)
	return nil, nil
}

func (d *doer) all() []hook.Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// buffer is a log.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// server is an API with all that stands behind it, on a free port.
type server struct {
	t        testing.TB
	url      string
	api      *API
	admin    *admin.Service
	store    account.Store
	sessions *session.Server
	guard    *guard.Guard
	hasher   *counting
	hooks    *doer
	log      *buffer
	backups  string
	http     *http.Client
}

type gate struct{ *guard.Guard }

func (g gate) Admit(ctx context.Context, addr netip.Addr) (func(), error) {
	return g.Guard.Admit(ctx, addr, guard.ProtocolOf(account.ProtocolHTTP))
}

// newServer starts one with the administrator "root", whose password is "rootpw". edit changes its configuration.
func newServer(t testing.TB, edit ...func(c *httpapi.Config, g *guard.Config)) *server {
	t.Helper()
	s := &server{t: t, log: &buffer{}, hooks: &doer{}, backups: filepath.Join(t.TempDir(), "backups")}
	log := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h := auth.DefaultHashConfig()
	h.Bcrypt.Cost = 4
	base, err := auth.NewHasher(h, 4)
	if err != nil {
		t.Fatal(err)
	}
	s.hasher = &counting{Hasher: base}
	rules := account.DefaultRules()
	rules.HashPassword = base.Hash
	rules.CheckPassword = func(plain string, strength int) error {
		if len(plain) < strength {
			return fmt.Errorf("shorter than %d", strength)
		}
		return nil
	}
	s.store = kvstore.Memory(recordstore.Config{Rules: rules})
	authenticator, err := auth.New(auth.Config{Caching: true, TOTP: auth.DefaultTOTP(), Editor: s.store, Steps: s.store}, s.store, s.hasher, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg, g := httpapi.DefaultConfig(), guard.DefaultConfig()
	g.MaxPerHost = 0
	cfg.Version = "test"
	for _, f := range edit {
		f(&cfg, &g)
	}
	s.guard = guard.New(g, log, nil)
	s.sessions, err = session.New(session.DefaultConfig(), session.Deps{
		Auth: authenticator, Counters: s.store, Accounts: s.store, Log: log,
		NewFS: func(_ context.Context, st session.Storage) (vfs.FS, error) {
			if err := os.MkdirAll(st.Root, 0o755); err != nil {
				return nil, err
			}
			f, err := local.New(st.Root, local.Options{})
			if err != nil {
				return nil, err
			}
			return f, nil
		},
		Failed: func(f session.Failure) {
			e := guard.LoginFailed
			if f.Unknown {
				e = guard.UserNotFound
			}
			s.guard.Event(f.Remote, guard.ProtocolOf(f.Protocol), e)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	authenticator.OnChange(func(ctx context.Context, ch auth.Changed) { s.sessions.Recheck(ctx, ch.Users...) })
	queue := event.NewQueue("test", log)
	provider := event.NewProvider(event.ProviderConfig{ExecuteOn: []string{"add", "update", "delete"}, Hook: "http://hook",
		ExecuteFor: []string{"user", "admin", "api_key", "share", "folder", "group", "event_action", "event_rule", "role", "ip_list_entry"}}, s.hooks, queue, log)
	s.admin = admin.New(admin.Deps{Store: s.store, Rules: rules, Auth: authenticator, Sessions: s.sessions, Guard: s.guard, Changes: provider, Log: log,
		TrackQuota: session.TrackLimited, BackupsDir: s.backups,
		CheckAdminPassword: func(plain string) error {
			if plain == "weak" {
				return fmt.Errorf("too weak")
			}
			return nil
		}})
	s.api, err = New(cfg, Deps{Admin: s.admin, Sessions: s.sessions, Log: log,
		Version: func() any { return map[string]string{"version": "test"} }, Status: func(context.Context) any { return map[string]any{} }})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := httpapi.New(cfg, gate{s.guard}, s.api, log)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(0, l); err != nil {
			t.Error(err)
		}
	})
	tr := &http.Transport{}
	s.http = &http.Client{Transport: tr, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		serving.Wait()
		s.admin.Close()
		if err := s.sessions.Close(ctx); err != nil {
			t.Errorf("sessions: %v", err)
		}
		queue.Close(ctx)
		authenticator.Close()
		s.store.Close()
	})
	if _, err := s.admin.AddFirstAdmin(t.Context(), "root", "rootpw", netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is what came back.
type answer struct {
	t      testing.TB
	call   string
	Status int
	Header http.Header
	Body   string
}

// want checks the status.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Errorf("%s: got %d, want %d: %s", a.call, a.Status, status, a.Body)
	}
	return a
}

// has checks that the body has text.
func (a *answer) has(text string) *answer {
	a.t.Helper()
	if !strings.Contains(a.Body, text) {
		a.t.Errorf("%s: the answer lacks %q: %s", a.call, text, a.Body)
	}
	return a
}

// lacks checks that the body has no such text.
func (a *answer) lacks(text string) *answer {
	a.t.Helper()
	if strings.Contains(a.Body, text) {
		a.t.Errorf("%s: the answer has %q: %s", a.call, text, a.Body)
	}
	return a
}

// json reads the body.
func (a *answer) json(v any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.Body), v); err != nil {
		a.t.Fatalf("%s: %v: %s", a.call, err, a.Body)
	}
}

// caller makes calls with the same headers.
type caller struct {
	s       *server
	headers map[string]string
}

// do calls. path begins below /api/v2 unless it begins with "//". More headers are pairs.
func (c caller) do(method, path, body string, more ...string) *answer {
	c.s.t.Helper()
	url := c.s.url + Base + path
	if strings.HasPrefix(path, "//") {
		url = c.s.url + path[1:]
	}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		c.s.t.Fatal(err)
	}
	for k, v := range c.headers {
		req.Header.Set(k, v)
	}
	for i := 0; i+1 < len(more); i += 2 {
		req.Header.Set(more[i], more[i+1])
	}
	res, err := c.s.http.Do(req)
	if err != nil {
		c.s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return &answer{c.s.t, method + " " + path, res.StatusCode, res.Header, string(b)}
}

func (c caller) get(path string, more ...string) *answer {
	c.s.t.Helper()
	return c.do("GET", path, "", more...)
}
func (c caller) post(path, body string, more ...string) *answer {
	c.s.t.Helper()
	return c.do("POST", path, body, more...)
}
func (c caller) put(path, body string, more ...string) *answer {
	c.s.t.Helper()
	return c.do("PUT", path, body, more...)
}
func (c caller) patch(path, body string, more ...string) *answer {
	c.s.t.Helper()
	return c.do("PATCH", path, body, more...)
}
func (c caller) delete(path string) *answer { c.s.t.Helper(); return c.do("DELETE", path, "") }

// nobody calls without credentials.
func (s *server) nobody() caller { return caller{s, nil} }

// basic asks for a token.
func (s *server) basic(path, name, password string, more ...string) *answer {
	s.t.Helper()
	req, _ := http.NewRequest("GET", "http://x", nil)
	req.SetBasicAuth(name, password)
	return s.nobody().get(path, append([]string{"Authorization", req.Header.Get("Authorization")}, more...)...)
}

func (s *server) bearer(a *answer) caller {
	s.t.Helper()
	a.want(200)
	var tok tokenAnswer
	a.json(&tok)
	return caller{s, map[string]string{"Authorization": "Bearer " + tok.AccessToken}}
}

// root is the administrator.
func (s *server) root() caller { s.t.Helper(); return s.bearer(s.basic("/token", "root", "rootpw")) }

// as is another administrator, made here with these permissions; role may be "".
func (s *server) as(name, role string, permissions ...string) caller {
	s.t.Helper()
	doc, _ := json.Marshal(map[string]any{"username": name, "password": "pw", "status": 1, "permissions": permissions, "role": role})
	s.root().post("/admins", string(doc)).want(201)
	return s.bearer(s.basic("/token", name, "pw"))
}

// userJSON is a user with its home in a directory of the test.
func (s *server) userJSON(name string, more ...string) string {
	return fmt.Sprintf(`{"username":%q,"status":1,"password":"pw","home_dir":%q,"permissions":{"/":["*"]}%s}`, name, filepath.Join(s.t.TempDir(), name), strings.Join(more, ""))
}

// user makes a user and gives a caller with a token of theirs.
func (s *server) user(name string, more ...string) caller {
	s.t.Helper()
	s.root().post("/users", s.userJSON(name, more...)).want(201)
	return s.bearer(s.basic("/user/token", name, "pw"))
}
