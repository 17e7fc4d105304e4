package ssh

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	gossh "golang.org/x/crypto/ssh"
)

func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	b = <-got
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// hidden is a conn that is no *net.TCPConn: reads cannot wait without a buffer.
type hidden struct{ net.Conn }

// Many writers, gathering or not: every record arrives whole, and each writer's in order.
func TestWireKeepsOrder(t *testing.T) {
	for _, gather := range []bool{false, true} {
		for _, hide := range []bool{false, true} {
			a, b := tcpPair(t)
			if hide {
				a, b = hidden{a}, hidden{b}
			}
			pools := newBuffers()
			w, r := newWire(a, pools), newWire(b, pools)
			if gather {
				w.Gather()
			}
			const writers, records = 8, 400
			var wg sync.WaitGroup
			for id := range writers {
				wg.Go(func() {
					for i := range records {
						rec := make([]byte, 12+(i*977)%9000)
						binary.BigEndian.PutUint32(rec, uint32(len(rec)))
						binary.BigEndian.PutUint32(rec[4:], uint32(id))
						binary.BigEndian.PutUint32(rec[8:], uint32(i))
						if _, err := w.Write(rec); err != nil {
							t.Error(err)
							return
						}
						if i%7 == 0 {
							w.Flush()
						}
					}
				})
			}
			go func() {
				wg.Wait()
				w.Close()
			}()
			var next [writers]uint32
			for {
				var head [12]byte
				if _, err := io.ReadFull(r, head[:]); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				id := binary.BigEndian.Uint32(head[4:])
				if n := binary.BigEndian.Uint32(head[8:]); id >= writers || n != next[id] {
					t.Fatalf("gather %v: writer %d: got record %d, want %d", gather, id, n, next[id])
				}
				next[id]++
				if _, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(head[:]))-12); err != nil {
					t.Fatal(err)
				}
			}
			for id, n := range next {
				if n != records {
					t.Errorf("gather %v: %d records of writer %d, want %d", gather, n, id, records)
				}
			}
			if n := pools.lent.Load(); n != 0 {
				t.Errorf("gather %v: %d buffers are still lent", gather, n)
			}
		}
	}
}

