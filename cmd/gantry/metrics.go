package main

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/event/hook"
	"github.com/gantryhq/gantry/internal/guard"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/pprof"
)

// newMetrics makes what is counted, and has the store's transactions counted.
func (n *node) newMetrics() *pprof.Metrics {
	b := buildInfo()
	m := pprof.NewMetrics(pprof.Build{Version: b.Version, Commit: b.Commit, Go: runtime.Version()},
		pprof.Names{Reasons: auth.Reasons(), Hooks: hook.Names()})
	if s, ok := n.store.(interface {
		Observe(func(kind string, d time.Duration, err error))
	}); ok {
		s.Observe(func(kind string, d time.Duration, err error) { m.Stored(kind, d, isStoreFailure(err)) })
	}
	return m
}

// isStoreFailure reports whether the store is to blame: what it refuses with reason, and what its caller gave up, is none.
func isStoreFailure(err error) bool {
	if err == nil || errors.Is(err, account.ErrNotFound) || errors.Is(err, account.ErrExists) || errors.Is(err, account.ErrChanged) || errors.Is(err, context.Canceled) {
		return false
	}
	_, invalid := errors.AsType[*account.ValidationError](err)
	return !invalid
}

// counting counts what happens in the sessions.
type counting struct{ m *pprof.Metrics }

// Asks implements event.Selective.
func (*counting) Asks(string) bool { return false }

// Prompt implements event.Prompt.
func (*counting) Prompt(string) bool { return true }

// Before implements event.Sink.
func (*counting) Before(context.Context, *event.Event) error { return nil }

// After implements event.Sink.
func (c *counting) After(_ context.Context, e *event.Event) {
	o := pprof.OutcomeOf(e.Err)
	switch e.Status {
	case event.Failed:
		o = pprof.Failed
	case event.Quota:
		o = pprof.Quota
	}
	if e.Action == event.Upload || e.Action == event.Download {
		c.m.Transferred(pprof.Transfer{Protocol: e.Protocol, Provider: e.Provider, Upload: e.Action == event.Upload, Bytes: e.Bytes, Elapsed: e.Elapsed, Outcome: o})
		return
	}
	c.m.Operation(e.Protocol, e.Action, o)
}

// loggedIn is told of the end of every login.
func (n *node) loggedIn(o session.Outcome) {
	end := pprof.Failed
	if o.OK {
		end = pprof.OK
	}
	n.metrics.Login(o.Protocol, o.Method, o.Reason, end)
	n.hooks.loggedIn(o)
}

// observeBucket is told of the requests to object storages.
func (n *node) observeBucket(provider int, operation string, d time.Duration, err error) {
	n.metrics.Requested(provider, operation, d, pprof.OutcomeOf(err))
}

// readMetrics has what the parts count themselves read at each scrape.
func (n *node) readMetrics() {
	var open []session.Traffic // of the scrape that is under way
	n.metrics.Read(func(ctx context.Context, w *pprof.Writer) {
		var sessions map[string]int
		sessions, open = n.sessions.Stats()
		w.Sessions(sessions)
	})
	n.metrics.Live(func(yield func(pprof.Transfer)) {
		for _, t := range open {
			yield(pprof.Transfer{Protocol: t.Protocol, Provider: t.Provider, Upload: t.Upload, Bytes: t.Bytes})
		}
	})
	n.metrics.Read(func(ctx context.Context, w *pprof.Writer) {
		up := 1.0
		ctx, cancel := context.WithTimeout(ctx, storeProbe)
		defer cancel()
		if n.store.Ping(ctx) != nil {
			up = 0
		}
		w.Value("sftpgo_dataprovider_availability", up)
		w.Requests("httpd", n.http.Answers())
		w.Requests("webdavd", n.dav.Answers())
		for name, s := range n.auth.Caches() {
			w.Value("gantry_cache_hits_total", float64(s.Hits), "cache", name)
			w.Value("gantry_cache_misses_total", float64(s.Misses), "cache", name)
		}
		running, waiting := n.hasher.Use()
		w.Value("gantry_password_hashing", float64(running), "state", "running")
		w.Value("gantry_password_hashing", float64(waiting), "state", "waiting")
		used, _ := n.cloud.options.Memory.Use()
		w.Value("gantry_cloud_memory_bytes", float64(used), "state", "used")
		w.Value("gantry_cloud_memory_bytes", float64(n.cloud.options.Memory.Limit()), "state", "limit")
		n.hooks.write(w)
	})
	n.metrics.Read(func(_ context.Context, w *pprof.Writer) { writeGuard(w, n.guard.Stats()) })
	n.metrics.Read(n.writeEngine)
}

// storeProbe bounds the question whether the store is there.
const storeProbe = 2 * time.Second

// write writes the lengths of the queues.
func (h *hooks) write(w *pprof.Writer) {
	for name, q := range h.queues {
		w.Value("gantry_hook_queue", float64(q.Len()), "queue", name)
	}
}

func writeGuard(w *pprof.Writer, s guard.Stats) {
	for p, said := range s.Said {
		name := pprof.Other
		if p < 4 {
			name = guard.Protocol(1 << p).String()
		}
		for d, k := range said {
			if k > 0 || name != pprof.Other {
				w.Value("gantry_guard_decisions_total", float64(k), "protocol", name, "decision", guard.Decisions[d])
			}
		}
	}
	w.Value("gantry_guard_connections", float64(s.Connections))
	w.Value("gantry_guard_rate_waiting", float64(s.RateWaiting))
	w.Value("gantry_defender_hosts", float64(s.Scored), "state", "scored")
	w.Value("gantry_defender_hosts", float64(s.Banned), "state", "banned")
}

func (n *node) writeEngine(ctx context.Context, w *pprof.Writer) {
	s := n.engine.Stats()
	for state, k := range map[string]int{"parked": s.Parked, "aside": s.Aside, "lifted": s.Lifted, "moving": s.Moving} {
		w.Value("gantry_engine_connections", float64(k), "state", state)
	}
	w.Value("gantry_engine_lifts_total", float64(s.Lifts))
	w.Value("gantry_engine_pool_workers", float64(s.Workers), "state", "busy")
	w.Value("gantry_engine_pool_workers", float64(s.Idle), "state", "idle")
	w.Value("gantry_engine_lane", float64(s.Running), "state", "running")
	w.Value("gantry_engine_lane", float64(s.Queued), "state", "queued")
	w.Value("gantry_engine_handshakes", float64(s.Handshakes))
	ctx, cancel := context.WithTimeout(ctx, loopWait)
	defer cancel()
	for i, lag := range n.engine.Lag(ctx) {
		w.Value("gantry_engine_loop_lag_seconds", lag.Seconds(), "loop", strconv.Itoa(i))
	}
}
