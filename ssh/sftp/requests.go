package sftp

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// remote reports whether metadata at p may wait on a network.
func (c *conn) remote(p vfs.Path) bool { return c.s.Remote(p) }

// version answers INIT (draft 4): version 3 and what we have beyond it.
func (c *conn) version() {
	p := Packet{Type: TypeVersion, Version: 3}
	for _, name := range offers {
		p.Pairs = append(p.Pairs, Pair{[]byte(name), []byte(extensions[name].offer)})
	}
	c.out.reserve(1 << 10)
	c.out.b = Append(c.out.b, &p)
}

// extent checks an offset and a length of a peer (SFTP-1).
func extent(off, n uint64) (int64, error) {
	if off > maxOffset || n > maxOffset || off+n > maxOffset {
		return 0, errBadOffset
	}
	return int64(off), nil
}

func (c *conn) open(r *request, w *output) error {
	f := session.Flags{
		Read: r.Flags&FlagRead != 0, Write: r.Flags&(FlagWrite|FlagAppend) != 0, Append: r.Flags&FlagAppend != 0,
		Create: r.Flags&FlagCreate != 0, Truncate: r.Flags&FlagTruncate != 0, Exclusive: r.Flags&FlagExclusive != 0,
		Size: -1, Attr: r.Attrs.attr(),
	}
	if !f.Read && !f.Write {
		f.Read = true
	}
	f.Attr.Set &= vfs.AttrMode // what a new file gets; the rest is for SETSTAT
	if err := c.reserve(); err != nil {
		return err
	}
	sh, err := c.s.OpenFile(c.ctx, r.p, f)
	if err != nil {
		c.unreserve()
		return err
	}
	h := &handle{file: sh, path: r.p}
	if err := c.add(h); err != nil {
		c.abort(h, err)
		return err
	}
	w.handle(r.ID, h)
	return nil
}

func (c *conn) close(r *request, _ *output) error {
	c.forget(r.h)
	if r.h.dir != nil {
		r.h.dir.stop()
		return nil
	}
	return r.h.file.Close(c.ctx)
}

func (c *conn) read(r *request, w *output) error {
	off, err := extent(r.Offset, 0)
	if err != nil {
		return err
	}
	n := int(min(r.Length, maxData))
	start := w.begin(TypeData, r.ID, 4+n)
	at := len(w.b) + 4
	m, err := r.h.file.ReadAt(w.b[at:at+n:at+n], off)
	if m == 0 && n > 0 {
		w.b = w.b[:start]
		if err == nil {
			err = io.EOF
		}
		return err
	}
	if m < n && err != nil && !errors.Is(err, io.EOF) { // what was read before the failure is good
		c.log.Debug("short read", "path", r.name(), "err", err)
	}
	w.b = binary.BigEndian.AppendUint32(w.b, uint32(m))[:at+m]
	w.end(start)
	return nil
}

func (c *conn) write(r *request, _ *output) error {
	off, err := extent(r.Offset, uint64(len(r.Data)))
	if err != nil {
		return err
	}
	if _, err := r.h.file.WriteAt(r.Data, off); err != nil {
		return err
	}
	return nil
}

// sustained asks for a wider window once an upload has gone on for a while.
func (c *conn) sustained(n int) {
	if c.widened || c.opt.Widen == nil {
		return
	}
	if c.received += int64(n); c.received >= widenAfter {
		c.widened = true
		c.opt.Widen()
	}
}

func (c *conn) stat(r *request, w *output) error {
	i, err := c.s.Stat(c.ctx, r.p)
	if err != nil {
		return err
	}
	w.attrs(r.ID, attrsOf(&i))
	return nil
}

func (c *conn) lstat(r *request, w *output) error {
	i, err := c.s.Lstat(c.ctx, r.p)
	if err != nil {
		return err
	}
	w.attrs(r.ID, attrsOf(&i))
	return nil
}

