package session

import (
	"context"
	"iter"
	"net/netip"
	"os"
	"time"

	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/vfs"
)

// Conn is what a protocol knows of a peer's connection. Fixed once made.
type Conn struct {
	ID       string // unique, "SFTP_<hex>_<n>" for a channel (reference protocols.md 1)
	Protocol string // SFTP, SCP, SSH, FTP, DAV, HTTP: the name in logs and events
	Remote   netip.AddrPort
	Local    netip.AddrPort
	Client   string // the peer's software, bounded by us
	// Kill ends the peer's connection; called at most once, from any goroutine, when an administrator, a
	// changed account or the idle check ends the session.
	Kill func(reason error)
}

// Attempt is one try to log in. It stands here so that protocols need not know package auth.
type Attempt = auth.Attempt

// Authenticate proves a peer's credential and passes it through the one Admit check. It has no effect on
// the account and makes no session: in SSH a proven key is still only a step (AUTH-1). The error's text is
// for the log; a peer hears only that the login failed. Failed attempts other than public keys are
// recorded here; a protocol calls Abandoned for the rest.
func (s *Server) Authenticate(ctx context.Context, a *auth.Attempt) (*Login, error) { panic("stub") }

// Abandoned records that a peer left without a login: tried are the methods it failed with, none if it
// did not try.
func (s *Server) Abandoned(c Conn, username string, tried []string, err error) { panic("stub") }

// Login is a proven credential. Immutable.
type Login struct {
	id *auth.Identity
}

// Username is the account that logged in, which a source may have changed from what the peer typed.
func (l *Login) Username() string { panic("stub") }

// Open makes a session of a login: it checks max_sessions and the registry in one step, re-checks that the
// account may still be in, and makes the account's directories where that is due. The session ends with
// Close, or when ctx does. Every SSH channel, FTP control connection and in-flight request is one.
func (s *Server) Open(ctx context.Context, l *Login, c Conn) (*Session, error) { panic("stub") }

// StartDir is where relative paths begin.
func (s *Session) StartDir() vfs.Path { panic("stub") }

// Username is the account's name.
func (s *Session) Username() string { panic("stub") }

// Close aborts what is still open as the peer's loss of the connection does, and leaves the registry.
func (s *Session) Close() error { panic("stub") }

// Touch notes activity for the idle check; transfers do it by themselves.
func (s *Session) Touch() { panic("stub") }

// The metadata verbs. Each checks permission, pattern and locks on both ends, acts, settles quota and
// emits one event. Errors satisfy errors.Is for fs.ErrNotExist, fs.ErrExist, fs.ErrPermission and the
// errors of vfs; ErrQuota and ErrReadQuota for limits of the account.

// Stat follows links. A path of a mount or of a directory that leads to one always exists.
func (s *Session) Stat(ctx context.Context, p vfs.Path) (vfs.FileInfo, error) { panic("stub") }

// Lstat does not follow a link.
func (s *Session) Lstat(ctx context.Context, p vfs.Path) (vfs.FileInfo, error) { panic("stub") }

// List streams the entries of dir, mounts merged in, hidden names left out, without "." and "..". The first
// error is the permission check or the open; an error with a FileInfo that has a name is one bad entry.
func (s *Session) List(ctx context.Context, dir vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	panic("stub")
}

// Readlink gives the virtual path that a link names.
func (s *Session) Readlink(ctx context.Context, p vfs.Path) (string, error) { panic("stub") }

// Mkdir makes one directory.
func (s *Session) Mkdir(ctx context.Context, p vfs.Path, attr vfs.Attr) error { panic("stub") }

// Remove removes a file or a link, Rmdir an empty directory, RemoveAll either with all below it.
func (s *Session) Remove(ctx context.Context, p vfs.Path) error    { panic("stub") }
func (s *Session) Rmdir(ctx context.Context, p vfs.Path) error     { panic("stub") }
func (s *Session) RemoveAll(ctx context.Context, p vfs.Path) error { panic("stub") }

// Rename moves from to to. Without replace an existing target is fs.ErrExist.
func (s *Session) Rename(ctx context.Context, from, to vfs.Path, replace bool) error { panic("stub") }

// Symlink makes link, which names target: absolute ones are virtual paths, relative ones start at link's directory.
func (s *Session) Symlink(ctx context.Context, target string, link vfs.Path) error { panic("stub") }

