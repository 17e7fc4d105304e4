package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/bytebufferpool"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, leakOptions()...)
}

// leakOptions leave out what gnet's worker pool starts when it is imported.
func leakOptions() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
	}
}

// toy is a protocol for tests. A command is a letter, a length and as many bytes; every answer has the letter, the
// length and the hash of what was sent. The letter says how it is served:
//
//	e  on the loop           w  by Work            l  lifted, by the bytes that were offered
//	r  lifted, read there    g  borrowed by Work, and read there   b  the answer is followed by 200 KiB
//	p  held, and answered by another goroutine      t  StartTLS follows      q  the end      x  a panic
type toy struct {
	c      *Conn
	conf   *tls.Config
	slow   *Lane
	block  chan struct{} // of "s", which waits on it in the lane slow
	ended  func(error)
	closed atomic.Int32
	limit  time.Duration
}

const toyBig = 200 << 10

func (h *toy) Open(c *Conn) Verdict {
	if h.limit > 0 {
		c.SetDeadline(time.Now().Add(h.limit))
	}
	c.Write([]byte("hi\n"))
	return Keep()
}

func (h *toy) Refused(c *Conn, err error) { c.Write([]byte("no\n")) }
func (h *toy) Expired(c *Conn) Verdict    { c.Write([]byte("late\n")); return Close() }
func (h *toy) Drain(c *Conn) Verdict      { c.Write([]byte("bye\n")); return Close() }

func (h *toy) Closed(_ *Conn, err error) {
	h.closed.Add(1)
	if h.ended != nil {
		h.ended(err)
	}
}

// answer is what a command gives.
func answer(verb byte, body []byte) []byte {
	sum := sha256.Sum256(body)
	out := []byte(fmt.Sprintf("%c %d %s\n", verb, len(body), hex.EncodeToString(sum[:8])))
	if verb == 'b' {
		out = append(out, bytes.Repeat([]byte{'B'}, toyBig)...)
	}
	return out
}

func (h *toy) Data(c *Conn, in []byte) (int, Verdict) {
	n := 0
	for {
		rest := in[n:]
		if len(rest) < 5 {
			return n, Keep()
		}
		verb, size := rest[0], int(binary.BigEndian.Uint32(rest[1:5]))
		if verb == 'r' { // the body is the goroutine's to read
			return n + 5, Lift(func(l *Lifted) Verdict {
				body := make([]byte, size)
				if _, err := io.ReadFull(l, body); err != nil {
					return Close()
				}
				l.Write(answer(verb, body))
				return Keep()
			})
		}
		if verb == 'g' {
			return n + 5, Work(h.slow, func(out *bytebufferpool.ByteBuffer) Verdict {
				l, err := c.Borrow()
				if err != nil {
					return Close()
				}
				body := make([]byte, size)
				if _, err := io.ReadFull(l, body); err != nil {
					return Close()
				}
				a := answer(verb, body)
				l.Write(a[:3])
				out.Write(a[3:])
				return Keep()
			})
		}
		if len(rest) < 5+size {
			return n, Keep()
		}
		body := rest[5 : 5+size]
		n += 5 + size
		switch verb {
		case 'e', 'b':
			c.Write(answer(verb, body))
			if verb == 'b' {
				return n, Keep() // the rest when it has gone out
			}
		case 'w', 's':
			body := bytes.Clone(body)
			lane := h.slow
			if verb == 'w' {
				lane = nil
			}
			return n, Work(lane, func(out *bytebufferpool.ByteBuffer) Verdict {
				if verb == 's' {
					select {
					case <-h.block:
					case <-c.Context().Done():
					}
				}
				out.Write(answer(verb, body))
				return Keep()
			})
		case 'l':
			a := answer(verb, body)
			return n, Lift(func(l *Lifted) Verdict {
				l.Write(a)
				var ahead [7]byte // read ahead, and given back
				l.SetDeadline(time.Now().Add(time.Millisecond))
				if l.c.waiting() > 0 {
					k, _ := l.Read(ahead[:])
					l.Unread(ahead[:k])
				}
				return Keep()
			})
		case 'p':
			a := answer(verb, body)
			go c.Post(func() Verdict { // ends at once
				c.Write(a)
				return Resume()
			})
			return n, Hold()
		case 't':
			c.Write(answer(verb, body))
			return n, StartTLS(h.conf, func(err error) Verdict { return Keep() })
		case 'x':
			panic("a test")
		default:
			c.Write(answer('q', nil))
			return n, Close()
		}
	}
}

