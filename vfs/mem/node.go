package mem

import (
	"io"
	"io/fs"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// settable are the mode bits that a caller may choose.
const settable = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// pageBytes is the grain of a file: a page that was never written costs nothing.
const pageBytes = 16 << 10

// node is one object. FS.mu guards every field but ino.
type node struct {
	ino                uint64
	mode               fs.FileMode
	uid, gid           uint32
	born, atime, mtime time.Time
	nlink              uint64
	size               int64
	pages              [][]byte         // of a file; nil is a hole
	children           map[string]*node // not nil in a directory
	target             string           // of a link
	_                  struct{}
}

func (n *node) isLink() bool { return n.mode&fs.ModeSymlink != 0 }

func (f *FS) newNode(mode fs.FileMode, uid, gid int) *node {
	f.ino++
	now := f.opts.Now()
	n := &node{ino: f.ino, mode: mode, uid: f.opts.UID, gid: f.opts.GID, born: now, atime: now, mtime: now}
	n.own(uid, gid)
	return n
}

// own sets the owner where the numbers are positive: the rule of OpenMode for new files.
func (n *node) own(uid, gid int) {
	if uid > 0 {
		n.uid = uint32(uid)
	}
	if gid > 0 {
		n.gid = uint32(gid)
	}
}

func (n *node) info(f *FS, name string) vfs.FileInfo {
	i := vfs.FileInfo{
		Name: name, Size: n.size, Mode: n.mode, ModTime: n.mtime, AccessTime: n.atime,
		UID: n.uid, GID: n.gid, Nlink: n.nlink, Dev: f.dev, Ino: n.ino,
	}
	switch {
	case n.children != nil:
		i.Size, i.Nlink = 4096, 2
		for _, c := range n.children {
			if c.children != nil {
				i.Nlink++
			}
		}
	case n.isLink():
		i.Size = int64(len(n.target))
	}
	return i
}

func (n *node) setAttr(a vfs.Attr) {
	if a.Set&vfs.AttrTimes != 0 {
		n.atime, n.mtime = a.Atime, a.Mtime
	}
	if a.Set&vfs.AttrMode != 0 {
		n.mode = n.mode&^settable | a.Mode&settable
	}
	if a.Set&vfs.AttrOwner != 0 {
		if a.UID >= 0 {
			n.uid = uint32(a.UID)
		}
		if a.GID >= 0 {
			n.gid = uint32(a.GID)
		}
	}
}

// attach makes one more name of n.
func (f *FS) attach(dir *node, base string, n *node) {
	dir.children[base] = n
	dir.mtime = f.opts.Now()
	if n.nlink++; n.nlink == 1 {
		f.used += n.size
	}
}

// detach takes a name away. A file lives on in its open handles.
func (f *FS) detach(dir *node, base string) {
	n := dir.children[base]
	delete(dir.children, base)
	dir.mtime = f.opts.Now()
	if n.nlink--; n.nlink == 0 {
		f.used -= n.size
	}
}

// resize changes the size of a file, within the limits.
func (f *FS) resize(n *node, size int64) error {
	switch {
	case size < 0:
		return fs.ErrInvalid
	case size > f.opts.MaxFileBytes:
		return vfs.ErrTooLarge
	case n.nlink > 0 && f.opts.MaxBytes > 0 && size > n.size && f.used+size-n.size > f.opts.MaxBytes:
		return vfs.ErrQuota
	}
	if n.nlink > 0 {
		f.used += size - n.size
	}
	if size < n.size {
		n.pages = n.pages[:min(len(n.pages), int((size+pageBytes-1)/pageBytes))]
		if tail := int(size % pageBytes); tail != 0 && int(size/pageBytes) < len(n.pages) {
			if p := n.pages[size/pageBytes]; p != nil {
				clear(p[tail:])
			}
		}
	}
	n.size = size
	return nil
}

func (f *FS) writeAt(n *node, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off > f.opts.MaxFileBytes-int64(len(p)) {
		return 0, vfs.ErrTooLarge
	}
	if end := off + int64(len(p)); end > n.size && len(p) > 0 {
		if err := f.resize(n, end); err != nil {
			return 0, err
		}
	}
	done := 0
	for done < len(p) {
		i, in := int(off/pageBytes), int(off%pageBytes)
		if i >= len(n.pages) {
			n.pages = append(n.pages, make([][]byte, i+1-len(n.pages))...)
		}
		if n.pages[i] == nil {
			n.pages[i] = make([]byte, pageBytes)
		}
		c := copy(n.pages[i][in:], p[done:])
		done, off = done+c, off+int64(c)
	}
	n.mtime = f.opts.Now()
	return done, nil
}

func (n *node) readAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off >= n.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), n.size-off)]
	for done := 0; done < len(want); {
		i, in := int(off/pageBytes), int(off%pageBytes)
		part := want[done:min(len(want), done+pageBytes-in)]
		if i < len(n.pages) && n.pages[i] != nil {
			copy(part, n.pages[i][in:])
		} else {
			clear(part)
		}
		done, off = done+len(part), off+int64(len(part))
	}
	if len(want) < len(p) {
		return len(want), io.EOF
	}
	return len(want), nil
}

// copyOf gives n the content of old.
func (f *FS) copyOf(n, old *node) error {
	if err := f.resize(n, old.size); err != nil {
		return err
	}
	n.pages = make([][]byte, len(old.pages))
	for i, p := range old.pages {
		if p != nil {
			n.pages[i] = append([]byte(nil), p...)
		}
	}
	return nil
}
