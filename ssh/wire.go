package ssh

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// readSize is what one read(2) takes at most: four packets of SSH's usual size.
	readSize = 128 << 10
	// writeSize bounds what is gathered for one write(2), and so what waits for a slow peer: a burst of
	// 256 KiB with the headers, padding and tags around it.
	writeSize = 272 << 10
	// gatherDelay is how long gathered bytes wait for a flush that does not come, because the one who
	// gathers is waiting for the peer's window.
	gatherDelay = 500 * time.Microsecond
	// lastWords is how long Close waits for a peer to take what was written before it.
	lastWords = time.Second

	msgNewKeys = 21 // RFC 4253 12
)

// buffers lends the wires of one server their buffers. A buffer has one owner from get to put.
type buffers struct {
	reads, writes sync.Pool
	lent          atomic.Int64 // in someone's hands
}

func newBuffers() *buffers {
	return &buffers{
		reads:  sync.Pool{New: func() any { b := make([]byte, readSize); return &b }},
		writes: sync.Pool{New: func() any { b := make([]byte, writeSize); return &b }},
	}
}

func (b *buffers) get(p *sync.Pool) *[]byte {
	b.lent.Add(1)
	return p.Get().(*[]byte)
}

func (b *buffers) put(p *sync.Pool, buf *[]byte) {
	b.lent.Add(-1)
	p.Put(buf)
}

// wire is the net.Conn below x/crypto, which writes and reads in pieces of 4 KiB or one packet. A wire reads
// 128 KiB at a time and, once it gathers, writes what a whole burst of packets has become. It holds a buffer
// only while bytes are in it: an idle connection has none.
type wire struct {
	net.Conn
	pools *buffers

	// Owned by the reading goroutine.
	replay []byte          // was read ahead of x/crypto
	in     *[]byte         // borrowed; nil when unread is empty
	unread []byte          // of in
	raw    syscall.RawConn // nil: reads cannot wait without a buffer
	try    func(fd uintptr) bool
	tryErr error
	more   bool // without raw: the last read filled its buffer, so more is to be expected
	paced  int  // bytes given while pace was limited

	reads atomic.Uint64 // reads that brought bytes: a sign of life
	pace  atomic.Int32  // clear, limited or free; changed with mu held

	// Owned by who flushes.
	trySend func(fd uintptr) bool
	sending []byte
	sendErr error

	turn sync.Mutex // held by one Write: its bytes stay together; taken before mu

	mu       sync.Mutex // guards what follows
	cond     sync.Cond  // a flush has ended, or the wire has
	swallow  []byte     // a write that is not to be sent: the version line, which has been
	out      *[]byte    // borrowed; nil when n is 0
	n        int        // bytes gathered in out
	gather   bool       // writes wait for Flush
	armed    bool       // timer is running
	timer    *time.Timer
	flushing bool   // one goroutine is in Conn.Write
	flushes  uint64 // begun
	closed   bool
	err      error // of the first failed write
}

func newWire(nc net.Conn, pools *buffers) *wire {
	w := &wire{Conn: nc, pools: pools}
	w.cond.L = &w.mu
	w.initRaw()
	return w
}

// The states of wire.pace.
const (
	paceClear   = iota // before our NEWKEYS
	paceLimited        // between it and the login phase
	paceFree
)

// paceLimit is what a peer may send after the key exchange before x/crypto has taken its service request:
// fewer than the 16 packets that x/crypto queues, the smallest of which has 28 bytes. With more of them a
// failure at this point would leave x/crypto's reader waiting for ever for someone to take the next.
const paceLimit = 440

// Free ends the limit: the peer has asked for the login service, and drain can find the queue from now on.
func (w *wire) Free() {
	w.mu.Lock()
	w.pace.Store(paceFree)
	w.cond.Broadcast()
	w.mu.Unlock()
}

// Read gives what has been read ahead, or waits for more.
func (w *wire) Read(p []byte) (int, error) {
	if w.pace.Load() != paceLimited {
		return w.read(p)
	}
	if w.paced >= paceLimit {
		w.mu.Lock()
		for w.pace.Load() == paceLimited && !w.closed {
			w.cond.Wait()
		}
		closed := w.closed
		w.mu.Unlock()
		if closed {
			w.release()
			return 0, net.ErrClosed
		}
		return w.read(p)
	}
	n, err := w.read(p[:min(len(p), paceLimit-w.paced)])
	w.paced += n
	return n, err
}