func command(verb byte, body []byte) []byte {
	b := append([]byte{verb}, binary.BigEndian.AppendUint32(nil, uint32(len(body)))...)
	return append(b, body...)
}

type toys struct {
	*Server
	e    *Engine
	addr string
	conf *tls.Config
	n    atomic.Int64 // Closed calls
	made atomic.Int64
	slow *Lane
	stop chan struct{}
	l    net.Listener
}

func startToys(t testing.TB, l net.Listener, o Options, gate Gate, change func(*toy)) *toys {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if l == nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	s := &toys{Server: e.NewServer(gate, slog.New(slog.DiscardHandler)), e: e, addr: l.Addr().String(), conf: serverTLS(t), stop: make(chan struct{}), l: l}
	s.slow = e.Lane("slow", 4)
	done := make(chan error, 1)
	go func() {
		done <- s.Serve(context.Background(), l, func(c *Conn) Handler {
			s.made.Add(1)
			h := &toy{c: c, conf: s.conf, slow: s.slow, block: s.stop, ended: func(error) { s.n.Add(1) }}
			if change != nil {
				change(h)
			}
			return h
		})
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.slow.Release()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if s.n.Load() != s.made.Load() {
			t.Errorf("%d connections, Closed was called %d times", s.made.Load(), s.n.Load())
		}
	})
	return s
}

func serverTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func dialToy(t testing.TB, network, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	nc, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(60 * time.Second))
	r := bufio.NewReader(nc)
	if line, err := r.ReadString('\n'); line != "hi\n" {
		t.Fatalf("greeting %q %v", line, err)
	}
	return nc, r
}

// session sends commands in a few pieces and compares every byte of the answers.
func toySession(nc net.Conn, r *bufio.Reader, rnd *mrand.Rand, count int, verbs string) error {
	var sent, want bytes.Buffer
	for range count {
		verb := verbs[rnd.IntN(len(verbs))]
		body := make([]byte, rnd.IntN(3000))
		if rnd.IntN(50) == 0 {
			body = make([]byte, rnd.IntN(60<<10))
		}
		for i := range body {
			body[i] = byte(rnd.Uint32())
		}
		sent.Write(command(verb, body))
		want.Write(answer(verb, body))
	}
	failed := make(chan error, 1)
	go func() { // ends with the commands, or with nc
		b := sent.Bytes()
		for len(b) > 0 {
			n := min(len(b), 1+rnd.IntN(20000))
			if rnd.IntN(4) == 0 {
				n = min(len(b), 1+rnd.IntN(8))
			}
			if _, err := nc.Write(b[:n]); err != nil {
				failed <- err
				return
			}
			b = b[n:]
			if rnd.IntN(20) == 0 {
				time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
			}
		}
		failed <- nil
	}()
	buf := make([]byte, 32<<10)
	for off := 0; off < want.Len(); {
		n, err := r.Read(buf)
		if !bytes.Equal(buf[:n], want.Bytes()[off:off+n]) {
			return fmt.Errorf("the answers differ between byte %d and %d", off, off+n)
		}
		if off += n; err != nil && off < want.Len() {
			return fmt.Errorf("after %d of %d bytes: %w", off, want.Len(), err)
		}
	}
	return <-failed
}

