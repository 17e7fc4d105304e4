package bench

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// Relay forwards connections to an address and holds every byte back for a while: a long link without a
// limit of its own. What is under way in one direction of one connection is bounded; beyond it the relay
// stops reading.
type Relay struct {
	to       string
	delay    time.Duration // one way
	inFlight int           // bytes
	l        net.Listener
	wg       sync.WaitGroup
	stop     context.CancelFunc
}

// NewRelay listens on loopback.
func NewRelay(to string, delay time.Duration, inFlight int) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background()) // until Close
	r := &Relay{to: to, delay: delay, inFlight: inFlight, l: l, stop: stop}
	r.wg.Go(func() { // ends when Close closes the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(ctx, c) })
		}
	})
	return r, nil
}

// Addr is where clients connect.
func (r *Relay) Addr() string { return r.l.Addr().String() }

// Close ends all connections and waits for them.
func (r *Relay) Close() {
	r.stop()
	r.l.Close()
	r.wg.Wait()
}

func (r *Relay) serve(ctx context.Context, a net.Conn) {
	defer a.Close()
	b, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer b.Close()
	defer context.AfterFunc(ctx, func() { a.Close(); b.Close() })()
	var both sync.WaitGroup
	both.Go(func() { r.carry(b, a) })
	both.Go(func() { r.carry(a, b) })
	both.Wait()
}

// chunk is bytes and when they are to arrive.
type chunk struct {
	at time.Time
	b  []byte
}

const chunkSize = 32 << 10

// carry moves bytes from src to dst until src ends, delay after they came.
func (r *Relay) carry(dst, src net.Conn) {
	slots := max(1, r.inFlight/chunkSize)
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
				if _, err = dst.Write(c.b); err != nil {
					src.Close()
				}
			}
			free <- c.b[:cap(c.b)]
		}
		if t, ok := dst.(interface{ CloseWrite() error }); ok {
			t.CloseWrite()
		}
	})
	for {
		b := <-free
		if b == nil {
			b = make([]byte, chunkSize)
		}
		n, err := src.Read(b)
		if n > 0 {
			line <- chunk{time.Now().Add(r.delay), b[:n]}
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
