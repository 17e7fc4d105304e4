package logs

import (
	"io"
	"sync"
	"time"
)

// What gathers lines: a system call for each of them costs more than making it.
const (
	gatherWait = 100 * time.Millisecond // after the first line
	gatherFull = 32 << 10               // bytes that are written without waiting longer
	gatherBusy = 48 << 10               // bytes past which who must not wait writes nothing
	gatherMost = 64 << 10               // bytes; past them whoever logs waits for the write
)

// gather writes lines together, in their order and each of them whole, within gatherWait. What it holds is lost with a
// process that is killed, and with nothing else: see Flush and Close. Safe for concurrent use.
type gather struct {
	w io.Writer

	out   sync.Mutex // held while w is written to; taken before mu
	spare []byte     // guarded by out

	mu     sync.Mutex // guards what follows
	lines  []byte
	timer  *time.Timer // runs while there are lines
	closed bool        // each line goes out at once
}

func newGather(w io.Writer) *gather {
	g := &gather{w: w}
	g.timer = time.AfterFunc(gatherWait, func() { g.Flush() })
	g.timer.Stop()
	return g
}

// Write takes whole lines. The error is that of a write that it waited for.
func (g *gather) Write(p []byte) (int, error) {
	var err error
	g.mu.Lock()
	for len(g.lines) > 0 && len(g.lines)+len(p) > gatherMost {
		g.mu.Unlock()
		err = g.Flush()
		g.mu.Lock()
	}
	was := len(g.lines)
	g.lines = append(g.lines, p...)
	switch {
	case g.closed:
	case was == 0:
		g.timer.Reset(gatherWait)
	case was < gatherFull && len(g.lines) >= gatherFull:
		g.timer.Reset(0)
	}
	closed := g.closed
	g.mu.Unlock()
	if closed {
		err = g.Flush()
	}
	return len(p), err
}

// busy reports whether so much has been gathered that a line may have to wait.
func (g *gather) busy() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed || len(g.lines) >= gatherBusy
}

// Flush writes what has been gathered. Every line that was there before the call is written after it.
func (g *gather) Flush() error {
	g.out.Lock()
	defer g.out.Unlock()
	g.mu.Lock()
	lines := g.lines
	g.lines = g.spare[:0]
	g.mu.Unlock()
	g.spare = lines
	if len(lines) == 0 {
		return nil
	}
	_, err := g.w.Write(lines)
	return err
}

// Close writes what has been gathered. Lines that come later go out at once.
func (g *gather) Close() error {
	g.mu.Lock()
	g.closed = true
	g.timer.Stop()
	g.mu.Unlock()
	return g.Flush()
}
