package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxPacket is the largest packet in bytes, without its length field, in either direction (SFTP-1).
const MaxPacket = 256 << 10

// Limits of lists in a packet. OpenSSH offers a dozen extensions and no one sends extended attributes.
const (
	maxPairs = 256
	minName  = 4 + 4 + 4 // bytes of a NAME entry with empty strings and no attributes
)

// ErrMalformed says that a packet does not have the form of its type, or is too long.
var ErrMalformed = errors.New("malformed packet")

// Type is the first byte of a packet.
type Type uint8

// The packet types (draft 3).
const (
	TypeInit          Type = 1
	TypeVersion       Type = 2
	TypeOpen          Type = 3
	TypeClose         Type = 4
	TypeRead          Type = 5
	TypeWrite         Type = 6
	TypeLstat         Type = 7
	TypeFstat         Type = 8
	TypeSetstat       Type = 9
	TypeFsetstat      Type = 10
	TypeOpendir       Type = 11
	TypeReaddir       Type = 12
	TypeRemove        Type = 13
	TypeMkdir         Type = 14
	TypeRmdir         Type = 15
	TypeRealpath      Type = 16
	TypeStat          Type = 17
	TypeRename        Type = 18
	TypeReadlink      Type = 19
	TypeSymlink       Type = 20
	TypeStatus        Type = 101
	TypeHandle        Type = 102
	TypeData          Type = 103
	TypeName          Type = 104
	TypeAttrs         Type = 105
	TypeExtended      Type = 200
	TypeExtendedReply Type = 201
)

// Flags of OPEN (draft 6.3).
const (
	FlagRead uint32 = 1 << iota
	FlagWrite
	FlagAppend
	FlagCreate
	FlagTruncate
	FlagExclusive
)

// Packet is any packet of version 3. A type uses the fields that its layout names; the others stay zero.
// The slices of a parsed packet are parts of the bytes it was parsed from.
type Packet struct {
	Type    Type
	ID      uint32 // of the request; INIT and VERSION have none
	Version uint32
	Pairs   []Pair // extensions of INIT and VERSION

	Handle, Handle2 []byte
	Path, Path2     []byte // in the order of the wire
	Flags           uint32 // of OPEN
	Offset, Offset2 uint64
	Length          uint64 // READ has 32 bits of it
	Attrs           Attrs
	Data, Data2     []byte
	Code            uint32 // of STATUS
	Message, Lang   []byte
	Names           []Name
	Extension       []byte // of EXTENDED
	Algorithms      []byte // of check-file
	BlockSize       uint32 // of check-file
}

// Pair is an extension's name and data.
type Pair struct{ Name, Data []byte }

// Name is an entry of NAME.
type Name struct {
	Name, Long []byte
	Attrs      Attrs
}

// field is one element of a packet's layout; its wire form is in parse and append.
type field uint8

const (
	fVersion    field = iota // uint32
	fPairs                   // pairs of strings up to the end
	fHandle                  // string
	fHandle2                 // string
	fPath                    // string
	fPath2                   // string
	fFlags                   // uint32
	fOffset                  // uint64
	fOffset2                 // uint64
	fLength                  // uint64
	fLength32                // uint32
	fAttrs                   // draft 5
	fData                    // string
	fData2                   // string
	fRest                    // what is left
	fCode                    // uint32
	fMessage                 // string
	fLang                    // string
	fNames                   // count and entries
	fExtension               // string, then the layout of that extension
	fAlgorithms              // string
	fBlockSize               // uint32
)

// layouts says what follows the type and, but for INIT and VERSION, the id. Read-only.
var layouts = [256][]field{
	TypeInit:          {fVersion, fPairs},
	TypeVersion:       {fVersion, fPairs},
	TypeOpen:          {fPath, fFlags, fAttrs},
	TypeClose:         {fHandle},
	TypeRead:          {fHandle, fOffset, fLength32},
	TypeWrite:         {fHandle, fOffset, fData},
	TypeLstat:         {fPath},
	TypeFstat:         {fHandle},
	TypeSetstat:       {fPath, fAttrs},
	TypeFsetstat:      {fHandle, fAttrs},
	TypeOpendir:       {fPath},
	TypeReaddir:       {fHandle},
	TypeRemove:        {fPath},
	TypeMkdir:         {fPath, fAttrs},
	TypeRmdir:         {fPath},
	TypeRealpath:      {fPath},
	TypeStat:          {fPath},
	TypeRename:        {fPath, fPath2},
	TypeReadlink:      {fPath},
	TypeSymlink:       {fPath, fPath2},
	TypeStatus:        {fCode, fMessage, fLang},
	TypeHandle:        {fHandle},
	TypeData:          {fData},
	TypeName:          {fNames},
	TypeAttrs:         {fAttrs},
	TypeExtended:      {fExtension},
	TypeExtendedReply: {fRest},
}

