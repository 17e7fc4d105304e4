package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// slackFDs are descriptors that a server may have opened for itself meanwhile: its store's, its logs'.
const slackFDs = 20

// Soak is a server under churn for a long time.
type Soak struct {
	Samples    []Sample         `json:"samples"`
	Ops        map[string]int64 `json:"ops"`
	Failed     map[string]int64 `json:"failed"`
	Before     Usage            `json:"before"`
	Left       Usage            `json:"left"`             // when all have left
	Goroutines int              `json:"goroutines"`       // then
	Errors     []string         `json:"errors,omitempty"` // in the server's log
}

// act is one thing that a client of the soak does.
type act struct {
	name string
	last bool // the connection is of no more use
	do   func() error
}

// soakWay is one protocol of the soak: a client and what it can do. n is the worker's number.
type soakWay struct {
	name string
	dial func(n int, buf []byte) (io.Closer, []act, error)
}

// soakSize is the size of the files.
const soakSize = 1 << 20

// RunSoak has clients of every protocol come, transfer, abort and vanish for the time given. The error says what is not
// flat.
func RunSoak(ctx context.Context, e *Env, lasts time.Duration) (Soak, error) {
	r := Soak{Ops: map[string]int64{}, Failed: map[string]int64{}}
	s, err := GantryAll{}.Start(ctx, e)
	if err != nil {
		return r, err
	}
	defer s.Stop()
	content := strings.Repeat("0123456789abcdef", soakSize/16)
	if err := os.WriteFile(filepath.Join(s.Root, "source"), []byte(content), 0o644); err != nil {
		return r, err
	}
	ways := soakWays(e, s, content)
	var mu sync.Mutex
	var total atomic.Int64
	note := func(where map[string]int64, name string) {
		mu.Lock()
		where[name]++
		mu.Unlock()
	}
	r.Before = usageOf(s.PID)
	begun := time.Now()
	end := begun.Add(lasts)
	var all sync.WaitGroup
	for w := range 24 {
		all.Go(func() { // ends with the time or ctx
			buf := make([]byte, 64<<10)
			for i := w; time.Now().Before(end) && ctx.Err() == nil; i++ {
				way := ways[i%len(ways)]
				c, acts, err := way.dial(w, buf)
				name := "login"
				if err == nil {
					for range 1 + rand.IntN(5) {
						a := acts[rand.IntN(len(acts))]
						if name, err = a.name, a.do(); err != nil {
							break
						}
						total.Add(1)
						note(r.Ops, way.name+" "+name)
						if a.last {
							break
						}
					}
					c.Close()
				}
				if err == nil {
					note(r.Ops, "connections")
				} else if ctx.Err() == nil {
					note(r.Failed, way.name+" "+name)
					fmt.Fprintf(e.Log, "soak: %s %s: %v\n", way.name, name, err)
				}
			}
		})
	}
	step := max(lasts/30, time.Second)
	for time.Now().Before(end) && ctx.Err() == nil {
		select {
		case <-time.After(min(step, time.Until(end))):
		case <-ctx.Done():
		}
		x := Sample{time.Since(begun).Round(time.Second), usageOf(s.PID), total.Load()}
		r.Samples = append(r.Samples, x)
		fmt.Fprintf(e.Log, "soak %8s %6.1f MiB %5d descriptors %3d threads %9d operations\n", x.After, float64(x.Usage.RSS)/(1<<20), x.Usage.FDs, x.Usage.Threads, x.Ops)
	}
	all.Wait()
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	for wait := time.Now().Add(30 * time.Second); time.Now().Before(wait); time.Sleep(100 * time.Millisecond) { // what was cut has been noticed
		if r.Left = usageOf(s.PID); r.Left.FDs <= r.Before.FDs+slackFDs {
			break
		}
	}
	r.Errors = s.errorsLogged()
	for _, line := range r.Errors[:min(len(r.Errors), 5)] {
		fmt.Fprintf(e.Log, "soak: the server logged %s\n", line)
	}
	if r.Goroutines, err = s.goroutines(); err != nil {
		return r, err
	}
	return r, r.judge()
}