// TestParkAndLift: no byte is lost or doubled, whenever a connection is parked and lifted under pipelining.
func TestParkAndLift(t *testing.T) {
	for _, mode := range []string{"clear", "TLS 1.2", "TLS 1.3"} {
		t.Run(mode, func(t *testing.T) {
			s := startToys(t, nil, Options{}, nil, nil)
			conns, count := 12, 100
			if testing.Short() {
				conns, count = 4, 60
			}
			var all sync.WaitGroup
			for i := range conns {
				nc, r := dialToy(t, "tcp", s.addr)
				all.Go(func() {
					rnd := mrand.New(mrand.NewPCG(uint64(i), 7))
					if mode != "clear" {
						if err := toySession(nc, r, rnd, 5, "ewlrgp"); err != nil {
							t.Error(err)
							return
						}
						version := map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}[mode]
						x, err := upgrade(nc, r, version)
						if err != nil {
							t.Error(err)
							return
						}
						nc, r = x, bufio.NewReader(x)
					}
					// bufio.Reader and rnd are shared by the writing goroutine only through rnd, one after the other.
					if err := toySession(nc, r, rnd, count, "eeewwwlllrrrgggbppp"); err != nil {
						t.Errorf("connection %d: %v", i, err)
						return
					}
					if _, err := nc.Write(command('q', nil)); err != nil {
						t.Error(err)
					}
					line, _ := r.ReadString('\n')
					if line != string(answer('q', nil)) {
						t.Errorf("the end is %q", line)
					}
					if _, err := r.ReadByte(); err != io.EOF {
						t.Errorf("after the end: %v", err)
					}
				})
			}
			all.Wait()
			t.Logf("%d lifts", s.e.loops.lifts.Load())
		})
	}
}

func upgrade(nc net.Conn, r *bufio.Reader, version uint16) (*tls.Conn, error) {
	if _, err := nc.Write(command('t', nil)); err != nil {
		return nil, err
	}
	if line, err := r.ReadString('\n'); line != string(answer('t', nil)) {
		return nil, fmt.Errorf("%q %v", line, err)
	}
	x := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
	return x, x.Handshake()
}

func TestClearTextBehindStartTLSIsRefused(t *testing.T) { // FTP-3
	s := startToys(t, nil, Options{}, nil, nil)
	nc, r := dialToy(t, "tcp", s.addr)
	nc.Write(append(command('t', nil), command('e', []byte("injected"))...))
	all, _ := io.ReadAll(r)
	if strings.Contains(string(all), "e 8 ") {
		t.Errorf("the command behind was run: %q", all)
	}
}

func TestHandshakesAreBounded(t *testing.T) {
	s := startToys(t, nil, Options{Handshakes: 2}, nil, nil)
	var held []net.Conn
	for range 2 {
		nc, r := dialToy(t, "tcp", s.addr)
		nc.Write(command('t', nil))
		r.ReadString('\n')
		nc.Write([]byte{22, 3, 1}) // a record begins, and stops
		held = append(held, nc)
	}
	eventually(t, func() bool { return s.e.handshakes.Load() == 2 })
	nc, r := dialToy(t, "tcp", s.addr)
	if _, err := upgrade(nc, r, tls.VersionTLS13); err == nil {
		t.Error("a third handshake was let in")
	}
	for _, nc := range held {
		nc.Close()
	}
	eventually(t, func() bool { return s.e.handshakes.Load() == 0 })
	nc, r = dialToy(t, "tcp", s.addr)
	if _, err := upgrade(nc, r, tls.VersionTLS13); err != nil {
		t.Error(err)
	}
}

// TestAborted: connections that are cut at any moment leave no goroutine, no descriptor and nothing else behind. RES-1
func TestAborted(t *testing.T) {
	count := 10000
	if testing.Short() {
		count = 1000
	}
	s := startToys(t, nil, Options{}, nil, nil)
	before := runtime.NumGoroutine()
	fds := openFiles(t)
	var all sync.WaitGroup
	for w := range 20 {
		all.Go(func() {
			rnd := mrand.New(mrand.NewPCG(uint64(w), 3))
			for range count / 20 {
				nc, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Error(err)
					return
				}
				var b []byte
				for range rnd.IntN(6) {
					b = append(b, command("ewlrbpstg"[rnd.IntN(9)], make([]byte, rnd.IntN(2000)))...)
				}
				nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
				nc.Write(b[:rnd.IntN(len(b)+1)])
				if rnd.IntN(2) == 0 {
					nc.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
					nc.Read(make([]byte, 1+rnd.IntN(3000)))
				}
				if rnd.IntN(2) == 0 {
					nc.(*net.TCPConn).SetLinger(0)
				}
				nc.Close()
			}
		})
	}
	all.Wait()
	eventually(t, func() bool { return s.Len() == 0 && s.n.Load() == s.made.Load() })
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+s.e.pool.keep })
	eventually(t, func() bool { return openFiles(t) <= fds })
	s.e.wheel.mu.Lock()
	defer s.e.wheel.mu.Unlock()
	for i, c := range s.e.wheel.slot {
		if c != nil {
			t.Errorf("slot %d of the wheel holds a connection", i)
		}
	}
}

