package session

import (
	"context"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// Crash stops what runs by itself and writes nothing: what a kill does.
func (s *Server) Crash() {
	s.stop()
	if s.leave != nil {
		s.leave()
	}
	s.done.Wait()
}

// RecoverOrphans is one look for dead nodes.
func (s *Server) RecoverOrphans(ctx context.Context) error { return s.recoverOrphans(ctx) }

// Used is what the memory says of an account.
func (s *Server) Used(key account.CounterKey) (files, bytes, heldFiles, heldBytes int64) {
	t := s.ledger.tally(key)
	defer t.release()
	if err := t.known(context.Background()); err != nil {
		panic(err)
	}
	return t.used()
}

// Flush writes what is owed and clears marks.
func (s *Server) Flush(ctx context.Context) error { return s.ledger.settleAll(ctx) }

// EndIdle is one look at idle sessions.
func (s *Server) EndIdle() { s.endIdle() }

// ForgetUsers drops the state of users who left.
func (s *Server) ForgetUsers() { s.forgetUsers(context.Background()) }

// Leftovers counts what the tables still hold.
func (s *Server) Leftovers() (files, pendings, names, tallies int) {
	s.files.mu.Lock()
	files = len(s.files.m)
	s.files.mu.Unlock()
	s.pendings.mu.Lock()
	pendings = len(s.pendings.m)
	s.pendings.mu.Unlock()
	s.names.mu.Lock()
	names = len(s.names.m)
	s.names.mu.Unlock()
	s.ledger.mu.Lock()
	tallies = len(s.ledger.tallies)
	s.ledger.mu.Unlock()
	return files, pendings, names, tallies
}

// StoreWait sets how long a call of the store may take. Before any session is opened.
func (s *Server) StoreWait(d time.Duration) { s.ledger.wait = d }

// Beat is one sign of life, for tests that do not Join.
func (s *Server) Beat(ctx context.Context) error { return s.cluster.beat(ctx) }
