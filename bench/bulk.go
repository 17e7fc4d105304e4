package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Bulk is one large file, in one direction, through the OpenSSH client.
type Bulk struct {
	Cipher string // "" leaves the choice to the client and the server
	Put    bool
}

func (b Bulk) String() string {
	op := "get"
	if b.Put {
		op = "put"
	}
	c, _, _ := strings.Cut(b.Cipher, "@")
	if c == "" {
		c = "client default"
	}
	return "SFTP " + op + ", " + c
}

// Run is one measured transfer.
type Run struct {
	Seconds    float64 `json:"seconds"`
	MBps       float64 `json:"mb_per_s"`     // 10^6 bytes
	CPUPerGB   float64 `json:"cpu_s_per_gb"` // seconds of the server's tree per 10^9 bytes
	PeakBytes  int64   `json:"peak_bytes"`   // sum of VmHWM
	LoadBefore string  `json:"load_before"`  // one minute's average, and running/all
	LoadAfter  string  `json:"load_after"`
	Other      float64 `json:"other_cpus"` // processors that neither the server nor its client used

	Ops    int64   `json:"ops,omitempty"` // operations, where they are what is measured
	CPU    float64 `json:"cpu_s,omitempty"`
	Client float64 `json:"client_cpus"` // processors that the client used
	// Bound says what the run could not go faster than: "client", "server" or "machine" for their processors, empty
	// for none of them.
	Bound string `json:"bound,omitempty"`

	P50    float64 `json:"p50_us,omitempty"` // of single operations, microseconds
	P99    float64 `json:"p99_us,omitempty"`
	First  float64 `json:"first_ms,omitempty"`     // milliseconds to the first entry of a listing
	Share  float64 `json:"share,omitempty"`        // of a link's rate
	Growth int64   `json:"growth_bytes,omitempty"` // peak beyond what was resident before
}

// bound fills r.Bound for a load of some streams, each of which is one thread's work on either side.
func (r *Run) bound(streams int) {
	const full = 0.9
	n := float64(min(streams, numCPU()))
	server := r.CPU / r.Seconds
	switch {
	case r.Client >= full*n:
		r.Bound = "client"
	case server >= full*n:
		r.Bound = "server"
	case server+r.Client+r.Other >= full*float64(numCPU()):
		r.Bound = "machine"
	}
}

// rate is operations per second, perOp the server's microseconds for each.
func (r Run) rate() float64 { return float64(r.Ops) / r.Seconds }

func (r Run) perOp() float64 {
	if r.Ops == 0 {
		return 0
	}
	return r.CPU * 1e6 / float64(r.Ops)
}

// makeSource writes size random bytes to file and gives their hash.
func makeSource(file string, size int64) ([32]byte, error) {
	f, err := os.Create(file)
	if err != nil {
		return [32]byte{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, h), rand.Reader, size); err != nil {
		return [32]byte{}, err
	}
	return [32]byte(h.Sum(nil)), f.Close()
}

func hashFile(file string) (sum [32]byte, err error) {
	f, err := os.Open(file)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [32]byte(h.Sum(nil)), nil
}

