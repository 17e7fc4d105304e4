package dav

import (
	"errors"
	"io/fs"
	"time"

	"github.com/valyala/bytebufferpool"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// patch is one instruction of a PROPPATCH.
type patch struct {
	live   liveProp
	remove bool
	prop   session.Prop
	status int // of the answer; 0 until it is known
}

// parsePatches reads the body of a PROPPATCH (RFC 4918 14.19). Of several instructions for one property the last counts:
// they are carried out in their order (9.2).
func parsePatches(body []byte) ([]patch, error) {
	x, err := newXMLReader(body)
	if err != nil {
		return nil, err
	}
	if err := x.root(); err != nil {
		return nil, err
	}
	if !x.is("propertyupdate") {
		return nil, xmlError("DAV:propertyupdate was expected")
	}
	var list []patch
	for {
		more, err := x.child()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		switch {
		case x.is("set"):
			list, err = propValues(x, list, false)
		case x.is("remove"):
			list, err = propValues(x, list, true)
		default:
			err = x.skip()
		}
		if err != nil {
			return nil, err
		}
	}
	if err := x.finish(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, xmlError("no property is set or removed")
	}
	return list, nil
}

// propValues reads the DAV:prop elements within the element that has just been started.
func propValues(x *xmlReader, list []patch, remove bool) ([]patch, error) {
	for {
		more, err := x.child()
		if err != nil || !more {
			return list, err
		}
		if !x.is("prop") {
			if err := x.skip(); err != nil {
				return nil, err
			}
			continue
		}
		for {
			more, err := x.child()
			if err != nil {
				return nil, err
			}
			if !more {
				break
			}
			if list, err = propValue(x, list, remove); err != nil {
				return nil, err
			}
		}
	}
}

// propValue reads the property whose element has just been started.
func propValue(x *xmlReader, list []patch, remove bool) ([]patch, error) {
	p := patch{live: livePropOf(x.space, x.local), remove: remove}
	p.prop.Space, p.prop.Local, p.prop.Lang = string(x.space), string(x.local), x.lang()
	value, err := x.content(nil)
	if err != nil {
		return nil, err
	}
	if !remove {
		p.prop.XML = string(value)
	}
	for i := range list {
		if list[i].prop.PropName == p.prop.PropName {
			list[i] = p
			return list, nil
		}
	}
	if len(list) >= maxProps {
		return nil, xmlError("more than %d properties", maxProps)
	}
	return append(list, p), nil
}

// proppatch sets and removes properties, all or none (RFC 4918 9.2).
func (s *Server) proppatch(r *request, w *response) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	defer bytebufferpool.Put(body)
	list, err := parsePatches(body.B)
	if err != nil {
		return xmlFailure(err)
	}
	info, err := r.s.Stat(r.ctx, r.path)
	if err != nil {
		return err
	}
	if err := r.preconditions(&info); err != nil {
		return err
	}
	if err := r.patch(&info, list); err != nil {
		return err
	}
	w.set("Content-Type", xmlType)
	w.status(207)
	b := append([]byte(nil), multistatusHead...)
	b = append(b, "<D:response><D:href>"...)
	b = append(appendHref(b, r.prefix, r.path, info.IsDir()), "</D:href>"...)
	b = appendPatched(b, list)
	_, err = w.Write(append(append(b, "</D:response>\n"...), multistatusEnd...))
	return err
}

