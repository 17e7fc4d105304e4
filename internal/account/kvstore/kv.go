// Package kvstore keeps account records in an ordered map of bytes: a bbolt file (driver "bolt"), or memory (driver
// "memory").
package kvstore

import (
	"context"

	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// bucket is an ordered map. What get and scan give is valid until the next write and must not be changed.
type bucket interface {
	get(key []byte) []byte // nil: no such key
	put(key, value []byte) error
	delete(key []byte) error
	// scan gives the keys from a key on, or back from it (from the last one if it is nil), until f has enough.
	// f must not write.
	scan(from []byte, back bool, f func(key, value []byte) bool)
}

// txn is one transaction.
type txn interface {
	bucket(name string) bucket
}

// db is a database of buckets.
type db interface {
	view(f func(txn) error) error
	update(f func(txn) error) error // all of f, or nothing after an error
	close() error
}

// The buckets beside one for each kind of record ("gantry_" and the kind).
const (
	metaBucket     = "gantry_meta" // version of the layout
	countersBucket = "gantry_counters"
	refsBucket     = "gantry_refs"     // who refers to what
	backRefsBucket = "gantry_backrefs" // what is referred to by whom
	changesBucket  = "gantry_changes"
	dirtyBucket    = "gantry_dirty"
)

// layout is the version that this Gantry reads and writes.
const layout = 1

// engine implements recordstore.Engine.
type engine struct{ db db }

// Read implements recordstore.Engine.
func (e *engine) Read(ctx context.Context, f func(recordstore.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.db.view(func(t txn) error { return f(&tx{t}) })
}

// Write implements recordstore.Engine.
func (e *engine) Write(ctx context.Context, f func(recordstore.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.db.update(func(t txn) error {
		if err := f(&tx{t}); err != nil {
			return err
		}
		return ctx.Err()
	})
}

// WriteRows implements recordstore.Engine.
func (e *engine) WriteRows(ctx context.Context, f func(recordstore.Tx) error) error {
	return e.Write(ctx, f)
}

// Ping implements recordstore.Engine.
func (e *engine) Ping(ctx context.Context) error {
	return e.Read(ctx, func(recordstore.Tx) error { return nil })
}

// Close implements recordstore.Engine.
func (e *engine) Close() error { return e.db.close() }