func (w *wire) read(p []byte) (int, error) {
	if len(w.replay) > 0 {
		n := copy(p, w.replay)
		if w.replay = w.replay[n:]; len(w.replay) == 0 {
			w.replay = nil
		}
		return n, nil
	}
	if len(w.unread) == 0 {
		if w.raw == nil && !w.more {
			// The caller's buffer is used while nothing hints at a stream, so that waiting costs none of ours.
			n, err := w.Conn.Read(p)
			w.more = n == len(p)
			if n > 0 {
				w.reads.Add(1)
			}
			return n, err
		}
		if err := w.fill(); err != nil {
			return 0, err
		}
		w.reads.Add(1)
	}
	n := copy(p, w.unread)
	if w.unread = w.unread[n:]; len(w.unread) == 0 {
		w.release()
	}
	return n, nil
}

// release gives the read buffer back. Only the reader may call it, or who knows that it has ended.
func (w *wire) release() {
	if w.in != nil {
		w.pools.put(&w.pools.reads, w.in)
		w.in, w.unread = nil, nil
	}
}

// fill reads at least one byte into a borrowed buffer.
func (w *wire) fill() error {
	if w.raw != nil {
		w.tryErr = nil
		if err := w.raw.Read(w.try); err != nil {
			return err
		}
		return w.tryErr
	}
	buf := w.pools.get(&w.pools.reads)
	n, err := w.Conn.Read(*buf)
	w.more = n == len(*buf)
	if n == 0 {
		w.pools.put(&w.pools.reads, buf)
		return err
	}
	w.in, w.unread = buf, (*buf)[:n]
	return nil
}

// Write sends p, or keeps it for Flush once the wire gathers. It waits while a full buffer is being written:
// a peer that does not read stops its writers. An error of a write that had been put off is told by the next one.
func (w *wire) Write(p []byte) (int, error) {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.swallow != nil {
		same := bytes.Equal(p, w.swallow)
		w.swallow = nil
		if !same {
			return 0, errors.New("ssh: the version line differs from the one that was sent")
		}
		return len(p), nil
	}
	if w.pace.Load() == paceClear && len(p) == 16 && p[5] == msgNewKeys {
		w.pace.Store(paceLimited)
	}
	for rest := p; ; {
		if w.err != nil {
			return len(p) - len(rest), w.err
		}
		if w.closed {
			return len(p) - len(rest), net.ErrClosed
		}
		if len(rest) == 0 {
			break
		}
		if w.out == nil {
			w.out = w.pools.get(&w.pools.writes)
		}
		k := copy((*w.out)[w.n:], rest)
		w.n += k
		rest = rest[k:]
		if w.n < len(*w.out) {
			continue
		}
		if w.flushing {
			w.cond.Wait()
			continue
		}
		w.flush()
	}
	if w.gather {
		w.arm()
		return len(p), nil
	}
	w.flush()
	return len(p), w.err
}

// Gather makes writes wait for Flush, from now on.
func (w *wire) Gather() {
	w.mu.Lock()
	w.gather = true
	w.mu.Unlock()
}

// Flush sends what was gathered. If another goroutine is sending, that one takes ours along.
func (w *wire) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	return w.err
}

// flush is called with mu held and gives it up while it writes.
func (w *wire) flush() {
	if w.armed {
		w.timer.Stop()
		w.armed = false
	}
	if w.flushing {
		return
	}
	w.flushing = true
	for w.n > 0 && w.err == nil {
		b, n := w.out, w.n
		w.out, w.n = nil, 0
		w.flushes++
		w.mu.Unlock()
		err := w.send((*b)[:n])
		w.pools.put(&w.pools.writes, b)
		w.mu.Lock()
		if err != nil {
			w.err = err
			w.drop()
			w.Conn.Close() // the reader must hear of it too
		}
		w.cond.Broadcast()
	}
	w.flushing = false
	w.cond.Broadcast()
}

// arm starts the timer that flushes if nobody else does.
func (w *wire) arm() {
	if w.armed || w.n == 0 || w.flushing {
		return
	}
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(gatherDelay, w.late)
		return
	}
	w.timer.Reset(gatherDelay)
}

func (w *wire) late() {
	w.mu.Lock()
	w.armed = false
	w.flush()
	w.mu.Unlock()
}

// stalled gives the number of the flush that is under way, or 0.
func (w *wire) stalled() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.flushing {
		return 0
	}
	return w.flushes
}

// Close sends what was written before it, if the peer takes it within lastWords, and closes the connection.
func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	if w.n > 0 || w.flushing {
		w.Conn.SetWriteDeadline(time.Now().Add(lastWords))
		w.flush()
		for w.flushing {
			w.cond.Wait()
		}
	}
	if w.armed {
		w.timer.Stop()
		w.armed = false
	}
	w.drop()
	w.cond.Broadcast()
	return w.Conn.Close()
}

// drop forgets what was gathered. Called with mu held.
func (w *wire) drop() {
	if w.out != nil {
		w.pools.put(&w.pools.writes, w.out)
		w.out, w.n = nil, 0
	}
}
