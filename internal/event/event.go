// Package event says what happened: one Event for each operation, given to Sinks before (where it may be
// refused) and after.
package event

import (
	"context"
	"time"
)

// Actions. The values are those of the hooks' "action" (reference hooks.md 1).
const (
	Download    = "download"
	Upload      = "upload"
	PreDownload = "pre-download"
	PreUpload   = "pre-upload"
	PreDelete   = "pre-delete"
	Delete      = "delete"
	Rename      = "rename"
	Mkdir       = "mkdir"
	Rmdir       = "rmdir"
	SSHCommand  = "ssh_cmd"
	Copy        = "copy"
	// Without a hook, but logged: the command records of guard.md 8.2.
	Symlink  = "symlink"
	Link     = "link"
	Chmod    = "chmod"
	Chown    = "chown"
	Chtimes  = "chtimes"
	Truncate = "truncate"
)

// Status is the outcome, with the hooks' numbers.
type Status int

// The outcomes.
const (
	OK     Status = 1
	Failed Status = 2
	Quota  Status = 3
)

// Event is one thing that happened, with every field of the hooks' contract and of the log records.
type Event struct {
	Action        string
	Username      string
	Role          string
	Path          string // storage path
	Target        string // storage path
	VirtualPath   string
	VirtualTarget string
	SSHCmd        string
	FileSize      int64 // bytes, the file's size now
	Bytes         int64 // bytes moved by this transfer
	Elapsed       time.Duration
	Provider      int // fs_provider
	Bucket        string
	Endpoint      string
	Status        Status
	Complete      bool   // a transfer: the whole file is there
	Protocol      string // SFTP, SCP, SSH, FTP, DAV, HTTP, …
	IP            string
	LocalAddr     string
	RemoteAddr    string
	SessionID     string
	OpenFlags     int // POSIX bits as Linux numbers them
	Time          time.Time
	Metadata      map[string]string
	Err           error
	Approved      bool // an upload: the hooks that are waited for were asked

	// Of attribute changes; zero elsewhere.
	Mode         string // octal
	UID, GID     int
	Atime, Mtime time.Time
	Size         int64 // truncate
	FTPMode      string
}

// Sink is told of events. Before may refuse with an error; it is called for the pre-* actions only.
// After must not keep e.
type Sink interface {
	Before(ctx context.Context, e *Event) error
	After(ctx context.Context, e *Event)
}

// Selective is a Sink that can say beforehand that it lets all of an action pass: then Before need not be called, nor
// its event be made.
type Selective interface {
	Asks(action string) bool
}

// Prompt is a Sink that can say beforehand that After will return at once with an action: then it may be called where
// nothing may wait.
type Prompt interface {
	Prompt(action string) bool
}

// Approver is a Sink that may refuse an upload that has succeeded: the file is then removed again.
type Approver interface {
	Approve(ctx context.Context, e *Event) error
}
