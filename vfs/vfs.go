// Package vfs is the storage layer: canonical paths, the FS interface that every storage backend
// implements, and the mount table that puts several of them into one tree.
//
// What a peer controls here is a Path, which has one constructor (PATH-1), and bytes. Permissions,
// patterns and quota are not known here: they are checked once, in internal/session.
package vfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"
)

// Errors of an FS, beside fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid (a directory moved
// into itself) and fs.ErrClosed. Test with errors.Is.
var (
	// ErrUnsupported: this storage cannot do that, and never will.
	ErrUnsupported = errors.ErrUnsupported
	// ErrQuota: the storage or the account has no room (ENOSPC and EDQUOT included).
	ErrQuota = errors.New("no space left")
	// ErrNotDir and ErrIsDir: the object is of the other kind.
	ErrNotDir = errors.New("not a directory")
	ErrIsDir  = errors.New("is a directory")
	// ErrNotEmpty: the directory to remove or replace has entries.
	ErrNotEmpty = errors.New("directory not empty")
	// ErrOutOfOrder: the write is outside a streaming storage's window; it may be tried again.
	ErrOutOfOrder = errors.New("write out of order")
	// ErrLoop: too many symbolic links.
	ErrLoop = errors.New("too many levels of symbolic links")
	// ErrEscape: a symbolic link on the way is absolute or leaves the root (SYM-1). It is an fs.ErrPermission.
	ErrEscape error = &kindError{"a symbolic link leaves the root", fs.ErrPermission}
	// ErrSpecial: a device, socket or pipe, which is not opened. It is an fs.ErrPermission.
	ErrSpecial error = &kindError{"not a regular file", fs.ErrPermission}
	// ErrTooLarge: the file would grow past what the storage can hold in one. It is an ErrQuota.
	ErrTooLarge error = &kindError{"file too large", ErrQuota}
	// ErrCrossDevice: Rename or Link between two devices of one tree. The caller may copy instead.
	ErrCrossDevice = errors.New("not on the same device")
	// ErrReadOnly: the storage is mounted read-only.
	ErrReadOnly = errors.New("read-only file system")
)

// kindError is a named error that is also another, more general one.
type kindError struct {
	text string
	kind error
}

func (e *kindError) Error() string { return e.text }
func (e *kindError) Unwrap() error { return e.kind }

// FileInfo describes one object. Fields that a storage does not know stay zero.
type FileInfo struct {
	Name        string
	Size        int64 // bytes
	Mode        fs.FileMode
	ModTime     time.Time
	AccessTime  time.Time
	UID, GID    uint32
	Nlink       uint64
	Dev, Ino    uint64 // both zero where the storage has no such thing
	ETag        string
	ContentType string
}

// IsDir reports whether the object is a directory.
func (i FileInfo) IsDir() bool { return i.Mode.IsDir() }

// IsSymlink reports whether the object is a symbolic link.
func (i FileInfo) IsSymlink() bool { return i.Mode&fs.ModeSymlink != 0 }

// AttrMask says which fields of an Attr are set.
type AttrMask uint8

// The fields of Attr.
const (
	AttrMode AttrMask = 1 << iota
	AttrOwner
	AttrTimes // both times
)

// Attr is a set of attributes to give to an object. Only what Set names is changed.
type Attr struct {
	Set          AttrMask
	Mode         fs.FileMode // permission bits, and ModeSetuid, ModeSetgid, ModeSticky
	UID, GID     int         // -1 leaves one alone
	Atime, Mtime time.Time
}

// OpenMode says what a writer may do and what stays of the old file.
type OpenMode struct {
	// Truncate drops the old content (at Commit if Atomic). Without it the upload goes on with the
	// old content: a resume, an append or a change in the middle.
	Truncate bool
	// Append puts every write at the end, whatever its offset.
	Append bool
	// Exclusive: the name must not exist, at Create and again at Commit; else fs.ErrExist.
	Exclusive bool
	// Missing is a hint: nothing stood at the name a moment ago.
	Missing bool
	// MustExist: the name must exist; else fs.ErrNotExist. Nothing is created.
	MustExist bool
	// Read: the Upload must also be an io.ReaderAt.
	Read bool
	// Offset is the first byte that will be written, where the caller knows it. A streaming storage needs it.
	Offset int64
	// Perm is the mode of a new file before the umask; 0 means 0666.
	Perm fs.FileMode
	// UID and GID own a new file; -1, and 0 by the account records' rule, leave the owner alone.
	UID, GID int
	// Atomic writes to a hidden temporary file beside the target that Commit renames over it. Without
	// Truncate the temporary file begins as a clone of the old one.
	Atomic bool
}

