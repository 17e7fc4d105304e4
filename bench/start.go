package bench

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
)

// Start is how long a server takes from its execution to its first greeting.
type Start struct {
	Peer  string  `json:"peer"`
	What  string  `json:"what"`          // what it starts with
	Runs  int     `json:"runs"`          // the figures are medians of as many
	Ms    float64 `json:"ms"`            // to the greeting of a connection
	MaxMs float64 `json:"max_ms"`        // of the slowest run
	CPUMs float64 `json:"cpu_ms"`        // of all its processes until then
	RSS   int64   `json:"rss_bytes"`     // right after it
	Anon  int64   `json:"private_bytes"` // of RSS, what no file stands behind
}

// StartOptions of RunStart.
type StartOptions struct {
	Users  []int // accounts of ours, one row for each
	Repeat int
}

// RunStart measures how long servers take to start. The first of peers is ours: its very first start, which makes keys and
// a database, and its later ones with so many accounts.
func RunStart(ctx context.Context, e *Env, peers []Peer, o StartOptions) ([]Start, error) {
	var out []Start
	for i, p := range peers {
		users := []int{0}
		if p.Name() == "gantry" {
			users = o.Users
		}
		for j, n := range users {
			if n > 0 {
				p = Gantry{Cold: n - 1}
			}
			first, later, err := runStart(ctx, e, p, o.Repeat)
			if err != nil && i == 0 {
				return out, err
			}
			if err != nil {
				fmt.Fprintf(e.Log, "left out: %s: %v\n", p.Name(), err)
				continue
			}
			if n > 0 {
				later.What = fmt.Sprintf("%d accounts", n)
				if first.What = "makes its keys and database"; j == 0 {
					out = append(out, first)
				}
			}
			out = append(out, later)
		}
	}
	return out, ctx.Err()
}

// runStart starts a server that it has never been, and then as often as repeat says again.
func runStart(ctx context.Context, e *Env, p Peer, repeat int) (first, later Start, err error) {
	var all []Start
	s, err := p.Start(ctx, e)
	if err != nil {
		return first, later, err
	}
	for {
		all = append(all, s.started())
		if len(all) > repeat {
			s.Stop()
			break
		}
		s.halt()
		next := *s
		next.cmd = nil
		args := slices.Clone(s.cmd.Args[1:])
		if i := slices.Index(args, "--loaddata-from"); i >= 0 {
			args = slices.Delete(args, i, i+2)
		}
		if s, err = start(ctx, e, &next, s.cmd.Path, args...); err != nil {
			return first, later, err
		}
	}
	first, later = all[0], all[1]
	median := func(of func(Start) float64) float64 {
		var v []float64
		for _, r := range all[1:] {
			v = append(v, of(r))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	later.Runs = repeat
	later.Ms = median(func(r Start) float64 { return r.Ms })
	later.CPUMs = median(func(r Start) float64 { return r.CPUMs })
	later.RSS = int64(median(func(r Start) float64 { return float64(r.RSS) }))
	later.Anon = int64(median(func(r Start) float64 { return float64(r.Anon) }))
	for _, r := range all[1:] {
		later.MaxMs = max(later.MaxMs, r.Ms)
	}
	return first, later, nil
}

// started is what the start of a server has taken. Ask at once.
func (s *Server) started() Start {
	r := Start{Peer: s.Peer, Runs: 1, Ms: float64(s.took.Microseconds()) / 1e3}
	r.MaxMs = r.Ms
	if used, err := cpuTime(s.PID); err == nil {
		r.CPUMs = float64(used.Microseconds()) / 1e3
	}
	for _, pid := range tree(s.PID) {
		status := filepath.Join("/proc", fmt.Sprint(pid), "status")
		r.RSS += kib(status, "VmRSS") << 10
		r.Anon += kib(status, "RssAnon") << 10
	}
	return r
}

// StartHeader is the head of the table whose rows Write prints.
const StartHeader = `| server | with | runs | ms to the first greeting (slowest) | CPU ms | RSS MiB, of which its own |
|---|---|---|---|---|---|
`

// Write prints one row of Markdown under StartHeader.
func (r Start) Write(w io.Writer) {
	mib := func(b int64) float64 { return float64(b) / (1 << 20) }
	fmt.Fprintf(w, "| %s | %s | %d | %.1f (%.1f) | %.0f | %.1f, %.1f |\n", r.Peer, r.What, r.Runs, r.Ms, r.MaxMs, r.CPUMs, mib(r.RSS), mib(r.Anon))
}

// Verdict holds a start that makes nothing against its budget.
func (r Start) Verdict() Verdict {
	const most = 100 // milliseconds
	return Verdict{"start with " + r.What, "ms to the first greeting", r.Ms, most, r.Ms <= most}
}
