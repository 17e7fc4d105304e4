package pprof

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	httppprof "net/http/pprof"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Deps are what a Server asks others for.
type Deps struct {
	Metrics *Metrics
	Checks  []Check
	// Passwords checks those of auth_user_file.
	Passwords Passwords
	// Refused, if set, is told of a failed login, and may hold the answer back.
	Refused func(ctx context.Context, addr netip.Addr, username string, err error)
	// TLS, if set, has the listener speak HTTPS.
	TLS *tls.Config
	// Token, if set, is a bearer token that counts as a login: for the verbs of this machine. It is of use only with
	// auth_user_file.
	Token string
	Log   *slog.Logger
	Now   func() time.Time // nil means time.Now; of what is not a deadline
}

// The bounds of the listener.
const (
	maxConns     = 64
	maxProfiles  = 4 // at once
	maxHeader    = 16 << 10
	headWait     = 10 * time.Second
	requestWait  = 60 * time.Second // of one request, beside the seconds of a profile
	maxSeconds   = 300              // of a profile
	maxTrace     = 60               // seconds: a trace grows by megabytes in each
	scrapeWait   = 10 * time.Second
	mutexEvery   = 20     // while it is asked for, one of so many contentions counts
	blockAtLeast = 10_000 // ns; shorter waits are sampled
	realm        = "Gantry telemetry"
)

// Server is the telemetry listener. Safe for concurrent use.
type Server struct {
	cfg      Config
	deps     Deps
	users    *users // nil: no login is asked for
	health   health
	http     *http.Server
	ctx      context.Context // ends with Shutdown: profiles end early
	stop     context.CancelFunc
	scraping chan struct{} // holds one: a scrape stops the world for a moment
	profiles chan struct{}
	sampling sync.Mutex // of the runtime's mutex and block profiles
}

// New makes a server and reads the users' file; dir is what its name is relative to.
func New(cfg Config, dir string, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Server{cfg: cfg, deps: deps, scraping: make(chan struct{}, 1), profiles: make(chan struct{}, maxProfiles)}
	s.health = health{checks: deps.Checks, log: deps.Log, now: deps.Now, bad: map[string]bool{}}
	if file := cfg.AuthUserFile; file != "" {
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		var err error
		if s.users, err = newUsers(file, deps.Passwords); err != nil {
			return nil, fmt.Errorf("telemetry.auth_user_file: %w", err)
		}
	}
	s.ctx, s.stop = context.WithCancel(context.Background()) // ends with Shutdown
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: headWait, ReadTimeout: requestWait, WriteTimeout: requestWait, IdleTimeout: requestWait,
		MaxHeaderBytes: maxHeader, BaseContext: func(net.Listener) context.Context { return s.ctx },
		ErrorLog: slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug), // it holds peers' bytes
		// HTTP/2 has more to bound and nothing that a scrape needs.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	return s, nil
}

// Serve accepts connections until Shutdown ends it, and closes l. The error is nil after that.
func (s *Server) Serve(l net.Listener) error {
	l = &bounded{Listener: l, free: make(chan struct{}, maxConns)}
	if s.deps.TLS != nil {
		l = tls.NewListener(l, s.deps.TLS)
	}
	if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("telemetry: %w", err)
	}
	return nil
}

// Shutdown stops accepting, ends profiles early and waits for the requests under way. When ctx ends they are cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}

// bounded accepts no more than a number of connections at once; more are closed.
type bounded struct {
	net.Listener
	free chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case b.free <- struct{}{}:
			return &counted{Conn: c, release: func() { <-b.free }}, nil
		default:
			c.Close()
		}
	}
}

// counted gives its place back at its close.
type counted struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are answered here", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == "/healthz" {
		open := s.users == nil && !s.rebound(r)
		if s.users != nil && r.Header.Get("Authorization") != "" {
			if open = s.enter(w, r); !open { // a guess here is one as anywhere
				return
			}
		}
		s.health.serve(w, r, open)
		return
	}
	if s.rebound(r) {
		http.Error(w, "This listener answers on this machine to an IP address or localhost only.\n"+
			"To reach it by another name, set telemetry.auth_user_file.", http.StatusForbidden)
		return
	}
	if !s.enter(w, r) {
		return
	}
	name, profile := strings.CutPrefix(r.URL.Path, "/debug/pprof/")
	switch {
	case r.URL.Path == "/metrics":
		s.metrics(w, r)
	case profile && s.cfg.EnableProfiler:
		s.profile(w, r, name)
	case profile:
		http.Error(w, "profiles are off: set telemetry.enable_profiler", http.StatusNotFound)
	default:
		http.Error(w, "try /healthz, /metrics or /debug/pprof/", http.StatusNotFound)
	}
}

