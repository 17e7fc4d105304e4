package object

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// observed is a Bucket whose requests are told of.
type observed struct {
	Bucket
	about vfs.Description
	tell  func(provider int, operation string, d time.Duration, err error) // or nil
	log   *slog.Logger
	said  atomic.Int64 // when a refusal was logged last, in Unix nanoseconds
}

// sayEvery is how often the refusals of one storage are logged.
const sayEvery = 10 * time.Second

// done tells of a request. To find nothing, or something where nothing should be, is an answer. A refusal is the
// client's answer, too, and no protocol logs it; but it is our credentials that were refused, which only the operator
// can change.
func (b *observed) done(operation string, begun time.Time, err error) {
	if errors.Is(err, fs.ErrPermission) {
		if last, now := b.said.Load(), time.Now().UnixNano(); now-last > int64(sayEvery) && b.said.CompareAndSwap(last, now) {
			b.log.Warn("the storage refuses what the account may do", "operation", operation, "storage", b.about.Identity, "error", err)
		}
	}
	if b.tell == nil {
		return
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
		err = nil
	}
	b.tell(b.about.Provider, operation, time.Since(begun), err)
}

func (b *observed) Head(ctx context.Context, key string) (Object, error) {
	begun := time.Now()
	o, err := b.Bucket.Head(ctx, key)
	b.done("head", begun, err)
	return o, err
}

func (b *observed) List(ctx context.Context, q Query) (Page, error) {
	begun := time.Now()
	p, err := b.Bucket.List(ctx, q)
	b.done("list", begun, err)
	return p, err
}

func (b *observed) Get(ctx context.Context, key string, off, n int64, version string) (io.ReadCloser, Object, error) {
	begun := time.Now()
	r, o, err := b.Bucket.Get(ctx, key, off, n, version)
	b.done("get", begun, err)
	return r, o, err
}

func (b *observed) Put(ctx context.Context, key string, body Body, meta Meta, onlyNew bool) (Object, error) {
	begun := time.Now()
	o, err := b.Bucket.Put(ctx, key, body, meta, onlyNew)
	b.done("put", begun, err)
	return o, err
}

func (b *observed) Begin(ctx context.Context, key string, meta Meta, onto *Object, onlyNew bool) (Parts, error) {
	begun := time.Now()
	p, err := b.Bucket.Begin(ctx, key, meta, onto, onlyNew)
	b.done("begin", begun, err)
	if err != nil {
		return nil, err
	}
	return &observedParts{p, b}, nil
}

func (b *observed) Copy(ctx context.Context, from Object, to string, meta *Meta, onlyNew bool) (Object, error) {
	begun := time.Now()
	o, err := b.Bucket.Copy(ctx, from, to, meta, onlyNew)
	b.done("copy", begun, err)
	return o, err
}

func (b *observed) Delete(ctx context.Context, keys []string) error {
	begun := time.Now()
	err := b.Bucket.Delete(ctx, keys)
	b.done("delete", begun, err)
	return err
}

func (b *observed) Sweep(ctx context.Context, prefix string, t time.Time) (int, error) {
	begun := time.Now()
	n, err := b.Bucket.Sweep(ctx, prefix, t)
	b.done("sweep", begun, err)
	return n, err
}

// observedParts are the Parts of an observed Bucket.
type observedParts struct {
	Parts
	b *observed
}

func (p *observedParts) Put(ctx context.Context, n int, body Body) error {
	begun := time.Now()
	err := p.Parts.Put(ctx, n, body)
	p.b.done("part", begun, err)
	return err
}

func (p *observedParts) Complete(ctx context.Context, n int, meta Meta, onlyNew bool) (Object, error) {
	begun := time.Now()
	o, err := p.Parts.Complete(ctx, n, meta, onlyNew)
	p.b.done("complete", begun, err)
	return o, err
}

func (p *observedParts) Abort(ctx context.Context) error {
	begun := time.Now()
	err := p.Parts.Abort(ctx)
	p.b.done("abort", begun, err)
	return err
}