// soakWays are the clients. Files are named for the worker: what several do to one file is no failure of the server's.
func soakWays(e *Env, s *Server, content string) []soakWay {
	some := func() string { return content[:1+rand.IntN(len(content)-1)] }
	whole := func(n int64, err error) error {
		if err == nil && n != int64(len(content)) {
			err = fmt.Errorf("%d bytes came, want %d", n, len(content))
		}
		return err
	}
	return []soakWay{
		{"SFTP", func(w int, buf []byte) (io.Closer, []act, error) {
			c, err := dialSFTP(e, s)
			return c, []act{
				{"get", false, func() error { return whole(c.get("source")) }},
				{"put", false, func() error { return c.put(fmt.Sprintf("sftp%d", w), some(), false) }},
				{"list", false, func() error { _, err := c.list(".", func() {}); return err }},
				{"lstat", false, func() error { _, err := c.call(sftpLstat, sftpAttrs, "source"); return err }},
				{"half a put", true, func() error { return c.put(fmt.Sprintf("sftpcut%d", w), content, true) }},
			}, err
		}},
		{"SCP", func(w int, buf []byte) (io.Closer, []act, error) {
			c, nc, err := dialSSH(e, s)
			return c, []act{
				{"get", false, func() error { return whole(scpGet(c, nc, "source")) }},
				{"put", false, func() error { return scpPut(c, nc, fmt.Sprintf("scp%d", w), some(), false) }},
				{"half a put", true, func() error { return scpPut(c, nc, fmt.Sprintf("scpcut%d", w), content, true) }},
			}, err
		}},
		{"FTP", func(w int, buf []byte) (io.Closer, []act, error) { return soakFTP(s, false, w, content, buf) }},
		{"FTPS", func(w int, buf []byte) (io.Closer, []act, error) { return soakFTP(s, true, w, content, buf) }},
		{"WebDAV", func(w int, buf []byte) (io.Closer, []act, error) { return soakDAV(s, s.DAVAddr, false, w, content) }},
		{"WebDAV TLS", func(w int, buf []byte) (io.Closer, []act, error) { return soakDAV(s, s.TLSAddr, true, w, content) }},
		{"REST", func(w int, buf []byte) (io.Closer, []act, error) { return soakREST(s, w, content) }},
	}
}

func soakFTP(s *Server, secure bool, w int, content string, buf []byte) (io.Closer, []act, error) {
	c, err := dialFTP(s.at(s.FTPAddr), secure, "")
	name := fmt.Sprintf("ftp%v%d", secure, w)
	return c, []act{
		{"get", false, func() error { _, err := c.get("source", buf); return err }},
		{"put", false, func() error {
			return c.put(name, strings.NewReader(content[:rand.IntN(len(content))]), buf)
		}},
		{"list", false, func() error {
			return c.data("MLSD", func(nc net.Conn) error {
				_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{nc}, buf)
				return err
			})
		}},
		{"small commands", false, func() error {
			return errors.Join(c.cmd("PWD", "257"), c.cmd("SIZE source", "213"), c.cmd("NOOP", "200"))
		}},
		{"half a get", true, func() error { // the data connection is cut
			c.data("RETR source", func(nc net.Conn) error { nc.Read(buf[:1000]); return errors.New("enough") })
			return nil
		}},
		{"half a put", true, func() error { // the control connection is cut
			c.data("STOR cut"+name, func(nc net.Conn) error { nc.Write(buf[:1000]); return errors.New("enough") })
			return nil
		}},
		{"no data", false, func() error { return c.cmd("EPSV", "229") }},
		{"quit", true, func() error { return c.cmd("QUIT", "221") }},
	}, err
}

func soakDAV(s *Server, addr string, secure bool, w int, content string) (io.Closer, []act, error) {
	c, err := dialHTTP(s, addr, secure, "", 64<<10)
	name := fmt.Sprintf("/dav%v%d", secure, w)
	upload := func(method, target, body string, want int) error {
		_, err := c.do(append(c.head(method, target, "Content-Length: "+strconv.Itoa(len(body))), body...), want, nil)
		return err
	}
	return c, []act{
		{"get", false, func() error { _, err := c.get("/source"); return err }},
		{"range", false, func() error {
			_, err := c.do(c.head("GET", "/source", "Range: bytes=1000-200000"), 206, nil)
			return err
		}},
		{"put, move, delete", false, func() error {
			if err := upload("PUT", name, content[:rand.IntN(len(content))], 201); err != nil {
				return err
			}
			if _, err := c.do(c.head("MOVE", name, "Destination: "+name+"b"), 201, nil); err != nil {
				return err
			}
			_, err := c.do(c.head("DELETE", name+"b"), 204, nil)
			return err
		}},
		{"propfind", false, func() error { _, err := c.do(c.propfind("/", "1"), 207, nil); return err }},
		{"half a put", true, func() error {
			_, err := c.nc.Write(append(c.head("PUT", name+"cut", "Content-Length: 100000"), content[:50000]...))
			return err
		}},
		{"half a get", true, func() error { // what comes is left unread
			_, err := c.nc.Write(c.head("GET", "/source"))
			return err
		}},
	}, err
}

