package sftp

import (
	"bytes"
	"slices"
	"sync"

	"github.com/gantryhq/gantry/vfs"
)

// maxJobs is how many requests may wait beside the packet loop; more hold up the loop, and so the peer.
const maxJobs = 64

// jobs are the requests that left the packet loop because they may wait. A job begins when those before it
// that touch the same handle or path have ended, so that each file sees its requests in order (draft 6.1).
type jobs struct {
	c       *conn
	room    chan struct{} // one for each job that has not ended
	workers chan struct{} // one for each job that runs
	running sync.WaitGroup

	mu   sync.Mutex // guards list
	list []*job     // in the order of arrival
}

type job struct {
	r     request
	where []vfs.Path // of what it names
	done  chan struct{}
}

func (j *jobs) init(c *conn) {
	j.c, j.room, j.workers = c, make(chan struct{}, maxJobs), make(chan struct{}, c.opt.Workers)
}

// paths lists what a request touches.
func (r *request) paths() []vfs.Path {
	var ps []vfs.Path
	for _, h := range []*handle{r.h, r.h2} {
		if h != nil {
			ps = append(ps, h.where())
		}
	}
	if r.command.takes&path != 0 {
		ps = append(ps, r.p)
	}
	if r.command.takes&path2 != 0 {
		ps = append(ps, r.p2)
	}
	return ps
}

// before reports whether a request on b must wait for a.
func before(a *request, aPaths []vfs.Path, b *request, bPaths []vfs.Path) bool {
	for _, h := range []*handle{a.h, a.h2} {
		if h != nil && (h == b.h || h == b.h2) && (a.command.does|b.command.does) != 0 {
			return true
		}
	}
	if !a.exclusive && !b.exclusive {
		return false
	}
	for _, p := range aPaths {
		for _, q := range bPaths {
			if p.Within(q) || q.Within(p) {
				return true
			}
		}
	}
	return false
}

// conflict reports whether r must wait for a job.
func (j *jobs) conflict(r *request) bool {
	ps := r.paths()
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.list, func(x *job) bool { return before(&x.r, x.where, r, ps) })
}

// enqueue makes a job of r, whose packet is b. It waits for room.
func (c *conn) enqueue(r *request, b []byte) error {
	j := &c.jobs
	select {
	case j.room <- struct{}{}:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	q := new(Packet)
	if err := Parse(bytes.Clone(b), q); err != nil { // the loop's buffer goes on to the next packet
		return c.malformed(err)
	}
	x := &job{r: *r, done: make(chan struct{})}
	x.r.Packet = q
	x.where = x.r.paths()
	var first []*job
	j.mu.Lock()
	for _, o := range j.list {
		if before(&o.r, o.where, &x.r, x.where) {
			first = append(first, o)
		}
	}
	j.list = append(j.list, x)
	j.mu.Unlock()
	c.queued.Add(1)
	j.running.Go(func() { j.run(x, first) }) // ends with the request; wait waits
	return nil
}

// run handles x after those that come first, and sends its reply.
func (j *jobs) run(x *job, first []*job) {
	c := j.c
	defer func() {
		j.mu.Lock()
		j.list = slices.DeleteFunc(j.list, func(o *job) bool { return o == x })
		j.mu.Unlock()
		c.queued.Add(-1)
		close(x.done)
		<-j.room
	}()
	defer c.recovered(&x.r)
	for _, o := range first {
		<-o.done
	}
	j.workers <- struct{}{}
	defer func() { <-j.workers }()
	w := &output{pool: c.opt.Buffers, send: c.send}
	if c.ctx.Err() == nil {
		c.run(&x.r, w)
	} else {
		w.status(x.r.ID, status{CodeFailure, errSessionIsEnding.Error()})
	}
	if w.flush(); w.err != nil {
		c.cancel(w.err)
	}
}

func (j *jobs) wait() { j.running.Wait() }
