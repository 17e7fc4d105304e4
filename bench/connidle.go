package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// ConnIdle is what idle logged-in connections cost.
type ConnIdle struct {
	Peer        string  `json:"peer"`
	TLS         bool    `json:"tls"`
	Connections int     `json:"connections"`
	Seconds     float64 `json:"login_seconds"` // all logins, 50 at a time
	Before      Usage   `json:"before"`
	At          Usage   `json:"at"`
	After       Usage   `json:"after"`
	Goroutines  int     `json:"goroutines,omitempty"` // of a server in Go, with all connections there
}

// runConnIdle measures a server before, with and after n connections that connect makes and its leave ends.
func runConnIdle(ctx context.Context, e *Env, p Peer, secure bool, n int, settle time.Duration, connect func(s *Server, n int) (leave func(), err error)) (ConnIdle, error) {
	r := ConnIdle{Peer: p.Name(), TLS: secure, Connections: n}
	s, err := p.Start(ctx, e)
	if err != nil {
		return r, err
	}
	defer s.Stop()
	pause := func() {
		select {
		case <-time.After(settle):
		case <-ctx.Done():
		}
	}
	warm, err := connect(s, min(n, 50))
	if err != nil {
		return r, err
	}
	warm()
	pause()
	r.Before = usageOf(s.PID)
	begun := time.Now()
	leave, err := connect(s, n)
	if err != nil {
		return r, err
	}
	r.Seconds = time.Since(begun).Seconds()
	pause()
	r.At = usageOf(s.PID)
	leave()
	pause()
	r.After = usageOf(s.PID)
	if p.Name() == "gantry" {
		if leave, err = connect(s, n); err != nil {
			return r, err
		}
		defer leave()
		r.Goroutines, err = s.goroutines()
	}
	return r, errors.Join(err, ctx.Err())
}

// Verdict holds what a connection of ours costs against its budget. what names the protocol.
func (r ConnIdle) Verdict(what string) Verdict {
	most := 2.0
	if r.TLS {
		what += " over TLS"
		most = 12
	}
	got := float64(r.At.RSS-r.Before.RSS) / float64(r.Connections) / 1024
	return Verdict{fmt.Sprintf("%s, %d idle connections", what, r.Connections), "RSS KiB each", got, most, got <= most}
}

// ConnIdleHeader is the head of the table whose rows Write prints.
const ConnIdleHeader = `| server | channel | connections | RSS KiB each | PSS KiB each | goroutines in all | processes | PSS MiB before → at → after | descriptors | logins per second |
|---|---|---|---|---|---|---|---|---|---|
`

// Write prints one row of Markdown under ConnIdleHeader.
func (r ConnIdle) Write(w io.Writer) {
	per := func(a, b int64) float64 { return float64(a-b) / float64(r.Connections) / 1024 }
	mib := func(b int64) float64 { return float64(b) / (1 << 20) }
	fmt.Fprintf(w, "| %s | %s | %d | %.1f | %.1f | %d | %d | %.1f → %.1f → %.1f | %d → %d → %d | %.0f |\n", r.Peer, map[bool]string{false: "clear", true: "TLS"}[r.TLS], r.Connections,
		per(r.At.RSS, r.Before.RSS), per(r.At.PSS, r.Before.PSS), r.Goroutines, r.At.Processes, mib(r.Before.PSS), mib(r.At.PSS), mib(r.After.PSS),
		r.Before.FDs, r.At.FDs, r.After.FDs, float64(r.Connections)/r.Seconds)
}