// patch carries out the instructions, or notes in each why none has been. Other errors are of the whole request.
func (r *request) patch(info *vfs.FileInfo, list []patch) error {
	attr := vfs.Attr{Atime: info.AccessTime, Mtime: info.ModTime, Mode: info.Mode}
	if attr.Atime.IsZero() {
		attr.Atime = info.ModTime
	}
	was := attr
	var set []session.Prop
	var remove []session.PropName
	ok := true
	for i := range list {
		p := &list[i]
		p.judge(&attr, info)
		ok = ok && p.status == 0
		switch {
		case p.live == propLastModified, p.live == propExecutable:
		case p.remove:
			remove = append(remove, p.prop.PropName)
		default:
			set = append(set, p.prop)
		}
	}
	if !ok {
		settle(list, 424)
		return nil
	}
	if attr.Set != 0 {
		switch err := r.s.SetAttr(r.ctx, r.path, attr, true); {
		case errors.Is(err, fs.ErrPermission), errors.Is(err, vfs.ErrUnsupported):
			for i := range list {
				if p := &list[i]; !p.remove && (p.live == propLastModified || p.live == propWin32Modified || p.live == propExecutable) {
					p.status = 403
				}
			}
			settle(list, 424)
			return nil
		case err != nil:
			return err
		}
	}
	if len(set)+len(remove) > 0 {
		if err := r.s.PatchProps(r.ctx, r.path, set, remove); err != nil {
			if attr.Set != 0 {
				was.Set = attr.Set
				r.s.SetAttr(r.ctx, r.path, was, true) // all or nothing
			}
			switch {
			case errors.Is(err, vfs.ErrQuota): // RFC 4918 9.2.1
				settle(list, 507)
			case errors.Is(err, vfs.ErrUnsupported):
				settle(list, 403)
			default:
				return err
			}
			return nil
		}
	}
	settle(list, 200)
	return nil
}

// settle gives those without a status this one.
func settle(list []patch, status int) {
	for i := range list {
		if list[i].status == 0 {
			list[i].status = status
		}
	}
}

// judge refuses what may not be set, and notes in attr what is more than stored.
func (p *patch) judge(attr *vfs.Attr, info *vfs.FileInfo) {
	if p.live == propNone {
		if p.prop.PropName == win32Accessed && !p.remove && attr.Set&vfs.AttrTimes != 0 {
			if t, ok := parseDate(p.text()); ok {
				attr.Atime = t
			}
		}
		return
	}
	if !liveProps[p.live].settable {
		p.status = 403
		return
	}
	switch p.live {
	case propLastModified, propWin32Modified:
		if p.remove {
			if p.live == propLastModified {
				p.status = 403
			}
			return
		}
		t, ok := parseDate(p.text())
		if !ok {
			p.status = 409 // RFC 4918 9.2.1
			return
		}
		attr.Set |= vfs.AttrTimes
		attr.Mtime = t
	case propExecutable:
		text := p.text()
		if p.remove || !info.Mode.IsRegular() || text != "T" && text != "F" {
			p.status = 409
			return
		}
		mode := attr.Mode &^ 0o111
		if text == "T" {
			mode |= attr.Mode & 0o444 >> 2
		}
		if mode != attr.Mode {
			attr.Set |= vfs.AttrMode
			attr.Mode = mode
		}
	}
}

// win32Accessed is stored; it moves the time of access along with that of modification.
var win32Accessed = session.PropName{Space: win32Space, Local: "Win32LastAccessTime"}

// text is the value as plain text: dates and letters, which need no escapes.
func (p *patch) text() string { return p.prop.XML }

// appendPatched writes a DAV:propstat for each status.
func appendPatched(b []byte, list []patch) []byte {
	for _, status := range []int{200, 403, 409, 424, 507} {
		first, protected := true, false
		for i := range list {
			p := &list[i]
			if p.status != status {
				continue
			}
			if first {
				b = append(b, "<D:propstat><D:prop>"...)
				first = false
			}
			protected = protected || status == 403 && p.live != propNone
			b = appendEmptyProp(b, &p.prop.PropName)
		}
		if first {
			continue
		}
		b = append(b, "</D:prop><D:status>"...)
		b = append(appendStatusLine(b, status), "</D:status>"...)
		if protected {
			b = append(b, "<D:error><D:cannot-modify-protected-property/></D:error>"...)
		}
		b = append(b, "</D:propstat>"...)
	}
	return b
}

// parseDate reads the dates that clients set as modification times: those of HTTP, and ISO 8601.
func parseDate(s string) (time.Time, bool) {
	if t, ok := parseTime(s); ok {
		return t, true
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.RFC1123Z} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
