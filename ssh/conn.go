package ssh

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/session"
)

// conn is one peer's connection.
type conn struct {
	srv           *Server // these are immutable
	nc            net.Conn
	remote, local netip.AddrPort
	id            string

	// Owned by run.
	loggedIn func() // gives up the place in the doorway
	client   string // the peer's version string
	tries    tries
	login    login
	log      *slog.Logger
	rtt      time.Duration
	sc       *gossh.ServerConn
	opened   int // channels so far, for their ids
	noMore   bool

	mu       sync.Mutex // guards what follows
	w        *wire
	channels []*channel
	cause    error // why close was called
}

var errLate = errors.New("ssh: no login within login_grace_time")

func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// run serves the connection to its end.
func (c *conn) run() {
	s := c.srv
	defer c.loggedIn()
	defer c.nc.Close()
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	defer c.recover()

	deadline := time.Now().Add(s.grace)
	release, err := c.admit(ctx, deadline)
	if err != nil {
		return
	}
	defer release()
	chans, reqs, err := c.handshake(ctx, deadline)
	if err != nil {
		c.abandon(err)
		return
	}
	c.loggedIn()
	defer c.keepAlive()()
	defer c.wait()
	defer c.finish(c.sc.Conn)
	c.follow(ctx, chans, reqs)
}

