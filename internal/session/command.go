package session

import (
	"context"

	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// Ran tells of an SSH command that has succeeded: name is its first word, paths are those it worked on, of
// which the first two are told. Nothing is checked or done here.
func (x *Session) Ran(ctx context.Context, name string, paths ...vfs.Path) {
	v, err := x.begin()
	if err != nil {
		return
	}
	defer x.done()
	at := rootPath
	if len(paths) > 0 {
		at = paths[0]
	}
	pl := v.place(at)
	e := x.event(event.SSHCommand, &pl)
	e.SSHCmd = name
	if len(paths) > 1 {
		target := v.place(paths[1])
		e.Target, e.VirtualTarget = target.describe().StoragePath, paths[1].String()
	}
	x.report(ctx, e)
}
