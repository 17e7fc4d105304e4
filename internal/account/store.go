package account

import (
	"context"
	"errors"
	"fmt"
)

// Errors of a store. Test with errors.Is. Any other error means that the store failed: a login must
// then be refused, never granted (AUTH-5).
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	// ErrChanged means that the record is not any more what the caller has seen.
	ErrChanged   = errors.New("changed meanwhile")
	ErrForeignDB = errors.New("the database was not made by Gantry")
	// ErrUnavailable means that the database cannot be reached now. What was asked may be asked again later.
	ErrUnavailable = errors.New("the database cannot be reached")
)

// ValidationError is a record that cannot be stored. A dangling reference is one too, on every driver.
type ValidationError struct {
	Kind  string // "user", "folder", …
	Name  string // the record's natural key
	Field string // JSON path inside the record, such as "filters.file_patterns[0].path"
	Code  string // stable word: "required", "range", "duplicate", "reference", …
	Text  string // what is wrong and what to change
}

func (e *ValidationError) Error() string {
	return fmt.Sprintf("%s %q: %s: %s", e.Kind, e.Name, e.Field, e.Text)
}

// Page asks for a part of a list in the order of the natural key.
type Page struct {
	After string // names after this one; empty from the start
	Limit int    // 0 for the store's default of 500; at most 10000
	Desc  bool
	// Offset passes over so many records first.
	Offset int
	// Of lists only what refers to a record: the users of a role, the shares of a user.
	Of Ref
	// Prefix lists only keys that begin with it.
	Prefix string
}

// Users keeps users. Reads return copies that the caller may change. Get and list fill the counters, and
// the folders of VirtualFolders from their own records. Add and Update validate, write one change row in
// the same transaction, and leave the counters alone. Names are looked up by the naming rules. An Update whose IfVersion
// is not 0 and not the stored record's Version is ErrChanged.
type Users interface {
	User(ctx context.Context, name string) (User, error)
	ListUsers(ctx context.Context, p Page) ([]User, error)
	AddUser(ctx context.Context, u *User) error
	UpdateUser(ctx context.Context, u *User) error
	// EditUser gives the stored user to fn and writes what fn made of it, in one transaction: what the login
	// itself changes (a new form of the same password, a used recovery code). An error of fn ends it without a
	// change and is given back. Times stay as they are unless fn sets them.
	EditUser(ctx context.Context, name string, fn func(u *User) error) error
	DeleteUser(ctx context.Context, name string) error // with the user's shares and API keys
}

// Folders keeps virtual folders.
type Folders interface {
	Folder(ctx context.Context, name string) (Folder, error)
	ListFolders(ctx context.Context, p Page) ([]Folder, error)
	AddFolder(ctx context.Context, f *Folder) error
	UpdateFolder(ctx context.Context, f *Folder) error
	DeleteFolder(ctx context.Context, name string) error // also unmaps it from users and groups
}

// Groups keeps groups.
type Groups interface {
	Group(ctx context.Context, name string) (Group, error)
	ListGroups(ctx context.Context, p Page) ([]Group, error)
	AddGroup(ctx context.Context, g *Group) error
	UpdateGroup(ctx context.Context, g *Group) error
	DeleteGroup(ctx context.Context, name string) error // refused while it is in use
}

// CounterKey names an account whose use is counted: a user or a folder.
type CounterKey struct {
	Kind Kind // KindUser or KindFolder
	Name string
}

// Delta is a change of an account's counters. Values may be negative; a counter never falls below zero.
type Delta struct {
	Key                  CounterKey
	Files                int
	Bytes                int64
	Uploaded, Downloaded int64 // bytes, users only: data-transfer totals
}

// Usage is an account's counters.
type Usage struct {
	Files                int
	Bytes                int64
	Uploaded, Downloaded int64 // bytes
	LastUpdate           int64 // ms
}

// Counters keeps what is used and seen. These writes add no change row and do not touch Version.
type Counters interface {
	Usage(ctx context.Context, key CounterKey) (Usage, error)
	// Settle applies all deltas in one transaction.
	Settle(ctx context.Context, deltas []Delta) error
	// SetUsage replaces files and bytes by what a scan found.
	SetUsage(ctx context.Context, key CounterKey, files int, bytes int64) error
	SetLastLogin(ctx context.Context, user string, ms int64) error
	// MarkDirty says that uploads to these accounts are under way on node; ClearDirty takes it back.
	// What is still marked when a node starts was cut by a crash and must be scanned.
	MarkDirty(ctx context.Context, node string, keys []CounterKey) error
	ClearDirty(ctx context.Context, node string, keys []CounterKey) error
	Dirty(ctx context.Context, node string) ([]CounterKey, error)
}

// Steps keeps which one-time codes were used.
type Steps interface {
	// UseStep remembers the newest time step of a user's one-time codes. fresh is false if step, or a later one,
	// has been used before.
	UseStep(ctx context.Context, user string, step int64) (fresh bool, err error)
}

// Change is one row of the changes table: every write of a record adds one in its transaction.
type Change struct {
	Seq  int64
	Kind Kind
	Key  string
	Node string
}

// Changes lets caches follow the records.
type Changes interface {
	// ChangesSince returns up to limit rows with Seq > after, and the newest Seq there is.
	ChangesSince(ctx context.Context, after int64, limit int) (rows []Change, newest int64, err error)
}

// Lists counts what a list would give without its limit, offset and After, or names what it gives.
type Lists interface {
	Names(ctx context.Context, kind Kind, p Page) ([]string, error)
	Count(ctx context.Context, kind Kind, p Page) (int, error)
}

// Store is every role in one, as a provider implements it.
type Store interface {
	Users
	Folders
	Groups
	Records
	Counters
	Steps
	Changes
	Lists
	Locks
	Props
	// Load applies a dump in one transaction: all of it or nothing.
	Load(ctx context.Context, d *Dump, opt LoadOptions) error
	// Dump reads everything. scopes are the dump's member names; none means all.
	Dump(ctx context.Context, scopes ...string) (*Dump, error)
	// Reset removes every record, lock and property.
	Reset(ctx context.Context) error
	Ping(ctx context.Context) error
	Close() error
}
