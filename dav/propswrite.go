package dav

import (
	"context"
	"strconv"
	"time"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// entry is one resource of a multistatus.
type entry struct {
	own  bool     // it is the request's resource
	path vfs.Path // of that; of others it is made where it is needed
	dir  vfs.Path // that holds it, if path is not set
	info vfs.FileInfo
	dead []session.Prop
}

// at is the path of the resource.
func (e *entry) at() vfs.Path {
	if !e.own {
		if p, err := e.dir.Child(e.info.Name); err == nil {
			return p
		}
	}
	return e.path
}

// multistatusHead begins every multistatus. Properties of DAV: use the prefix D, others declare their own.
const (
	xmlType         = "application/xml; charset=utf-8"
	xmlHead         = `<?xml version="1.0" encoding="utf-8"?>` + "\n"
	multistatusHead = xmlHead + `<D:multistatus xmlns:D="DAV:">` + "\n"
	multistatusEnd  = "</D:multistatus>\n"
)

// propWriter writes the responses of a multistatus into b. One request owns it.
type propWriter struct {
	ctx  context.Context
	s    *session.Session
	mime func(vfs.FileInfo) string
	find *find
	// brief leaves out what a resource does not have (RFC 8144 2.1).
	brief  bool
	prefix string // of the binding

	b       []byte
	missing []propRef
	room    bool // allprop has shown the quota
	tag     []byte

	second   int64 // lastDate is the date of this second
	lastDate []byte
}

// response writes the whole response of e, whose href is written already.
func (w *propWriter) response(href []byte, e *entry) {
	w.b = append(append(append(w.b, "<D:response><D:href>"...), href...), "</D:href>"...)
	w.missing = w.missing[:0]
	const open = "<D:propstat><D:prop>"
	from := len(w.b)
	w.b = append(w.b, open...)
	switch w.find.kind {
	case findNames:
		w.names(e)
	case findAll:
		w.all(e)
	}
	if w.find.kind != findNames {
		for i := range w.find.props {
			p := &w.find.props[i]
			if w.find.kind == findAll && (liveProps[p.live].all || w.room && (p.live == propQuotaAvailable || p.live == propQuotaUsed)) {
				continue // it is there already
			}
			if !w.prop(p, e) {
				w.missing = append(w.missing, *p)
			}
		}
	}
	if len(w.b) == from+len(open) && len(w.missing) > 0 && !w.brief {
		w.b = w.b[:from]
	} else {
		w.b = append(w.b, "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>"...)
	}
	if len(w.missing) > 0 && !w.brief {
		w.b = append(w.b, open...)
		for i := range w.missing {
			w.b = appendEmptyProp(w.b, &w.missing[i].name)
		}
		w.b = append(w.b, "</D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>"...)
	}
	w.b = append(w.b, "</D:response>\n"...)
}

// failed writes the response of a resource that could not be looked at.
func appendFailed(b, href []byte, status int, condition string) []byte {
	b = append(append(append(b, "<D:response><D:href>"...), href...), "</D:href><D:status>"...)
	b = append(appendStatusLine(b, status), "</D:status>"...)
	if condition != "" {
		b = append(append(append(b, "<D:error><D:"...), condition...), "/></D:error>"...)
	}
	return append(b, "</D:response>\n"...)
}

// appendEmptyProp writes <x:local xmlns:x="space"/>.
func appendEmptyProp(b []byte, n *session.PropName) []byte {
	b = appendPropStart(b, n, "")
	b[len(b)-1] = '/'
	return append(b, '>')
}

// appendPropStart opens the element of a property.
func appendPropStart(b []byte, n *session.PropName, lang string) []byte {
	switch n.Space {
	case "DAV:":
		b = append(append(b, "<D:"...), n.Local...)
	case "":
		b = append(append(b, '<'), n.Local...)
	default:
		b = append(append(b, "<x:"...), n.Local...)
		b = append(appendXMLAttr(append(b, ` xmlns:x="`...), n.Space), '"')
	}
	if lang != "" {
		b = append(appendXMLAttr(append(b, ` xml:lang="`...), lang), '"')
	}
	return append(b, '>')
}

func appendPropEnd(b []byte, n *session.PropName) []byte {
	switch n.Space {
	case "DAV:":
		b = append(b, "</D:"...)
	case "":
		b = append(b, "</"...)
	default:
		b = append(b, "</x:"...)
	}
	return append(append(b, n.Local...), '>')
}

// names writes what e has, without values.
func (w *propWriter) names(e *entry) {
	for p := propNone + 1; p < livePropEnd; p++ {
		from := len(w.b)
		quota := (p == propQuotaAvailable || p == propQuotaUsed) && e.info.IsDir()
		if quota || p == propLockDiscovery || w.live(p, e) {
			w.b = appendEmptyProp(w.b[:from], &liveProps[p].name)
		}
	}
	for i := range e.dead {
		if n := &e.dead[i].PropName; !isLive(n) {
			w.b = appendEmptyProp(w.b, n)
		}
	}
}

// all writes what allprop means: the live properties but the costly ones, and the dead ones.
func (w *propWriter) all(e *entry) {
	for p := propNone + 1; p < livePropEnd; p++ {
		if liveProps[p].all {
			w.live(p, e)
		}
	}
	if w.room = e.own && !w.s.Remote(e.path); w.room {
		// Clients that ask for everything show the room of a drive by it. RFC 4331 2 leaves it out for what it costs
		// with every entry.
		w.live(propQuotaAvailable, e)
		w.live(propQuotaUsed, e)
	}
	for i := range e.dead {
		d := &e.dead[i]
		switch {
		case d.PropName == liveProps[propWin32Modified].name:
			w.live(propWin32Modified, e) // it was set once; the file says what it is now
		case !isLive(&d.PropName):
			w.appendDead(d)
		}
	}
}

// isLive reports whether a stored property has a live one's name: such are shown as those.
func isLive(n *session.PropName) bool {
	for p := propNone + 1; p < livePropEnd; p++ {
		if liveProps[p].name == *n {
			return true
		}
	}
	return false
}

func (w *propWriter) prop(p *propRef, e *entry) bool {
	if p.live != propNone {
		return w.live(p.live, e)
	}
	for i := range e.dead {
		if e.dead[i].PropName == p.name {
			w.appendDead(&e.dead[i])
			return true
		}
	}
	return false
}

func (w *propWriter) appendDead(d *session.Prop) {
	w.b = appendPropStart(w.b, &d.PropName, d.Lang)
	w.b = appendPropEnd(append(w.b, d.XML...), &d.PropName)
}

// live writes a live property; false if e has none such.
func (w *propWriter) live(p liveProp, e *entry) bool {
	from := len(w.b)
	n := &liveProps[p].name
	b := appendPropStart(w.b, n, "")
	i := &e.info
	ok := true
	switch p {
	case propCreationDate: // the storages know no other time
		ok = !i.ModTime.IsZero()
		b = i.ModTime.UTC().AppendFormat(b, time.RFC3339) // which the time package knows
	case propDisplayName:
		b = w.displayName(b, e)
	case propContentLength:
		ok = !i.IsDir()
		b = strconv.AppendInt(b, i.Size, 10)
	case propContentType:
		if ok = !i.IsDir(); ok {
			b = appendXMLText(b, w.mime(*i))
		}
	case propETag:
		w.tag = appendETag(w.tag[:0], i)
		b = appendXMLText(b, w.tag)
	case propLastModified, propWin32Modified:
		ok = !i.ModTime.IsZero()
		b = w.appendDate(b, i.ModTime)
	case propResourceType:
		if i.IsDir() {
			b = append(b, "<D:collection/>"...)
		}
	case propSupportedLock:
		b = append(b, "<D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"+
			"<D:lockentry><D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"...)
	case propLockDiscovery:
		if w.s.AnyLocks() {
			list, err := w.s.Locks(w.ctx, e.at())
			ok = err == nil
			for i := range list {
				b = appendLock(b, w.prefix, &list[i])
			}
		}
	case propQuotaAvailable, propQuotaUsed:
		if ok = i.IsDir(); ok {
			b, ok = w.appendRoom(b, p, e.at())
		}
	case propExecutable:
		ok = i.Mode.IsRegular()
		if i.Mode&0o100 != 0 {
			b = append(b, 'T')
		} else {
			b = append(b, 'F')
		}
	}
	if !ok {
		w.b = b[:from]
		return false
	}
	w.b = appendPropEnd(b, n)
	return true
}

// displayName is what a client has set, else the last name of the path.
func (w *propWriter) displayName(b []byte, e *entry) []byte {
	for i := range e.dead {
		if e.dead[i].PropName == liveProps[propDisplayName].name {
			return append(b, e.dead[i].XML...)
		}
	}
	return appendXMLText(b, e.info.Name)
}

// appendDate writes an HTTP date. Neighbours often have the same.
func (w *propWriter) appendDate(b []byte, t time.Time) []byte {
	if s := t.Unix(); s != w.second || len(w.lastDate) == 0 {
		w.second, w.lastDate = s, appendHTTPTime(w.lastDate[:0], t)
	}
	return append(b, w.lastDate...)
}

func (w *propWriter) appendRoom(b []byte, p liveProp, path vfs.Path) ([]byte, bool) {
	st, err := w.s.StatFS(w.ctx, path)
	if err != nil {
		return b, false
	}
	n := st.Avail
	if p == propQuotaUsed {
		n = st.Blocks - min(st.Free, st.Blocks)
	}
	return strconv.AppendUint(b, n*st.BlockSize, 10), true
}