func openFiles(t testing.TB) int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(d)
}

// TestSlowReader: a peer that reads nothing costs a bounded buffer, and is cut past it. RES-2
func TestSlowReader(t *testing.T) {
	s := startToys(t, nil, Options{}, nil, nil)
	nc, _ := dialToy(t, "tcp", s.addr)
	nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	go func() { // ends with nc
		for {
			if _, err := nc.Write(bytes.Repeat(command('b', nil), 50)); err != nil {
				return
			}
		}
	}()
	// Its output stays under the bound, because a handler gets nothing more while output waits.
	deadline := time.Now().Add(time.Second)
	most := 0
	for time.Now().Before(deadline) {
		s.mu.Lock()
		for c := range s.conns {
			c.mu.Lock()
			most = max(most, len(c.out)+len(c.rest))
			c.unlock()
		}
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	if most > maxOutput+2*maxInput {
		t.Errorf("%d bytes were held", most)
	}
	if s.Len() != 1 {
		t.Errorf("%d connections", s.Len())
	}
	other, r := dialToy(t, "tcp", s.addr)
	if err := toySession(other, r, mrand.New(mrand.NewPCG(1, 1)), 20, "ewl"); err != nil {
		t.Error(err)
	}
	nc.Close()
	eventually(t, func() bool { return s.Len() == 1 })
}

// TestPosterCannotOverfill: what is posted to a peer that does not read ends it at the bound.
func TestPosterCannotOverfill(t *testing.T) {
	got := make(chan *Conn, 1)
	ended := make(chan error, 1)
	s := startToys(t, nil, Options{}, nil, func(h *toy) {
		was := h.ended
		h.ended = func(err error) { was(err); ended <- err }
		got <- h.c
	})
	dialToy(t, "tcp", s.addr)
	c := <-got
	for range 10000 {
		c.Post(func() Verdict {
			c.Write(make([]byte, 16<<10))
			return Keep()
		})
	}
	select {
	case err := <-ended:
		if !errors.Is(err, ErrSlow) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("160 MiB were held for it")
	}
}

// TestBorrowLeavesTheLane: who waits for bytes on a connection of its own keeps nobody out of the lane.
func TestBorrowLeavesTheLane(t *testing.T) {
	s := startToys(t, nil, Options{}, nil, nil)
	for range 8 { // twice as many as the lane has places
		nc, _ := dialToy(t, "tcp", s.addr)
		nc.Write(command('g', []byte("more"))[:7])
	}
	nc, r := dialToy(t, "tcp", s.addr)
	if err := toySession(nc, r, mrand.New(mrand.NewPCG(1, 1)), 20, "g"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		s.slow.mu.Lock()
		defer s.slow.mu.Unlock()
		return s.slow.running == 0
	})
}

