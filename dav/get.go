package dav

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// get sends a file, or shows a directory to a browser.
func (s *Server) get(r *request, w *response) error {
	if w.bare || r.slash || r.path.IsRoot() || r.conditional() {
		info, err := r.s.Stat(r.ctx, r.path)
		switch {
		case errors.Is(err, fs.ErrPermission) && !w.bare && !r.slash:
			// Who may not list may still download.
		case err != nil:
			return err
		case info.IsDir():
			return s.index(r, w)
		case r.slash:
			return fs.ErrNotExist
		default:
			if err := r.preconditions(&info); err != nil {
				w.set("ETag", r.etag(info))
				return err
			}
			if w.bare {
				s.describe(r, w, info)
				w.status(200)
				w.length = info.Size
				return nil
			}
		}
	}
	h, err := r.s.OpenFile(r.ctx, r.path, session.Flags{Read: true})
	if errors.Is(err, vfs.ErrIsDir) {
		return s.index(r, w)
	}
	if err != nil {
		return err
	}
	if err := s.send(r, w, h); err != nil {
		h.Abort(context.WithoutCancel(r.ctx), err)
		return err
	}
	return h.Close(r.ctx)
}

// describe sets the fields of a file.
func (s *Server) describe(r *request, w *response, info vfs.FileInfo) {
	t := s.contentType(info)
	w.set("Content-Type", t)
	w.set("Last-Modified", httpTime(info.ModTime))
	w.set("ETag", r.etag(info))
	w.set("Accept-Ranges", "bytes")
	// What users have put here runs nothing in a browser, and is not taken for something else (WEB-2).
	w.set("X-Content-Type-Options", "nosniff")
	w.set("Content-Security-Policy", "sandbox; default-src 'none'")
	if !shown(t) {
		w.set("Content-Disposition", "attachment")
	}
}

// send answers with an open file, or the ranges of it that are asked for (RFC 9110 14).
func (s *Server) send(r *request, w *response, h *session.Handle) error {
	info, err := h.Opened(r.ctx)
	if err != nil {
		return err
	}
	s.describe(r, w, info)
	var list []span
	if v := r.header("Range"); v != "" && r.current(info) {
		var ok bool
		if list, ok = parseRange(v, info.Size); !ok {
			w.set("Content-Range", "bytes */"+strconv.FormatInt(info.Size, 10))
			return fail(416, "The range is not in the file")
		}
	}
	switch len(list) {
	case 0:
		w.status(200)
		return w.sendFile(h, 0, info.Size)
	case 1:
		w.status(206)
		w.set("Content-Range", list[0].field(info.Size))
		return w.sendFile(h, list[0].off, list[0].n)
	}
	return sendRanges(w, h, list, s.contentType(info), info.Size)
}

// sendRanges answers several ranges as multipart/byteranges.
func sendRanges(w *response, h *session.Handle, list []span, contentType string, size int64) error {
	boundary := rand.Text()
	w.status(206)
	w.set("Content-Type", "multipart/byteranges; boundary="+boundary)
	var parts []part
	tail := []byte("\r\n--" + boundary + "--\r\n")
	w.length = int64(len(tail))
	for i, x := range list {
		p := part{off: x.off, n: x.n}
		if i > 0 {
			p.head = []byte("\r\n")
		}
		p.head = fmt.Appendf(p.head, "--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n", boundary, contentType, x.field(size))
		w.length += int64(len(p.head)) + p.n
		parts = append(parts, p)
	}
	return w.sendParts(parts, h, tail)
}

// current reports whether ranges are of what the client has: If-Range says so, or is not there (RFC 9110 13.1.5).
func (r *request) current(info vfs.FileInfo) bool {
	v := r.header("If-Range")
	if v == "" {
		return true
	}
	if strings.HasPrefix(v, `"`) {
		return v == r.etag(info)
	}
	t, ok := parseTime(v)
	return ok && t.Equal(info.ModTime.UTC().Truncate(1e9))
}

// span is a range of a file, in bytes.
type span struct{ off, n int64 }

// field is the value of Content-Range.
func (x span) field(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", x.off, x.off+x.n-1, size)
}

// maxRanges bounds the ranges of a request (WEB-4).
const maxRanges = 32

// parseRange reads a Range for a file of that size. No ranges and ok: the whole file is to be sent, because it is no range
// of bytes, or one that asks for more than the file has. Not ok: none of them is in the file.
func parseRange(s string, size int64) (list []span, ok bool) {
	unit, set, found := strings.Cut(s, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return nil, true
	}
	var sum int64
	some := false
	for item := range strings.SplitSeq(set, ",") {
		if item = strings.Trim(item, " \t"); item == "" {
			continue
		}
		from, to, dash := strings.Cut(item, "-")
		if !dash {
			return nil, true
		}
		var x span
		if from == "" { // the last n bytes
			n, good := decimal([]byte(to))
			if !good {
				return nil, true
			}
			x.n = min(n, size)
			x.off = size - x.n
		} else {
			first, good := decimal([]byte(from))
			if !good {
				return nil, true
			}
			last := size - 1
			if to != "" {
				n, good := decimal([]byte(to))
				if !good || n < first {
					return nil, true
				}
				last = min(n, last)
			}
			x = span{first, last - first + 1}
		}
		some = true
		if x.n <= 0 || x.off >= size {
			continue
		}
		if sum += x.n; len(list) == maxRanges || sum > size {
			return nil, true // it is cheaper, and no way to have us send more than there is
		}
		list = append(list, x)
	}
	return list, len(list) > 0 || !some
}
