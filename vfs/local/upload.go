package local

import (
	"context"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/gantryhq/gantry/vfs"
)

// upload is a file being written.
type upload struct {
	handle
	append, exclusive, sync bool

	// Of an atomic upload; dir is nil in place. Immutable until mu says that it ended.
	dir        dir
	base, temp string

	mu    sync.Mutex // guards the end, not the writes
	ended bool       // committed or aborted
	shut  bool       // Commit failed after it had closed the file
}

var (
	_ vfs.Upload  = (*upload)(nil)
	_ vfs.OSFiler = (*upload)(nil)
)

// WriteAt implements vfs.Upload. An append goes where the end is: in place the system finds it and writes in
// one step (O_APPEND), so that several writers of one file do not write over each other; a temporary file
// has one writer, whose position stays at the end.
func (u *upload) WriteAt(p []byte, off int64) (n int, err error) {
	if u.append {
		off = 0
		n, err = u.f.Write(p)
	} else {
		n, err = u.f.WriteAt(p, off)
	}
	if err != nil {
		err = u.fail("write", off, err)
	}
	return n, err
}

func (u *upload) Truncate(size int64) error {
	if err := u.f.Truncate(size); err != nil {
		return u.fail("truncate", size, err)
	}
	if u.append && u.dir != nil {
		if _, err := u.f.Seek(0, io.SeekEnd); err != nil {
			return u.fail("truncate", size, err)
		}
	}
	return nil
}

func (u *upload) Sync() error { return opError("sync", u.name, u.f.Sync()) }

// SetAttr implements vfs.Upload. The attributes survive Commit.
func (u *upload) SetAttr(a vfs.Attr) error {
	var err error
	if a.Set&vfs.AttrOwner != 0 {
		err = u.f.Chown(a.UID, a.GID)
	}
	if err == nil && a.Set&vfs.AttrMode != 0 {
		err = u.f.Chmod(a.Mode)
	}
	if err == nil && a.Set&vfs.AttrTimes != 0 {
		err = fileTimes(u.f, a.Atime, a.Mtime)
	}
	return opError("setattr", u.name, err)
}

// Commit implements vfs.Upload. The file is closed first, since some storages tell of a full disk only then.
func (u *upload) Commit(ctx context.Context) (vfs.FileInfo, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	i, err := u.commit(ctx)
	if err != nil {
		return vfs.FileInfo{}, opError("commit", u.name, err)
	}
	return i, nil
}

func (u *upload) commit(ctx context.Context) (i vfs.FileInfo, err error) {
	if u.ended || u.shut {
		return i, fs.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return i, err
	}
	if u.sync {
		if err := u.f.Sync(); err != nil {
			return i, err
		}
	}
	if i, err = u.Stat(); err != nil {
		return i, err
	}
	u.shut = true
	if err := u.f.Close(); err != nil {
		return i, err
	}
	if u.dir != nil {
		if err := u.dir.rename(u.temp, u.base, !u.exclusive); err != nil {
			return i, err
		}
		if u.sync {
			err = u.dir.sync()
		}
		u.dir.close()
	}
	u.ended = true
	return i, err
}

// Abort implements vfs.Upload. It works on a cancelled context too.
func (u *upload) Abort(context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return opError("abort", u.name, fs.ErrClosed)
	}
	u.ended = true
	var err error
	if !u.shut {
		err = u.f.Close()
	}
	if u.dir != nil {
		err = u.dir.remove(u.temp)
		u.dir.close()
	}
	return opError("abort", u.name, err)
}

// OSFile implements vfs.OSFiler. It is nil for an append, whose file knows no offsets.
func (u *upload) OSFile() *os.File {
	if u.append {
		return nil
	}
	return u.f
}

// readUpload is an upload that is also a reader: OpenMode.Read.
type readUpload struct{ *upload }

func (u *readUpload) ReadAt(p []byte, off int64) (int, error) { return u.readAt(p, off) }