// admit asks the gate. An error has been logged, and the connection reset. What run calls before the login
// stands in functions of its own: run's frame is there for as long as the connection.
//
//go:noinline
func (c *conn) admit(ctx context.Context, deadline time.Time) (release func(), err error) {
	s := c.srv
	if s.gate == nil {
		return func() {}, nil
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	release, err = s.gate.Admit(ctx, c.remote.Addr())
	if err != nil {
		s.log.Warn("connection refused", "proto", protocolSSH, "conn", "SSH_"+c.id, "remote", c.remote.Addr(), "err", err)
		reset(c.nc)
		return nil, err
	}
	if release == nil {
		release = func() {}
	}
	return release, nil
}

// abandon tells of a connection that ended before its login.
//
//go:noinline
func (c *conn) abandon(err error) {
	if errors.Is(err, errNoWord) {
		c.srv.log.Debug("connection closed", "proto", protocolSSH, "conn", "SSH_"+c.id, "remote", c.remote.Addr(), "err", err)
		return
	}
	c.srv.backend.abandoned(c.describe("SSH_"+c.id, protocolSSH), c.tries.username, c.tries.methods, err)
}

// follow answers what concerns the whole connection until it ends.
func (c *conn) follow(ctx context.Context, chans <-chan gossh.NewChannel, reqs <-chan *gossh.Request) {
	for chans != nil {
		select {
		case nch, ok := <-chans:
			if !ok {
				chans = nil
				continue
			}
			for range len(reqs) { // they came before it: no-more-sessions is one
				c.globalRequest(<-reqs)
			}
			c.openChannel(ctx, nch)
		case r, ok := <-reqs:
			if !ok {
				reqs = nil
				continue
			}
			c.globalRequest(r)
		}
		c.w.Flush()
	}
}

// handshake takes the peer from its first byte to a login, all before deadline (SSH-3).
func (c *conn) handshake(ctx context.Context, deadline time.Time) (<-chan gossh.NewChannel, <-chan *gossh.Request, error) {
	s := c.srv
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	w := newWire(c.nc, s.pools)
	c.mu.Lock()
	c.w = w
	closed := c.cause
	c.mu.Unlock()
	if closed != nil {
		return nil, nil, closed
	}
	w.SetDeadline(deadline)
	o, rtt, err := w.lookAhead(s.version, s.steers, deadline, s.patience)
	if err != nil {
		w.Close()
		return nil, nil, err
	}
	c.rtt, c.client = rtt, o.Version
	cfg := s.shown.Load().ssh
	if s.steers {
		cfg.Ciphers = steer(o, cfg.Ciphers)
	}
	c.authCallbacks(ctx, &cfg)
	var started gossh.ServerPreAuthConn
	cfg.PreAuthConnCallback = func(m gossh.ServerPreAuthConn) {
		started = m
		w.Free()
	}
	// A reader that waits for its turn, or a login that hangs, does not see the connection's deadline.
	late := time.AfterFunc(time.Until(deadline), func() { c.close(errLate) })
	defer late.Stop()
	sc, chans, reqs, err := gossh.NewServerConn(w, &cfg)
	if err != nil {
		if started != nil {
			c.finish(started)
		}
		if e := c.tries.last; e != nil {
			err = e
		}
		return nil, nil, err
	}
	w.SetDeadline(time.Time{})
	c.sc = sc
	l, ok := loginOf(sc.Permissions)
	if !ok {
		sc.Close()
		return nil, nil, errors.New("ssh: the handshake ended without a login")
	}
	c.login = l
	c.log = s.log.With("proto", protocolSSH, "conn", "SSH_"+c.id, "user", l.Username(), "remote", c.remote.Addr().String())
	if a, ok := sc.Conn.(gossh.AlgorithmsConnMetadata); ok {
		alg := a.Algorithms()
		c.log.Debug("handshake done", "client", c.client, "kex", alg.KeyExchange, "host_key", alg.HostKey,
			"cipher_in", alg.Read.Cipher, "cipher_out", alg.Write.Cipher, "mac_in", alg.Read.MAC, "mac_out", alg.Write.MAC,
			"steered", len(o.CiphersS2C) > 0 && o.CiphersS2C[0] != alg.Write.Cipher, "rtt", rtt)
	}
	return chans, reqs, nil
}

// globalRequest answers what a client may ask of the whole connection: nothing is granted (SSH-7).
func (c *conn) globalRequest(r *gossh.Request) {
	if r.Type == "no-more-sessions@openssh.com" {
		c.noMore = true // OpenSSH PROTOCOL 2.2
	}
	if r.WantReply {
		r.Reply(false, nil)
	}
}

// openChannel accepts a session channel within the limits (SSH-4); every other type is refused (SSH-7).
func (c *conn) openChannel(ctx context.Context, nch gossh.NewChannel) {
	switch {
	case nch.ChannelType() != "session":
		nch.Reject(gossh.UnknownChannelType, "unknown channel type")
		return
	case c.noMore || c.srv.isDraining():
		nch.Reject(gossh.Prohibited, "no more sessions")
		return
	}
	c.mu.Lock()
	full := len(c.channels) >= c.srv.cfg.MaxChannels
	c.mu.Unlock()
	if full {
		nch.Reject(gossh.ResourceShortage, "too many channels")
		return
	}
	ch, reqs, err := nch.Accept()
	if err != nil {
		return
	}
	c.opened++
	h := &channel{conn: c, ch: ch, id: fmt.Sprintf("%s_%s_%d", protocolSFTP, c.id, c.opened), done: make(chan struct{})}
	c.mu.Lock()
	c.channels = append(c.channels, h)
	c.mu.Unlock()
	go h.run(ctx, reqs)
}

// ended takes a channel off the list.
func (c *conn) ended(h *channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.channels = slices.DeleteFunc(c.channels, func(o *channel) bool { return o == h })
}

// finish closes the connection and sees to it that nothing of x/crypto stays behind.
func (c *conn) finish(m gossh.ConnMetadata) {
	c.w.Close()
	if drain(m) {
		c.w.release()
	}
}

// wait returns when every channel has ended.
func (c *conn) wait() {
	for {
		c.mu.Lock()
		var h *channel
		if len(c.channels) > 0 {
			h = c.channels[0]
		}
		c.mu.Unlock()
		if h == nil {
			return
		}
		<-h.done
	}
}

// sessionIDs are the ids of the sessions that are open on the connection.
func (c *conn) sessionIDs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, h := range c.channels {
		out = append(out, h.id)
	}
	return out
}

// close ends the connection from any goroutine.
func (c *conn) close(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	w := c.w
	c.mu.Unlock()
	if w != nil {
		w.Close()
	} else {
		c.nc.Close()
	}
}

func (c *conn) describe(id, protocol string) session.Conn {
	return session.Conn{ID: id, Protocol: protocol, Remote: c.remote, Local: c.local, Client: c.client}
}

// recover stands at the boundary of each goroutine that handles a peer's bytes (SSH-1).
func (c *conn) recover() {
	if r := recover(); r != nil {
		c.srv.panics.Add(1)
		c.srv.log.Error("panic", "proto", protocolSSH, "conn", "SSH_"+c.id, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		c.close(errors.New("ssh: internal error"))
	}
}