// extensionLayouts says what follows the name in EXTENDED; any other extension keeps its bytes in Data. Read-only.
var extensionLayouts = map[string][]field{
	"posix-rename@openssh.com":       {fPath, fPath2},
	"statvfs@openssh.com":            {fPath},
	"fstatvfs@openssh.com":           {fHandle},
	"hardlink@openssh.com":           {fPath, fPath2},
	"fsync@openssh.com":              {fHandle},
	"lsetstat@openssh.com":           {fPath, fAttrs},
	"limits@openssh.com":             {},
	"expand-path@openssh.com":        {fPath},
	"copy-data":                      {fHandle, fOffset, fLength, fHandle2, fOffset2},
	"home-directory":                 {fData},
	"users-groups-by-id@openssh.com": {fData, fData2},
	"check-file-name":                {fPath, fAlgorithms, fOffset, fLength, fBlockSize},
	"check-file-handle":              {fHandle, fAlgorithms, fOffset, fLength, fBlockSize},
	"check-file":                     {fHandle, fAlgorithms, fOffset, fLength, fBlockSize}, // how Paramiko names it
}

var unknownExtension = []field{fRest}

func hasID(t Type) bool { return t != TypeInit && t != TypeVersion }

func layoutOf(extension []byte) []field {
	if l, ok := extensionLayouts[string(extension)]; ok {
		return l
	}
	return unknownExtension
}

// Parse fills p from a packet without its length field. After an error p.Type and, where the packet was long
// enough, p.ID are set. A type that version 3 does not know is no error: its bytes are left alone.
func Parse(b []byte, p *Packet) error {
	*p = Packet{}
	if len(b) < 1 {
		return fmt.Errorf("%w: empty", ErrMalformed)
	}
	p.Type = Type(b[0])
	d := decoder{b: b[1:]}
	if hasID(p.Type) {
		p.ID = d.uint32()
	}
	d.fields(layouts[p.Type], p)
	if d.bad {
		return fmt.Errorf("%w: %s of %d bytes", ErrMalformed, p.Type, len(b))
	}
	return nil
}

// Append appends p with its length field to dst.
func Append(dst []byte, p *Packet) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, byte(p.Type))
	if hasID(p.Type) {
		dst = binary.BigEndian.AppendUint32(dst, p.ID)
	}
	dst = appendFields(dst, layouts[p.Type], p)
	return setLength(dst, start)
}

// setLength writes the length of the packet that begins at start and ends with b.
func setLength(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

// decoder takes elements off b. After the first that does not fit, bad is set and everything is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fields(layout []field, p *Packet) {
	for _, f := range layout {
		switch f {
		case fVersion:
			p.Version = d.uint32()
		case fPairs:
			p.Pairs = d.pairs()
		case fHandle:
			p.Handle = d.string()
		case fHandle2:
			p.Handle2 = d.string()
		case fPath:
			p.Path = d.string()
		case fPath2:
			p.Path2 = d.string()
		case fFlags:
			p.Flags = d.uint32()
		case fOffset:
			p.Offset = d.uint64()
		case fOffset2:
			p.Offset2 = d.uint64()
		case fLength:
			p.Length = d.uint64()
		case fLength32:
			p.Length = uint64(d.uint32())
		case fAttrs:
			p.Attrs = d.attrs()
		case fData:
			p.Data = d.string()
		case fData2:
			p.Data2 = d.string()
		case fRest:
			p.Data, d.b = d.b, nil
		case fCode:
			p.Code = d.uint32()
		case fMessage:
			p.Message = d.string()
		case fLang:
			p.Lang = d.string()
		case fNames:
			p.Names = d.names()
		case fExtension:
			p.Extension = d.string()
			d.fields(layoutOf(p.Extension), p)
		case fAlgorithms:
			p.Algorithms = d.string()
		case fBlockSize:
			p.BlockSize = d.uint32()
		}
	}
}

