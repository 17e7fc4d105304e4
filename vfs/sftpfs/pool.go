package sftpfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Bounds of the connections to one server with one set of credentials.
const (
	maxConns = 5
	// shared is how many users a connection has before another one is opened.
	shared = 8
	// maxUsers is how many it has at the most; who comes then waits.
	maxUsers = 256

	dialWait  = 15 * time.Second // of the handshake; the dial has its own
	pingEvery = 15 * time.Second // and the longest wait for its answer
	idleWait  = time.Minute      // without users
	retryWait = 2 * time.Second  // after a failed dial, for those who ask meanwhile
)

// ErrLoop says that a server is this one.
var ErrLoop = errors.New("sftpfs: the server is this one; common.allow_self_connections allows that")

// Pool shares connections between storages with equal settings. Safe for concurrent use.
type Pool struct {
	o Options

	mu      sync.Mutex // guards the fields below
	remotes map[[32]byte]*remote
	closed  bool
}

// Options of a Pool.
type Options struct {
	// Dial opens connections, and judges addresses (SSRF-1). Nil is net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger // nil is none
	// Own judges a host key by its fingerprint SHA256:…, for a user: ErrLoop if it is this server's. Nil takes every one.
	Own func(fingerprint, username string) error
	// Software is the end of our version string; "" means Gantry.
	Software string

	// For tests: 0 are the package's own.
	ping time.Duration
}

// NewPool makes a pool without connections.
func NewPool(o Options) *Pool {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: dialWait}).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Software == "" {
		o.Software = "Gantry"
	}
	if o.ping == 0 {
		o.ping = pingEvery
	}
	return &Pool{o: o, remotes: map[[32]byte]*remote{}}
}

// Close ends all connections. Storages that are still open fail from then on.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	remotes := p.remotes
	p.remotes = nil
	p.mu.Unlock()
	for _, r := range remotes {
		r.close()
	}
}

// remote gives the connections for cfg, which the caller releases.
func (p *Pool) remote(cfg *Config) (*remote, error) {
	key := cfg.key()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errLost
	}
	r := p.remotes[key]
	if r == nil {
		r = &remote{pool: p, key: key, cfg: *cfg, changed: make(chan struct{})}
		p.remotes[key] = r
	}
	r.refs++
	return r, nil
}

// release gives a remote back. Its connections stay for a while, for who comes again.
func (p *Pool) release(r *remote) {
	p.mu.Lock()
	r.refs--
	p.mu.Unlock()
	p.forget(r)
}

// forget drops a remote without storages and connections.
func (p *Pool) forget(r *remote) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refs == 0 && len(r.conns) == 0 && !r.dialing && p.remotes[r.key] == r {
		delete(p.remotes, r.key)
	}
}

// remote is a server with credentials.
type remote struct {
	pool *Pool
	key  [32]byte
	cfg  Config
	refs int // guarded by Pool.mu

	mu      sync.Mutex // guards the fields below
	conns   []*conn
	dialing bool
	failed  error     // of the last dial
	until   time.Time // so long failed is the answer
	closed  bool
	changed chan struct{} // closed and made anew when something of this changes
}

// conn is one SSH connection with one SFTP channel.
type conn struct {
	*client
	r     *remote
	net   net.Conn
	ssh   ssh.Conn
	users int       // guarded by remote.mu
	since time.Time // without users; guarded by remote.mu
	ended atomic.Bool
}

// wake tells those who wait. The caller holds mu.
func (r *remote) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// get gives a connection, the one with the fewest users, or a new one. The caller releases it.
func (r *remote) get(ctx context.Context) (*conn, error) {
	for {
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return nil, errLost
		}
		var best *conn
		for _, c := range r.conns {
			select {
			case <-c.done: // its watch is about to take it out
			default:
				if best == nil || c.users < best.users {
					best = c
				}
			}
		}
		more := len(r.conns) < maxConns && !r.dialing && (best == nil || best.users >= shared)
		recent := r.failed != nil && time.Now().Before(r.until)
		if more && !recent {
			r.dialing = true
			go r.dial()
		}
		if best != nil && best.users < maxUsers {
			best.users++
			r.mu.Unlock()
			return best, nil
		}
		if best == nil && recent && !r.dialing {
			err := r.failed
			r.mu.Unlock()
			return nil, err
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("sftpfs: %s: no connection: %w", r.cfg.Endpoint, ctx.Err())
		}
	}
}

