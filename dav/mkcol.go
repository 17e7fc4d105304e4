package dav

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/valyala/bytebufferpool"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// mkcol makes a collection (RFC 4918 9.3), with properties if the body says so (RFC 5689).
func (s *Server) mkcol(r *request, w *response) error {
	var props []session.Prop
	if r.length != 0 {
		body, err := readBody(r)
		if err != nil {
			return err
		}
		defer bytebufferpool.Put(body)
		if len(body.B) > 0 {
			if !isXML(r.header("Content-Type")) {
				return fail(415, "A collection is made without a body, or with one of RFC 5689")
			}
			if props, err = parseMkcol(body.B); err != nil {
				return err
			}
		}
	}
	if r.conditional() {
		if err := r.conditionsOn(r.path); err != nil {
			return err
		}
	}
	if err := r.s.Mkdir(r.ctx, r.path, vfs.Attr{}); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return errNoParent
		}
		if r.path.IsRoot() || errors.Is(err, fs.ErrPermission) {
			if _, serr := r.s.Stat(r.ctx, r.path); serr == nil {
				return fail(405, "It exists already")
			}
		}
		return err
	}
	if len(props) > 0 {
		if err := r.s.PatchProps(r.ctx, r.path, props, nil); err != nil {
			r.s.Rmdir(r.ctx, r.path) // all or nothing (RFC 5689 3)
			return err
		}
	}
	w.status(201)
	return nil
}

func isXML(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	return t == "application/xml" || t == "text/xml"
}

// parseMkcol reads DAV:mkcol. What it makes can be nothing but a collection.
func parseMkcol(body []byte) ([]session.Prop, error) {
	x, err := newXMLReader(body)
	if err != nil {
		return nil, xmlFailure(err)
	}
	if err := x.root(); err != nil {
		return nil, xmlFailure(err)
	}
	if !x.is("mkcol") {
		return nil, fail(415, "DAV:mkcol was expected") // RFC 5689 3
	}
	var list []patch
	for {
		more, err := x.child()
		if err != nil {
			return nil, xmlFailure(err)
		}
		if !more {
			break
		}
		if x.is("set") {
			list, err = propValues(x, list, false)
		} else {
			err = x.skip()
		}
		if err != nil {
			return nil, xmlFailure(err)
		}
	}
	if err := x.finish(); err != nil {
		return nil, xmlFailure(err)
	}
	var props []session.Prop
	for _, p := range list {
		switch {
		case p.live == propResourceType:
			if !onlyCollection(p.prop.XML) {
				return nil, failElement(403, "Only plain collections are made here", "<D:valid-resourcetype/>")
			}
		case p.live == propNone, p.live == propDisplayName:
			props = append(props, p.prop)
		default:
			return nil, failElement(403, "A property of the server cannot be set", "<D:cannot-modify-protected-property/>")
		}
	}
	return props, nil
}

// onlyCollection reports whether the value of a DAV:resourcetype is DAV:collection alone.
func onlyCollection(value string) bool {
	x, err := newXMLReader([]byte("<t>" + value + "</t>"))
	if err != nil || x.root() != nil {
		return false
	}
	found := false
	for {
		more, err := x.child()
		if err != nil || more && !x.is("collection") {
			return false
		}
		if !more {
			return found
		}
		found = true
		if x.skip() != nil {
			return false
		}
	}
}
