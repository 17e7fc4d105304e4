package object

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// fake is a bucket in memory with the rules of a real one. fault, if set, is asked before each call; what it
// returns is the call's error.
type fake struct {
	limits Limits
	fault  func(op, key string, n int) error
	// torn makes a Get break off after so many bytes.
	torn func(key string, off int64) int

	calls  sync.Map // op → *atomic.Int64
	flying atomic.Int64
	peak   atomic.Int64

	mu      sync.Mutex
	objects map[string]fakeObject
	uploads map[*fakeParts]time.Time
	closed  bool
	now     time.Duration
}

type fakeObject struct {
	Object
	data []byte
}

func newFake() *fake {
	return &fake{
		objects: map[string]fakeObject{}, uploads: map[*fakeParts]time.Time{},
		limits: Limits{
			PartSize: 5 << 20, Concurrency: 3, ReadSize: 2 << 20, Readers: 3, MaxParts: 10_000, MaxSingle: 5 << 30, MaxKey: 1024,
			MaxSize: 5 << 40, Page: 100, Batch: 50, ListTimes: true, MarkerSlash: true,
		},
	}
}

func (b *fake) call(ctx context.Context, op, key string, n int) error {
	c, _ := b.calls.LoadOrStore(op, new(atomic.Int64))
	c.(*atomic.Int64).Add(1)
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.fault != nil {
		return b.fault(op, key, n)
	}
	return nil
}

func (b *fake) count(op string) int64 {
	c, ok := b.calls.Load(op)
	if !ok {
		return 0
	}
	return c.(*atomic.Int64).Load()
}

func (b *fake) Limits() Limits { return b.limits }
func (b *fake) Describe() vfs.Description {
	return vfs.Description{Provider: 1, Bucket: "fake", Endpoint: "memory", Identity: "fake:memory/fake"}
}