// TestBlackHole: work that hangs fills its own lane and nobody else's.
func TestBlackHole(t *testing.T) {
	s := startToys(t, nil, Options{}, nil, nil)
	for range 50 {
		nc, _ := dialToy(t, "tcp", s.addr)
		nc.Write(command('s', nil))
	}
	eventually(t, func() bool {
		s.slow.mu.Lock()
		defer s.slow.mu.Unlock()
		return s.slow.running == 4 && len(s.slow.queue) == 46
	})
	nc, r := dialToy(t, "tcp", s.addr)
	for range 200 {
		begun := time.Now()
		if err := toySession(nc, r, mrand.New(mrand.NewPCG(1, 1)), 1, "w"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d > 5*time.Second { // it would be for ever
			t.Fatalf("another connection waited %s", d)
		}
	}
	close(s.stop)
}

func TestPanicEndsItsConnection(t *testing.T) {
	s := startToys(t, nil, Options{}, nil, nil)
	nc, r := dialToy(t, "tcp", s.addr)
	nc.Write(command('x', nil))
	if _, err := r.ReadByte(); err == nil {
		t.Error("it goes on")
	}
	nc, r = dialToy(t, "tcp", s.addr)
	if err := toySession(nc, r, mrand.New(mrand.NewPCG(1, 1)), 5, "e"); err != nil {
		t.Error(err)
	}
}

func TestDeadline(t *testing.T) { // RES-2
	s := startToys(t, nil, Options{}, nil, func(h *toy) { h.limit = 300 * time.Millisecond })
	begun := time.Now()
	_, r := dialToy(t, "tcp", s.addr)
	line, err := r.ReadString('\n')
	if line != "late\n" {
		t.Errorf("%q %v", line, err)
	}
	if d := time.Since(begun); d < 300*time.Millisecond {
		t.Errorf("it was early: %s", d)
	}
}

// TestTooMuchInput: a handler that takes nothing does not make us hold everything.
func TestTooMuchInput(t *testing.T) {
	ended := make(chan error, 1)
	s := startToys(t, nil, Options{}, nil, func(h *toy) {
		was := h.ended
		h.ended = func(err error) { was(err); ended <- err }
	})
	nc, _ := dialToy(t, "tcp", s.addr)
	b := command('e', make([]byte, 10<<20))
	go nc.Write(b) // ends with nc
	if err := <-ended; !errors.Is(err, ErrInput) {
		t.Errorf("it ended with %v", err)
	}
}

func TestDrain(t *testing.T) {
	s := startToys(t, nil, Options{}, nil, nil)
	_, r := dialToy(t, "tcp", s.addr)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	line, _ := r.ReadString('\n')
	if line != "bye\n" {
		t.Errorf("the goodbye is %q", line)
	}
	if _, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("it still listens")
	}
}

func TestKill(t *testing.T) {
	got := make(chan *Conn, 1)
	ended := make(chan error, 1)
	s := startToys(t, nil, Options{}, nil, func(h *toy) {
		was := h.ended
		h.ended = func(err error) { was(err); ended <- err }
		got <- h.c
	})
	for _, at := range []string{"", string(command('s', nil)), string(command('r', make([]byte, 100))[:50])} {
		nc, r := dialToy(t, "tcp", s.addr)
		io.WriteString(nc, at)
		time.Sleep(20 * time.Millisecond) // so that it is at it, mostly
		reason := errors.New("away")
		(<-got).Kill(reason)
		if err := <-ended; err != reason {
			t.Errorf("it ended with %v", err)
		}
		if _, err := r.ReadByte(); err == nil {
			t.Error("it goes on")
		}
	}
}

