package session

import (
	"context"

	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// ReadInstant is OpenFile, a read of all and Close of a file of at most most bytes, which is appended to b, for who must not
// wait (an event loop): the file is in the system's memory, and neither a limit nor a hook has a word in it. ok says that it
// was done; else nothing has happened, whatever the reason, and OpenFile tells.
func (x *Session) ReadInstant(ctx context.Context, p vfs.Path, b []byte, most int) (out []byte, i vfs.FileInfo, ok bool) {
	v, pl, f := x.instant(p)
	if v == nil {
		return b, i, false
	}
	defer x.done()
	if v.patterns.judge(p) != allowed || !v.perms.at(p.Dir()).has(mayDownload) || !x.unmetered(v) {
		return b, i, false
	}
	e := events.Get().(*event.Event)
	x.fill(e, event.Download, &pl, pl.describe())
	defer func() {
		*e = event.Event{} // whom it was told has not kept it
		events.Put(e)
	}()
	if out, i, ok = f.ReadInstant(pl.Path, b, most); !ok {
		return b, i, false
	}
	i.Name = p.Base()
	e.Bytes, e.FileSize, e.Complete = i.Size, i.Size, true
	x.report(ctx, e)
	return out, i, true
}

// StatInstant is Stat and Props for who must not wait, as ReadInstant is OpenFile, of what has no properties.
func (x *Session) StatInstant(p vfs.Path) (i vfs.FileInfo, ok bool) {
	v, pl, f := x.instant(p)
	if v == nil {
		return i, false
	}
	defer x.done()
	if v.patterns.judge(p) == hidden || !v.perms.at(p.Dir()).has(mayList) || x.hiddenAt(&pl) != nil ||
		x.srv.props.may(pl.lockKey().dir(), false) {
		return i, false
	}
	i, ok = f.StatInstant(pl.Path)
	i.Name = p.Base()
	return i, ok
}

// instant begins an operation on what a storage has in memory; x.done ends it. The view is nil if there is no such.
func (x *Session) instant(p vfs.Path) (*view, place, vfs.Instant) {
	if x.share != nil { // its links are looked for
		return nil, place{}, nil
	}
	v, err := x.begin()
	if err != nil {
		return nil, place{}, nil
	}
	pl := v.place(p)
	f, ok := vfs.As[vfs.Instant](pl.FS)
	if !ok || pl.IsMount || pl.LeadsToMount {
		x.done()
		return nil, place{}, nil
	}
	return v, pl, f
}

// unmetered reports whether a download has neither limit nor bandwidth, and nobody who is asked or waited for.
func (x *Session) unmetered(v *view) bool {
	if v.downMax != 0 || v.totalMax != 0 || x.srv.asks(event.PreDownload) {
		return false
	}
	if rate, _ := v.bandwidth(x.conn.Remote.Addr(), false); rate > 0 {
		return false
	}
	for _, k := range x.srv.deps.Sinks {
		if s, ok := k.(event.Prompt); !ok || !s.Prompt(event.Download) {
			return false
		}
	}
	return true
}