func appendFields(dst []byte, layout []field, p *Packet) []byte {
	for _, f := range layout {
		switch f {
		case fVersion:
			dst = binary.BigEndian.AppendUint32(dst, p.Version)
		case fPairs:
			for _, x := range p.Pairs {
				dst = appendString(appendString(dst, x.Name), x.Data)
			}
		case fHandle:
			dst = appendString(dst, p.Handle)
		case fHandle2:
			dst = appendString(dst, p.Handle2)
		case fPath:
			dst = appendString(dst, p.Path)
		case fPath2:
			dst = appendString(dst, p.Path2)
		case fFlags:
			dst = binary.BigEndian.AppendUint32(dst, p.Flags)
		case fOffset:
			dst = binary.BigEndian.AppendUint64(dst, p.Offset)
		case fOffset2:
			dst = binary.BigEndian.AppendUint64(dst, p.Offset2)
		case fLength:
			dst = binary.BigEndian.AppendUint64(dst, p.Length)
		case fLength32:
			dst = binary.BigEndian.AppendUint32(dst, uint32(p.Length))
		case fAttrs:
			dst = p.Attrs.append(dst)
		case fData:
			dst = appendString(dst, p.Data)
		case fData2:
			dst = appendString(dst, p.Data2)
		case fRest:
			dst = append(dst, p.Data...)
		case fCode:
			dst = binary.BigEndian.AppendUint32(dst, p.Code)
		case fMessage:
			dst = appendString(dst, p.Message)
		case fLang:
			dst = appendString(dst, p.Lang)
		case fNames:
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Names)))
			for i := range p.Names {
				n := &p.Names[i]
				dst = n.Attrs.append(appendString(appendString(dst, n.Name), n.Long))
			}
		case fExtension:
			dst = appendFields(appendString(dst, p.Extension), layoutOf(p.Extension), p)
		case fAlgorithms:
			dst = appendString(dst, p.Algorithms)
		case fBlockSize:
			dst = binary.BigEndian.AppendUint32(dst, p.BlockSize)
		}
	}
	return dst
}

func (d *decoder) uint32() uint32 {
	if len(d.b) < 4 {
		d.fail()
		return 0
	}
	v := binary.BigEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func (d *decoder) uint64() uint64 {
	if len(d.b) < 8 {
		d.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *decoder) string() []byte {
	n := d.uint32()
	if uint64(n) > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	s := d.b[:n:n]
	d.b = d.b[n:]
	return s
}

func (d *decoder) pairs() []Pair {
	var pairs []Pair
	for len(d.b) > 0 && !d.bad {
		if len(pairs) == maxPairs {
			d.fail()
			return nil
		}
		pairs = append(pairs, Pair{d.string(), d.string()})
	}
	return pairs
}

func (d *decoder) names() []Name {
	n := d.uint32()
	if uint64(n)*minName > uint64(len(d.b)) { // before the slice is made (SFTP-1)
		d.fail()
		return nil
	}
	names := make([]Name, n)
	for i := range names {
		names[i] = Name{d.string(), d.string(), d.attrs()}
	}
	return names
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

func appendString[S string | []byte](dst []byte, s S) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}

var typeNames = [256]string{
	TypeInit: "INIT", TypeVersion: "VERSION", TypeOpen: "OPEN", TypeClose: "CLOSE", TypeRead: "READ",
	TypeWrite: "WRITE", TypeLstat: "LSTAT", TypeFstat: "FSTAT", TypeSetstat: "SETSTAT", TypeFsetstat: "FSETSTAT",
	TypeOpendir: "OPENDIR", TypeReaddir: "READDIR", TypeRemove: "REMOVE", TypeMkdir: "MKDIR", TypeRmdir: "RMDIR",
	TypeRealpath: "REALPATH", TypeStat: "STAT", TypeRename: "RENAME", TypeReadlink: "READLINK",
	TypeSymlink: "SYMLINK", TypeStatus: "STATUS", TypeHandle: "HANDLE", TypeData: "DATA", TypeName: "NAME",
	TypeAttrs: "ATTRS", TypeExtended: "EXTENDED", TypeExtendedReply: "EXTENDED_REPLY",
}

// String is the draft's name of the type, without SSH_FXP_.
func (t Type) String() string {
	if s := typeNames[t]; s != "" {
		return s
	}
	return fmt.Sprintf("type %d", uint8(t))
}
