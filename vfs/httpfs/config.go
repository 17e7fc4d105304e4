package httpfs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// Config says which service, and who we are to it.
type Config struct {
	// Endpoint is an http or https URL. http://unix?socket_path=/run/x is a service on a socket of this machine; what
	// follows the host, or api_prefix, begins its paths.
	Endpoint           string
	Username, Password string // for basic authentication
	APIKey             string // sent as X-API-KEY
	SkipTLSVerify      bool
	// ByUser: two storages of one endpoint are one resource only if their users are the same, too.
	ByUser bool
}

// Options of a Pool. Zero values mean the package's own.
type Options struct {
	// Dial opens connections, and judges addresses (SSRF-1). Nil is net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Wait bounds a call, and how long a body may stand still; a minute.
	Wait time.Duration
	// Tries of a call that changes nothing; 3.
	Tries int
}

// Bounds of the connections to one service with one set of credentials.
const (
	maxConns  = 256
	idleConns = 16
)

// Pool shares clients between storages with equal settings. Safe for concurrent use.
type Pool struct {
	o Options

	mu      sync.Mutex // guards remotes
	remotes map[[32]byte]*remote
}

// NewPool makes an empty pool.
func NewPool(o Options) *Pool {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	}
	o.Wait, o.Tries = cmp.Or(o.Wait, time.Minute), cmp.Or(o.Tries, 3)
	return &Pool{o: o, remotes: map[[32]byte]*remote{}}
}

// remote is one service with one set of credentials.
type remote struct {
	pool   *Pool // immutable, as all up to client
	key    [32]byte
	cfg    Config
	base   *url.URL // to which a call's path is added
	client *http.Client
	names  locks

	refs int // guarded by Pool.mu
}

// New gives the storage of cfg. Nothing is asked of the service yet.
func (p *Pool) New(cfg Config) (*FS, error) {
	base, socket, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	key := cfg.key()
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.remotes[key]
	if r == nil {
		r = &remote{pool: p, key: key, cfg: cfg, base: base}
		r.client = &http.Client{
			Transport: p.transport(socket, cfg.SkipTLSVerify),
			// A redirect is an answer like another: no request goes where the record does not say (SSRF-1).
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		p.remotes[key] = r
	}
	r.refs++
	return &FS{r: r, byUser: cfg.ByUser}, nil
}

func (p *Pool) release(r *remote) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.refs--; r.refs == 0 {
		delete(p.remotes, r.key)
		r.client.CloseIdleConnections()
	}
}

// key is what makes two settings one client.
func (c *Config) key() [32]byte {
	h := sha256.New()
	for _, s := range []string{c.Endpoint, c.Username, c.Password, c.APIKey, fmt.Sprint(c.SkipTLSVerify)} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return [32]byte(h.Sum(nil))
}

// parseEndpoint gives the URL that calls begin with, and the path of a UNIX socket or "". No error holds the text,
// which may have a secret in it (LOG-1).
func parseEndpoint(text string) (base *url.URL, socket string, err error) {
	u, err := url.Parse(strings.TrimRight(text, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, "", errors.New("httpfs: the endpoint is not an http or https URL")
	}
	if u.User != nil {
		return nil, "", errors.New("httpfs: the endpoint must not hold a user and a password; set username and password")
	}
	q := u.Query()
	u.RawQuery, u.Fragment = "", ""
	if u.Host == "unix" {
		if socket = q.Get("socket_path"); !filepath.IsAbs(socket) {
			return nil, "", errors.New("httpfs: http://unix needs an absolute socket_path in its query")
		}
		if prefix := strings.Trim(q.Get("api_prefix"), "/"); prefix != "" {
			u.Path = "/" + prefix
		}
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, socket, nil
}

func (p *Pool) transport(socket string, skipVerify bool) *http.Transport {
	dial := p.o.Dial
	if socket != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return p.o.Dial(ctx, "unix", socket) }
	}
	return &http.Transport{
		DialContext:         dial,
		MaxConnsPerHost:     maxConns,
		MaxIdleConnsPerHost: idleConns,
		IdleConnTimeout:     time.Minute,
		TLSHandshakeTimeout: 15 * time.Second,
		// The answer to an upload comes after its last byte; how long the body may stand still is bounded apart.
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skipVerify}, //nolint: the key says so
	}
}

// identity is the storage's, for renames, locks and pending uploads.
func (r *remote) identity() string { return "http:" + r.cfg.Endpoint + "|" + r.cfg.Username }

// locks make the steps of one operation on a name one step for this process. Between processes the service alone can.
type locks struct {
	mu sync.Mutex // guards m
	m  map[vfs.Path]*lock
}

type lock struct {
	held chan struct{}
	refs int
}

// lock takes names in their order.
func (l *locks) lock(ctx context.Context, names ...vfs.Path) (unlock func(), err error) {
	if len(names) == 2 {
		switch c := names[0].Compare(names[1]); {
		case c == 0:
			names = names[:1]
		case c > 0:
			names[0], names[1] = names[1], names[0]
		}
	}
	var got []vfs.Path
	unlock = func() {
		for _, n := range got {
			l.mu.Lock()
			k := l.m[n]
			<-k.held
			l.drop(n, k)
			l.mu.Unlock()
		}
	}
	for _, n := range names {
		l.mu.Lock()
		k := l.m[n]
		if k == nil {
			k = &lock{held: make(chan struct{}, 1)}
			if l.m == nil {
				l.m = map[vfs.Path]*lock{}
			}
			l.m[n] = k
		}
		k.refs++
		l.mu.Unlock()
		select {
		case k.held <- struct{}{}:
			got = append(got, n)
		case <-ctx.Done():
			l.mu.Lock()
			l.drop(n, k)
			l.mu.Unlock()
			unlock()
			return nil, ctx.Err()
		}
	}
	return unlock, nil
}

// drop lets go of k. The caller holds mu.
func (l *locks) drop(n vfs.Path, k *lock) {
	if k.refs--; k.refs == 0 {
		delete(l.m, n)
	}
}
