package dav

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// put stores a file, whole or not at all. Nothing of the body is asked for before the rights and the quota have been
// looked at.
func (s *Server) put(r *request, w *response) error {
	switch {
	case r.header("Content-Range") != "":
		return fail(400, "Content-Range is not taken: send the whole file") // RFC 9110 14.5
	case r.header("Content-Encoding") != "" && !strings.EqualFold(r.header("Content-Encoding"), "identity"):
		return fail(415, "The content must not be encoded")
	case r.path.IsRoot() || r.slash:
		return fail(405, "A directory cannot be written to")
	}
	old, err := r.s.Lstat(r.ctx, r.path)
	exists := err == nil
	if r.conditional() {
		var at *vfs.FileInfo
		if exists {
			at = &old
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := r.preconditions(at); err != nil {
			return err
		}
	}
	f := session.Flags{Write: true, Create: true, Truncate: true, Whole: true, Size: r.length}
	if !exists && r.header("If-None-Match") == "*" {
		f.Exclusive = true // what appears meanwhile stays
	}
	if t, ok := ocTime(r.header("X-OC-Mtime")); ok {
		f.Attr = vfs.Attr{Set: vfs.AttrTimes, Atime: t, Mtime: t}
		w.set("X-OC-Mtime", "accepted")
	}
	h, err := r.s.OpenFile(r.ctx, r.path, f)
	if err != nil {
		return s.putError(r, err)
	}
	if err := receive(r, h, s.intakes); err != nil {
		h.Abort(context.WithoutCancel(r.ctx), err)
		return err
	}
	if err := h.Close(r.ctx); err != nil {
		return s.putError(r, err)
	}
	w.set("ETag", r.etag(h.Published()))
	if exists {
		w.status(204)
		return nil
	}
	w.status(201)
	return nil
}

// putError tells a missing parent from a missing file (RFC 4918 9.7.1).
func (s *Server) putError(r *request, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, vfs.ErrNotDir):
		return errNoParent
	case errors.Is(err, fs.ErrExist) && r.header("If-None-Match") != "":
		return errPrecondition
	}
	return err
}

// receive writes the body of r to h, where more is to come in pieces of half a buffer at least.
func receive(r *request, h *session.Handle, intakes *engine.Intakes) error {
	if r.length == 0 {
		return nil
	}
	in := intakes.Begin()
	defer in.End()
	var off int64
	for {
		buf := in.Buffer()
		buf = buf[:min(len(buf), h.Chunk())]
		n, err := 0, error(nil)
		for n < len(buf)/2 && err == nil {
			var m int
			m, err = r.body.Read(buf[n:])
			n += m
		}
		if n > 0 {
			if _, werr := h.WriteAt(buf[:n], off); werr != nil {
				return werr
			}
			off += int64(n)
		}
		in.Took(n)
		switch {
		case err == io.EOF && (r.length < 0 || off == r.length):
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
	}
}

// ocTime reads X-OC-Mtime: seconds since 1970, with a fraction or without.
func ocTime(v string) (time.Time, bool) {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || f < -1<<40 || f > 1<<40 {
		return time.Time{}, false
	}
	sec := int64(f)
	if whole, frac, ok := strings.Cut(v, "."); ok { // exactly, which a float is not
		if n, err := strconv.ParseInt(whole, 10, 64); err == nil && len(frac) <= 9 {
			if ns, err := strconv.ParseUint((frac + "000000000")[:9], 10, 64); err == nil {
				return time.Unix(n, int64(ns)), true
			}
		}
	}
	return time.Unix(sec, 0), true
}
