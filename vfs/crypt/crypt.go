// Package crypt is encryption at rest over another storage: names are as they are, contents are encrypted.
//
// The format is that of existing encrypted stores (reference guard.md 7): a file is the byte 0x10, 32 random
// bytes N, and packages of DARE 2.0 (github.com/minio/sio), each a header of 16 bytes, up to 64 KiB of content and
// a tag of 16. The key of a file is HKDF-SHA256 of the passphrase and N; a package is bound to its place and to its
// being the last one (CRY-2). So a changed, moved, cut or added byte is ErrDamaged at the package that holds it, and
// never wrong content. Two things the format cannot tell: a file that was replaced by an older one of the same store,
// and one that was cut to nothing.
//
// Reads go to any place. Writes go to any place that was not written yet, within a window; a package is encrypted
// once, when it is whole. What would encrypt one anew is vfs.ErrUnsupported: to resume, to append to content, to
// truncate or to write over what is written. Uploads are always atomic. An upload holds the packages that are
// begun, 64 KiB each and 64 at the most, and a download that reads less than a package at once the last four.
package crypt

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// ErrDamaged says that a stored file is not what was written, or that the passphrase is another one.
var ErrDamaged = errors.New("the encrypted file is damaged, or was encrypted with another passphrase")

// Base is what a storage must have to be encrypted.
type Base interface {
	vfs.FS
	vfs.Linker
	vfs.AttrSetter
	vfs.Copier
	vfs.StatFSer
	vfs.Sweeper
	vfs.Subber
	vfs.Describer
}

// FS encrypts what Base holds. Safe for concurrent use.
type FS struct {
	Base       // links, attributes and the like are its own
	passphrase []byte
	id         string
}

var (
	_ vfs.FS         = (*FS)(nil)
	_ vfs.Linker     = (*FS)(nil)
	_ vfs.AttrSetter = (*FS)(nil)
	_ vfs.Copier     = (*FS)(nil)
	_ vfs.StatFSer   = (*FS)(nil)
	_ vfs.DirSizer   = (*FS)(nil)
	_ vfs.Sweeper    = (*FS)(nil)
	_ vfs.Subber     = (*FS)(nil)
	_ vfs.Describer  = (*FS)(nil)
)

// New encrypts base with keys of passphrase, which must not be empty. Closing the FS closes base.
func New(base Base, passphrase string) (*FS, error) {
	if passphrase == "" {
		return nil, errors.New("crypt: the passphrase is empty")
	}
	// Storages of one directory with two passphrases are two.
	mark, err := hkdf.Key(sha256.New, []byte(passphrase), nil, "gantry storage identity", 16)
	if err != nil {
		return nil, fmt.Errorf("crypt: %w", err)
	}
	return &FS{Base: base, passphrase: []byte(passphrase), id: "crypt:" + hex.EncodeToString(mark) + ":"}, nil
}

// plain gives i the size of its content, where it is an encrypted file's.
func plain(i vfs.FileInfo) vfs.FileInfo {
	if i.Mode.IsRegular() {
		i.Size = plainSize(i.Size)
	}
	return i
}

// Stat implements vfs.FS. Sizes are those of the contents, found without a look into the file.
func (f *FS) Stat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	i, err := f.Base.Stat(ctx, name)
	return plain(i), err
}

// Lstat implements vfs.FS.
func (f *FS) Lstat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	i, err := f.Base.Lstat(ctx, name)
	return plain(i), err
}

// List implements vfs.FS.
func (f *FS) List(ctx context.Context, dir vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	return func(yield func(vfs.FileInfo, error) bool) {
		for i, err := range f.Base.List(ctx, dir) {
			if !yield(plain(i), err) {
				return
			}
		}
	}
}

// Sub implements vfs.Subber.
func (f *FS) Sub(ctx context.Context, dir vfs.Path) (vfs.FS, error) {
	sub, err := f.Base.Sub(ctx, dir)
	if err != nil {
		return nil, err
	}
	base, ok := sub.(Base)
	if !ok {
		sub.Close()
		return nil, vfs.ErrUnsupported
	}
	return &FS{Base: base, passphrase: f.passphrase, id: f.id}, nil
}

// Describe implements vfs.Describer.
func (f *FS) Describe(name vfs.Path) vfs.Description {
	d := f.Base.Describe(name)
	d.Provider, d.Whole = 4, true
	d.Identity = f.id + d.Identity
	return d
}

// maxDepth bounds what walks a tree.
const maxDepth = 1000

// DirSize implements vfs.DirSizer.
func (f *FS) DirSize(ctx context.Context, name vfs.Path) (files int, bytes int64, err error) {
	i, err := f.Lstat(ctx, name)
	switch {
	case err != nil:
		return 0, 0, err
	case i.Mode.IsRegular():
		return 1, i.Size, nil
	case !i.IsDir():
		return 0, 0, nil
	}
	return f.dirSize(ctx, name, 0)
}

func (f *FS) dirSize(ctx context.Context, dir vfs.Path, depth int) (files int, bytes int64, err error) {
	if depth > maxDepth {
		return 0, 0, fmt.Errorf("crypt: count %q: %w: more than %d levels", dir, vfs.ErrUnsupported, maxDepth)
	}
	for i, err := range f.List(ctx, dir) {
		switch {
		case err != nil && (depth == 0 || !errors.Is(err, fs.ErrNotExist)):
			return files, bytes, err
		case err != nil: // gone meanwhile
		case i.Mode.IsRegular():
			files, bytes = files+1, bytes+i.Size
		case i.IsDir():
			sub, err := dir.Child(i.Name)
			if err != nil {
				return files, bytes, err
			}
			n, b, err := f.dirSize(ctx, sub, depth+1)
			if err != nil {
				return files, bytes, err
			}
			files, bytes = files+n, bytes+b
		}
	}
	return files, bytes, nil
}

// Open implements vfs.FS.
func (f *FS) Open(ctx context.Context, name vfs.Path) (vfs.File, error) {
	in, err := f.Base.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	file, err := f.openFile(in, name)
	if err != nil {
		in.Close()
		return nil, opError("open", name, err)
	}
	return file, nil
}

// Create implements vfs.FS. Content that is to stay is vfs.ErrUnsupported, and so is OpenMode.Read.
func (f *FS) Create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (vfs.Upload, error) {
	if mode.Read {
		return nil, opError("create", name, fmt.Errorf("%w: an encrypted file is not read while it is written", vfs.ErrUnsupported))
	}
	if !mode.Truncate {
		if i, err := f.Stat(ctx, name); err == nil && i.Mode.IsRegular() && i.Size > 0 && !mode.Exclusive {
			return nil, opError("create", name, fmt.Errorf("%w: an encrypted file is written as a whole", vfs.ErrUnsupported))
		}
	}
	appends := mode.Append
	mode.Truncate, mode.Append, mode.Atomic = true, false, true
	in, err := f.Base.Create(ctx, name, mode)
	if err != nil {
		return nil, err
	}
	u, err := f.newUpload(in, name, appends)
	if err != nil {
		in.Abort(ctx)
		return nil, opError("create", name, err)
	}
	return u, nil
}

// opError says what was tried, by the virtual path. It is nil for a nil err.
func opError(op string, name vfs.Path, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name.String(), Err: err}
}

// times are those of an attribute set that must be given again after the last write.
type times struct {
	set          bool
	atime, mtime time.Time
}