func (c *conn) fstat(r *request, w *output) error {
	if r.h.dir != nil {
		i, err := c.s.Stat(c.ctx, r.h.path)
		if err != nil {
			return err
		}
		w.attrs(r.ID, attrsOf(&i))
		return nil
	}
	i, err := r.h.file.Stat(c.ctx)
	if err != nil {
		return err
	}
	w.attrs(r.ID, attrsOf(&i))
	return nil
}

// setstat changes times, mode and owner, then the size; the first that fails ends it.
func (c *conn) setstat(r *request, _ *output) error { return c.setAttrs(r, r.p, true) }

func (c *conn) lsetstat(r *request, _ *output) error { return c.setAttrs(r, r.p, false) }

func (c *conn) setAttrs(r *request, p vfs.Path, follow bool) error {
	if a := r.Attrs.attr(); a.Set != 0 {
		if err := c.s.SetAttr(c.ctx, p, a, follow); err != nil {
			return err
		}
	}
	if r.Attrs.Flags&AttrSize != 0 {
		size, err := extent(r.Attrs.Size, 0)
		if err != nil {
			return err
		}
		return c.s.Truncate(c.ctx, p, size)
	}
	return nil
}

func (c *conn) fsetstat(r *request, _ *output) error {
	if r.h.dir != nil {
		return c.setAttrs(r, r.h.path, true)
	}
	if a := r.Attrs.attr(); a.Set != 0 {
		if err := r.h.file.SetAttr(c.ctx, a); err != nil {
			return err
		}
	}
	if r.Attrs.Flags&AttrSize != 0 {
		size, err := extent(r.Attrs.Size, 0)
		if err != nil {
			return err
		}
		return r.h.file.Truncate(c.ctx, size)
	}
	return nil
}

func (c *conn) remove(r *request, _ *output) error { return c.s.Remove(c.ctx, r.p) }

func (c *conn) rmdir(r *request, _ *output) error { return c.s.Rmdir(c.ctx, r.p) }

func (c *conn) mkdir(r *request, _ *output) error {
	a := r.Attrs.attr()
	a.Set &= vfs.AttrMode
	return c.s.Mkdir(c.ctx, r.p, a)
}

func (c *conn) rename(r *request, _ *output) error { return c.s.Rename(c.ctx, r.p, r.p2, true) }

func (c *conn) hardlink(r *request, _ *output) error { return c.s.Link(c.ctx, r.p, r.p2) }

func (c *conn) symlink(r *request, _ *output) error {
	return c.s.Symlink(c.ctx, string(r.Path), r.p2)
}

func (c *conn) readlink(r *request, w *output) error {
	target, err := c.s.Readlink(c.ctx, r.p)
	if err != nil {
		return err
	}
	w.name(r.ID, target)
	return nil
}

// realpath is lexical.
func (c *conn) realpath(r *request, w *output) error {
	p, err := c.start.Resolve(string(r.Path))
	if err != nil {
		return err
	}
	w.name(r.ID, p.String())
	return nil
}

// expandPath knows "~" and "~/": everybody's home is where relative paths begin (OpenSSH 4.9).
func (c *conn) expandPath(r *request, w *output) error {
	raw := string(r.Path)
	if rest, ok := strings.CutPrefix(raw, "~"); ok {
		user, sub, _ := strings.Cut(rest, "/")
		if user != "" && user != c.s.Username() {
			return errNoSuchUser
		}
		raw = sub
	}
	p, err := c.start.Resolve(raw)
	if err != nil {
		return err
	}
	w.name(r.ID, p.String())
	return nil
}

func (c *conn) homeDirectory(r *request, w *output) error {
	if u := string(r.Data); u != "" && u != c.s.Username() {
		return errNoSuchUser
	}
	w.name(r.ID, c.start.String())
	return nil
}