// FS is one storage tree. Safe for concurrent use. Errors satisfy errors.Is for fs.ErrNotExist,
// fs.ErrExist, fs.ErrPermission, ErrUnsupported, ErrQuota or another error named here; any other means
// that the storage failed.
type FS interface {
	// Stat follows links; Lstat does not, and equals Stat where the storage has none.
	Stat(ctx context.Context, name Path) (FileInfo, error)
	Lstat(ctx context.Context, name Path) (FileInfo, error)
	// List streams the entries of dir as Lstat shows them, without "." and ".." and without temporary
	// files. An error with a name is one bad entry; without a name it ends the listing.
	List(ctx context.Context, dir Path) iter.Seq2[FileInfo, error]
	Open(ctx context.Context, name Path) (File, error)
	Create(ctx context.Context, name Path, mode OpenMode) (Upload, error)
	// Mkdir makes one directory. Its mode is attr.Mode before the umask where set, else 0777.
	Mkdir(ctx context.Context, name Path, attr Attr) error
	// Remove removes a file, a link or an empty directory.
	Remove(ctx context.Context, name Path) error
	// Rename moves an object. Without replace an existing target is fs.ErrExist, atomically. A directory
	// never replaces a file, nor a file a directory.
	Rename(ctx context.Context, from, to Path, replace bool) error
	// Close frees what the tree holds. Open handles stay usable.
	Close() error
}

// File is an open file. ReadAt may be called concurrently. Close unblocks every call.
type File interface {
	io.ReaderAt
	io.Closer
	Stat() (FileInfo, error)
}

// Upload is a file being written. WriteAt may be called concurrently; it waits on the storage's progress
// only, never on another WriteAt: outside a streaming backend's window it returns ErrOutOfOrder.
// Exactly one of Commit and Abort ends it; Abort unblocks every call and may follow a failed Commit.
// io.ReaderAt and OSFiler are extras of the handle.
type Upload interface {
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Stat() (FileInfo, error)
	SetAttr(Attr) error
	// Commit publishes the file and returns what stands there now. An in-place upload is only closed.
	Commit(ctx context.Context) (FileInfo, error)
	// Abort drops what Atomic hid, so that the old content (or nothing) stays. What an in-place upload
	// has written remains.
	Abort(ctx context.Context) error
}