// put gives a connection back.
func (c *conn) put() {
	r := c.r
	r.mu.Lock()
	c.users--
	c.since = time.Now()
	if c.users == maxUsers-1 {
		r.wake()
	}
	r.mu.Unlock()
}

// dial opens one connection, for all who wait.
func (r *remote) dial() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*dialWait) // not one caller's: others wait too
	defer cancel()
	c, err := r.connect(ctx)
	r.mu.Lock()
	r.dialing = false
	r.failed, r.until = err, time.Now().Add(retryWait)
	drop := false
	if err == nil {
		if drop = r.closed; !drop {
			r.conns = append(r.conns, c)
			go c.watch()
		}
	}
	r.wake()
	r.mu.Unlock()
	if drop {
		c.end(nil)
	}
	r.pool.forget(r)
	if err != nil {
		r.pool.o.Log.Warn("an SFTP storage cannot be reached", "endpoint", r.cfg.Endpoint, "username", r.cfg.Username, "error", err)
	}
}

// connect dials, logs in and begins the protocol.
func (r *remote) connect(ctx context.Context) (*conn, error) {
	fail := func(err error) (*conn, error) {
		return nil, fmt.Errorf("sftpfs: connect to %s: %w", r.cfg.Endpoint, err)
	}
	nc, err := r.pool.o.Dial(ctx, "tcp", r.cfg.Endpoint)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { nc.Close() }) // wakes the handshake
	var loop error
	trusted := false
	sc, channels, requests, err := ssh.NewClientConn(nc, r.cfg.Endpoint, r.clientConfig(&loop, &trusted))
	if err != nil {
		nc.Close()
		stop()
		_, lost := errors.AsType[net.Error](err)
		switch {
		case loop != nil:
			err = loop
		case trusted && !lost:
			err = fmt.Errorf("log in as %q (look at username, password and private_key): %w", r.cfg.Username, err)
		}
		return fail(err)
	}
	go ssh.DiscardRequests(requests)
	go func() {
		for ch := range channels {
			ch.Reject(ssh.Prohibited, "this client takes no channels")
		}
	}()
	c := &conn{r: r, net: nc, ssh: sc, since: time.Now()}
	ch, reqs, err := sc.OpenChannel("session", nil)
	if err == nil {
		go ssh.DiscardRequests(reqs)
		var ok bool
		if ok, err = ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); err == nil && !ok {
			err = errors.New("the server offers no SFTP")
		}
	}
	if err == nil {
		c.client, err = newClient(ch)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return fail(err)
	}
	return c, nil
}

// clientConfig is how we log in: the key first, then the password, also where the server asks for it by
// keyboard-interactive. loop and trusted are what came of the server's host key.
func (r *remote) clientConfig(loop *error, trusted *bool) *ssh.ClientConfig {
	cfg := &r.cfg
	sc := &ssh.ClientConfig{
		User: cfg.Username, ClientVersion: "SSH-2.0-" + r.pool.o.Software, Timeout: dialWait,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			print := ssh.FingerprintSHA256(key)
			if own := r.pool.o.Own; own != nil {
				if *loop = own(print, cfg.Username); *loop != nil {
					return *loop
				}
			}
			if len(cfg.Fingerprints) == 0 {
				r.pool.o.Log.Warn("an SFTP storage names no fingerprints: any host key is taken", "endpoint", cfg.Endpoint, "fingerprint", print)
				*trusted = true
				return nil
			}
			for _, f := range cfg.Fingerprints {
				if strings.TrimRight(f, "=") == print {
					*trusted = true
					return nil
				}
			}
			return fmt.Errorf("the server's host key %s is none of the fingerprints of the settings", print)
		},
	}
	if cfg.Key != nil {
		sc.Auth = append(sc.Auth, ssh.PublicKeys(cfg.Key))
	}
	if cfg.Password != "" {
		sc.Auth = append(sc.Auth, ssh.Password(cfg.Password), ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i := range questions {
				if !echos[i] {
					answers[i] = cfg.Password
				}
			}
			return answers, nil
		}))
	}
	return sc
}

