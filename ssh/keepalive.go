package ssh

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errSilent = errors.New("ssh: the peer does not answer")
	errStuck  = errors.New("ssh: the peer does not read")
)

// idleConn is how long a connection may be without a channel.
const idleConn = 5 * time.Minute

// keepAlive watches the connection without a goroutine of its own. A peer that sent nothing for an interval
// is asked for a sign of life; one that is silent, or takes nothing of what we send, for KeepaliveCount
// intervals more is cut off (RES-2). The request's answer counts as bytes that came, nothing else of it.
func (c *conn) keepAlive() (stop func()) {
	every := c.srv.keepalive
	if every <= 0 {
		return func() {}
	}
	var (
		mu      sync.Mutex // orders the ticks with stop
		ended   bool
		timer   *time.Timer
		seen    = c.w.reads.Load()
		silent  int
		flush   uint64
		stuck   int
		empty   time.Duration
		pending atomic.Bool
	)
	tick := func() {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			return
		}
		defer timer.Reset(every)
		if f := c.w.stalled(); f != 0 && f == flush {
			if stuck++; stuck >= c.srv.cfg.KeepaliveCount {
				go c.close(errStuck)
				return
			}
		} else {
			flush, stuck = f, 0
		}
		if len(c.sessionIDs()) > 0 {
			empty = 0
		} else if empty += every; empty > idleConn {
			go c.close(errors.New("ssh: the connection has no channel"))
			return
		}
		if n := c.w.reads.Load(); n != seen {
			seen, silent = n, 0
			return
		}
		if silent++; silent > c.srv.cfg.KeepaliveCount {
			go c.close(errSilent)
			return
		}
		if pending.CompareAndSwap(false, true) {
			go func() { // ends with the answer, or with the connection
				defer pending.Store(false)
				c.sc.SendRequest("keepalive@openssh.com", true, nil)
			}()
		}
	}
	mu.Lock()
	timer = time.AfterFunc(every, tick)
	mu.Unlock()
	return func() {
		mu.Lock()
		ended = true
		timer.Stop()
		mu.Unlock()
	}
}