// Link makes a hard link.
func (s *Session) Link(ctx context.Context, old, new vfs.Path) error { panic("stub") }

// SetAttr changes what attr.Set names, each by its permission and the setstat_mode. Truncate sets the size.
func (s *Session) SetAttr(ctx context.Context, p vfs.Path, attr vfs.Attr, follow bool) error {
	panic("stub")
}
func (s *Session) Truncate(ctx context.Context, p vfs.Path, size int64) error { panic("stub") }

// Copy copies a file or a tree.
func (s *Session) Copy(ctx context.Context, from, to vfs.Path, replace bool) error { panic("stub") }

// StatFS is the room at p as the account may use it: the smaller of storage and quota.
func (s *Session) StatFS(ctx context.Context, p vfs.Path) (vfs.StatFS, error) { panic("stub") }

// Flags say how a file is opened.
type Flags struct {
	Read, Write bool
	Append      bool // every write goes to the end
	Create      bool // make it if it is not there
	Truncate    bool
	Exclusive   bool // with Create: it must not be there
	// Whole: publish all or nothing, whatever the upload mode (PUT, SCP, REST).
	Whole bool
	// Offset is the first byte that will be written, where the protocol knows (REST); else 0.
	Offset int64
	// Size is the announced size in bytes where the protocol knows it (PUT, ALLO, SCP); else -1.
	Size int64
	Attr vfs.Attr // of a new file
}

// OpenFile opens a file for a transfer: permission, pattern, transfer limit, quota reservation and
// pre-hook, once. The handle is registered as a transfer until Close or Abort.
func (s *Session) OpenFile(ctx context.Context, p vfs.Path, f Flags) (*Handle, error) { panic("stub") }

// The calls of a Handle. ReadAt and WriteAt may be called concurrently; they count, shape bandwidth, keep
// the quota and fail once the transfer is killed. The per-call path takes no store query and no lock that
// another transfer holds.

// ReadAt reads at most len(p) bytes; io.EOF at the end of the file.
func (h *Handle) ReadAt(p []byte, off int64) (int, error) { panic("stub") }

// WriteAt writes p. Past the quota or max_upload_file_size it fails with ErrQuota and the upload is lost as section 5 of the reference says.
func (h *Handle) WriteAt(p []byte, off int64) (int, error) { panic("stub") }

// Path is the virtual path, or where the file has been renamed to since.
func (h *Handle) Path() vfs.Path { panic("stub") }

// Stat describes the open file.
func (h *Handle) Stat(ctx context.Context) (vfs.FileInfo, error) { panic("stub") }

// SetAttr, Truncate and Sync act on the open file. Attributes of an upload survive its commit.
func (h *Handle) SetAttr(ctx context.Context, attr vfs.Attr) error { panic("stub") }
func (h *Handle) Truncate(ctx context.Context, size int64) error   { panic("stub") }
func (h *Handle) Sync(ctx context.Context) error                   { panic("stub") }

// Fast gives what a read or write with no wait needs: the operating system's file for zero-copy, or nil.
func (h *Handle) Fast() *os.File { panic("stub") }

// Remote reports whether reads and writes may wait on a network.
func (h *Handle) Remote() bool { panic("stub") }

// Close ends the transfer as the peer asked: an upload is committed. The error says that the file is not
// what the peer sent. Abort ends it because of cause (a lost connection, a kill): the upload mode says
// what stays. Both end once; the second call does nothing.
func (h *Handle) Close(ctx context.Context) error              { panic("stub") }
func (h *Handle) Abort(ctx context.Context, cause error) error { panic("stub") }

// TransferInfo describes a live transfer.
type TransferInfo struct {
	Operation string // "upload" or "download"
	Path      string
	Started   time.Time
	Bytes     int64
	Speed     float64 // bytes/s over the last seconds
}

// Info describes a live session, in the terms of the REST API's connection status.
type Info struct {
	Username, ID, Client, Protocol, Remote string
	Started, LastActivity                  time.Time
	Command                                string
	Transfers                              []TransferInfo
}

// Sessions lists the live sessions. Kill ends one by its id and reports whether it was there.
func (s *Server) Sessions() []Info                       { panic("stub") }
func (s *Server) Kill(id string, reason error) bool      { panic("stub") }
func (s *Server) KillUser(name string, reason error) int { panic("stub") }