func TestWireGathersAndCloseSendsTheRest(t *testing.T) {
	a, b := net.Pipe()
	pools := newBuffers()
	w := newWire(a, pools)
	w.Gather()
	got := make(chan []byte, 10)
	go func() {
		buf := make([]byte, 1<<20)
		for {
			n, err := b.Read(buf)
			if err != nil {
				close(got)
				return
			}
			got <- bytes.Clone(buf[:n])
		}
	}()
	w.Write([]byte("one "))
	w.Write([]byte("two"))
	w.Flush()
	if p := <-got; string(p) != "one two" {
		t.Errorf("got %q, want both in one write", p)
	}
	w.Write([]byte("late"))
	if p := <-got; string(p) != "late" { // the timer's flush
		t.Errorf("got %q", p)
	}
	w.Write([]byte("last words"))
	w.Close()
	if p := <-got; string(p) != "last words" {
		t.Errorf("got %q, want what was written before Close", p)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
	if n := pools.lent.Load(); n != 0 {
		t.Errorf("%d buffers are still lent", n)
	}
}

// RES-1: a peer that does not read holds two buffers at most, and Close is not held by it.
func TestWireIsBounded(t *testing.T) {
	a, b := net.Pipe() // takes nothing that is not read
	defer b.Close()
	pools := newBuffers()
	w := newWire(a, pools)
	w.Gather()
	ended := make(chan error, 4)
	for range 4 {
		go func() {
			for {
				if _, err := w.Write(make([]byte, 10000)); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	eventually(t, "the writers are stopped", func() bool {
		if w.turn.TryLock() {
			w.turn.Unlock()
			return false
		}
		return w.stalled() != 0
	})
	if n := pools.lent.Load(); n > 2 {
		t.Errorf("%d buffers are lent, want 2 at most", n)
	}
	start := time.Now()
	w.Close()
	if d := time.Since(start); d > 5*lastWords {
		t.Errorf("Close took %v", d)
	}
	for range 4 {
		if err := <-ended; err == nil {
			t.Error("a writer ended without an error")
		}
	}
	eventually(t, "all buffers are back", func() bool { return pools.lent.Load() == 0 })
}

func TestWireTellsOfAFailedWrite(t *testing.T) {
	a, b := net.Pipe()
	w := newWire(a, newBuffers())
	w.Gather()
	b.Close()
	w.Write([]byte("x"))
	if err := w.Flush(); err == nil {
		t.Error("Flush hides the error")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("the next Write hides the error")
	}
	if _, err := w.Read(make([]byte, 1)); err == nil {
		t.Error("the reader does not hear of it")
	}
}

// An idle connection holds no buffer, before and after a transfer.
func TestIdleConnectionHoldsNoBuffer(t *testing.T) {
	s := startServer(t, nil)
	fc, err := sftp.NewClient(s.mustDial(t))
	if err != nil {
		t.Fatal(err)
	}
	f, err := fc.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 3<<20)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	eventually(t, "the buffers are back", func() bool { return s.pools.lent.Load() == 0 })
}

// If a new x/crypto changes adjustWindow, this fails: the peer must get exactly the window that was asked
// for, and the bytes it sends into it must arrive.
func TestWindowIsWidened(t *testing.T) {
	const base, extra, step = 2 << 20, 14 << 20, 32 << 10
	type result struct {
		ok bool
		n  int64
	}
	begin, done := make(chan struct{}), make(chan result, 1)
	s := startServer(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		cfg := s.shown.Load().ssh
		cfg.NoClientAuth = true
		_, chans, reqs, err := gossh.NewServerConn(nc, &cfg)
		if err != nil {
			t.Error(err)
			return
		}
		go gossh.DiscardRequests(reqs)
		ch, creqs, err := (<-chans).Accept()
		if err != nil {
			t.Error(err)
			return
		}
		// Enough is read first that x/crypto has consumed bytes to give back, as in an upload.
		n, err := io.ReadFull(ch, make([]byte, 4*step))
		if err != nil {
			t.Error(err)
		}
		// x/crypto keeps to itself what it has to give while the window is nearly full. The request comes
		// behind as many bytes as the window had at first.
		<-creqs
		go gossh.DiscardRequests(creqs)
		ok := widen(ch, extra)
		<-begin // the peer has filled its window while nobody reads
		m, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, ch, make([]byte, 256<<10))
		done <- result{ok, int64(n) + m}
	}()
	cl, err := gossh.Dial("tcp", ln.Addr().String(), &gossh.ClientConfig{User: "x", HostKeyCallback: gossh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ch, creqs, err := cl.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go gossh.DiscardRequests(creqs)
	// All of it fits only into the wider window, since the other side reads nothing meanwhile.
	sent := make(chan int, 1)
	go func() {
		n, err := ch.Write(make([]byte, base))
		if err != nil {
			t.Error(err)
		}
		if _, err := ch.SendRequest("mark", false, nil); err != nil {
			t.Error(err)
		}
		m, err := ch.Write(make([]byte, extra))
		if err != nil {
			t.Error(err)
		}
		sent <- n + m
	}()
	var n int
	select {
	case n = <-sent:
	case <-time.After(time.Minute): // a wait for what does not come; 16 MiB take a busy machine seconds
		t.Fatal("the window was not widened")
	}
	ch.CloseWrite()
	close(begin)
	if r := <-done; !r.ok || r.n != int64(n) {
		t.Errorf("got %+v, want %d bytes", r, n)
	}
}

// The wider windows of all channels come out of one budget, and go back into it.
func TestWindowBudget(t *testing.T) {
	var b windowBudget
	b.give(20)
	if !b.take(14) || b.take(14) || !b.take(6) || b.take(1) {
		t.Error("the budget is not kept")
	}
	b.give(14)
	if !b.take(14) {
		t.Error("what was given back is lost")
	}
}

func BenchmarkWireWrite(b *testing.B) {
	a, peer := tcpPair(b)
	go io.Copy(io.Discard, struct{ io.Reader }{peer})
	w := newWire(a, newBuffers())
	w.Gather()
	head, body := make([]byte, 4096), make([]byte, 32<<10-4096)
	b.SetBytes(256 << 10)
	b.ReportAllocs()
	for b.Loop() {
		for range 8 {
			w.Write(head)
			w.Write(body)
		}
		w.Flush()
	}
}

func BenchmarkWireRead(b *testing.B) {
	a, peer := tcpPair(b)
	go func() {
		buf := make([]byte, 1<<20)
		for {
			if _, err := peer.Write(buf); err != nil {
				return
			}
		}
	}()
	w := newWire(a, newBuffers())
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.ReadFull(w, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseOffer(b *testing.B) {
	in := append([]byte("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u6\r\n"), plainPacket(kexInitPayload(rawKex{}))...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseOffer(in); err != nil {
			b.Fatal(err)
		}
	}
}
