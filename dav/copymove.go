package dav

import (
	"errors"
	"io/fs"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// copy copies a resource to the Destination (RFC 4918 9.8).
func (s *Server) copy(r *request, w *response) error {
	d, err := r.depth()
	if err != nil || d == depthOne {
		return errDepthHeader
	}
	return r.toDestination(w, d, false)
}

// move moves one (RFC 4918 9.9).
func (s *Server) move(r *request, w *response) error {
	d, err := r.depth()
	if err != nil {
		return err
	}
	return r.toDestination(w, d, true)
}

// toDestination checks both ends and copies or moves.
func (r *request) toDestination(w *response, d depth, move bool) error {
	to, err := r.destination()
	if err != nil {
		return err
	}
	replace, err := r.overwrite()
	if err != nil {
		return err
	}
	info, err := r.s.Lstat(r.ctx, r.path)
	switch {
	case errors.Is(err, fs.ErrPermission) && !r.conditional():
		// Who may not list may still download, upload and rename.
	case err != nil:
		return err
	case info.IsDir() && move && d != depthInfinity:
		return errDepthHeader
	}
	shallow := d == depthZero && !move
	switch { // DAV-4
	case to == r.path:
		return errOntoItself
	case to.Within(r.path) && !shallow:
		return errIntoItself
	case r.path.Within(to):
		return errAroundItself
	}
	if r.conditional() {
		if err := r.preconditions(&info); err != nil {
			return err
		}
	}
	if err := r.parentOf(to); err != nil {
		return err
	}
	var replaced bool
	var failed failures
	if move {
		replaced, err = r.s.MoveTree(r.ctx, r.path, to, replace, failed.add)
	} else {
		replaced, err = r.s.CopyTree(r.ctx, r.path, to, session.CopyOptions{Replace: replace, Shallow: shallow, Failed: failed.add})
	}
	switch {
	case errors.Is(err, session.ErrStays), err == nil && len(failed.list) > 0:
		return failed.write(r, w)
	case errors.Is(err, fs.ErrExist):
		return errPrecondition // RFC 4918 10.6
	case err != nil:
		return err
	}
	if replaced {
		w.status(204)
	} else {
		w.status(201)
	}
	return nil
}

// parentOf refuses a target whose parent is no directory (RFC 4918 9.8.5).
func (r *request) parentOf(to vfs.Path) error {
	switch p, err := r.s.Stat(r.ctx, to.Dir()); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, vfs.ErrNotDir), err == nil && !p.IsDir():
		return errNoParent
	case err != nil && !absent(err):
		return err
	}
	return nil // there, or not to be looked at: what is done next will tell
}

// maxFailures bounds the resources that a multistatus of failures names.
const maxFailures = 1000

// failures are the resources that an operation on a tree could not deal with.
type failures struct {
	list []failedAt
}

type failedAt struct {
	path vfs.Path
	err  error
}

func (f *failures) add(p vfs.Path, err error) {
	if len(f.list) < maxFailures {
		f.list = append(f.list, failedAt{p, err})
	}
}

// write answers with a status for each (RFC 4918 9.8.8).
func (f *failures) write(r *request, w *response) error {
	w.set("Content-Type", xmlType)
	w.status(207)
	b := append([]byte(nil), multistatusHead...)
	for _, e := range f.list {
		b = appendFailed(b, appendHref(nil, r.prefix, e.path, false), statusFor(e.err), "")
	}
	_, err := w.Write(append(b, multistatusEnd...))
	return err
}
