package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/gantryhq/gantry/internal/event"
)

// approve asks the sinks that are waited for whether a finished upload may stay. What they refuse is removed
// again, and the account has its room back.
func (h *Handle) approve(ctx context.Context, e *event.Event) error {
	srv := h.s.srv
	h.mu.Lock()
	removed := h.removed
	h.mu.Unlock()
	if removed {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // the file is there, also for a peer that has gone
	e.Complete, e.Elapsed = true, srv.deps.Now().Sub(e.Time)
	err := srv.approve(ctx, e)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("%w: %w", fs.ErrPermission, err), h.takeAway(ctx))
}

// takeAway removes what the upload published, unless something else stands there by now.
func (h *Handle) takeAway(ctx context.Context) error {
	srv, pl := h.s.srv, h.at()
	books, err := srv.enter(ctx, pl.charge, false, false)
	if err != nil {
		return err
	}
	defer books.leave()
	unlock, err := srv.names.lock(ctx, &pl)
	if err != nil {
		return err
	}
	defer unlock()
	i, err := pl.FS.Lstat(ctx, pl.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !i.Mode.IsRegular() || i.Ino != h.published.Ino || i.Dev != h.published.Dev:
		return nil
	}
	if err := h.s.removeFile(ctx, &pl, i, books); err != nil {
		return err
	}
	h.s.removed(ctx, &pl, false)
	return nil
}
