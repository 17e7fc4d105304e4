package sftp

import (
	"encoding/binary"
	"io/fs"
	"math"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// Flags of Attrs (draft 5).
const (
	AttrSize        uint32 = 1
	AttrUIDGID      uint32 = 2
	AttrPermissions uint32 = 4
	AttrTimes       uint32 = 8
	AttrExtended    uint32 = 1 << 31

	knownAttrs = AttrSize | AttrUIDGID | AttrPermissions | AttrTimes | AttrExtended
)

// Attrs are a file's attributes on the wire. Only the fields that Flags names count.
type Attrs struct {
	Flags        uint32
	Size         uint64
	UID, GID     uint32
	Permissions  uint32 // the mode of POSIX, with the kind of file
	Atime, Mtime uint32 // seconds since 1970, unsigned: up to the year 2106
	Extended     []byte // the wire form of the pairs, without their count
	Pairs        uint32 // how many Extended holds
}

// attrs parses the attributes. Unknown flags are dropped, as OpenSSH does: there is no telling what they bring along.
func (d *decoder) attrs() Attrs {
	a := Attrs{Flags: d.uint32() & knownAttrs}
	if a.Flags&AttrSize != 0 {
		a.Size = d.uint64()
	}
	if a.Flags&AttrUIDGID != 0 {
		a.UID, a.GID = d.uint32(), d.uint32()
	}
	if a.Flags&AttrPermissions != 0 {
		a.Permissions = d.uint32()
	}
	if a.Flags&AttrTimes != 0 {
		a.Atime, a.Mtime = d.uint32(), d.uint32()
	}
	if a.Flags&AttrExtended != 0 {
		a.Pairs = d.uint32()
		if a.Pairs > maxPairs {
			d.fail()
		}
		rest := d.b
		for range a.Pairs {
			if d.bad {
				return Attrs{}
			}
			d.string()
			d.string()
		}
		a.Extended = rest[:len(rest)-len(d.b)]
	}
	if d.bad {
		return Attrs{}
	}
	return a
}

func (a *Attrs) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, a.Flags)
	if a.Flags&AttrSize != 0 {
		dst = binary.BigEndian.AppendUint64(dst, a.Size)
	}
	if a.Flags&AttrUIDGID != 0 {
		dst = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, a.UID), a.GID)
	}
	if a.Flags&AttrPermissions != 0 {
		dst = binary.BigEndian.AppendUint32(dst, a.Permissions)
	}
	if a.Flags&AttrTimes != 0 {
		dst = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, a.Atime), a.Mtime)
	}
	if a.Flags&AttrExtended != 0 {
		dst = append(binary.BigEndian.AppendUint32(dst, a.Pairs), a.Extended...)
	}
	return dst
}

// attr is what a names, but for the size, in the session's terms.
func (a *Attrs) attr() vfs.Attr {
	var v vfs.Attr
	if a.Flags&AttrPermissions != 0 {
		v.Set |= vfs.AttrMode
		v.Mode = fileMode(a.Permissions)
	}
	if a.Flags&AttrUIDGID != 0 {
		v.Set |= vfs.AttrOwner
		v.UID, v.GID = int(a.UID), int(a.GID)
		if a.UID == math.MaxUint32 { // chown(2)'s "leave alone"
			v.UID = -1
		}
		if a.GID == math.MaxUint32 {
			v.GID = -1
		}
	}
	if a.Flags&AttrTimes != 0 {
		v.Set |= vfs.AttrTimes
		v.Atime, v.Mtime = time.Unix(int64(a.Atime), 0), time.Unix(int64(a.Mtime), 0)
	}
	return v
}

// attrsOf describes a file as ATTRS and NAME do.
func attrsOf(i *vfs.FileInfo) Attrs {
	a := Attrs{
		Flags:       AttrSize | AttrUIDGID | AttrPermissions | AttrTimes,
		Size:        uint64(max(i.Size, 0)),
		UID:         i.UID,
		GID:         i.GID,
		Permissions: posixMode(i.Mode),
		Mtime:       seconds(i.ModTime),
	}
	a.Atime = a.Mtime
	if !i.AccessTime.IsZero() {
		a.Atime = seconds(i.AccessTime)
	}
	return a
}

// seconds is t in the 32 bits that version 3 has for it: the ends of 1970 to 2106 stand for what lies beyond.
func seconds(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}

// The mode bits of POSIX, which are the wire's on every system.
const (
	posixSocket  = 0o140000
	posixSymlink = 0o120000
	posixRegular = 0o100000
	posixBlock   = 0o060000
	posixDir     = 0o040000
	posixChar    = 0o020000
	posixPipe    = 0o010000
	posixSetuid  = 0o4000
	posixSetgid  = 0o2000
	posixSticky  = 0o1000
)

// fileMode is the permission part of a mode on the wire.
func fileMode(p uint32) fs.FileMode {
	m := fs.FileMode(p & 0o777)
	if p&posixSetuid != 0 {
		m |= fs.ModeSetuid
	}
	if p&posixSetgid != 0 {
		m |= fs.ModeSetgid
	}
	if p&posixSticky != 0 {
		m |= fs.ModeSticky
	}
	return m
}

func posixMode(m fs.FileMode) uint32 {
	p := uint32(m.Perm())
	switch m.Type() {
	case 0:
		p |= posixRegular
	case fs.ModeDir:
		p |= posixDir
	case fs.ModeSymlink:
		p |= posixSymlink
	case fs.ModeNamedPipe:
		p |= posixPipe
	case fs.ModeSocket:
		p |= posixSocket
	case fs.ModeDevice:
		p |= posixBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		p |= posixChar
	}
	if m&fs.ModeSetuid != 0 {
		p |= posixSetuid
	}
	if m&fs.ModeSetgid != 0 {
		p |= posixSetgid
	}
	if m&fs.ModeSticky != 0 {
		p |= posixSticky
	}
	return p
}