func (b *fake) Head(ctx context.Context, key string) (Object, error) {
	if err := b.call(ctx, "head", key, 0); err != nil {
		return Object{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	if !ok {
		return Object{}, fs.ErrNotExist
	}
	return o.Object, nil
}

func (b *fake) List(ctx context.Context, q Query) (Page, error) {
	if err := b.call(ctx, "list", q.Prefix, 0); err != nil {
		return Page{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for k := range b.objects {
		if strings.HasPrefix(k, q.Prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	limit := b.limits.Page
	if q.Max > 0 {
		limit = min(limit, q.Max)
	}
	var p Page
	last := ""
	for _, k := range keys {
		show, isPrefix := k, false
		if i := strings.IndexByte(k[len(q.Prefix):], '/'); !q.Flat && i >= 0 {
			show, isPrefix = k[:len(q.Prefix)+i+1], true
		}
		if show == last || q.Token != "" && show <= q.Token {
			continue
		}
		if len(p.Objects)+len(p.Prefixes) == limit {
			p.Token = last
			break
		}
		if last = show; isPrefix {
			p.Prefixes = append(p.Prefixes, show)
		} else {
			p.Objects = append(p.Objects, b.objects[k].Object)
		}
	}
	return p, nil
}

func (b *fake) Get(ctx context.Context, key string, off, n int64, version string) (io.ReadCloser, Object, error) {
	if err := b.call(ctx, "get", key, int(n)); err != nil {
		return nil, Object{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	switch {
	case !ok:
		return nil, Object{}, fs.ErrNotExist
	case version != "" && o.Version != version:
		return nil, Object{}, ErrChanged
	}
	off = min(off, o.Size)
	data := o.data[off:min(o.Size, off+n)]
	var r io.Reader = bytes.NewReader(data)
	if b.torn != nil {
		if m := b.torn(key, off); m < len(data) {
			r = io.MultiReader(bytes.NewReader(data[:m]), brokenReader{})
		}
	}
	return &fakeBody{Reader: r, ctx: ctx}, o.Object, nil
}

type fakeBody struct {
	io.Reader
	ctx context.Context
}

func (f *fakeBody) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	return f.Reader.Read(p)
}
func (f *fakeBody) Close() error { return nil }

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func (b *fake) store(key string, data []byte, meta Meta, onlyNew bool) (Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.objects[key]; ok && onlyNew {
		return Object{}, fs.ErrExist
	}
	b.now++
	sum := sha256.Sum256(data)
	o := Object{
		Key: key, Size: int64(len(data)), Changed: time.Now(), ModTime: meta.ModTime, Type: meta.Type,
		ETag: fmt.Sprintf("%x", sum[:8]), Version: fmt.Sprint(int64(b.now)), Dir: meta.Dir && !strings.HasSuffix(key, "/"), Note: meta.Note,
	}
	b.objects[key] = fakeObject{o, data}
	return o, nil
}

func readBody(body Body) ([]byte, error) {
	data, err := io.ReadAll(body.Reader())
	if err == nil && int64(len(data)) != body.Size() {
		err = fmt.Errorf("the body has %d bytes and says %d", len(data), body.Size())
	}
	if err == nil && body.CRC32C() != Text(data).CRC32C() {
		err = errors.New("wrong checksum")
	}
	return data, err
}

func (b *fake) Put(ctx context.Context, key string, body Body, meta Meta, onlyNew bool) (Object, error) {
	if err := b.call(ctx, "put", key, 0); err != nil {
		return Object{}, err
	}
	data, err := readBody(body)
	if err != nil {
		return Object{}, err
	}
	return b.store(key, data, meta, onlyNew)
}

func (b *fake) Begin(ctx context.Context, key string, meta Meta, onto *Object, _ bool) (Parts, error) {
	if err := b.call(ctx, "begin", key, 0); err != nil {
		return nil, err
	}
	p := &fakeParts{b: b, key: key, parts: map[int][]byte{}}
	if onto != nil {
		b.mu.Lock()
		o, ok := b.objects[onto.Key]
		b.mu.Unlock()
		if !ok || o.Version != onto.Version {
			return nil, ErrChanged
		}
		p.head = o.data
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uploads[p] = time.Now()
	return p, nil
}

type fakeParts struct {
	b     *fake
	key   string
	head  []byte
	mu    sync.Mutex
	parts map[int][]byte
}

func (p *fakeParts) Put(ctx context.Context, n int, body Body) error {
	now := p.b.flying.Add(1)
	defer p.b.flying.Add(-1)
	for {
		if peak := p.b.peak.Load(); now <= peak || p.b.peak.CompareAndSwap(peak, now) {
			break
		}
	}
	if err := p.b.call(ctx, "part", p.key, n); err != nil {
		return err
	}
	data, err := readBody(body)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parts[n] = data
	return nil
}

func (p *fakeParts) Complete(ctx context.Context, n int, meta Meta, onlyNew bool) (Object, error) {
	if err := p.b.call(ctx, "complete", p.key, n); err != nil {
		return Object{}, err
	}
	data := slices.Clone(p.head)
	p.mu.Lock()
	for i := range n {
		part, ok := p.parts[i]
		if !ok || i < n-1 && len(part) < 5<<20 {
			p.mu.Unlock()
			return Object{}, fmt.Errorf("part %d of %d has %d bytes, %t", i, n, len(part), ok)
		}
		data = append(data, part...)
	}
	p.mu.Unlock()
	o, err := p.b.store(p.key, data, meta, onlyNew)
	if err == nil {
		p.b.mu.Lock()
		delete(p.b.uploads, p)
		p.b.mu.Unlock()
	}
	return o, err
}

func (p *fakeParts) Abort(ctx context.Context) error {
	if err := p.b.call(ctx, "abort", p.key, 0); err != nil {
		return err
	}
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if _, ok := p.b.uploads[p]; !ok {
		return ErrGone
	}
	delete(p.b.uploads, p)
	return nil
}

func (b *fake) Copy(ctx context.Context, from Object, to string, meta *Meta, onlyNew bool) (Object, error) {
	if err := b.call(ctx, "copy", to, 0); err != nil {
		return Object{}, err
	}
	b.mu.Lock()
	o, ok := b.objects[from.Key]
	b.mu.Unlock()
	if !ok {
		return Object{}, fs.ErrNotExist
	}
	if meta == nil {
		meta = &Meta{Type: o.Type, ModTime: o.ModTime, Dir: o.Dir, Note: o.Note}
	}
	return b.store(to, o.data, *meta, onlyNew)
}

func (b *fake) Delete(ctx context.Context, keys []string) error {
	if err := b.call(ctx, "delete", keys[0], len(keys)); err != nil {
		return err
	}
	if len(keys) > b.limits.Batch {
		return fmt.Errorf("%d keys in one batch", len(keys))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		delete(b.objects, k)
	}
	return nil
}

func (b *fake) Sweep(ctx context.Context, prefix string, t time.Time) (int, error) {
	if err := b.call(ctx, "sweep", prefix, 0); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for p, began := range b.uploads {
		if strings.HasPrefix(p.key, prefix) && began.Before(t) {
			delete(b.uploads, p)
			n++
		}
	}
	return n, nil
}

func (b *fake) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errors.New("closed twice")
	}
	b.closed = true
	return nil
}

func (b *fake) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// keys are all of them, sorted.
func (b *fake) keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for k := range b.objects {
		out = append(out, k)
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}

func (b *fake) orphans() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.uploads)
}
