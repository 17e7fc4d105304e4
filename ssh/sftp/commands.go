package sftp

import (
	"strings"

	"github.com/gantryhq/gantry/vfs"
)

// command is everything that the loop knows of a request.
type command struct {
	name  string // as logs have it
	run   func(*conn, *request, *output) error
	takes takes
	does  does
	slow  pace
	doc   string // section of the draft (number alone) or of OpenSSH's PROTOCOL
	offer string // version under which VERSION offers the extension
}

// takes says what a request names, to look up before it runs and to keep requests on one thing in order.
type takes uint8

const (
	path    takes = 1 << iota // Path is a virtual path
	path2                     // Path2 is one
	fhandle                   // Handle is an open file
	dhandle                   // Handle is an open directory
	copying                   // Handle2 is an open file
)

// does says which requests on one path or handle may run at the same time.
type does uint8

const (
	// changes: alone on its paths, and on what is above and below them.
	changes does = 1 << iota
	// moves: alone on its handle, whose state it moves on.
	moves
)

// pace says whether a request leaves the packet loop.
type pace uint8

const (
	quick  pace = iota // never waits
	remote             // waits where the storage is remote
	always             // takes as long as it takes
)

// commands is the table of requests by type. Read-only.
var commands = [256]*command{
	TypeOpen:     {name: "OPEN", run: (*conn).open, takes: path, does: changes, slow: remote, doc: "6.3"},
	TypeClose:    {name: "CLOSE", run: (*conn).close, takes: fhandle | dhandle, does: changes | moves, slow: remote, doc: "6.3"},
	TypeRead:     {name: "READ", run: (*conn).read, takes: fhandle, slow: remote, doc: "6.4"},
	TypeWrite:    {name: "WRITE", run: (*conn).write, takes: fhandle, does: changes | moves, slow: remote, doc: "6.4"},
	TypeLstat:    {name: "LSTAT", run: (*conn).lstat, takes: path, slow: remote, doc: "6.8"},
	TypeFstat:    {name: "FSTAT", run: (*conn).fstat, takes: fhandle | dhandle, slow: remote, doc: "6.8"},
	TypeSetstat:  {name: "SETSTAT", run: (*conn).setstat, takes: path, does: changes, slow: remote, doc: "6.9"},
	TypeFsetstat: {name: "FSETSTAT", run: (*conn).fsetstat, takes: fhandle | dhandle, does: changes | moves, slow: remote, doc: "6.9"},
	TypeOpendir:  {name: "OPENDIR", run: (*conn).opendir, takes: path, slow: remote, doc: "6.7"},
	TypeReaddir:  {name: "READDIR", run: (*conn).readdir, takes: dhandle, does: moves, slow: remote, doc: "6.7"},
	TypeRemove:   {name: "REMOVE", run: (*conn).remove, takes: path, does: changes, slow: remote, doc: "6.5"},
	TypeMkdir:    {name: "MKDIR", run: (*conn).mkdir, takes: path, does: changes, slow: remote, doc: "6.6"},
	TypeRmdir:    {name: "RMDIR", run: (*conn).rmdir, takes: path, does: changes, slow: remote, doc: "6.6"},
	TypeRealpath: {name: "REALPATH", run: (*conn).realpath, doc: "6.11"},
	TypeStat:     {name: "STAT", run: (*conn).stat, takes: path, slow: remote, doc: "6.8"},
	TypeRename:   {name: "RENAME", run: (*conn).rename, takes: path | path2, does: changes, slow: remote, doc: "6.5"},
	TypeReadlink: {name: "READLINK", run: (*conn).readlink, takes: path, slow: remote, doc: "6.10"},
	TypeSymlink:  {name: "SYMLINK", run: (*conn).symlink, takes: path2, does: changes, slow: remote, doc: "6.10, OpenSSH 4.1"},
}

