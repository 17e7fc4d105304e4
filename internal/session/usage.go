package session

import (
	"context"

	"github.com/gantryhq/gantry/internal/account"
)

// SetUsage replaces an account's files and bytes by what an administrator says. What transfers change meanwhile counts on
// top.
func (s *Server) SetUsage(ctx context.Context, key account.CounterKey, files int, bytes int64) error {
	t := s.ledger.tally(key)
	defer t.release()
	if err := t.set(ctx, files, bytes, nil); err != nil {
		return err
	}
	s.ledger.doubt(key, false)
	return nil
}

// AddUsage adds to an account's files and bytes.
func (s *Server) AddUsage(ctx context.Context, key account.CounterKey, files int, bytes int64) error {
	t := s.ledger.tally(key)
	defer t.release()
	if err := t.known(ctx); err != nil {
		return err
	}
	t.move(int64(files), bytes)
	return s.ledger.settle(ctx, []*tally{t})
}

// SetTransfers replaces a user's totals of data transfers, in bytes, or adds to them.
func (s *Server) SetTransfers(ctx context.Context, user account.CounterKey, up, down int64, add bool) error {
	t := s.ledger.tally(user)
	defer t.release()
	if err := t.known(ctx); err != nil {
		return err
	}
	t.renew()
	if !add {
		up, down = up-t.up.Load(), down-t.down.Load()
	}
	t.up.Add(up)
	t.down.Add(down)
	return s.ledger.settle(ctx, []*tally{t})
}