// usersGroupsByID knows no names: every id gets an empty one (OpenSSH 4.12).
func (c *conn) usersGroupsByID(r *request, w *output) error {
	users, groups := len(r.Data)/4*4, len(r.Data2)/4*4
	start := w.begin(TypeExtendedReply, r.ID, 8+users+groups)
	for _, n := range []int{users, groups} {
		w.b = binary.BigEndian.AppendUint32(w.b, uint32(n))
		w.b = append(w.b, make([]byte, n)...)
	}
	w.end(start)
	return nil
}

func (c *conn) limits(r *request, w *output) error {
	start := w.begin(TypeExtendedReply, r.ID, 32)
	for _, v := range []uint64{MaxPacket, maxData, maxData, uint64(c.opt.MaxHandles)} {
		w.b = binary.BigEndian.AppendUint64(w.b, v)
	}
	w.end(start)
	return nil
}

func (c *conn) statvfs(r *request, w *output) error {
	p := r.p
	if r.h != nil {
		p = r.h.where()
	}
	st, err := c.s.StatFS(c.ctx, p)
	if err != nil {
		return err
	}
	var flags uint64 = 2 // ST_NOSUID
	if st.ReadOnly {
		flags |= 1
	}
	start := w.begin(TypeExtendedReply, r.ID, 88)
	for _, v := range []uint64{st.BlockSize, st.BlockSize, st.Blocks, st.Free, st.Avail, st.Files, st.FilesFree, st.FilesFree, st.ID, flags, st.NameMax} {
		w.b = binary.BigEndian.AppendUint64(w.b, v)
	}
	w.end(start)
	return nil
}

func (c *conn) fsync(r *request, _ *output) error { return r.h.file.Sync(c.ctx) }

// copyChunk is how much copy-data moves at once, in bytes.
const copyChunk = 256 << 10

// copyData copies between open files (OpenSSH 4.10). A length of 0 means up to the end that the source has
// now: a target that is another name of it must not feed the copy. A file that ends before a given length is
// EOF, as OpenSSH has it.
func (c *conn) copyData(r *request, _ *output) error {
	from, err := extent(r.Offset, 0)
	if err != nil {
		return err
	}
	to, err := extent(r.Offset2, 0)
	if err != nil {
		return err
	}
	left, err := extent(r.Length, 0)
	if err != nil {
		return err
	}
	if r.h.where() == r.h2.where() {
		return errSameFile
	}
	if r.Length == 0 {
		i, err := r.h.file.Stat(c.ctx)
		if err != nil {
			return err
		}
		left = max(0, i.Size-from)
	}
	big := c.opt.Buffers.get()
	defer c.opt.Buffers.put(big)
	for left > 0 {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, rerr := r.h.file.ReadAt(big[:min(left, copyChunk)], from)
		if n > 0 {
			if _, err := extent(uint64(to), uint64(n)); err != nil {
				return err
			}
			if _, err := r.h2.file.WriteAt(big[:n], to); err != nil {
				return err
			}
		}
		from, to, left = from+int64(n), to+int64(n), left-int64(n)
		switch {
		case left > 0 && (errors.Is(rerr, io.EOF) || n == 0 && rerr == nil):
			if r.Length == 0 {
				return nil // it became shorter meanwhile
			}
			return io.EOF
		case rerr != nil && !errors.Is(rerr, io.EOF):
			return rerr
		}
	}
	return nil
}

// Bounds of check-file: a block is at least 256 bytes (extensions-00 3), and an answer fits a packet.
const (
	minBlock  = 256
	maxBlocks = 2048
)

