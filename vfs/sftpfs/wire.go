package sftpfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// Packet types of draft-ietf-secsh-filexfer-02.
const (
	fxpInit     = 1
	fxpVersion  = 2
	fxpOpen     = 3
	fxpClose    = 4
	fxpRead     = 5
	fxpWrite    = 6
	fxpLstat    = 7
	fxpFstat    = 8
	fxpSetstat  = 9
	fxpFsetstat = 10
	fxpOpendir  = 11
	fxpReaddir  = 12
	fxpRemove   = 13
	fxpMkdir    = 14
	fxpRmdir    = 15
	fxpRealpath = 16
	fxpStat     = 17
	fxpRename   = 18
	fxpReadlink = 19
	fxpSymlink  = 20
	fxpStatus   = 101
	fxpHandle   = 102
	fxpData     = 103
	fxpName     = 104
	fxpAttrs    = 105
	fxpExtended = 200
	fxpExtReply = 201
)

// Flags of OPEN and of attributes.
const (
	fxfRead   = 0x01
	fxfWrite  = 0x02
	fxfAppend = 0x04
	fxfCreat  = 0x08
	fxfTrunc  = 0x10
	fxfExcl   = 0x20

	attrSize     = 0x01
	attrUIDGID   = 0x02
	attrPerms    = 0x04
	attrTimes    = 0x08
	attrExtended = 0x80000000
)

// Bounds of what a server may send (RES-1).
const (
	maxPacket = 512 << 10
	maxHandle = 256
	maxText   = 200 // of an error, shown
)

var errMalformed = errors.New("sftpfs: the server sent a malformed packet")

// builder puts a packet together. The first four bytes are for the length.
type builder struct{ b []byte }

func (w *builder) u32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *builder) u64(v uint64) { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *builder) str(s string) {
	w.u32(uint32(len(s)))
	w.b = append(w.b, s...)
}

// attrs puts the attributes that can be set: of a, and the size if it is not negative.
func (w *builder) attrs(a vfs.Attr, size int64) {
	var flags uint32
	if size >= 0 {
		flags |= attrSize
	}
	if a.Set&vfs.AttrOwner != 0 {
		flags |= attrUIDGID
	}
	if a.Set&vfs.AttrMode != 0 {
		flags |= attrPerms
	}
	if a.Set&vfs.AttrTimes != 0 {
		flags |= attrTimes
	}
	w.u32(flags)
	if size >= 0 {
		w.u64(uint64(size))
	}
	if flags&attrUIDGID != 0 {
		w.u32(uint32(a.UID))
		w.u32(uint32(a.GID))
	}
	if flags&attrPerms != 0 {
		w.u32(unixMode(a.Mode))
	}
	if flags&attrTimes != 0 {
		w.u32(seconds(a.Atime))
		w.u32(seconds(a.Mtime))
	}
}

// seconds is t as the protocol has it, which knows 1970 to 2106.
func seconds(t time.Time) uint32 { return uint32(min(max(t.Unix(), 0), 1<<32-1)) }

// parser takes a packet apart. After a mistake everything is zero.
type parser struct {
	b   []byte
	bad bool
}

