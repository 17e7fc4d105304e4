package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/internal/event"
)

// Server makes sessions. Safe for concurrent use.
type Server struct {
	cfg     Config        // immutable
	deps    Deps          // immutable
	log     *slog.Logger  // immutable; names its sender
	records *slog.Logger  // immutable; for records that name another
	started time.Time     // immutable; what is older in a storage's temporary files is a crash's
	idle    time.Duration // immutable; 0 off

	ledger   *ledger
	cluster  *cluster           // nil: the database is ours alone
	leave    context.CancelFunc // ends the signs of life; nil before Join
	files    openFiles
	pendings pendings
	names    pathLocks
	locks    lockTable
	props    propStore
	local    atomic.Pointer[netip.AddrPort] // that the last session's peer has connected to; nil before

	// stop ends the janitor and the ledger's writer; done waits for them.
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	draining bool
	sessions map[string]*Session // by connection id
	users    map[string]*userState
}

// New makes a server. Close ends what it starts.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := deps.check(); err != nil {
		return nil, err
	}
	records := deps.Log
	deps.Log = deps.Log.With("sender", "session")
	ctx, stop := context.WithCancel(context.Background()) // ends with Close
	s := &Server{
		cfg: cfg, deps: deps, log: deps.Log, records: records, started: deps.Now(), stop: stop,
		idle:     time.Duration(cfg.IdleTimeout) * time.Minute,
		ledger:   newLedger(deps),
		sessions: map[string]*Session{},
		users:    map[string]*userState{},
	}
	if cfg.QuotaDelay > 0 {
		s.ledger.every = time.Duration(cfg.QuotaDelay) * time.Second
	}
	if deps.Shared != nil {
		s.cluster = &cluster{shared: deps.Shared, node: deps.Member, log: deps.Log, now: deps.Now, fenced: s.fenced, scanned: map[string]time.Time{}}
		s.ledger.cluster = s.cluster
	}
	s.files.init()
	s.pendings.init()
	s.names.init()
	s.locks.init(deps.Locks)
	s.props.init(deps.Props)
	if err := errors.Join(s.SyncLocks(ctx), s.SyncProps(ctx)); err != nil {
		stop()
		return nil, fmt.Errorf("session: %w", err)
	}
	s.done.Go(func() { s.ledger.run(ctx) })
	s.done.Go(func() { s.janitor(ctx) })
	return s, nil
}

// janitorEvery is how often live sessions are looked at; each third time their accounts are checked too.
const janitorEvery = time.Minute

// janitor ends idle sessions, checks the accounts of live ones and forgets users who left. It ends with ctx.
func (s *Server) janitor(ctx context.Context) {
	tick := time.NewTicker(janitorEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.endIdle()
		s.forgetUsers(ctx)
		s.locks.tidy(s.deps.Now())
		if n%3 == 0 {
			s.Recheck(ctx)
		}
	}
}

// Close ends all sessions as a lost connection would, waits for them, writes the counters and stops. The
// error says what could not be written: the marks of those accounts stay, and the next start scans them.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	live := make([]*Session, 0, len(s.sessions))
	for _, x := range s.sessions {
		live = append(live, x)
	}
	s.mu.Unlock()
	var ended sync.WaitGroup
	for _, x := range live {
		ended.Go(func() { x.end(ErrClosed) })
	}
	ended.Wait() // each within abortWait
	s.stop()
	if s.leave != nil {
		s.leave()
	}
	s.done.Wait()
	err := s.ledger.settleAll(ctx)
	if s.leave != nil {
		err = errors.Join(err, s.cluster.shared.Leave(ctx, s.cluster.node.ID))
	}
	s.mu.Lock()
	states := s.users
	s.users = map[string]*userState{}
	s.mu.Unlock()
	for _, st := range states {
		st.close()
	}
	return err
}

// asks reports whether a sink may refuse action.
func (s *Server) asks(action string) bool {
	for _, k := range s.deps.Sinks {
		if x, ok := k.(event.Selective); !ok || x.Asks(action) {
			return true
		}
	}
	return false
}

// before gives e to the sinks that may refuse it.
func (s *Server) before(ctx context.Context, e *event.Event) error {
	for _, k := range s.deps.Sinks {
		if err := k.Before(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// approve gives a finished upload to the sinks that may refuse it still.
func (s *Server) approve(ctx context.Context, e *event.Event) error {
	for _, k := range s.deps.Sinks {
		if a, ok := k.(event.Approver); ok {
			if err := a.Approve(ctx, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) after(ctx context.Context, e *event.Event) {
	for _, k := range s.deps.Sinks {
		k.After(ctx, e)
	}
}
