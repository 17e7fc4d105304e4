package sftp

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// Code is the code of a STATUS (draft 7).
type Code uint32

// The codes that version 3 has.
const (
	CodeOK Code = iota
	CodeEOF
	CodeNoSuchFile
	CodePermissionDenied
	CodeFailure
	CodeBadMessage
	CodeNoConnection
	CodeConnectionLost
	CodeOpUnsupported
)

// statusLang is the language tag of every text here (RFC 1766).
const statusLang = "en"

// status is what a client reads when a request has ended.
type status struct {
	code Code
	text string
}

// Errors of requests that reach no storage.
var (
	errBadHandle       = errors.New("invalid handle")
	errTooManyHandles  = errors.New("too many open handles")
	errBadOffset       = errors.New("offset out of range")
	errSameFile        = errors.New("source and target are the same file")
	errNoSuchUser      = errors.New("no such user")
	errNoAlgorithm     = errors.New("no supported hash algorithm")
	errBlockSize       = errors.New("block size out of range")
	errUnknownRequest  = errors.New("unknown request")
	errSessionIsEnding = errors.New("session is ending")
)

var success = status{CodeOK, "success"}

// statuses maps errors to statuses; the first that matches wins. Read-only.
var statuses = []struct {
	err error
	status
}{
	{io.EOF, status{CodeEOF, "end of file"}},
	{fs.ErrNotExist, status{CodeNoSuchFile, "no such file or directory"}},
	{vfs.ErrNotDir, status{CodeNoSuchFile, "not a directory"}}, // as OpenSSH does: the path leads nowhere
	{vfs.ErrReadOnly, status{CodePermissionDenied, "read-only file system"}},
	{vfs.ErrLoop, status{CodePermissionDenied, "symbolic link loops or leaves the tree"}},
	{fs.ErrPermission, status{CodePermissionDenied, "permission denied"}},
	{session.ErrLocked, status{CodeFailure, "locked"}},
	{vfs.ErrQuota, status{CodeFailure, "no space left"}},
	{fs.ErrExist, status{CodeFailure, "file already exists"}}, // version 3 has no code of its own for this and the next
	{vfs.ErrNotEmpty, status{CodeFailure, "directory not empty"}},
	{vfs.ErrIsDir, status{CodeFailure, "is a directory"}},
	{vfs.ErrInvalidPath, status{CodeBadMessage, "invalid path"}}, // as OpenSSH does for ENAMETOOLONG
	{vfs.ErrOutOfOrder, status{CodeFailure, "write out of order"}},
	{errBadHandle, status{CodeFailure, errBadHandle.Error()}},
	{errTooManyHandles, status{CodeFailure, errTooManyHandles.Error()}},
	{errBadOffset, status{CodeFailure, errBadOffset.Error()}},
	{errSameFile, status{CodeFailure, errSameFile.Error()}},
	{errNoSuchUser, status{CodeFailure, errNoSuchUser.Error()}},
	{errNoAlgorithm, status{CodeOpUnsupported, errNoAlgorithm.Error()}},
	{errBlockSize, status{CodeFailure, errBlockSize.Error()}},
	{ErrMalformed, status{CodeBadMessage, "malformed packet"}},
	{errUnknownRequest, status{CodeOpUnsupported, errUnknownRequest.Error()}},
	{vfs.ErrUnsupported, status{CodeOpUnsupported, "operation unsupported"}},
	{errSessionIsEnding, status{CodeFailure, errSessionIsEnding.Error()}},
	{context.Canceled, status{CodeFailure, errSessionIsEnding.Error()}},
	{context.DeadlineExceeded, status{CodeFailure, "timed out"}},
}

// statusFor is the answer to a request that ended with err, and whether err is one that clients have a name
// for. What an unknown error says is for the log alone.
func statusFor(err error) (s status, known bool) {
	if err == nil {
		return success, true
	}
	for i := range statuses {
		if errors.Is(err, statuses[i].err) {
			return statuses[i].status, true
		}
	}
	return status{CodeFailure, "internal error"}, false
}