// watch asks for a sign of life and ends what has died, or has no users for a while.
func (c *conn) watch() {
	t := time.NewTicker(c.r.pool.o.ping)
	defer t.Stop()
	for {
		select {
		case <-c.done:
			c.end(nil)
			return
		case <-t.C:
		}
		c.r.mu.Lock()
		idle := c.users == 0 && time.Since(c.since) > idleWait
		c.r.mu.Unlock()
		if idle {
			c.end(nil)
			return
		}
		answer := make(chan error, 1)
		go func() { // ends with the connection
			_, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil)
			answer <- err
		}()
		late := time.NewTimer(c.r.pool.o.ping)
		select {
		case err := <-answer:
			late.Stop()
			if err != nil {
				c.end(err)
				return
			}
		case <-late.C:
			c.end(errors.New("the server does not answer"))
			return
		case <-c.done:
			late.Stop()
		}
	}
}

// end takes a connection out and ends it, with all that is under way on it.
func (c *conn) end(why error) {
	if c.ended.Swap(true) {
		return
	}
	if why != nil {
		c.r.pool.o.Log.Warn("an SFTP storage's connection is ended", "endpoint", c.r.cfg.Endpoint, "error", why)
	}
	r := c.r
	r.mu.Lock()
	for i, k := range r.conns {
		if k == c {
			r.conns = append(r.conns[:i], r.conns[i+1:]...)
			break
		}
	}
	r.wake()
	r.mu.Unlock()
	r.pool.forget(r)
	c.net.Close() // first: what writes to it must not hold the rest up
	if why == nil {
		why = net.ErrClosed
	}
	c.client.fail(fmt.Errorf("%w: %w", errLost, why))
	c.ssh.Close()
}

// close ends all connections.
func (r *remote) close() {
	r.mu.Lock()
	r.closed = true
	conns := append([]*conn(nil), r.conns...)
	r.wake()
	r.mu.Unlock()
	for _, c := range conns {
		c.end(nil)
	}
}

// Config is one server and the way in.
type Config struct {
	Endpoint     string // host:port
	Username     string
	Password     string
	Key          ssh.Signer // nil is none; it is tried first
	Fingerprints []string   // SHA256:… of host keys; none takes any key
	Prefix       string     // the server's directory that is our root
	// Sequential: files are read one request at a time.
	Sequential bool
	// Window is how much of a file is read ahead, or written before it is acknowledged, in bytes; 0 is 2 MiB.
	Window int
	// ByUser: storages of one server with two users are two for Reaches.
	ByUser bool
	// Confine follows no link out of Prefix, for one more round trip a call. It matters only where users may make links.
	Confine bool
}

// key is equal for settings that may share connections.
func (c *Config) key() [32]byte {
	h := sha256.New()
	part := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	part(c.Endpoint)
	part(c.Username)
	part(c.Password)
	if c.Key != nil {
		part(string(c.Key.PublicKey().Marshal()))
	}
	for _, f := range c.Fingerprints {
		part(f)
	}
	return [32]byte(h.Sum(nil))
}

// identity names the storage: the server, the user and the directory.
func (c *Config) identity() string {
	h := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", c.Endpoint, c.Username, c.Prefix))
	return "sftp:" + hex.EncodeToString(h[:16])
}