// TestCloseWhileConnectionsMove: the engine ends, whatever its loops are being given. RES-2
func TestCloseWhileConnectionsMove(t *testing.T) {
	for range 20 {
		e, err := New(Options{Loops: 1})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := e.NewServer(nil, slog.New(slog.DiscardHandler))
		served := make(chan error, 1)
		go func() {
			served <- s.Serve(context.Background(), l, func(c *Conn) Handler { return &mover{} })
		}()
		var peers sync.WaitGroup
		for range 8 {
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			peers.Go(func() { // ends with the connection
				for err := error(nil); err == nil; {
					_, err = nc.Write([]byte("x"))
				}
			})
		}
		time.Sleep(time.Duration(mrand.IntN(3000)) * time.Microsecond)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
		closed := make(chan error, 1)
		go func() { closed <- e.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the engine does not end")
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		peers.Wait()
	}
}

// mover is lifted at every byte, and parked again.
type mover struct{}

func (*mover) Open(*Conn) Verdict    { return Keep() }
func (*mover) Expired(*Conn) Verdict { return Close() }
func (*mover) Drain(*Conn) Verdict   { return Keep() }
func (*mover) Refused(*Conn, error)  {}
func (*mover) Closed(*Conn, error)   {}
func (*mover) Data(_ *Conn, in []byte) (int, Verdict) {
	return len(in), Lift(func(*Lifted) Verdict { return Keep() })
}

type toyGate struct {
	err   error
	wait  time.Duration
	given atomic.Int64
}

func (g *toyGate) Admit(ctx context.Context, _ netip.Addr) (func(), error) {
	if g.wait > 0 {
		select {
		case <-time.After(g.wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if g.err != nil {
		return nil, g.err
	}
	g.given.Add(1)
	return func() { g.given.Add(-1) }, nil
}

func TestGate(t *testing.T) {
	t.Run("refuses", func(t *testing.T) {
		s := startToys(t, nil, Options{}, &toyGate{err: errors.New("banned")}, nil)
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		all, _ := io.ReadAll(nc)
		if string(all) != "no\n" {
			t.Errorf("it says %q", all)
		}
	})
	t.Run("later", func(t *testing.T) {
		g := &toyGate{wait: 100 * time.Millisecond}
		s := startToys(t, nil, Options{}, g, nil)
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.Write(command('e', nil)) // comes before the word
		r := bufio.NewReader(nc)
		line, _ := r.ReadString('\n')
		second, _ := r.ReadString('\n')
		if line != "hi\n" || second != string(answer('e', nil)) {
			t.Errorf("%q %q", line, second)
		}
		nc.Close()
		eventually(t, func() bool { return g.given.Load() == 0 })
	})
	t.Run("gone meanwhile", func(t *testing.T) {
		g := &toyGate{wait: time.Hour}
		s := startToys(t, nil, Options{}, g, nil)
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return s.Len() == 1 })
		nc.Close()
		eventually(t, func() bool { return s.Len() == 0 })
	})
}

func TestUnixSocketsAndProxies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err)
	}
	s := startToys(t, l, Options{}, nil, nil)
	nc, r := dialToy(t, "unix", path)
	if err := toySession(nc, r, mrand.New(mrand.NewPCG(1, 1)), 100, "eewlrbp"); err != nil {
		t.Error(err)
	}
	_ = s

	var p Proxy
	p.Set(ProxyConfig{Mode: ProxyRequired, Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	from := make(chan netip.AddrPort, 1)
	s = startToys(t, NewListener(tl, &p, slog.New(slog.DiscardHandler)), Options{}, nil, func(h *toy) { from <- h.c.Remote() })
	pc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	pc.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(pc, "PROXY TCP4 192.0.2.1 192.0.2.2 1234 21\r\n"+string(command('e', nil)))
	r = bufio.NewReader(pc)
	r.ReadString('\n')
	if line, _ := r.ReadString('\n'); line != string(answer('e', nil)) {
		t.Errorf("behind the header: %q", line)
	}
	if a := <-from; a.String() != "192.0.2.1:1234" {
		t.Errorf("the client is %s", a)
	}
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("it never came\n%s", buf[:runtime.Stack(buf, true)])
		}
	}
}

func BenchmarkParkedRoundTrip(b *testing.B) { benchToy(b, 'e') }
func BenchmarkWork(b *testing.B)            { benchToy(b, 'w') }
func BenchmarkLiftAndPark(b *testing.B)     { benchToy(b, 'l') }

func benchToy(b *testing.B, verb byte) {
	s := startToys(b, nil, Options{}, nil, nil)
	nc, r := dialToy(b, "tcp", s.addr)
	cmd := command(verb, nil)
	b.ReportAllocs()
	for b.Loop() {
		nc.Write(cmd)
		if _, err := r.ReadSlice('\n'); err != nil {
			b.Fatal(err)
		}
	}
}

// TestStalledPeerIsReset: what the system holds for a peer that takes nothing goes with the connection.
func TestStalledPeerIsReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := NewStream(nc, 100*time.Millisecond)
	for err == nil {
		_, err = s.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	s.Finish()
	peer.SetDeadline(time.Now().Add(30 * time.Second))
	if n, err := io.Copy(io.Discard, peer); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the peer reads %d bytes to the end: %v", n, err)
	}
}
