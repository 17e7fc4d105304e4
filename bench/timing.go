package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// TimingOptions of RunTiming.
type TimingOptions struct {
	Samples int    // of each kind
	Hash    string // the account's, bcrypt of cost 10
}

// Timing tells whether an unknown user can be told from a wrong password by the answer's time (AUTH-4).
type Timing struct {
	Samples          int     `json:"samples"`
	KnownMean        float64 `json:"known_mean_ms"`
	UnknownMean      float64 `json:"unknown_mean_ms"`
	KnownMedian      float64 `json:"known_median_ms"`
	UnknownMedian    float64 `json:"unknown_median_ms"`
	Welch            float64 `json:"welch_t"`
	Yuen             float64 `json:"yuen_t"` // the same of means without the outer tenths
	KnownDeviation   float64 `json:"known_deviation_ms"`
	UnknownDeviation float64 `json:"unknown_deviation_ms"`
}

// prober tries passwords for one user, one at a time, over one connection.
type prober struct {
	turn   chan struct{}
	took   chan time.Duration
	failed chan error
	end    chan struct{}
}

// newProber connects and stops before the first password.
func newProber(addr, user string) *prober {
	p := &prober{make(chan struct{}), make(chan time.Duration), make(chan error, 1), make(chan struct{})}
	var sent time.Time
	try := func() (string, error) {
		if !sent.IsZero() {
			p.took <- time.Since(sent)
		}
		select {
		case <-p.turn:
		case <-p.end:
			return "", errors.New("enough")
		}
		text := randomText(12)
		sent = time.Now()
		return text, nil
	}
	go func() { // ends with the connection, which close ends
		c, err := gossh.Dial("tcp", addr, &gossh.ClientConfig{
			User: user, Auth: []gossh.AuthMethod{gossh.RetryableAuthMethod(gossh.PasswordCallback(try), 0)},
			HostKeyCallback: gossh.InsecureIgnoreHostKey(), Timeout: 30 * time.Second,
		})
		if err == nil {
			c.Close()
			err = errors.New("bench: a random password was accepted")
		}
		p.failed <- err
	}()
	return p
}

func (p *prober) sample() (time.Duration, error) {
	select {
	case p.turn <- struct{}{}:
	case err := <-p.failed:
		return 0, err
	}
	select {
	case d := <-p.took:
		return d, nil
	case err := <-p.failed:
		return 0, err
	}
}

// RunTiming compares the answers' times for a user that is there and one that is not. Samples of both kinds
// alternate in random order on two connections, one at a time.
func RunTiming(ctx context.Context, e *Env, o TimingOptions) (*Timing, error) {
	s, err := Gantry{PasswordHash: o.Hash}.Start(ctx, e)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	nobody := "nobody" + randomText(4)
	var probers [2]*prober
	hangUp := func() {
		for _, p := range probers {
			if p != nil {
				close(p.end)
			}
		}
	}
	defer func() { hangUp() }()
	var times [2][]float64
	const warmUp, perConnection = 5, 100 // a connection has a limit of tries
	for i := range o.Samples + warmUp {
		if i%perConnection == 0 {
			hangUp()
			probers = [2]*prober{newProber(s.Addr, s.User), newProber(s.Addr, nobody)}
		}
		order := []int{0, 1}
		if rand.IntN(2) == 0 {
			order = []int{1, 0}
		}
		for _, k := range order {
			d, err := probers[k].sample()
			if err != nil {
				return nil, err
			}
			if i >= warmUp {
				times[k] = append(times[k], float64(d)/1e6)
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return judge(times[0], times[1]), nil
}

func judge(known, unknown []float64) *Timing {
	t := &Timing{Samples: len(known), KnownMedian: summarize(known).median, UnknownMedian: summarize(unknown).median}
	t.KnownMean, t.KnownDeviation = moments(known)
	t.UnknownMean, t.UnknownDeviation = moments(unknown)
	t.Welch = welch(known, unknown)
	t.Yuen = yuen(known, unknown)
	return t
}

// yuen is Welch's t of means without the lowest and the highest tenth, with their variance winsorized: what
// the machine does to a few samples does not drown a difference of the rest.
func yuen(a, b []float64) float64 {
	part := func(v []float64) (mean, squaredError float64) {
		v = slices.Sorted(slices.Values(v))
		n := len(v)
		g := n / 10
		h := float64(n - 2*g)
		mean, _ = moments(v[g : n-g])
		for i := range g {
			v[i], v[n-1-i] = v[g], v[n-1-g]
		}
		_, d := moments(v)
		return mean, float64(n-1) * d * d / (h * (h - 1))
	}
	ma, ea := part(a)
	mb, eb := part(b)
	return (ma - mb) / math.Sqrt(ea+eb)
}

// moments are mean and standard deviation.
func moments(v []float64) (mean, deviation float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		deviation += (x - mean) * (x - mean) / float64(len(v)-1)
	}
	return mean, math.Sqrt(deviation)
}

// welch is the t of two samples with variances of their own.
func welch(a, b []float64) float64 {
	ma, da := moments(a)
	mb, db := moments(b)
	return (ma - mb) / math.Sqrt(da*da/float64(len(a))+db*db/float64(len(b)))
}

// Write prints the finding.
func (t *Timing) Write(w io.Writer) {
	fmt.Fprintf(w, "%d attempts each, alternating: wrong password %.2f ms (median %.2f, deviation %.2f), unknown user %.2f ms (median %.2f, deviation %.2f); "+
		"Welch t = %.2f, of trimmed means %.2f (within ±2 nothing can be told apart)\n", t.Samples, t.KnownMean, t.KnownMedian, t.KnownDeviation,
		t.UnknownMean, t.UnknownMedian, t.UnknownDeviation, t.Welch, t.Yuen)
}
