package dav

import (
	"errors"
	"hash/maphash"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/valyala/bytebufferpool"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// flushAt is how much of a multistatus is collected before it goes out, in bytes.
const flushAt = 32 << 10

// maxWalkDepth bounds how deep a PROPFIND of depth infinity goes.
const maxWalkDepth = 100

// errFiniteDepth refuses Depth: infinity (RFC 4918 9.1, DAV-2).
var errFiniteDepth = failElement(403, "Depth: infinity is not served here", "<D:propfind-finite-depth/>")

// propfind answers with the properties of a resource, and of what is in it (RFC 4918 9.1). The answer goes out entry by
// entry: a large directory is never in memory.
func (s *Server) propfind(r *request, w *response) error {
	d, err := r.depth()
	if err != nil {
		return err
	}
	f, err := s.readFind(r)
	if err != nil {
		return err
	}
	info, err := statAny(r, r.path)
	if err != nil {
		return err
	}
	if d == depthInfinity && info.IsDir() && s.walkLimit <= 0 {
		return errFiniteDepth
	}
	e := entry{own: true, path: r.path, info: info}
	if f.dead {
		if e.dead, err = r.s.Props(r.ctx, r.path); err != nil {
			return err
		}
	}
	return s.tell(r, w, f, &e, d)
}

// tell answers with what was asked for of e, the request's own resource, and of what is in it.
func (s *Server) tell(r *request, w *response, f *find, e *entry, d depth) error {
	k := newWalk(s, r, w, f)
	defer k.release()
	info := &e.info
	k.href = appendHref(k.href, r.prefix, r.path, info.IsDir())
	k.p.b = append(k.p.b, multistatusHead...)
	k.p.response(k.href, e)
	if info.IsDir() && d != depthZero {
		levels := 1
		if d == depthInfinity {
			levels, k.left = maxWalkDepth, s.walkLimit+1
		}
		if err := k.list(r.path, levels); err != nil {
			return err
		}
	}
	if k.full {
		// RFC 6578 3.6 has the form: 507 for the request's own URI says that there is more.
		k.p.b = appendFailed(k.p.b, appendHref(nil, r.prefix, r.path, true), 507, "propfind-finite-depth")
	}
	k.p.b = append(k.p.b, multistatusEnd...)
	return k.flush()
}

// statAny describes what stands at p: the target of a link, or the link if that leads nowhere.
func statAny(r *request, p vfs.Path) (vfs.FileInfo, error) {
	info, err := r.s.Stat(r.ctx, p)
	if err == nil {
		return info, nil
	}
	if l, lerr := r.s.Lstat(r.ctx, p); lerr == nil && l.IsSymlink() {
		return l, nil
	}
	return info, err
}

// walk is a PROPFIND under way.
type walk struct {
	r    *request
	w    *response
	p    propWriter
	href []byte // of the directory that is listed, with its slash
	left int    // entries that may still be written; 0 is no limit
	full bool   // left has been used up
}

// walks keeps the buffers of walks.
var walks = sync.Pool{New: func() any { return &walk{} }}

func newWalk(s *Server, r *request, w *response, f *find) *walk {
	k := walks.Get().(*walk)
	k.r, k.w = r, w
	k.p.ctx, k.p.s, k.p.find, k.p.prefix = r.ctx, r.s, f, r.prefix
	k.p.mime = s.contentType
	k.p.brief = strings.EqualFold(r.header("Brief"), "t") || strings.Contains(r.header("Prefer"), "return=minimal")
	return k
}

// release gives the buffers back, unless they have grown large.
func (k *walk) release() {
	if cap(k.p.b) > 4*flushAt {
		return
	}
	*k = walk{href: k.href[:0], p: propWriter{b: k.p.b[:0], missing: k.p.missing[:0], tag: k.p.tag[:0], lastDate: k.p.lastDate[:0]}}
	walks.Put(k)
}

// flush sends what is collected. With the first bytes goes the status, so that an error before them has its own.
func (k *walk) flush() error {
	if k.w.code == 0 {
		k.w.set("Content-Type", xmlType)
		if k.p.brief {
			k.w.set("Preference-Applied", "return=minimal")
		}
		k.w.compressible()
		k.w.status(207)
	}
	_, err := k.w.Write(k.p.b)
	k.p.b = k.p.b[:0]
	return err
}

// list writes what is in dir, and in what is in it for as many levels.
func (k *walk) list(dir vfs.Path, levels int) error {
	f, r := k.p.find, k.r
	var props func(string) []session.Prop
	if f.dead {
		var err error
		if props, err = r.s.PropsIn(r.ctx, dir); err != nil {
			return err
		}
	}
	var below []string // directories to go into: collected, so that one listing is open at a time
	base := len(k.href)
	for i, err := range r.s.List(r.ctx, dir) {
		if err != nil && i.Name == "" {
			return err
		}
		if k.left == 1 {
			k.full = true
			return nil
		}
		if k.left > 0 {
			k.left--
		}
		e := entry{dir: dir, info: i}
		if err == nil && i.IsSymlink() {
			err = k.follow(&e)
		}
		k.href = appendEscaped(k.href[:base], i.Name)
		if e.info.IsDir() {
			k.href = append(k.href, '/')
		}
		if err != nil {
			k.p.b = appendFailed(k.p.b, k.href, statusFor(err), "") // one bad entry never fails a listing
		} else {
			if props != nil {
				e.dead = props(i.Name)
			}
			k.p.response(k.href, &e)
		}
		if levels > 1 && i.IsDir() {
			below = append(below, i.Name)
		}
		if len(k.p.b) >= flushAt {
			if err := k.flush(); err != nil {
				return err
			}
		}
	}
	for _, name := range below {
		p, err := dir.Child(name)
		if err != nil {
			continue
		}
		k.href = append(appendEscaped(k.href[:base], name), '/')
		switch err := k.list(p, levels-1); {
		case k.full:
			return nil
		case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
			// The directory is told of already; what is in it is not for this user, or is gone.
		case err != nil:
			return err
		}
	}
	k.href = k.href[:base]
	return nil
}

// follow describes the target of a link; one that leads nowhere stays itself.
func (k *walk) follow(e *entry) error {
	p, err := e.dir.Child(e.info.Name)
	if err != nil {
		return err
	}
	if i, err := k.r.s.Stat(k.r.ctx, p); err == nil {
		i.Name = e.info.Name
		e.info = i
	}
	return nil
}

// readFind reads and parses the body. Clients send the same few bodies again and again: what they mean is remembered.
func (s *Server) readFind(r *request) (*find, error) {
	if r.length == 0 {
		return findDefault, nil
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	defer bytebufferpool.Put(body)
	return s.finds.parse(body.B)
}

// maxFindBytes is the longest body that is remembered.
const maxFindBytes = 2 << 10

func newFindCache() *findCache { return &findCache{seed: maphash.MakeSeed()} }

// findCache remembers what bodies of PROPFIND mean: at most 64 of them.
type findCache struct {
	seed  maphash.Seed
	slots [64]atomic.Pointer[findSlot]
}

type findSlot struct {
	body string
	find *find
}

// known is what a body means, nil if it has not been seen.
func (c *findCache) known(body []byte) (*find, *atomic.Pointer[findSlot]) {
	if len(body) > maxFindBytes {
		return nil, nil
	}
	slot := &c.slots[maphash.Bytes(c.seed, body)%uint64(len(c.slots))]
	if known := slot.Load(); known != nil && known.body == string(body) {
		return known.find, slot
	}
	return nil, slot
}

func (c *findCache) parse(body []byte) (*find, error) {
	f, slot := c.known(body)
	if f != nil {
		return f, nil
	}
	f, err := parseFind(body)
	if err != nil {
		return nil, xmlFailure(err)
	}
	if slot != nil {
		slot.Store(&findSlot{string(body), f})
	}
	return f, nil
}

// readBody reads the whole body of a request that is XML. The caller gives the buffer back.
func readBody(r *request) (*bytebufferpool.ByteBuffer, error) {
	if r.length > maxXMLBytes {
		return nil, errTooLong
	}
	b := bytebufferpool.Get()
	for {
		if len(b.B) == cap(b.B) {
			b.B = append(b.B, 0)[:len(b.B)]
		}
		n, err := r.body.Read(b.B[len(b.B):cap(b.B)])
		b.B = b.B[:len(b.B)+n]
		if len(b.B) > maxXMLBytes {
			bytebufferpool.Put(b)
			return nil, errTooLong
		}
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			bytebufferpool.Put(b)
			return nil, err
		}
	}
}

// xmlFailure is the answer to XML that cannot be read.
func xmlFailure(err error) error { return fail(400, err.Error()) }
