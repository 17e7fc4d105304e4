package pprof

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Check is one thing that must be well for the server to serve.
type Check struct {
	Name string
	// Run says what is wrong, or nil. It ends with ctx, or soon after.
	Run func(ctx context.Context) error
}

// The bounds of a round of checks: everybody may ask, and a round asks the database.
const (
	healthWait = 5 * time.Second
	healthKeep = time.Second // how long a round's outcome is given again
)

// health runs the checks. Safe for concurrent use.
type health struct {
	checks []Check
	log    *slog.Logger
	now    func() time.Time

	mu   sync.Mutex // guards what follows; held while the checks run, so that many who ask cost one round
	at   time.Time
	last []finding
	bad  map[string]bool // what the log was told of
}

// finding is a check's outcome.
type finding struct {
	name string
	err  error
}

// round gives the outcome of every check, at most healthKeep old.
func (h *health) round() []finding {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last != nil && h.now().Sub(h.at) < healthKeep {
		return h.last
	}
	// Not a request's context: the outcome is for others, too.
	ctx, cancel := context.WithTimeout(context.Background(), healthWait)
	defer cancel()
	out := make([]finding, len(h.checks))
	var all sync.WaitGroup
	for i, c := range h.checks {
		all.Go(func() { out[i] = finding{c.Name, c.Run(ctx)} })
	}
	all.Wait()
	for _, f := range out {
		switch was := h.bad[f.name]; {
		case f.err != nil && !was:
			h.log.Error("a health check fails", "check", f.name, "error", f.err)
		case f.err == nil && was:
			h.log.Info("a health check succeeds again", "check", f.name)
		}
		h.bad[f.name] = f.err != nil
	}
	h.at, h.last = h.now(), out
	return out
}

// serve answers /healthz: "ok", or 503 and what fails; as JSON for who accepts it or asks with ?format=json. The errors
// themselves may tell of addresses and files, and are for who is logged in.
func (h *health) serve(w http.ResponseWriter, r *http.Request, open bool) {
	found := h.round()
	code, status := http.StatusOK, "ok"
	for _, f := range found {
		if f.err != nil {
			code, status = http.StatusServiceUnavailable, "failed"
		}
	}
	if r.FormValue("format") == "json" || strings.Contains(r.Header.Get("Accept"), "application/json") {
		type check struct {
			Status string `json:"status"`
			Error  string `json:"error,omitempty"`
		}
		out := struct {
			Status string           `json:"status"`
			Checks map[string]check `json:"checks"`
		}{status, map[string]check{}}
		for _, f := range found {
			c := check{Status: "ok"}
			if f.err != nil {
				c.Status = "failed"
				if open {
					c.Error = f.err.Error()
				}
			}
			out.Checks[f.name] = c
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(out)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	if code == http.StatusOK {
		fmt.Fprint(w, "ok")
		return
	}
	for _, f := range found {
		switch {
		case f.err == nil:
			fmt.Fprintf(w, "%s: ok\n", f.name)
		case open:
			fmt.Fprintf(w, "%s: %v\n", f.name, f.err)
		default:
			fmt.Fprintf(w, "%s: failed\n", f.name)
		}
	}
}