// The extras of an FS: find them with As, never by a bare type assertion.
type (
	// Linker is an FS with links. Symlink stores target as it is sent; Readlink gives the stored text.
	Linker interface {
		Symlink(ctx context.Context, target string, link Path) error
		Readlink(ctx context.Context, name Path) (string, error)
		Link(ctx context.Context, old, new Path) error
	}
	// AttrSetter changes mode, owner and times; follow says whether a link's target is meant.
	AttrSetter interface {
		SetAttr(ctx context.Context, name Path, attr Attr, follow bool) error
	}
	// Copier copies a file without its bytes passing through us. The target must not exist unless replace.
	Copier interface {
		Copy(ctx context.Context, from, to Path, replace bool) error
	}
	// Crosser moves between two trees of one resource, such as two directories of one server, as if they were one.
	Crosser interface {
		// Reaches reports whether other is on the same resource (data-model.md 6).
		Reaches(other FS) bool
		// RenameTo is Rename to a name of another FS that is reached.
		RenameTo(ctx context.Context, from Path, target FS, to Path, replace bool) error
	}
	// StatFSer knows the room of the storage at name.
	StatFSer interface {
		StatFS(ctx context.Context, name Path) (StatFS, error)
	}
	// DirSizer counts the regular files at or below name and their bytes, without following links.
	DirSizer interface {
		DirSize(ctx context.Context, name Path) (files int, bytes int64, err error)
	}
	// Sweeper removes temporary files of uploads that began before t, which a crash left.
	Sweeper interface {
		Sweep(ctx context.Context, t time.Time) (removed int, err error)
	}
	// FilesRemover removes many files in few requests. None of names is a directory or the root; one that is not there
	// is no error. After an error some may be gone.
	FilesRemover interface {
		RemoveFiles(ctx context.Context, names []Path) error
	}
	// Subber opens a directory as a tree of its own, from which no link leads out. It is closed by itself.
	Subber interface {
		Sub(ctx context.Context, dir Path) (FS, error)
	}
	// HostOpener opens a file or directory as the operating system's object, for no more than naming it to the
	// kernel (O_PATH): a program is confined to it. Where the system cannot, it is ErrUnsupported.
	HostOpener interface {
		OpenHost(ctx context.Context, name Path) (*os.File, error)
	}
	// Instant is an FS that has answers without waiting for a disk or a network, for whom an event loop may ask. ok says
	// that there was one; else nothing has happened, whatever the reason, and the usual way is to be gone.
	Instant interface {
		// ReadInstant appends all of a regular file of at most most bytes to b.
		ReadInstant(name Path, b []byte, most int) (out []byte, i FileInfo, ok bool)
		// StatInstant is Stat.
		StatInstant(name Path) (i FileInfo, ok bool)
	}
	// Resumer is an FS whose renames of directories take many steps. Interrupted reports whether one from from to to
	// was cut off: to is a directory then, and the same Rename goes on with it.
	Resumer interface {
		Interrupted(ctx context.Context, from, to Path) bool
	}
	// Describer says what the storage is, for hooks, locks and checks of identity.
	Describer interface {
		Describe(name Path) Description
	}
)

// OSFiler is an extra of File and Upload: the operating system's file, for zero-copy. It stays owned by the handle.
type OSFiler interface {
	OSFile() *os.File
}

// Opened is an extra of File: the object as the opening found it, for who has just opened it.
type Opened interface {
	Opened() FileInfo
}

// AheadDropper is an extra of Upload: it gives up what was written beyond the first byte that is missing, so that what
// is there without a gap can be committed.
type AheadDropper interface {
	DropAhead() error
}

// Stander is an extra of Upload: what stands at its name now, as Lstat would tell, for who is about to commit.
type Stander interface {
	Standing(ctx context.Context) (FileInfo, error)
}

// StatFS is the room of a storage.
type StatFS struct {
	BlockSize           uint64 // bytes
	Blocks, Free, Avail uint64 // in blocks
	Files, FilesFree    uint64
	NameMax             uint64
	ReadOnly            bool
	ID                  uint64
}

// Description says what a storage is and where name stands in it.
type Description struct {
	// Provider is the record's number: 0 local, 1 S3, 2 GCS, 3 Azure Blob, 4 encrypted local, 5 SFTP, 6 HTTP; -1 for none of them.
	Provider         int
	Bucket, Endpoint string
	// StoragePath is the operating system's path or the object key.
	StoragePath string
	Remote      bool
	// Whole: an upload is whole or nothing whatever OpenMode.Atomic says, and what a lost one leaves cannot be
	// resumed. Object stores and encrypted files are so.
	Whole bool
	// Identity is a stable id of the storage, equal for two FS on the same tree.
	Identity string
	// HostRoot is, for a plain directory of this machine, where the storage's root lies: links resolved, with "/"
	// between names. Unlike Identity it is the same after a restart, and tells that one root lies in another.
	HostRoot string
}

// Wrapper is a decorator that agrees to show what it wraps to As.
type Wrapper interface {
	Unwrap() FS
}

// As finds the extra T of f: on f itself, or on what it wraps, as long as every layer above agrees by
// being a Wrapper.
func As[T any](f FS) (T, bool) {
	for {
		if t, ok := f.(T); ok {
			return t, true
		}
		w, ok := f.(Wrapper)
		if !ok {
			var none T
			return none, false
		}
		f = w.Unwrap()
	}
}
