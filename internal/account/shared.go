package account

import (
	"context"
	"errors"
	"time"
)

// NodeLife is how long a node counts as alive after its last sign, by the database's clock. What a dead node held is
// nobody's.
const NodeLife = 10 * time.Second

// Node is a process that works on a shared database.
type Node struct {
	ID      string `json:"id"` // of one start
	Host    string `json:"host,omitempty"`
	Port    int    `json:"port,omitempty"`
	Proto   string `json:"proto,omitempty"`
	Version string `json:"version,omitempty"`

	Started  int64 `json:"started"`   // ms
	LastSeen int64 `json:"last_seen"` // ms
}

// ErrFenced: the node was taken for dead, so that what it held is gone. It beats, and asks for it anew.
var ErrFenced = errors.New("the node was taken for dead by the others")

// Room is what may be used of an account: a number of files and of bytes.
type Room struct{ Files, Bytes int64 }

// Settlement is a change of counters, and what the node goes on to hold of the account's room after it.
type Settlement struct {
	Delta
	Lease Room
}

// HostState is what the nodes know together of an address.
type HostState struct {
	Host  string
	Score int           // in the window
	Ban   time.Duration // what is left of a ban; 0: none
}

// SharedValue is a value that all nodes see until it expires.
type SharedValue struct {
	Key   string
	Value []byte
}

// Shared is what several nodes on one database tell each other there: who is alive, and what each holds of what all
// of them have together. All times are the database's. Only SQL drivers have it.
type Shared interface {
	// Beat says that a node is alive. fresh: it was not known as that, so nothing is held for it.
	Beat(ctx context.Context, n Node) (fresh bool, err error)
	// Nodes lists those that are alive, by id.
	Nodes(ctx context.Context) ([]Node, error)
	// Leave takes a node out, with all that it holds, its marks of dirty accounts apart.
	Leave(ctx context.Context, node string) error
	// Orphans lists nodes that are not alive and have marks of dirty accounts; DirtyElsewhere says whether a living
	// node other than this one has one of key.
	Orphans(ctx context.Context) ([]string, error)
	DirtyElsewhere(ctx context.Context, node string, key CounterKey) (bool, error)

	// Lease has node hold need of the room that limit leaves (0: no limit), and some of spare, in place of what it held.
	// got is below need where the others leave no more. u is what is used.
	Lease(ctx context.Context, node string, key CounterKey, need, spare, limit Room) (got Room, u Usage, err error)
	// SettleLeased applies a batch once, however often it is called with that number; the next batch has a higher one.
	// ErrFenced if node is not alive.
	SettleLeased(ctx context.Context, node string, batch int64, list []Settlement) error
	// ReplaceUsage is SetUsage if the use is still was.
	ReplaceUsage(ctx context.Context, key CounterKey, was Usage, files int, bytes int64) (ok bool, err error)

	// EnterSession counts a session in unless the user has max on all nodes (0: no limit).
	EnterSession(ctx context.Context, node, id, user string, max int) (ok bool, err error)
	LeaveSession(ctx context.Context, node, id string) error

	// ScoreHost notes points of an address and gives the sum of the window.
	ScoreHost(ctx context.Context, host string, points int, window time.Duration) (total int, err error)
	// BanHost bans an address for d from now, or longer if it is banned longer, and forgets its points. ExtendBan moves
	// the end of a ban. FreeHost forgets the address.
	BanHost(ctx context.Context, host string, d time.Duration) error
	ExtendBan(ctx context.Context, host string, d, most time.Duration) error
	FreeHost(ctx context.Context, host string) (known bool, err error)
	// HostsSince lists the addresses whose state changed after a time that an earlier call gave, 0 for all.
	HostsSince(ctx context.Context, since int64, window time.Duration) (list []HostState, now int64, err error)

	// PutValue has all nodes see a value for life; ClaimValue does so for the first caller only.
	PutValue(ctx context.Context, kind, key string, value []byte, life time.Duration) error
	ClaimValue(ctx context.Context, kind, key string, value []byte, life time.Duration) (mine bool, err error)
	Value(ctx context.Context, kind, key string) (value []byte, ok bool, err error)
	DropValue(ctx context.Context, kind, key string) error
	// ValuesSince lists the values of a kind put after a time that an earlier call gave, 0 for all.
	ValuesSince(ctx context.Context, kind string, since int64) (list []SharedValue, now int64, err error)

	// Sweep removes what has expired.
	Sweep(ctx context.Context, window time.Duration) error
	// Listen calls wake when a record has changed, until ctx or the connection ends. nil at once where the database
	// cannot tell.
	Listen(ctx context.Context, wake func()) error
}
