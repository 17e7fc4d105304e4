package bench

import (
	"context"
	"fmt"
	"io"
	"time"
)

// IdleOptions of RunIdle.
type IdleOptions struct {
	Connections int
	Settle      time.Duration // from the last login to the measure
}

// Idle is what idle connections cost one server.
type Idle struct {
	Peer        string `json:"peer"`
	Connections int    `json:"connections"`
	Before      Usage  `json:"before"` // after one connection that came and left
	At          Usage  `json:"at"`     // all are there
	After       Usage  `json:"after"`  // all have left
	Again       Usage  `json:"again"`  // all have come and left a second time
	// Of a server in Go; 0 elsewhere.
	GoroutinesAt    int `json:"goroutines_at,omitempty"`
	GoroutinesAfter int `json:"goroutines_after,omitempty"`
}

func connectAll(e *Env, s *Server, n int) (leave func(), err error) {
	var all []*sftpClient
	leave = func() {
		for _, c := range all {
			c.Close()
		}
	}
	for range n {
		c, err := dialSFTP(e, s)
		if err != nil {
			leave()
			return nil, err
		}
		all = append(all, c)
	}
	return leave, nil
}

// RunIdle measures a server with many logged-in SFTP connections that do nothing.
func RunIdle(ctx context.Context, e *Env, peers []Peer, o IdleOptions) ([]Idle, error) {
	var out []Idle
	for _, p := range peers {
		i, err := runIdle(ctx, e, p, o)
		if err != nil {
			return out, fmt.Errorf("bench: idle: %s: %w", p.Name(), err)
		}
		out = append(out, i)
		i.Write(e.Log)
	}
	return out, nil
}

func runIdle(ctx context.Context, e *Env, p Peer, o IdleOptions) (Idle, error) {
	r := Idle{Peer: p.Name(), Connections: o.Connections}
	pause := func() {
		select {
		case <-time.After(o.Settle):
		case <-ctx.Done():
		}
	}
	s, err := p.Start(ctx, e)
	if err != nil {
		return r, err
	}
	defer s.Stop()
	cycle := func(n int) (Usage, error) {
		leave, err := connectAll(e, s, n)
		if err != nil {
			return Usage{}, err
		}
		pause()
		u := usageOf(s.PID)
		leave()
		pause()
		return u, ctx.Err()
	}
	if _, err := cycle(1); err != nil {
		return r, err
	}
	r.Before = usageOf(s.PID)
	if r.At, err = cycle(o.Connections); err != nil {
		return r, err
	}
	r.After = usageOf(s.PID)
	if _, err := cycle(o.Connections); err != nil {
		return r, err
	}
	r.Again = usageOf(s.PID)
	if p.Name() != "gantry" {
		return r, nil
	}
	// The runtime's own dump counts goroutines without a debugging port in the server. It ends the process.
	if r.GoroutinesAfter, err = s.goroutines(); err != nil {
		return r, err
	}
	again, err := p.Start(ctx, e)
	if err != nil {
		return r, err
	}
	defer again.Stop()
	leave, err := connectAll(e, again, o.Connections)
	if err != nil {
		return r, err
	}
	defer leave()
	r.GoroutinesAt, err = again.goroutines()
	return r, err
}

// Write prints one row of Markdown under IdleHeader.
func (r Idle) Write(w io.Writer) {
	n := float64(r.Connections)
	per := func(a, b int64) string { return fmt.Sprintf("%.1f", float64(a-b)/n/1024) }
	mib := func(b int64) string { return fmt.Sprintf("%.1f", float64(b)/(1<<20)) }
	g := "–"
	if r.GoroutinesAt > 0 {
		g = fmt.Sprintf("%.2f; %d after", float64(r.GoroutinesAt)/n, r.GoroutinesAfter)
	}
	fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s | %s → %s → %s | %d → %d → %d | %d → %d → %d |\n", r.Peer, r.Connections,
		per(r.At.RSS, r.Before.RSS), per(r.At.PSS, r.Before.PSS), g, fmt.Sprintf("%.2f", float64(r.At.Processes-r.Before.Processes)/n),
		mib(r.Before.PSS), mib(r.After.PSS), mib(r.Again.PSS), r.Before.FDs, r.At.FDs, r.After.FDs,
		r.Before.Threads, r.At.Threads, r.After.Threads)
}

// Verdict holds what a connection of ours costs against its budget.
func (r Idle) Verdict() Verdict {
	got := float64(r.At.RSS-r.Before.RSS) / float64(r.Connections) / 1024
	return Verdict{fmt.Sprintf("SFTP, %d idle connections", r.Connections), "RSS KiB each", got, 64, got <= 64}
}

// IdleHeader is the head of the table whose rows Idle.Write prints.
const IdleHeader = `| server | connections | RSS KiB each | PSS KiB each | goroutines each | processes each | PSS MiB before → after → after a second time | descriptors | threads |
|---|---|---|---|---|---|---|---|---|
`
