package account

import (
	"context"
	"errors"
)

// Lock is a write lock of WebDAV (RFC 4918 6) as a store keeps it. Its root is a path in a storage, so that it
// holds for everyone who reaches the file, by whatever mount and protocol.
type Lock struct {
	Token     string `json:"token"` // "urn:uuid:…"
	Storage   string `json:"-"`     // the storage's identity
	Path      string `json:"-"`     // in the storage; any bytes but NUL, "" its root
	Exclusive bool   `json:"exclusive,omitempty"`
	Infinite  bool   `json:"infinite,omitempty"`
	Owner     string `json:"owner,omitempty"` // the XML inside DAV:owner
	Timeout   int64  `json:"timeout"`         // ms, as it was granted
	Expires   int64  `json:"expires"`         // ms since the epoch
	Username  string `json:"username"`
}

// LockLimits bound the locks of one user and of all.
type LockLimits struct{ PerUser, Total int }

// Errors of Locks and Props. Test with errors.Is.
var (
	// ErrConflict: another lock stands against the one that was asked for.
	ErrConflict = errors.New("conflicting lock")
	// ErrLimit: there are as many, or as large ones, as may be.
	ErrLimit = errors.New("limit reached")
)

// LockConflict is an ErrConflict that says with which lock.
type LockConflict struct{ With Lock }

func (c *LockConflict) Error() string { return ErrConflict.Error() }

// Unwrap makes every LockConflict an ErrConflict.
func (c *LockConflict) Unwrap() error { return ErrConflict }

// Locks keeps write locks, for all nodes. What has expired is as if it were not there. Every change writes a
// change row of KindLock.
type Locks interface {
	// AddLock keeps l, unless one of another node stands against it (*LockConflict) or there are too many (ErrLimit).
	AddLock(ctx context.Context, l Lock, lim LockLimits) error
	// RefreshLock gives a lock a new end. ErrNotFound says that there is none any more.
	RefreshLock(ctx context.Context, token string, timeout, expires int64) error
	// RemoveLocks forgets locks; those that are not there are passed over.
	RemoveLocks(ctx context.Context, tokens ...string) error
	// ListLocks gives all.
	ListLocks(ctx context.Context) ([]Lock, error)
}

// PropName names a dead property (RFC 4918 4.5).
type PropName struct {
	Space string `json:"ns,omitempty"`
	Local string `json:"name"`
}

// Prop is a dead property: what a client has stored with a resource.
type Prop struct {
	PropName
	XML  string `json:"xml,omitempty"`  // what stands inside the property's element
	Lang string `json:"lang,omitempty"` // xml:lang
}

// PropLimits bound the properties of one resource, and the resources of a storage that have any.
type PropLimits struct {
	Count, Bytes int // of one resource
	Resources    int // of a storage
}

// Resource is a file or directory with properties.
type Resource struct{ Storage, Path string }

// Props keeps dead properties by storage and path (as of Lock). The first properties in a directory write a
// change row of KindProps.
type Props interface {
	Props(ctx context.Context, at Resource) ([]Prop, error)
	// PropsIn gives those of dir's children, by name. It stops at about maxBytes; whole says that it did not.
	PropsIn(ctx context.Context, dir Resource, maxBytes int) (of map[string][]Prop, whole bool, err error)
	// PatchProps removes, then sets, in one step.
	PatchProps(ctx context.Context, at Resource, set []Prop, remove []PropName, lim PropLimits) error
	// MoveProps moves those of from to to, and with tree those of all below it. What to had is gone.
	MoveProps(ctx context.Context, from, to Resource, tree bool) error
	// CopyProps copies those of one resource; what to had is gone.
	CopyProps(ctx context.Context, from, to Resource, lim PropLimits) error
	// RemoveProps removes those of at, and with tree those of all below it.
	RemoveProps(ctx context.Context, at Resource, tree bool) error
	// PropDirs calls yield for the directories whose children have properties, each at least once.
	PropDirs(ctx context.Context, yield func(dir Resource)) error
}
