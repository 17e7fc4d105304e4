package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Sample is a server at one moment of a soak.
type Sample struct {
	After time.Duration `json:"after"`
	Usage Usage         `json:"usage"`
	Ops   int64         `json:"ops"`
}

// Soak is a server under churn for a long time.
type Soak struct {
	Samples    []Sample         `json:"samples"`
	Ops        map[string]int64 `json:"ops"`
	Failed     map[string]int64 `json:"failed"`
	Goroutines int              `json:"goroutines"` // when all have left
}

// RunSoak has clients of FTP and FTPS come, transfer, abort and vanish for the time given. The error says what is not flat.
func RunSoak(ctx context.Context, e *Env, lasts time.Duration) (Soak, error) {
	r := Soak{Ops: map[string]int64{}, Failed: map[string]int64{}}
	s, err := GantryFTP{}.Start(ctx, e)
	if err != nil {
		return r, err
	}
	defer s.Stop()
	content := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	if err := os.WriteFile(filepath.Join(s.Root, "source"), []byte(content), 0o644); err != nil {
		return r, err
	}
	var mu sync.Mutex
	var total atomic.Int64
	end := time.Now().Add(lasts)
	acts := map[string]func(c *ftpClient, buf []byte, n int) error{
		"get": func(c *ftpClient, buf []byte, n int) error { _, err := c.get("source", buf); return err },
		"put": func(c *ftpClient, buf []byte, n int) error {
			return c.put(fmt.Sprintf("up%d", n), strings.NewReader(content[:rand.IntN(len(content))]), buf)
		},
		"list": func(c *ftpClient, buf []byte, n int) error {
			return c.data("MLSD", func(nc net.Conn) error {
				_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{nc}, buf)
				return err
			})
		},
		"small commands": func(c *ftpClient, buf []byte, n int) error {
			return errors.Join(c.cmd("PWD", "257"), c.cmd("SIZE source", "213"), c.cmd("NOOP", "200"))
		},
		"half a get": func(c *ftpClient, buf []byte, n int) error { // the data connection is cut
			c.data("RETR source", func(nc net.Conn) error { nc.Read(buf[:1000]); return errors.New("enough") })
			return nil
		},
		"half a put": func(c *ftpClient, buf []byte, n int) error { // the control connection is cut
			c.data(fmt.Sprintf("STOR cut%d", n), func(nc net.Conn) error { nc.Write(buf[:1000]); return errors.New("enough") })
			return nil
		},
		"no data": func(c *ftpClient, buf []byte, n int) error { return c.cmd("EPSV", "229") },
	}
	var names []string
	for name := range acts {
		names = append(names, name)
	}
	var all sync.WaitGroup
	for w := range 24 {
		all.Go(func() {
			buf := make([]byte, 64<<10)
			for time.Now().Before(end) && ctx.Err() == nil {
				secure := rand.IntN(2) == 0
				c, err := dialFTP(s, secure, "")
				name := "login"
				if err == nil {
					for range 1 + rand.IntN(5) {
						name = names[rand.IntN(len(names))]
						if err = acts[name](c, buf, w); err != nil || strings.HasPrefix(name, "half") {
							break
						}
						total.Add(1)
						mu.Lock()
						r.Ops[name]++
						mu.Unlock()
					}
					if rand.IntN(3) == 0 {
						c.cmd("QUIT", "221")
					}
					c.Close()
				}
				mu.Lock()
				if err != nil {
					r.Failed[name]++
					fmt.Fprintf(e.Log, "%s: %v\n", name, err)
				} else {
					r.Ops["connections"]++
				}
				mu.Unlock()
			}
		})
	}
	begun := time.Now()
	step := max(lasts/30, time.Second)
	for time.Now().Before(end) && ctx.Err() == nil {
		time.Sleep(min(step, time.Until(end)))
		x := Sample{time.Since(begun).Round(time.Second), usageOf(s.PID), total.Load()}
		r.Samples = append(r.Samples, x)
		fmt.Fprintf(e.Log, "soak %8s %6.1f MiB %5d descriptors %3d threads %9d operations\n", x.After, float64(x.Usage.RSS)/(1<<20), x.Usage.FDs, x.Usage.Threads, x.Ops)
	}
	all.Wait()
	time.Sleep(5 * time.Second) // what was cut has been noticed
	left := usageOf(s.PID)
	if r.Goroutines, err = s.goroutines(); err != nil {
		return r, err
	}
	return r, r.judge(left)
}

// judge compares the last third with the second: the first warms up.
func (r *Soak) judge(left Usage) error {
	n := len(r.Samples) / 3
	if n == 0 {
		return errors.New("bench: the soak was too short to judge")
	}
	var second, last int64
	for i := range n {
		second += r.Samples[n+i].Usage.RSS
		last += r.Samples[2*n+i].Usage.RSS
	}
	var errs []error
	if float64(last) > 1.2*float64(second) {
		errs = append(errs, fmt.Errorf("bench: memory grows: %d MiB in the second third, %d in the last", second/int64(n)>>20, last/int64(n)>>20))
	}
	if left.FDs > 60 {
		errs = append(errs, fmt.Errorf("bench: %d descriptors are left", left.FDs))
	}
	if r.Goroutines > 120 { // the loops, the store, and the pool's idle ones
		errs = append(errs, fmt.Errorf("bench: %d goroutines are left", r.Goroutines))
	}
	for name, k := range r.Failed {
		errs = append(errs, fmt.Errorf("bench: %d of %q failed", k, name))
	}
	return errors.Join(errs...)
}

// Write prints what was seen.
func (r *Soak) Write(w io.Writer) {
	fmt.Fprintln(w, "| after | RSS MiB | descriptors | threads | operations |\n|---|---|---|---|---|")
	for i, x := range r.Samples {
		if i%3 == 0 || i == len(r.Samples)-1 {
			fmt.Fprintf(w, "| %s | %.1f | %d | %d | %d |\n", x.After, float64(x.Usage.RSS)/(1<<20), x.Usage.FDs, x.Usage.Threads, x.Ops)
		}
	}
	fmt.Fprintf(w, "\n%v; failed %v; %d goroutines when all had left\n", r.Ops, r.Failed, r.Goroutines)
}