func soakREST(s *Server, w int, content string) (io.Closer, []act, error) {
	c, err := dialHTTP(s, s.RESTAddr, false, "", 64<<10)
	const api = "/api/v2"
	basic := ""
	if err == nil {
		basic = c.auth
	}
	// token has the client go on with one; the connection is the same.
	token := func(of string) error {
		var answer bytes.Buffer
		c.auth = basic
		if _, err := c.do(c.head("GET", api+of+"/token"), 200, func(b []byte) { answer.Write(b) }); err != nil {
			return err
		}
		var t struct {
			Access string `json:"access_token"`
		}
		err := json.Unmarshal(answer.Bytes(), &t)
		c.auth = "Bearer " + t.Access
		return err
	}
	call := func(method, target string, want int) error {
		_, err := c.do(c.head(method, api+target), want, nil)
		return err
	}
	return c, []act{
		{"records", false, func() error {
			return firstError(func() error { return token("") }, func() error { return call("GET", "/users", 200) },
				func() error { return call("GET", "/connections", 200) }, func() error { return call("GET", "/logout", 200) })
		}},
		{"files", false, func() error {
			name := fmt.Sprintf("/rest%d", w)
			body := content[:1+rand.IntN(len(content)-1)]
			upload := func() error {
				_, err := c.do(append(c.head("POST", api+"/user/files/upload?path="+name, "Content-Length: "+strconv.Itoa(len(body))), body...), 201, nil)
				return err
			}
			return firstError(func() error { return token("/user") }, upload, func() error { return call("GET", "/user/dirs?path=/", 200) },
				func() error { return call("GET", "/user/files?path=/source", 200) }, func() error { return call("DELETE", "/user/files?path="+name, 200) },
				func() error { return call("GET", "/user/logout", 200) })
		}},
	}, err
}

// firstError calls until one fails.
func firstError(all ...func() error) error {
	for _, f := range all {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// judge compares the last third with the second: the first warms up.
func (r *Soak) judge() error {
	n := len(r.Samples) / 3
	var second, last int64
	for i := range n {
		second += r.Samples[n+i].Usage.RSS
		last += r.Samples[2*n+i].Usage.RSS
	}
	var errs []error
	// A short one is all warming up.
	if n > 0 && r.Samples[len(r.Samples)-1].After > 2*time.Minute && float64(last) > 1.2*float64(second) {
		errs = append(errs, fmt.Errorf("bench: memory grows: %d MiB in the second third, %d in the last", second/int64(n)>>20, last/int64(n)>>20))
	}
	if r.Left.FDs > r.Before.FDs+slackFDs {
		errs = append(errs, fmt.Errorf("bench: %d descriptors are left, there were %d", r.Left.FDs, r.Before.FDs))
	}
	if r.Goroutines > 160 { // the loops, the store, and the pools' idle ones
		errs = append(errs, fmt.Errorf("bench: %d goroutines are left", r.Goroutines))
	}
	if len(r.Errors) > 0 {
		errs = append(errs, fmt.Errorf("bench: the server logged %d errors, the first is %s", len(r.Errors), r.Errors[0]))
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
	fmt.Fprint(w, "\n| what | well | failed |\n|---|---|---|\n")
	names := slices.Collect(maps.Keys(r.Ops))
	for name := range r.Failed {
		if _, ok := r.Ops[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(w, "| %s | %d | %d |\n", name, r.Ops[name], r.Failed[name])
	}
	fmt.Fprintf(w, "\nWhen all had left: %d goroutines, %d descriptors (%d before), %.1f MiB (%.1f before)\n", r.Goroutines, r.Left.FDs, r.Before.FDs,
		float64(r.Left.RSS)/(1<<20), float64(r.Before.RSS)/(1<<20))
}
