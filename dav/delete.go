package dav

import (
	"errors"
	"io/fs"

	"github.com/gantryhq/gantry/internal/session"
)

// delete removes a file, or a directory with all that is in it (RFC 4918 9.6).
func (s *Server) delete(r *request, w *response) error {
	if d := r.header("Depth"); d != "" && d != "infinity" && d != "0" {
		return fail(400, "Depth must be infinity")
	}
	if r.path.IsRoot() {
		return fs.ErrPermission
	}
	info, err := r.s.Lstat(r.ctx, r.path)
	if err != nil {
		return err
	}
	if r.conditional() {
		if err := r.preconditions(&info); err != nil {
			return err
		}
	}
	if d := r.header("Depth"); d == "0" && info.IsDir() {
		return fail(400, "Depth must be infinity")
	}
	if r.slash && !info.IsDir() {
		return fs.ErrNotExist
	}
	if !info.IsDir() {
		if err := r.s.Remove(r.ctx, r.path); err != nil {
			return err
		}
		w.status(204)
		return nil
	}
	var failed failures
	err = r.s.RemoveTree(r.ctx, r.path, failed.add)
	switch {
	case err == nil:
		w.status(204)
		return nil
	case len(failed.list) == 0:
		return err
	case !errors.Is(err, session.ErrStays):
		failed.add(r.path, err)
	}
	return failed.write(r, w)
}
