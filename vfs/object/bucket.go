// Package object makes a tree of files and directories out of a bucket of objects. What S3, Google Cloud Storage
// and Azure Blob have in common is here, once; a vendor's package is a Bucket and nothing more.
//
// Keys are the path's text below a prefix. A directory is an empty object whose key ends with a slash (its
// marker), or merely the beginning of other keys; both are shown alike, and only the marker outlives what the
// directory holds. Names that a service does not take are escaped, reversibly (names.go).
//
// Uploads stream: bytes go from the peer into parts and from there to the service; nothing is ever written to
// the disk. An upload holds at most Concurrency parts and a window of 2 MiB, a download Concurrency parts; Memory
// bounds all of them together. Nothing of an upload is visible until Commit, which replaces the object in one
// step. What is written must be one run: writes may arrive out of order within the window, and outside it are
// vfs.ErrOutOfOrder.
//
// What a peer controls is names, which become keys here only, and bytes. What the service answers is not trusted
// either: its names are checked as they are listed, its lengths as they are read.
package object

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// Errors that a Bucket returns beside those of vfs. fs.ErrExist means that a condition (only if new) did not hold.
var (
	// ErrChanged: the object is no longer the version that was asked for.
	ErrChanged = errors.New("the object was changed meanwhile")
	// ErrGone: the upload is not known to the service any more.
	ErrGone = errors.New("the upload was removed by the service or by another client")
)

// Object is one object of a bucket.
type Object struct {
	Key     string
	Size    int64
	Changed time.Time // by the service's clock
	ModTime time.Time // as the metadata has it; zero without, and where a listing does not tell
	ETag    string
	Version string // what Get and conditions take; the ETag where the service has nothing else
	Type    string
	Class   string // of storage
	Note    string // Meta's, where Head tells it
	// Dir marks the object as a directory, though its key ends without a slash.
	Dir bool
}

// Meta is what an object carries beside its bytes.
type Meta struct {
	Type    string
	ModTime time.Time // zero: none
	Dir     bool      // a directory's marker
	Note    string    // of our own, some 64 plain characters
}

// Query asks for keys in order.
type Query struct {
	Prefix string
	// Flat lists all keys; else those below the next slash are only told as Prefixes.
	Flat  bool
	Token string // of the page before
	Max   int    // 0: as many as the service gives
}

// Page is a piece of a listing. Both lists are sorted by their bytes.
type Page struct {
	Objects  []Object
	Prefixes []string
	Token    string // "" at the end
}

// Body is the content of a request that may have to be sent again.
type Body interface {
	Size() int64
	// CRC32C is the content's checksum (Castagnoli).
	CRC32C() uint32
	// Reader reads from the beginning. Readers are independent.
	Reader() io.ReadSeekCloser
}

// Bucket is a vendor's client. Safe for concurrent use. It retries by itself what may be retried, with back-off and
// a bound. Errors satisfy errors.Is for fs.ErrNotExist, fs.ErrPermission, fs.ErrExist, vfs.ErrUnsupported,
// vfs.ErrQuota, vfs.ErrTooLarge, ErrChanged or ErrGone where they mean that, and never hold a secret.
type Bucket interface {
	Limits() Limits
	// Describe says where the bucket is: Provider, Bucket, Endpoint and Identity.
	Describe() vfs.Description
	Head(ctx context.Context, key string) (Object, error)
	List(ctx context.Context, q Query) (Page, error)
	// Get reads n bytes from off, fewer at the end, of that version, or any if "". The object's size is the whole
	// one. Of an empty object it reads nothing.
	Get(ctx context.Context, key string, off, n int64, version string) (io.ReadCloser, Object, error)
	// Put makes an object in one request. With onlyNew an existing one is fs.ErrExist.
	Put(ctx context.Context, key string, body Body, meta Meta, onlyNew bool) (Object, error)
	// Begin starts an object of parts. With onto, it begins with the content of that version of the object; what
	// cannot be done without reading it is vfs.ErrUnsupported. onlyNew is what Complete will be told.
	Begin(ctx context.Context, key string, meta Meta, onto *Object, onlyNew bool) (Parts, error)
	// Copy copies within the service. meta, if not nil, replaces the metadata.
	Copy(ctx context.Context, from Object, to string, meta *Meta, onlyNew bool) (Object, error)
	// Delete removes objects. One that is not there is no error.
	Delete(ctx context.Context, keys []string) error
	// Sweep removes what uploads that began before t left unfinished below prefix.
	Sweep(ctx context.Context, prefix string, t time.Time) (int, error)
	Close() error
}

// Parts is an object being uploaded. Put may be called concurrently unless Limits.Sequential.
type Parts interface {
	// Put sends part number n, from 0. It may be called again for a part that failed.
	Put(ctx context.Context, n int, body Body) error
	// Complete publishes the object of parts 0 to n-1. meta's times may differ from those at Begin.
	Complete(ctx context.Context, n int, meta Meta, onlyNew bool) (Object, error)
	// Abort leaves nothing. It is called once, after a failed Complete too.
	Abort(ctx context.Context) error
}

// Limits are a service's and a configuration's bounds.
type Limits struct {
	PartSize, Concurrency int // of uploads, bytes
	// PartTime and ReadTime bound one part; 0 means a minute for each MiB and at least five.
	PartTime, ReadTime     time.Duration
	ReadSize, Readers      int // of downloads: bytes of a part, parts at once
	MaxParts               int // 0: no limit
	MaxSingle              int64
	MaxKey                 int   // bytes
	MaxSize                int64 // of an object
	Page                   int   // keys in a page of a listing
	Batch                  int   // keys in one Delete
	Sequential             bool  // parts go one after the other
	Overhead               int   // bytes that the client itself holds for an upload of parts
	ListTimes, MarkerSlash bool  // a listing tells ModTime; a marker's key ends with a slash
	// Escape says which bytes of a name the service does not take.
	Escape func(name string, i int) bool
}
