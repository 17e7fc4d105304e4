package object

import (
	"crypto/sha256"
	"fmt"
	"sync"
)

// Pool has trees with equal settings share one Bucket, with its connections, what is known of its directories and the
// locks of its keys. Safe for concurrent use.
type Pool struct {
	mu    sync.Mutex // guards cores
	cores map[string]*core
}

// NewPool makes an empty pool.
func NewPool() *Pool { return &Pool{cores: map[string]*core{}} }

// PoolKey is a key of settings, from which they cannot be read. No field may be a function that is not nil.
func PoolKey(kind string, settings any) string {
	return fmt.Sprintf("%s:%x", kind, sha256.Sum256(fmt.Appendf(nil, "%#v", settings)))
}

// Open gives a tree of the Bucket that open makes, or of one that is open already under key. With a nil Pool nothing is
// shared. All trees of a Pool must have equal Options but for their Prefix.
func (p *Pool) Open(key string, o Options, open func() (Bucket, error)) (*FS, error) {
	if p == nil {
		b, err := open()
		if err != nil {
			return nil, err
		}
		return New(b, o), nil
	}
	if c := p.find(key); c != nil {
		return &FS{core: c, prefix: o.Prefix}, nil
	}
	b, err := open() // which may ask who we are, so that nobody else waits for it
	if err != nil {
		return nil, err
	}
	f := New(b, o)
	f.core.ended = func() { p.drop(key, f.core) }
	p.mu.Lock()
	old := p.cores[key]
	if old != nil && old.hold() {
		p.mu.Unlock()
		f.Close()
		return &FS{core: old, prefix: o.Prefix}, nil
	}
	p.cores[key] = f.core
	p.mu.Unlock()
	return f, nil
}

// find gives a core that is in use, held once more, or nil.
func (p *Pool) find(key string) *core {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.cores[key]; c != nil && c.hold() {
		return c
	}
	return nil
}

func (p *Pool) drop(key string, c *core) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cores[key] == c {
		delete(p.cores, key)
	}
}
