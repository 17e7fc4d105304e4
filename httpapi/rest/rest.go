// Package rest is the REST API: routes, tokens, and the JSON that goes in and out.
//
// Every route is one row of a table, which says who may call it (Route). Handlers decode, call internal/admin or a
// session, and encode; they return errors, which one function turns into answers (statusOf). Peers control path, query,
// headers and body; a body is bounded before it is read, a token is checked before anything else of the request is looked
// at.
//
// Where the API differs from the one it is compatible with: dangling references are one 400, negative limits too; lists
// carry X-Total-Count; users, folders and groups take PATCH (RFC 7396) and If-Match; calls with side effects take POST
// beside GET; options of accounts and permissions of administrators are those of the moment, not those of the token.
package rest

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/router"
	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/admin"
	"github.com/gantryhq/gantry/internal/session"
)

// Base begins the path of every route but those of Public ones that name theirs in full.
const Base = "/api/v2"

// Deps are the parts that an API works with.
type Deps struct {
	Admin    *admin.Service
	Sessions *session.Server
	Log      *slog.Logger
	// PostConnect, which may be nil, is asked before a token call (hooks.md 6).
	PostConnect func(ctx context.Context, remote netip.Addr) error
	// Version and Status are what the calls of these names give.
	Version func() any
	Status  func(ctx context.Context) any
	Now     func() time.Time // nil means time.Now
	// Shared, which may be nil, is where tokens end for other nodes too.
	Shared Shared
}

// API answers requests. Safe for concurrent use.
type API struct {
	Deps
	cfg    httpapi.Config
	routes []Route
	router *router.Router
	limits *router.Router
	key    []byte // signs tokens

	mu      sync.Mutex // guards what follows
	revoked map[string]time.Time
	swept   time.Time // when revoked was last looked through
}

var _ httpapi.Handler = (*API)(nil)

// New makes the API of cfg.
func New(cfg httpapi.Config, d Deps) (*API, error) {
	if d.Now == nil {
		d.Now = time.Now
	}
	a := &API{Deps: d, cfg: cfg, revoked: map[string]time.Time{}}
	var err error
	if a.key, err = signingKey(cfg); err != nil {
		return nil, err
	}
	a.routes = append(append(append([]Route{}, adminRoutes()...), userRoutes()...), shareRoutes()...)
	a.router, a.limits = router.New(), router.New()
	for _, r := range []*router.Router{a.router, a.limits} {
		r.RedirectTrailingSlash, r.RedirectFixedPath, r.HandleOPTIONS = false, false, false
		r.HandleMethodNotAllowed = r == a.router
		r.NotFound = func(*fasthttp.RequestCtx) {}
	}
	a.router.NotFound = func(http *fasthttp.RequestCtx) { a.Refuse(http, fasthttp.StatusNotFound, errNoRoute) }
	a.router.MethodNotAllowed = func(http *fasthttp.RequestCtx) {
		a.Refuse(http, fasthttp.StatusMethodNotAllowed, errors.New("the path does not take this method"))
	}
	for i := range a.routes {
		row := &a.routes[i]
		path := cfg.WebRoot + row.FullPath()
		run := func(http *fasthttp.RequestCtx) { a.run(http, row) }
		limit := func(http *fasthttp.RequestCtx) { http.SetUserValue(userLimit, row.limit()) }
		a.router.Handle(row.Method, path, run)
		a.limits.Handle(row.Method, path, limit)
		if row.Method == fasthttp.MethodGet {
			a.router.Handle(fasthttp.MethodHead, path, run)
		}
	}
	return a, nil
}

// Routes are all rows. They must not be changed.
func (a *API) Routes() []Route { return a.routes }

var errNoRoute = errors.New("there is nothing here")

// signingKey is derived from the passphrase, or new at each start.
func signingKey(cfg httpapi.Config) ([]byte, error) {
	phrase := cfg.SigningPassphrase
	if f := cfg.SigningPassphraseFile; f != "" {
		b, err := os.ReadFile(cfg.File(f))
		if err != nil {
			return nil, fmt.Errorf("httpd.signing_passphrase_file: %w", err)
		}
		if phrase = strings.TrimSpace(string(b)); phrase == "" {
			return nil, fmt.Errorf("httpd.signing_passphrase_file: %s is empty", f)
		}
	}
	if phrase == "" {
		key := make([]byte, 32)
		rand.Read(key)
		return key, nil
	}
	return hkdf.Key(sha256.New, []byte(phrase), nil, "gantry tokens", 32)
}

// Keys of fasthttp's user values.
const (
	userRequest = "gantry.request"
	userLimit   = "gantry.limit"
)

// Handle implements httpapi.Handler.
func (a *API) Handle(q *httpapi.Request) {
	if !q.Config().EnableRESTAPI {
		a.Refuse(q.HTTP, fasthttp.StatusNotFound, errNoRoute)
		return
	}
	uri := q.HTTP.Request.URI()
	if p := uri.PathOriginal(); len(p) > 1 && p[len(p)-1] == '/' && p[len(p)-2] != '/' {
		uri.SetPathBytes(p[:len(p)-1])
	}
	q.HTTP.SetUserValue(userRequest, q)
	a.router.Handler(q.HTTP)
}

// Limit implements httpapi.Handler.
func (a *API) Limit(method, path string) int64 {
	var http fasthttp.RequestCtx
	http.Request.Header.SetMethod(method)
	http.Request.SetRequestURI(path)
	a.limits.Handler(&http)
	n, _ := http.UserValue(userLimit).(int64)
	return n
}

// run calls a route's handler behind its guard.
func (a *API) run(http *fasthttp.RequestCtx, row *Route) {
	hq, ok := http.UserValue(userRequest).(*httpapi.Request)
	if !ok {
		a.Refuse(http, fasthttp.StatusInternalServerError, nil)
		return
	}
	q := &Request{Request: hq, Route: row, API: a}
	http.Response.Header.Set("Cache-Control", "no-store")
	err := a.guard(q)
	if err == nil {
		err = row.Run(q)
	}
	if err != nil {
		q.fail(err)
	}
}

// envelope is the body of errors and of successes without an object.
type envelope struct {
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Refuse implements httpapi.Handler.
func (a *API) Refuse(http *fasthttp.RequestCtx, status int, err error) {
	e := envelope{Message: fasthttp.StatusMessage(status)}
	if err != nil {
		e.Error = err.Error()
	}
	if status == fasthttp.StatusNotFound {
		e.Error = fasthttp.StatusMessage(status)
	}
	body, _ := json.Marshal(e)
	http.SetStatusCode(status)
	http.SetContentType(jsonType)
	http.SetBody(body)
}

const jsonType = "application/json; charset=utf-8"

// itoa is for headers.
func itoa(n int) string { return strconv.Itoa(n) }
