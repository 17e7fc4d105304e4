// Package recordstore holds the rules by which account records are kept, once for every database: what refers to
// what, which secrets stay, what a change moves, what a load and a dump are. An Engine below it keeps rows.
package recordstore

import (
	"context"

	"github.com/gantryhq/gantry/internal/account"
)

// Row is a record as an engine keeps it.
type Row struct {
	Name    string
	ID      int64  // never used twice within a kind
	Version int64  // grows with every Put and Touch
	Doc     []byte // JSON
	Counters
}

// Counters are what is counted and seen of a user or folder, apart from its document.
type Counters struct {
	Files                   int
	Bytes                   int64
	QuotaUpdate             int64 // ms
	Uploaded, Downloaded    int64 // bytes
	LastLogin               int64 // ms
	FirstUpload, FirstFetch int64 // ms
}

// Tx is one transaction. It is used by one goroutine and not after its end.
type Tx interface {
	Get(kind account.Kind, name string) (row Row, ok bool, err error)
	// GetAll is Get of those names that there are.
	GetAll(kind account.Kind, names []string) (map[string]Row, error)
	// Put writes the document of a new or a known record; the counters stay.
	Put(kind account.Kind, name string, doc []byte) error
	Touch(kind account.Kind, name string) error
	Delete(kind account.Kind, name string) (ok bool, err error) // with its counters and what it refers to
	Rows(kind account.Kind, p account.Page) ([]Row, error)      // in order; p.Limit is never 0
	Names(kind account.Kind, p account.Page) ([]string, error)  // those of Rows
	Count(kind account.Kind, p account.Page) (int, error)       // of p.Of and p.Prefix

	SetRefs(kind account.Kind, name string, to []account.Ref) error
	Referrers(kind account.Kind, name string) ([]account.Ref, error) // sorted; At is empty
	// ReferrersOf is Referrers of each of names that has any.
	ReferrersOf(kind account.Kind, names []string) (map[string][]account.Ref, error)

	Add(d account.Delta, now int64) error // of a record that may be gone; nothing falls below zero
	SetUsage(key account.CounterKey, c Counters) (ok bool, err error)
	SetLastLogin(user string, ms int64) error
	UseStep(user string, step int64) (fresh, ok bool, err error) // ok: there is the user

	Mark(node string, key account.CounterKey) error
	Unmark(node string, key account.CounterKey) error
	Marked(node string) ([]account.CounterKey, error) // sorted

	Item(kind account.Kind, key string) (it Item, ok bool, err error)
	PutItem(kind account.Kind, it Item) error
	DeleteItem(kind account.Kind, key string) error // also if there is none
	DeleteItems(kind account.Kind) error
	// ItemsIn gives the items of a parent, ItemNames the names of a scope's, or all with "", until yield has enough. yield
	// must not call the Tx.
	ItemsIn(kind account.Kind, parent string, yield func(Item) bool) error
	ItemNames(kind account.Kind, scope string, yield func(name string) bool) error
	CountItems(kind account.Kind, scope string) (int, error)
	// PlacedItems gives the keys of the first items with a place from from on and before to, in the order of places;
	// CountPlaced counts such places, DeletePlaced deletes such items. Only a kind that IsPlaced has them.
	PlacedItems(kind account.Kind, from, to string, limit int) ([]string, error)
	CountPlaced(kind account.Kind, from, to string) (int, error)
	DeletePlaced(kind account.Kind, from, to string) error

	Changed(kind account.Kind, name, node string) error
	ChangesSince(after int64, limit int) (rows []account.Change, newest int64, err error)
}

// Engine is a database of rows.
type Engine interface {
	// Read gives f one state of the database.
	Read(ctx context.Context, f func(Tx) error) error
	// Write does all of f or, if it gives an error, nothing.
	// f may be run again when it was undone, and finds nobody else writing records.
	Write(ctx context.Context, f func(Tx) error) error
	// WriteRows is Write for f whose every call changes rows by what is in them alone, without a look before: counters
	// and marks. Others may write meanwhile.
	WriteRows(ctx context.Context, f func(Tx) error) error
	Ping(ctx context.Context) error
	Close() error
}

// After is the first text in the order of bytes that does not begin with prefix, which is ASCII.
func After(prefix string) string {
	return prefix[:len(prefix)-1] + string(prefix[len(prefix)-1]+1)
}

// KeptChanges is how many change rows an engine keeps at least. A cache that is further behind starts anew.
const KeptChanges = 100_000