// checkFile hashes a range of a file, whole or by blocks, with the first algorithm of the client that we have.
func (c *conn) checkFile(r *request, w *output) error {
	off, err := extent(r.Offset, 0)
	if err != nil {
		return err
	}
	n, err := extent(r.Length, 0)
	if err != nil {
		return err
	}
	if r.BlockSize != 0 && r.BlockSize < minBlock {
		return errBlockSize
	}
	p := r.p
	if r.h != nil {
		p = r.h.where()
	}
	for _, algo := range strings.Split(string(r.Algorithms), ",") {
		switch algo {
		case "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "crc32":
		default:
			continue
		}
		var sums [][]byte
		if r.BlockSize == 0 {
			var sum []byte
			sum, err = c.s.Hash(c.ctx, p, algo, off, n)
			sums = [][]byte{sum}
		} else {
			sums, err = c.s.HashBlocks(c.ctx, p, algo, off, n, int64(r.BlockSize), maxBlocks)
		}
		if err != nil {
			return err
		}
		start := w.begin(TypeExtendedReply, r.ID, 64+len(algo)+len(sums)*64)
		w.b = appendString(appendString(w.b, "check-file"), algo)
		for _, s := range sums {
			w.b = append(w.b, s...)
		}
		w.end(start)
		return nil
	}
	return errNoAlgorithm
}

// Sizes of READDIR's answers, in bytes: as much as OpenSSH's client takes at once.
const readdirSize = 32 << 10

// dirStream is a listing in progress. Owned by whoever runs a request on its handle.
type dirStream struct {
	pull  func() (vfs.FileInfo, error, bool)
	halt  func()
	dots  int // of "." and ".." that have been given
	self  vfs.FileInfo
	held  *vfs.FileInfo // did not fit the last packet
	end   error
	names *longNames
}

func (d *dirStream) stop() { d.halt() }

func (c *conn) opendir(r *request, w *output) error {
	if err := c.reserve(); err != nil {
		return err
	}
	h, err := c.openDir(r.p)
	if err != nil {
		c.unreserve()
		return err
	}
	if err := c.add(h); err != nil {
		h.dir.stop()
		return err
	}
	w.handle(r.ID, h)
	return nil
}

// openDir begins a listing. The first entry is read now, so that OPENDIR says what is wrong. Of a directory elsewhere no
// more is told of "." and ".." than that: nobody asks for it, and the question would hold the listing up.
func (c *conn) openDir(p vfs.Path) (*handle, error) {
	d := &dirStream{self: vfs.FileInfo{Mode: fs.ModeDir | 0o755}}
	if !c.remote(p) {
		if i, err := c.s.Stat(c.ctx, p); err == nil {
			if !i.IsDir() {
				return nil, vfs.ErrNotDir
			}
			d.self = i
		} else if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	d.pull, d.halt = pull(c.s.List(c.ctx, p))
	if i, err, ok := d.pull(); !ok {
		d.end = io.EOF
	} else if err != nil && i.Name == "" {
		d.halt()
		return nil, err
	} else if err == nil {
		d.held = &i
	}
	return &handle{dir: d, path: p}, nil
}

// next is the next entry; an entry that cannot be read is passed over.
func (d *dirStream) next() (*vfs.FileInfo, error) {
	if d.dots < 2 {
		d.dots++
		i := d.self
		i.Name = "..."[:d.dots]
		return &i, nil
	}
	if d.held != nil {
		i := d.held
		d.held = nil
		return i, nil
	}
	for d.end == nil {
		i, err, ok := d.pull()
		switch {
		case !ok:
			d.end = io.EOF
		case err == nil:
			return &i, nil
		case i.Name == "":
			d.end = err
		}
	}
	return nil, d.end
}

func (c *conn) readdir(r *request, w *output) error {
	d := r.h.dir
	start := w.begin(TypeName, r.ID, readdirSize+vfs.MaxNameBytes*2+longNameSize+64)
	count := uint32(0)
	w.b = append(w.b, 0, 0, 0, 0)
	for len(w.b)-start < readdirSize {
		i, err := d.next()
		if err != nil {
			if count > 0 {
				break // the end is told by the next READDIR
			}
			w.b = w.b[:start]
			return err
		}
		w.b = appendString(w.b, i.Name)
		at := len(w.b)
		w.b = append(w.b, 0, 0, 0, 0)
		w.b = d.long(c).append(w.b, i)
		setLength(w.b, at)
		a := attrsOf(i)
		w.b = a.append(w.b)
		count++
	}
	binary.BigEndian.PutUint32(w.b[start+9:], count)
	w.end(start)
	return nil
}
