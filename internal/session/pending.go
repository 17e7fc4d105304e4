package session

import (
	"slices"
	"sync"

	"github.com/gantryhq/gantry/vfs"
)

// pendings is the table of uploads under way, by who uploads and where the file will stand. Calls of the
// same account on that name mean the upload: clients stat, chmod, rename and remove what they are writing.
//
// A name may be open more than once. Another write in place goes to the same file; another atomic upload
// has a file of its own, and the last to be committed stays. A read opens what is published: the old
// content, or nothing yet.
type pendings struct {
	mu sync.Mutex
	m  map[pendingKey][]*Handle
}

type pendingKey struct {
	user string
	nameKey
}

func (p *pendings) init() { p.m = map[pendingKey][]*Handle{} }

func (x *Session) pendingKey(pl *place) pendingKey { return pendingKey{x.Username(), pl.name()} }

func (p *pendings) add(k pendingKey, h *Handle) {
	p.mu.Lock()
	p.m[k] = append(p.m[k], h)
	p.mu.Unlock()
}

func (p *pendings) drop(k pendingKey, h *Handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.m[k]
	if i := slices.Index(list, h); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(p.m, k)
	} else {
		p.m[k] = list
	}
}

// at are the uploads to a name, the latest last.
func (p *pendings) at(k pendingKey) []*Handle {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.m[k])
}

// inPlace reports whether an upload of anybody that of accepts is written where it stands.
func (p *pendings) inPlace(of func(*Handle) bool) bool {
	p.mu.Lock()
	var all []*Handle
	for _, list := range p.m {
		all = append(all, list...)
	}
	p.mu.Unlock()
	return slices.ContainsFunc(all, func(h *Handle) bool { return !h.atomic && of(h) })
}

// below reports whether uploads of anybody are under way below dir.
func (p *pendings) below(dir *place) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.m {
		if k.storage == dir.id && k.path != dir.Path && k.path.Within(dir.Path) {
			return true
		}
	}
	return false
}

// hiddenAt is the latest upload of x to pl that is not published yet, or nil.
func (x *Session) hiddenAt(pl *place) *Handle {
	list := x.srv.pendings.at(x.pendingKey(pl))
	for _, h := range slices.Backward(list) {
		if h.atomic {
			return h
		}
	}
	return nil
}

// remember keeps attributes of a pending upload to be given again when it ends.
func (h *Handle) remember(a vfs.Attr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.Set&vfs.AttrMode != 0 {
		h.attr.Mode = a.Mode
	}
	if a.Set&vfs.AttrTimes != 0 {
		h.attr.Atime, h.attr.Mtime = a.Atime, a.Mtime
	}
	h.attr.Set |= a.Set & (vfs.AttrMode | vfs.AttrTimes)
}

// at is where the file will stand.
func (h *Handle) at() place {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.where
}

// retarget moves a pending upload to another name. The caller holds the locks of both.
func (h *Handle) retarget(to *place) {
	p := &h.s.srv.pendings
	p.drop(h.key, h)
	h.mu.Lock()
	h.where = *to
	h.key = h.s.pendingKey(to)
	h.mu.Unlock()
	p.add(h.key, h)
}

// forget makes a pending upload one that publishes nothing. The caller holds the lock of its name.
func (h *Handle) forget() {
	h.s.srv.pendings.drop(h.key, h)
	h.mu.Lock()
	h.removed = true
	h.mu.Unlock()
}
