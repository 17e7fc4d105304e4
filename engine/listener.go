package engine

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// headerWait is how long a trusted peer may take for its PROXY header; maxPending bounds how many may be at it.
const (
	headerWait = 10 * time.Second
	maxPending = 1024
)

// Listener accepts connections of another listener. Safe for concurrent use.
type Listener struct {
	net.Listener
	proxy *Proxy // nil: no headers
	log   *slog.Logger
	wait  time.Duration

	check atomic.Pointer[func(addr netip.Addr) error] // nil: nobody is refused
	out   chan net.Conn
	done  chan struct{} // closed by Close
	once  sync.Once
	all   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	pending map[net.Conn]struct{}
	closed  bool
	err     error // why accepting ended
	failed  error // the last accept that did
	when    time.Time
}

// NewListener takes l over and accepts from it at once. proxy may be nil.
func NewListener(l net.Listener, proxy *Proxy, log *slog.Logger) *Listener {
	return newListener(l, proxy, log, headerWait)
}

func newListener(l net.Listener, proxy *Proxy, log *slog.Logger, wait time.Duration) *Listener {
	x := &Listener{Listener: l, proxy: proxy, log: log, wait: wait, out: make(chan net.Conn), done: make(chan struct{}), pending: map[net.Conn]struct{}{}}
	x.all.Go(x.run) // ends with Close
	return x
}

// Check has f asked about the peer of each socket from now on, before anything is read: with an error it is reset. f must
// not block. A proxy is not asked about.
func (l *Listener) Check(f func(addr netip.Addr) error) { l.check.Store(&f) }

// failedFor is how long after an accept that failed the listener counts as failing: it is tried again each second.
const failedFor = 5 * time.Second

// Err says why nobody is accepted: the listener is closed, or accepting has just failed.
func (l *Listener) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return net.ErrClosed
	case l.err != nil:
		return l.err
	case time.Since(l.when) < failedFor:
		return l.failed
	}
	return nil
}

// Accept gives the next connection whose header, if it has to have one, has been read.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c, ok := <-l.out:
		if ok {
			return c, nil
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		return nil, l.err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close stops accepting and drops the connections that Accept has not given.
func (l *Listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.done)
		err = l.Listener.Close()
		l.mu.Lock()
		l.closed = true
		for c := range l.pending {
			c.Close()
		}
		l.mu.Unlock()
	})
	l.all.Wait()
	return err
}

// spare is a descriptor that is given up for a moment when there are none left, so that a waiting peer can be told so
// by a reset and does not wait for ever.
type spare struct{ f *os.File }

func (s *spare) keep() {
	if s.f == nil {
		s.f, _ = os.Open(os.DevNull)
	}
}

func (s *spare) drop() {
	if s.f != nil {
		s.f.Close()
		s.f = nil
	}
}

func (l *Listener) run() {
	var extra spare
	extra.keep()
	defer extra.drop()
	delay := 5 * time.Millisecond
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			delay = 5 * time.Millisecond
			extra.keep()
			l.came(c)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			l.mu.Lock()
			l.err = err
			l.mu.Unlock()
			select {
			case <-l.done:
			default:
				close(l.out) // not by Close: whoever accepts must hear of it
			}
			return
		}
		l.mu.Lock()
		l.failed, l.when = err, time.Now()
		l.mu.Unlock()
		l.log.Warn("accept failed", "addr", l.Addr().String(), "err", err)
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			extra.drop()
			if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
				d.SetDeadline(time.Now().Add(5 * time.Millisecond))
				if c, err := l.Listener.Accept(); err == nil {
					reset(c)
				}
				d.SetDeadline(time.Time{})
			}
			extra.keep()
		}
		select {
		case <-time.After(delay):
		case <-l.done:
		}
		delay = min(2*delay, time.Second)
	}
}

// came does not block for long: a header is read elsewhere.
func (l *Listener) came(c net.Conn) {
	switch l.proxy.judge(peerOf(c)) {
	case direct:
		if f := l.check.Load(); f != nil {
			if err := (*f)(peerOf(c)); err != nil {
				l.log.Warn("connection refused", "remote", c.RemoteAddr().String(), "err", err)
				reset(c)
				return
			}
		}
		l.give(c)
	case refused:
		l.log.Warn("connection refused", "remote", c.RemoteAddr().String(), "err", "it must come through a proxy of proxy_allowed")
		reset(c)
	default:
		required := l.proxy.required()
		l.mu.Lock()
		full, closed := len(l.pending) >= maxPending, l.closed
		if !full && !closed {
			l.pending[c] = struct{}{}
		}
		l.mu.Unlock()
		if closed { // while it was accepted
			reset(c)
			return
		}
		if full {
			l.log.Warn("connection refused", "remote", c.RemoteAddr().String(), "err", "too many wait for their PROXY header")
			reset(c)
			return
		}
		l.all.Go(func() { // ends within wait, or with Close
			x, err := ReadHeader(c, l.wait, required)
			l.mu.Lock()
			delete(l.pending, c)
			l.mu.Unlock()
			if err != nil {
				l.log.Warn("connection refused", "remote", c.RemoteAddr().String(), "err", err)
				reset(c)
				return
			}
			l.give(x)
		})
	}
}

func (l *Listener) give(c net.Conn) {
	select {
	case l.out <- c:
	case <-l.done:
		reset(c)
	}
}

// reset closes without a FIN exchange: what is refused costs us no TIME_WAIT.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		t.SetLinger(0)
	}
	c.Close()
}

func peerOf(c net.Conn) netip.Addr {
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
