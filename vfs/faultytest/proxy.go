// Package faultytest is a TCP proxy that misbehaves on demand, for tests of storages on a network.
package faultytest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy forwards connections to a server. Its faults may be changed at any time and take effect on what moves from
// then on. Safe for concurrent use.
type Proxy struct {
	Addr string // of the listener, 127.0.0.1:port

	target string
	l      net.Listener

	mu    sync.Mutex // guards the fields below
	conns map[*link]struct{}
	wake  chan struct{} // closed and made anew when a fault is taken away
	total int
	all   sync.WaitGroup

	hole   atomic.Bool
	delay  atomic.Int64 // nanoseconds, each way
	upLeft atomic.Int64 // bytes to the server until its connection is reset; negative: none
	upSeen atomic.Int64
	refuse atomic.Bool
}

// link is one connection through the proxy.
type link struct{ a, b *net.TCPConn }

// New makes a proxy to target that ends with the test.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, l: l, conns: map[*link]struct{}{}, wake: make(chan struct{})}
	p.upLeft.Store(-1)
	p.all.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.Hole(false)
		p.Reset()
		p.all.Wait()
	})
	return p
}

// Hole swallows what is sent and answers nothing, as a host that has gone does; new connections are taken, too.
func (p *Proxy) Hole(on bool) {
	p.hole.Store(on)
	if !on {
		p.mu.Lock()
		close(p.wake)
		p.wake = make(chan struct{})
		p.mu.Unlock()
	}
}

// Delay holds every piece back so long, each way, without holding up what comes after it.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// Refuse resets new connections at once.
func (p *Proxy) Refuse(on bool) { p.refuse.Store(on) }

// CutAfter resets the connection that sends the n-th byte from now to the server.
func (p *Proxy) CutAfter(n int64) { p.upLeft.Store(n) }

// Reset resets every connection.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.reset()
	}
}

// Conns is how many connections there are, and how many there have been.
func (p *Proxy) Conns() (now, ever int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns), p.total
}

// Sent is how many bytes went to the server.
func (p *Proxy) Sent() int64 { return p.upSeen.Load() }

func (c *link) reset() {
	for _, x := range []*net.TCPConn{c.a, c.b} {
		x.SetLinger(0)
		x.Close()
	}
}

func (p *Proxy) accept() {
	for {
		a, err := p.l.Accept()
		if err != nil {
			return
		}
		if p.refuse.Load() {
			(&link{a.(*net.TCPConn), a.(*net.TCPConn)}).reset()
			continue
		}
		b, err := net.Dial("tcp", p.target)
		if err != nil {
			a.Close()
			continue
		}
		c := &link{a.(*net.TCPConn), b.(*net.TCPConn)}
		p.mu.Lock()
		p.conns[c] = struct{}{}
		p.total++
		p.mu.Unlock()
		p.all.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { p.pipe(c, c.b, c.a, true) })
			both.Go(func() { p.pipe(c, c.a, c.b, false) })
			both.Wait()
			c.a.Close()
			c.b.Close()
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		})
	}
}

// late is a piece and when it may go on.
type late struct {
	data []byte
	at   time.Time
}

func (p *Proxy) pipe(c *link, dst, src *net.TCPConn, up bool) {
	queue := make(chan late, 256)
	var sender sync.WaitGroup
	sender.Go(func() {
		bad := false
		for q := range queue {
			if bad {
				continue
			}
			if d := time.Until(q.at); d > 0 {
				time.Sleep(d)
			}
			p.wait()
			if up {
				p.upSeen.Add(int64(len(q.data)))
				if left := p.upLeft.Load(); left >= 0 {
					if left -= int64(len(q.data)); left < 0 {
						p.upLeft.Store(-1)
						c.reset()
						bad = true
						continue
					}
					p.upLeft.Store(left)
				}
			}
			if _, err := dst.Write(q.data); err != nil {
				bad = true
			}
		}
		dst.CloseWrite()
	})
	for {
		buf := make([]byte, 32<<10)
		n, err := src.Read(buf)
		if n > 0 {
			queue <- late{buf[:n], time.Now().Add(time.Duration(p.delay.Load()))}
		}
		if err != nil {
			if err != io.EOF {
				c.reset()
			}
			break
		}
	}
	close(queue)
	sender.Wait()
}

// wait holds a piece back as long as the hole is there.
func (p *Proxy) wait() {
	for p.hole.Load() {
		p.mu.Lock()
		wake := p.wake
		p.mu.Unlock()
		if !p.hole.Load() {
			return
		}
		<-wake
	}
}
