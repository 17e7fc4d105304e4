package session

import (
	"time"

	"github.com/gantryhq/gantry/vfs"
)

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
	// Size is the announced size in bytes where the protocol knows it (PUT, ALLO, SCP); else 0 or -1.
	Size int64
	Attr vfs.Attr // of a new file
}

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
	Role                                   string // of the account
	Started, LastActivity                  time.Time
	Command                                string
	Transfers                              []TransferInfo
}