func (r *parser) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *parser) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *parser) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes gives a string of the packet, not copied.
func (r *parser) bytes() []byte {
	n := r.u32()
	if n > maxPacket {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

func (r *parser) str() string { return string(r.bytes()) }

func (r *parser) err() error {
	if r.bad {
		return errMalformed
	}
	return nil
}

// info reads ATTRS. What a server leaves out is zero; without a mode it is a regular file.
func (r *parser) info(name string) vfs.FileInfo {
	i := vfs.FileInfo{Name: name}
	flags := r.u32()
	if flags&attrSize != 0 {
		i.Size = int64(min(r.u64(), 1<<63-1))
	}
	if flags&attrUIDGID != 0 {
		i.UID, i.GID = r.u32(), r.u32()
	}
	if flags&attrPerms != 0 {
		i.Mode = goMode(r.u32())
	}
	if flags&attrTimes != 0 {
		i.AccessTime, i.ModTime = time.Unix(int64(r.u32()), 0), time.Unix(int64(r.u32()), 0)
	}
	if flags&attrExtended != 0 {
		for n := r.u32(); n > 0 && !r.bad; n-- {
			r.bytes()
			r.bytes()
		}
	}
	if i.IsDir() || i.Size < 0 {
		i.Size = 0
	}
	return i
}

// modes are the bits beside the permissions. Read only.
var modes = []struct {
	unix, mask uint32
	mode       fs.FileMode
}{
	{0o40000, 0o170000, fs.ModeDir}, {0o120000, 0o170000, fs.ModeSymlink}, {0o140000, 0o170000, fs.ModeSocket},
	{0o10000, 0o170000, fs.ModeNamedPipe}, {0o20000, 0o170000, fs.ModeDevice | fs.ModeCharDevice}, {0o60000, 0o170000, fs.ModeDevice},
	{0o4000, 0o4000, fs.ModeSetuid}, {0o2000, 0o2000, fs.ModeSetgid}, {0o1000, 0o1000, fs.ModeSticky},
}

func goMode(m uint32) fs.FileMode {
	out := fs.FileMode(m & 0o777)
	for _, b := range modes {
		if m&b.mask == b.unix {
			out |= b.mode
		}
	}
	return out
}

// unixMode are permission bits as the protocol has them, without the kind.
func unixMode(m fs.FileMode) uint32 {
	out := uint32(m.Perm())
	for _, b := range modes[6:] {
		if m&b.mode != 0 {
			out |= b.unix
		}
	}
	return out
}

// statusError is a failure that the server tells of.
type statusError struct {
	code uint32
	text string // the server's, cleaned
}

func (e *statusError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("the server answers with status %d", e.code)
	}
	return fmt.Sprintf("the server answers: %s", e.text)
}

// Status codes.
const (
	fxOK        = 0
	fxEOF       = 1
	fxNoFile    = 2
	fxDenied    = 3
	fxFailure   = 4
	fxNotOffers = 8
)

// Unwrap says what of vfs's errors it is. Codes from 9 on are those of later versions, which some servers send.
func (e *statusError) Unwrap() error {
	switch e.code {
	case fxNoFile, 10: // NO_SUCH_PATH
		return fs.ErrNotExist
	case fxDenied, 12: // WRITE_PROTECT
		return fs.ErrPermission
	case fxNotOffers:
		return vfs.ErrUnsupported
	case 11:
		return fs.ErrExist
	case 14, 15: // NO_SPACE_ON_FILESYSTEM, QUOTA_EXCEEDED
		return vfs.ErrQuota
	case 18:
		return vfs.ErrNotEmpty
	case 19:
		return vfs.ErrNotDir
	case 20, 23: // INVALID_FILENAME, INVALID_PARAMETER
		return fs.ErrInvalid
	case 21:
		return vfs.ErrLoop
	case 24:
		return vfs.ErrIsDir
	}
	return nil
}

// isFailure reports whether the server said no more than that it failed.
func isFailure(err error) bool {
	s, ok := errors.AsType[*statusError](err)
	return ok && (s.code == fxFailure || s.code == 5)
}

// status reads the rest of STATUS: nil for OK.
func (r *parser) status() error {
	code := r.u32()
	if r.bad {
		return errMalformed
	}
	if code == fxOK {
		return nil
	}
	text := r.bytes() // some servers leave it out
	clean := make([]byte, 0, min(len(text), maxText))
	for _, c := range text {
		if len(clean) == maxText {
			break
		}
		if c < ' ' || c > '~' {
			c = '?' // LOG-1
		}
		clean = append(clean, c)
	}
	return &statusError{code, string(clean)}
}
