package bench

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Link is what a Relay makes of loopback.
type Link struct {
	Delay time.Duration // one way
	// InFlight is how many bytes are under way in one direction of one connection at most; beyond it the relay stops
	// reading.
	InFlight int
	// Rate is bytes per second of each direction, shared by all connections; 0 is no limit. What comes faster waits for
	// at most queueTime and is not read beyond that.
	Rate int64
}

// queueTime is how much a rated link buffers.
const queueTime = 20 * time.Millisecond

// Relay forwards connections to an address and holds every byte back for a while: a long link. A connection takes a
// round trip until its first byte leaves, as the handshake of a real one does.
type Relay struct {
	link Link
	to   string
	l    net.Listener
	wg   sync.WaitGroup
	ctx  context.Context
	stop context.CancelFunc

	up, down pace
	passed   atomic.Int64 // bytes that have arrived, both ways
	stalled  atomic.Int64 // nothing arrives before; Unix nanoseconds

	mu    sync.Mutex // guards what follows
	conns map[*net.TCPConn]struct{}
	mark  int64 // then is called when so many bytes have passed
	then  func()
}

// pace is one direction's rate.
type pace struct {
	mu   sync.Mutex
	free time.Time // when all that was taken has left; guarded by mu
}

// take gives the time at which n bytes have left and, if too much waits before them, how long to read nothing.
func (p *pace) take(n int, rate int64) (left time.Time, wait time.Duration) {
	now := time.Now()
	if rate == 0 {
		return now, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(rate) * 1e9))
	return p.free, max(0, p.free.Sub(now)-queueTime)
}

// NewRelay listens on loopback.
func NewRelay(to string, link Link) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background()) // until Close
	r := &Relay{link: link, to: to, l: l, ctx: ctx, stop: stop, conns: map[*net.TCPConn]struct{}{}}
	r.wg.Go(func() { // ends when Close closes the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(ctx, c.(*net.TCPConn), to) })
		}
	})
	return r, nil
}

// Addr is where clients connect.
func (r *Relay) Addr() string { return r.l.Addr().String() }

// Forward gives an address that leads to another one over the same link, for one connection.
func (r *Relay) Forward(to string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	end := context.AfterFunc(r.ctx, func() { l.Close() })
	r.wg.Go(func() { // ends with the connection, or when Close closes the listener
		c, err := l.Accept()
		end()
		l.Close()
		if err == nil {
			r.serve(r.ctx, c.(*net.TCPConn), to)
		}
	})
	return l.Addr().String(), nil
}

// Stall has nothing arrive for a while. Connections stay.
func (r *Relay) Stall(d time.Duration) { r.stalled.Store(time.Now().Add(d).UnixNano()) }

// Cut resets all connections at both of their ends.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.SetLinger(0)
		c.Close()
	}
}

// When calls f once, after n more bytes have passed.
func (r *Relay) When(n int64, f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mark, r.then = r.passed.Load()+n, f
}

// count notes bytes that have arrived.
func (r *Relay) count(n int) {
	sum := r.passed.Add(int64(n))
	r.mu.Lock()
	f := r.then
	if f == nil || sum < r.mark {
		f = nil
	} else {
		r.then = nil
	}
	r.mu.Unlock()
	if f != nil {
		f()
	}
}

// Close ends all connections and waits for them.
func (r *Relay) Close() {
	r.stop()
	r.l.Close()
	r.wg.Wait()
}

func (r *Relay) serve(ctx context.Context, a *net.TCPConn, to string) {
	defer a.Close()
	select {
	case <-time.After(2 * r.link.Delay):
	case <-ctx.Done():
		return
	}
	nc, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	b := nc.(*net.TCPConn)
	defer b.Close()
	r.mu.Lock()
	r.conns[a], r.conns[b] = struct{}{}, struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.conns, a)
		delete(r.conns, b)
		r.mu.Unlock()
	}()
	defer context.AfterFunc(ctx, func() { a.Close(); b.Close() })()
	var both sync.WaitGroup
	both.Go(func() { r.carry(b, a, &r.up) })
	both.Go(func() { r.carry(a, b, &r.down) })
	both.Wait()
}

// chunk is bytes and when they are to arrive.
type chunk struct {
	at time.Time
	b  []byte
}

const chunkSize = 32 << 10

// carry moves bytes from src to dst until src ends, delay after they came.
func (r *Relay) carry(dst, src *net.TCPConn, p *pace) {
	slots := max(1, r.link.InFlight/chunkSize)
	free := make(chan []byte, slots) // bounds the memory
	for range slots {
		free <- nil
	}
	line := make(chan chunk, slots)
	var sender sync.WaitGroup
	sender.Go(func() { // ends when the reader below closes line
		var err error
		for c := range line {
			if err == nil {
				time.Sleep(time.Until(c.at))
				for until := time.Unix(0, r.stalled.Load()); time.Now().Before(until) && r.ctx.Err() == nil; until = time.Unix(0, r.stalled.Load()) {
					time.Sleep(min(time.Until(until), 50*time.Millisecond))
				}
				if _, err = dst.Write(c.b); err != nil {
					src.Close()
				}
				r.count(len(c.b))
			}
			free <- c.b[:cap(c.b)]
		}
		dst.CloseWrite()
	})
	for {
		b := <-free
		if b == nil {
			b = make([]byte, chunkSize)
		}
		n, err := src.Read(b)
		if n > 0 {
			left, wait := p.take(n, r.link.Rate)
			line <- chunk{left.Add(r.link.Delay), b[:n]}
			time.Sleep(wait)
		}
		if err != nil {
			if err != io.EOF {
				dst.Close()
			}
			break
		}
	}
	close(line)
	sender.Wait()
}