// sftpRun starts the OpenSSH client with one command and gives the processor time that the client took.
func sftpRun(ctx context.Context, e *Env, s *Server, addr, cipher, command string) (time.Duration, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	args := []string{"-q", "-F", "/dev/null", "-i", e.Key, "-P", port, "-b", "-", "-oIdentitiesOnly=yes",
		"-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oBatchMode=yes"}
	if cipher != "" {
		args = append(args, "-c", cipher)
	}
	ctx, cancel := context.WithTimeout(ctx, opTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sftp", append(args, s.User+"@127.0.0.1")...)
	cmd.Stdin = strings.NewReader(command + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("bench: sftp to %s: %q: %w: %s", s.Peer, command, err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// settled waits until the server's children for a connection have gone, so that their time is counted.
func settled(s *Server, processes int) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if len(tree(s.PID)) <= processes {
			return nil
		}
	}
	return fmt.Errorf("bench: %s keeps processes after its client left", s.Peer)
}

// runBulk moves the file source of size bytes once.
func runBulk(ctx context.Context, e *Env, s *Server, addr string, b Bulk, source string, size int64) (Run, error) {
	command := fmt.Sprintf("get %s/source /dev/null", s.Base)
	up := filepath.Join(s.Root, "up")
	if b.Put {
		command = fmt.Sprintf("put %s %s/up", source, s.Base)
		os.Remove(up) // each run pays for new pages
	}
	processes := len(tree(s.PID))
	r := Run{LoadBefore: load()}
	p := watchPeak(s.PID)
	used, _ := busy()
	before, err := cpuTime(s.PID)
	if err != nil {
		p.end()
		return r, err
	}
	begin := time.Now()
	client, err := sftpRun(ctx, e, s, addr, b.Cipher, command)
	took := time.Since(begin)
	r.PeakBytes = p.end()
	if err == nil {
		err = settled(s, processes)
	}
	if err != nil {
		return r, err
	}
	after, err := cpuTime(s.PID)
	if err != nil {
		return r, err
	}
	usedAfter, _ := busy()
	if b.Put {
		i, err := os.Stat(up)
		if err != nil {
			return r, err
		}
		if i.Size() != size {
			return r, fmt.Errorf("bench: %s: %s: the upload has %d bytes, want %d", s.Peer, b, i.Size(), size)
		}
	}
	r.Seconds = took.Seconds()
	r.MBps = float64(size) / 1e6 / r.Seconds
	r.CPU = (after - before).Seconds()
	r.CPUPerGB = r.CPU / (float64(size) / 1e9)
	r.Client = client.Seconds() / r.Seconds
	r.Other = max(0, (usedAfter-used-(after-before)-client).Seconds()/r.Seconds)
	r.bound(1)
	r.LoadAfter = load()
	return r, nil
}

// check moves the file both ways and compares what arrives, byte for byte by its hash. It warms up as well.
func check(ctx context.Context, e *Env, s *Server, source string, want [32]byte) error {
	back := filepath.Join(e.Data, "back")
	defer os.Remove(back)
	for command, file := range map[string]string{
		fmt.Sprintf("get %s/source %s", s.Base, back): back,
		fmt.Sprintf("put %s %s/up", source, s.Base):   filepath.Join(s.Root, "up"),
	} {
		if _, err := sftpRun(ctx, e, s, s.Addr, "", command); err != nil {
			return err
		}
		got, err := hashFile(file)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("bench: %s: %q: the content differs", s.Peer, command)
		}
	}
	return nil
}

// BulkOptions of RunBulk.
type BulkOptions struct {
	Size    int64 // bytes
	Ciphers []string
	Ops     []string // "get", "put"
	Rounds

	prefix string                               // of the cases' names
	place  func(s *Server, source string) error // makes the source a server's; nil links it into its folder
}

// RunBulk measures every case on every peer, peer by peer within a repetition.
func RunBulk(ctx context.Context, e *Env, peers []Peer, o BulkOptions) (*Table, error) {
	source := filepath.Join(e.Data, "source")
	sum, err := makeSource(source, o.Size)
	if err != nil {
		return nil, err
	}
	defer os.Remove(source)
	servers, err := startAll(ctx, e, peers)
	if err != nil {
		return nil, err
	}
	defer stopAll(servers)
	if o.place == nil {
		o.place = func(s *Server, source string) error { return os.Link(source, filepath.Join(s.Root, "source")) }
	}
	if servers, err = ready(e, servers, func(s *Server) error {
		return firstError(func() error { return o.place(s, source) }, func() error { return check(ctx, e, s, source, sum) })
	}); err != nil {
		return nil, err
	}
	var cases []Bulk
	for _, c := range o.Ciphers {
		for _, op := range o.Ops {
			cases = append(cases, Bulk{c, op == "put"})
		}
	}
	var tests []test
	for _, c := range cases {
		tests = append(tests, test{o.prefix + c.String(), func(s *Server) (Run, error) { return runBulk(ctx, e, s, s.Addr, c, source, o.Size) }})
	}
	return interleave(ctx, e, servers, tests, o.Rounds)
}

// Rounds says how often every case is measured on every server.
type Rounds struct {
	Repeat int
	// Quiet is how many processors others may use before a run counts as disturbed; it is then made again, up
	// to Retries times.
	Quiet   float64
	Retries int
}

// test is one case.
type test struct {
	name string
	run  func(s *Server) (Run, error)
}

// errNotAsked is a case that a server is not measured with.
var errNotAsked = errors.New("bench: not asked")

// interleave measures every case on every server, server by server within a repetition. The first server's failure
// ends it; another's leaves that figure out with a word.
func interleave(ctx context.Context, e *Env, servers []*Server, tests []test, o Rounds) (*Table, error) {
	t := newTable(servers)
	for i := range o.Repeat {
		for _, c := range tests {
			for k := range servers {
				s := servers[(i+k)%len(servers)] // no peer is always the first
				for try := 0; ; try++ {
					if ctx.Err() != nil {
						return t, ctx.Err()
					}
					r, err := c.run(s)
					if errors.Is(err, errNotAsked) {
						break
					}
					if err != nil && s == servers[0] {
						return t, fmt.Errorf("%s: %s: %w", s.Peer, c.name, err)
					}
					if err != nil {
						fmt.Fprintf(e.Log, "left out: %s: %s: %v\n", s.Peer, c.name, err)
						break
					}
					fmt.Fprintf(e.Log, "%d/%d %-10s %-42s %s\n", i+1, o.Repeat, s.Peer, c.name, r)
					if o.Quiet <= 0 || r.Other <= o.Quiet || try >= o.Retries {
						t.add(c.name, s.Peer, r)
						break
					}
				}
			}
		}
	}
	return t, nil
}

// String is a run on one line.
func (r Run) String() string {
	text := fmt.Sprintf("%7.0f MB/s %6.2f CPU s/GB", r.MBps, r.CPUPerGB)
	if r.Ops > 0 {
		text = fmt.Sprintf("%8.0f op/s %6.0f µs/op", r.rate(), r.perOp())
	}
	if r.P99 > 0 {
		text += fmt.Sprintf(", p50 %.0f p99 %.0f µs", r.P50, r.P99)
	}
	if r.First > 0 {
		text += fmt.Sprintf(", first after %.1f ms of %.0f, +%.1f MiB", r.First, r.Seconds*1e3, float64(r.Growth)/(1<<20))
	}
	return fmt.Sprintf("%s %5d MiB, client %.2f others %.2f CPUs %s, load %s .. %s", text, r.PeakBytes>>20, r.Client, r.Other, r.Bound, r.LoadBefore, r.LoadAfter)
}

// startAll starts every peer; one that is not installed is left out with a word, but two must be there.
func startAll(ctx context.Context, e *Env, peers []Peer) ([]*Server, error) {
	var out []*Server
	for _, p := range peers {
		s, err := p.Start(ctx, e)
		if err != nil {
			if p.Name() == "gantry" {
				stopAll(out)
				return nil, err
			}
			fmt.Fprintf(e.Log, "left out: %v\n", err)
			continue
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, errors.New("bench: no server could be started")
	}
	return out, nil
}

// ready prepares every server. One that cannot be prepared is left out with a word, but for the first.
func ready(e *Env, servers []*Server, prepare func(s *Server) error) (fit []*Server, err error) {
	for i, s := range servers {
		err := prepare(s)
		if err != nil && i == 0 {
			return nil, fmt.Errorf("bench: %s: %w", s.Peer, err)
		}
		if err != nil {
			fmt.Fprintf(e.Log, "left out: %s: %v\n", s.Peer, err)
			continue
		}
		fit = append(fit, s)
	}
	return fit, nil
}

func stopAll(servers []*Server) {
	for _, s := range servers {
		s.Stop()
	}
}

// randomText is n letters that nobody has as a password.
func randomText(n int) string {
	b := make([]byte, n)
	for i := range b {
		k, _ := rand.Int(rand.Reader, big.NewInt(26))
		b[i] = 'a' + byte(k.Int64())
	}
	return string(b)
}