// rebound reports whether a request without login comes to loopback under a name that may be anybody's: a page in a
// browser on this machine reaches loopback by a name of its own whose address it has changed.
func (s *Server) rebound(r *http.Request) bool {
	if s.users != nil {
		return false
	}
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !at.IP.IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	_, err := netip.ParseAddr(host)
	return err != nil && host != "localhost"
}

// enter asks for a login where one is configured, and answers who has none.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) bool {
	if s.users == nil {
		return true
	}
	err := s.login(r)
	if err == nil {
		return true
	}
	if name, _, ok := r.BasicAuth(); ok || !errors.Is(err, errNoLogin) {
		s.deps.Log.Debug("login refused", "remote", r.RemoteAddr, "error", err)
		if s.deps.Refused != nil {
			s.deps.Refused(r.Context(), peerOf(r), name, err)
		}
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="`+realm+`", charset="UTF-8"`)
	http.Error(w, "Unauthorized", http.StatusUnauthorized)
	return false
}

// errNoLogin is a request without credentials: the first of most clients.
var errNoLogin = errors.New("no credentials")

// login proves the credentials of a request.
func (s *Server) login(r *http.Request) error {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if s.deps.Token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(s.deps.Token)) != 1 {
			return errors.New("wrong token")
		}
		return nil
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return errNoLogin
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestWait)
	defer cancel()
	return s.users.check(ctx, name, password)
}

func peerOf(r *http.Request) netip.Addr {
	p, _ := netip.ParseAddrPort(r.RemoteAddr)
	return p.Addr().Unmap()
}

// metrics answers a scrape.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), scrapeWait)
	defer cancel()
	select {
	case s.scraping <- struct{}{}:
	case <-ctx.Done():
		http.Error(w, "another scrape is under way", http.StatusServiceUnavailable)
		return
	}
	text := s.deps.Metrics.Text(ctx)
	<-s.scraping
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write(text)
}

// profile answers one of the profiles.
func (s *Server) profile(w http.ResponseWriter, r *http.Request, name string) {
	limit := maxSeconds
	if name == "trace" {
		limit = maxTrace
	}
	seconds, err := strconv.ParseFloat(r.FormValue("seconds"), 64)
	if r.FormValue("seconds") != "" && (err != nil || !(seconds >= 0 && seconds <= float64(limit))) {
		http.Error(w, fmt.Sprintf("seconds must be between 0 and %d", limit), http.StatusBadRequest)
		return
	}
	select {
	case s.profiles <- struct{}{}:
		defer func() { <-s.profiles }()
	default:
		http.Error(w, "too many profiles are under way", http.StatusServiceUnavailable)
		return
	}
	// net/http/pprof moves the deadline of writes alone; the one of reads would end the request's context.
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(requestWait + time.Duration(seconds*float64(time.Second))))
	switch name {
	case "cmdline": // not os.Args: an argument may be a secret
		fmt.Fprint(w, filepath.Base(os.Args[0]))
	case "profile":
		httppprof.Profile(w, r)
	case "trace":
		httppprof.Trace(w, r)
	case "symbol":
		httppprof.Symbol(w, r)
	case "mutex", "block":
		s.sampled(w, r, name, seconds > 0)
	default:
		httppprof.Index(w, r)
	}
}

// sampled has the runtime sample contention while the profile of some seconds is asked for: it costs too much to do it
// always.
func (s *Server) sampled(w http.ResponseWriter, r *http.Request, name string, over bool) {
	if !over {
		http.Error(w, "say for how many seconds: "+name+"?seconds=10", http.StatusBadRequest)
		return
	}
	if !s.sampling.TryLock() {
		http.Error(w, "contention is being sampled already", http.StatusServiceUnavailable)
		return
	}
	defer s.sampling.Unlock()
	if name == "mutex" {
		defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(mutexEvery))
	} else {
		runtime.SetBlockProfileRate(blockAtLeast)
		defer runtime.SetBlockProfileRate(0)
	}
	httppprof.Handler(name).ServeHTTP(w, r)
}
