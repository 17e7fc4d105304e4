package engine

import (
	"sync"
	"time"
)

// The wheel's grain: a deadline is met at most a tick late.
const (
	tick  = 250 * time.Millisecond
	slots = 256
)

// timer is a connection's place in a wheel.
type timer struct {
	next, prev *Conn
	at         int64 // ticks; 0 is none
}

// wheel holds the deadlines of connections. A deadline that moves on costs nothing: the connection's place is looked at
// when its old time has come.
type wheel struct {
	mu   sync.Mutex // guards what follows
	slot [slots]*Conn
	now  int64 // ticks
	done chan struct{}
	all  sync.WaitGroup
}

func ticks(t time.Time) int64 { return t.UnixNano() / int64(tick) }

func (w *wheel) start() {
	w.now, w.done = ticks(time.Now()), make(chan struct{})
	w.all.Go(func() {
		t := time.NewTicker(tick)
		defer t.Stop()
		for {
			select {
			case now := <-t.C:
				w.turn(now)
			case <-w.done:
				return
			}
		}
	})
}

func (w *wheel) stop() {
	close(w.done)
	w.all.Wait()
}

// arm has c looked at by t, or sooner.
func (w *wheel) arm(c *Conn, t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := min(max(ticks(t)+1, w.now+1), w.now+slots-1)
	if c.timer.at != 0 {
		if c.timer.at <= at {
			return
		}
		w.remove(c)
	}
	i := int(at % slots)
	c.timer = timer{next: w.slot[i], at: at}
	if c.timer.next != nil {
		c.timer.next.timer.prev = c
	}
	w.slot[i] = c
}

func (w *wheel) disarm(c *Conn) {
	c.deadline.Store(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(c)
}

func (w *wheel) remove(c *Conn) {
	if c.timer.at == 0 {
		return
	}
	if p := c.timer.prev; p != nil {
		p.timer.next = c.timer.next
	} else {
		w.slot[c.timer.at%slots] = c.timer.next
	}
	if n := c.timer.next; n != nil {
		n.timer.prev = c.timer.prev
	}
	c.timer = timer{}
}

// turn looks at those whose time has come.
func (w *wheel) turn(now time.Time) {
	var due []*Conn
	w.mu.Lock()
	for end := ticks(now); w.now < end; {
		w.now++
		i := int(w.now % slots)
		for c := w.slot[i]; c != nil; {
			next := c.timer.next
			c.timer = timer{}
			due = append(due, c)
			c = next
		}
		w.slot[i] = nil
	}
	w.mu.Unlock()
	for _, c := range due {
		switch d := c.deadline.Load(); {
		case d == 0:
		case d > now.UnixNano():
			w.arm(c, time.Unix(0, d))
		default:
			c.expired()
		}
	}
}