// extensions is the table of EXTENDED requests by name. Those with an offer are named in VERSION, in the
// order of offers. Read-only.
var extensions = map[string]*command{
	"posix-rename@openssh.com":       {name: "posix-rename", run: (*conn).rename, takes: path | path2, does: changes, slow: remote, doc: "OpenSSH 4.3", offer: "1"},
	"statvfs@openssh.com":            {name: "statvfs", run: (*conn).statvfs, takes: path, slow: remote, doc: "OpenSSH 4.4", offer: "2"},
	"fstatvfs@openssh.com":           {name: "fstatvfs", run: (*conn).statvfs, takes: fhandle | dhandle, slow: remote, doc: "OpenSSH 4.4", offer: "2"},
	"hardlink@openssh.com":           {name: "hardlink", run: (*conn).hardlink, takes: path | path2, does: changes, slow: remote, doc: "OpenSSH 4.5", offer: "1"},
	"fsync@openssh.com":              {name: "fsync", run: (*conn).fsync, takes: fhandle, does: changes | moves, slow: always, doc: "OpenSSH 4.6", offer: "1"},
	"lsetstat@openssh.com":           {name: "lsetstat", run: (*conn).lsetstat, takes: path, does: changes, slow: remote, doc: "OpenSSH 4.7", offer: "1"},
	"limits@openssh.com":             {name: "limits", run: (*conn).limits, doc: "OpenSSH 4.8", offer: "1"},
	"expand-path@openssh.com":        {name: "expand-path", run: (*conn).expandPath, doc: "OpenSSH 4.9", offer: "1"},
	"copy-data":                      {name: "copy-data", run: (*conn).copyData, takes: fhandle | copying, does: changes | moves, slow: always, doc: "OpenSSH 4.10", offer: "1"},
	"home-directory":                 {name: "home-directory", run: (*conn).homeDirectory, doc: "OpenSSH 4.11", offer: "1"},
	"users-groups-by-id@openssh.com": {name: "users-groups-by-id", run: (*conn).usersGroupsByID, doc: "OpenSSH 4.12", offer: "1"},
	"check-file":                     {name: "check-file-handle", run: (*conn).checkFile, takes: fhandle, slow: always, doc: "extensions-00 3", offer: "1"},
	"check-file-handle":              {name: "check-file-handle", run: (*conn).checkFile, takes: fhandle, slow: always, doc: "extensions-00 3"},
	"check-file-name":                {name: "check-file-name", run: (*conn).checkFile, takes: path, slow: always, doc: "extensions-00 3"},
}

// offers is the order of extensions in VERSION: OpenSSH's, then ours. Read-only.
var offers = []string{
	"posix-rename@openssh.com", "statvfs@openssh.com", "fstatvfs@openssh.com", "hardlink@openssh.com",
	"fsync@openssh.com", "lsetstat@openssh.com", "limits@openssh.com", "expand-path@openssh.com", "copy-data",
	"home-directory", "users-groups-by-id@openssh.com", "check-file",
}

// unknown answers every request that the tables do not have.
var unknown = &command{name: "unknown request", run: func(*conn, *request, *output) error { return errUnknownRequest }}

func commandOf(q *Packet) *command {
	cmd := commands[q.Type]
	if q.Type == TypeExtended {
		cmd = extensions[string(q.Extension)]
	}
	if cmd == nil {
		return unknown
	}
	return cmd
}

// request is a packet with what it names looked up.
type request struct {
	*Packet
	command   *command
	p, p2     vfs.Path
	h, h2     *handle
	exclusive bool // one of changes
}

// lookUp finds what r names and its place among others. Its error is the request's.
func (c *conn) lookUp(r *request) (err error) {
	t := r.command.takes
	if t&(fhandle|dhandle) != 0 {
		if r.h, err = c.handle(r.Handle); err != nil {
			return err
		}
		if r.h.file == nil && t&dhandle == 0 || r.h.file != nil && t&fhandle == 0 {
			return errBadHandle
		}
	}
	if t&copying != 0 {
		if r.h2, err = c.handle(r.Handle2); err != nil {
			return err
		}
		if r.h2.file == nil {
			return errBadHandle
		}
	}
	if t&path != 0 {
		if r.p, err = c.start.Resolve(string(r.Path)); err != nil {
			return err
		}
	}
	if t&path2 != 0 {
		if r.p2, err = c.start.Resolve(string(r.Path2)); err != nil {
			return err
		}
	}
	r.exclusive = r.command.does&changes != 0
	if r.Type == TypeOpen {
		r.exclusive = r.Flags&^FlagRead != 0
	}
	return nil
}

// slow reports whether r may wait long enough to hold up the requests behind it.
func (c *conn) slow(r *request) bool {
	switch r.command.slow {
	case quick:
		return false
	case always:
		return true
	}
	if r.h != nil && r.h.file != nil {
		return r.h.file.Remote()
	}
	if r.Type == TypeOpen && r.Flags&(FlagWrite|FlagAppend) != 0 && r.Flags&FlagTruncate == 0 {
		return true // an atomic upload may begin with a copy of the old file
	}
	return c.remote(r.p) || r.command.takes&path2 != 0 && c.remote(r.p2)
}

// name is what the log calls r's object.
func (r *request) name() string {
	var b strings.Builder
	for _, h := range []*handle{r.h, r.h2} {
		if h != nil {
			b.WriteString(h.where().String() + " ")
		}
	}
	if r.command.takes&path != 0 {
		b.WriteString(r.p.String() + " ")
	}
	if r.command.takes&path2 != 0 {
		b.WriteString(r.p2.String())
	}
	return strings.TrimSuffix(b.String(), " ")
}
