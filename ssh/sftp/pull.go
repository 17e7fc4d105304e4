package sftp

import (
	"iter"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// pull turns a listing into a function that gives one entry a call.
func pull(seq iter.Seq2[vfs.FileInfo, error]) (func() (vfs.FileInfo, error, bool), func()) {
	return iter.Pull2(seq)
}

// long is the listing's writer of long names.
func (d *dirStream) long(*conn) *longNames {
	if d.names == nil {
		n := newLongNames(time.Now())
		d.names = &n
	}
	return d.names
}
