package engine

import "sync"

// pool runs functions on goroutines that it keeps for the next ones: their stacks have grown already.
type pool struct {
	keep int
	all  sync.WaitGroup

	mu   sync.Mutex // guards what follows
	idle []chan task
	over bool
	size int // goroutines
}

// task is what a goroutine of a pool runs: a function, or those of a lane beginning with job.
type task struct {
	f    func()
	lane *Lane
	job  func() bool
}

func (t *task) run() {
	if t.lane != nil {
		t.lane.run(t.job)
	} else {
		t.f()
	}
}

// Go runs f, at once, on its own goroutine.
func (p *pool) Go(f func()) { p.start(task{f: f}) }

func (p *pool) start(t task) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		ch := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		ch <- t // it has room for one
		return
	}
	p.size++
	p.mu.Unlock()
	p.all.Go(func() { p.run(t) })
}

func (p *pool) run(t task) {
	ch := make(chan task, 1)
	for more := true; more; t, more = <-ch {
		t.run()
		t = task{}
		p.mu.Lock()
		if p.over || len(p.idle) >= p.keep {
			p.size--
			p.mu.Unlock()
			return
		}
		p.idle = append(p.idle, ch)
		p.mu.Unlock()
	}
}

// close ends the idle goroutines and waits for the others.
func (p *pool) close() {
	p.mu.Lock()
	p.over = true
	for _, ch := range p.idle {
		close(ch)
	}
	p.idle = nil
	p.mu.Unlock()
	p.all.Wait()
}

// Lane bounds how many functions of one kind run at once: whatever they wait for, others have lanes of their own. The
// queue is bounded by the number of connections, each of which has at most one function in it. Safe for concurrent use.
type Lane struct {
	pool  *pool // these are immutable
	limit int
	lanes *lanes // that it stands in by its name; nil for the engine's own
	name  string

	mu      sync.Mutex // guards what follows
	running int
	queue   []func() bool

	users int // guarded by lanes.mu
}

// enter runs f, or queues it while limit others run. It does not block. f says whether it has left the lane.
func (l *Lane) enter(f func() (left bool)) {
	l.mu.Lock()
	if l.running >= l.limit {
		l.queue = append(l.queue, f)
		l.mu.Unlock()
		return
	}
	l.running++
	l.mu.Unlock()
	l.pool.start(task{lane: l, job: f})
}

func (l *Lane) run(f func() bool) {
	for f != nil && !f() {
		f = l.next()
	}
}

// leave gives the place of a function that goes on to run to the next one.
func (l *Lane) leave() {
	if f := l.next(); f != nil {
		l.pool.start(task{lane: l, job: f})
	}
}

// next takes what waits longest; nil ends the caller.
func (l *Lane) next() func() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.running--
		l.queue = nil
		return nil
	}
	f := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return f
}

// lanes are those that have a name.
type lanes struct {
	mu sync.Mutex
	m  map[string]*Lane
}

// Lane gives the lane of that name, for limit functions at once. Whoever has got it gives it back with Release. Safe for
// concurrent use.
func (e *Engine) Lane(name string, limit int) *Lane {
	e.lanes.mu.Lock()
	defer e.lanes.mu.Unlock()
	l := e.lanes.m[name]
	if l == nil {
		l = &Lane{pool: &e.pool, limit: limit, lanes: &e.lanes, name: name}
		e.lanes.m[name] = l
	}
	l.users++
	return l
}

// Release gives the lane back, once for each call of Engine.Lane; of the engine's own and of nil it does nothing. Safe
// for concurrent use.
func (l *Lane) Release() {
	if l == nil || l.lanes == nil {
		return
	}
	l.lanes.mu.Lock()
	defer l.lanes.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(l.lanes.m, l.name)
	}
}
