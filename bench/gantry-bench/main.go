// Command gantry-bench compares Gantry with the peers that are installed here. See package bench.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gantryhq/gantry/bench"
)

// report is the JSON form of all that was measured.
type report struct {
	Machine string                  `json:"machine"`
	Commit  string                  `json:"commit"`
	Begun   time.Time               `json:"begun"`
	Limits  []bench.Limit           `json:"limits,omitempty"`
	Tables  map[string]*bench.Table `json:"tables"` // by case

	Idle     []bench.Idle                `json:"idle,omitempty"`
	ConnIdle map[string][]bench.ConnIdle `json:"conn_idle,omitempty"` // by case
	Timing   *bench.Timing               `json:"timing,omitempty"`
	Checks   []bench.LinkCheck           `json:"link_checks,omitempty"`
	Soak     *bench.Soak                 `json:"soak,omitempty"`
	Starts   []bench.Start               `json:"starts,omitempty"`
	Budgets  []bench.Verdict             `json:"budgets,omitempty"`
}

// options are the flags.
type options struct {
	gantry, ram, json, svg    string
	cases                     []string
	peers, ftpPeers, davPeers []string
	ciphers, ops              []string
	streams                   []int
	mib, linkMiB              int64
	rounds                    bench.Rounds
	linkRepeat                int
	link                      bench.Link
	stall                     time.Duration
	logins                    int
	entries, accounts         []int
	connections               int
	settle                    time.Duration
	samples                   int
	files, storm, requests    int
	ftpConnections            int
	davConnections            int
	soak, limit               time.Duration
}

// cases are all there are, in the order in which they run.
var cases = []struct {
	name string
	run  func(b *bencher) error
}{
	{"bulk", (*bencher).bulk},
	{"ftp", (*bencher).ftp},
	{"dav", (*bencher).dav},
	{"login", (*bencher).login},
	{"listing", (*bencher).listing},
	{"s3", (*bencher).s3},
	{"link", (*bencher).runLink},
	{"idle", (*bencher).idle},
	{"ftpidle", (*bencher).ftpIdle},
	{"davidle", (*bencher).davIdle},
	{"timing", (*bencher).timing},
	{"start", (*bencher).start},
	{"soak", (*bencher).runSoak},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parse(args []string, log io.Writer) (*options, error) {
	fs := flag.NewFlagSet("gantry-bench", flag.ContinueOnError)
	fs.SetOutput(log)
	var o options
	var names []string
	for _, c := range cases {
		if names = append(names, c.name); c.name != "soak" {
			o.cases = append(o.cases, c.name)
		}
	}
	list := func(v *[]string, name, value, usage string) {
		*v = strings.Split(value, ",")
		fs.Func(name, usage+" (default "+value+")", func(s string) error { *v = strings.Split(s, ","); return nil })
	}
	list(&o.cases, "cases", strings.Join(o.cases, ","), "what to measure: all, or some of "+strings.Join(names, ","))
	fs.StringVar(&o.gantry, "gantry", "", "Gantry's binary; empty builds it")
	fs.StringVar(&o.ram, "ram", "/dev/shm", "folder in memory")
	list(&o.peers, "peers", "gantry,openssh", "SFTP servers; the first is compared with the others")
	list(&o.ftpPeers, "ftp-peers", "gantry,vsftpd,proftpd,pure-ftpd", "FTP servers; those that are not there are left out")
	list(&o.davPeers, "dav-peers", "gantry,nginx,apache,lighttpd", "WebDAV servers; those that are not there are left out")
	fs.Int64Var(&o.mib, "size", 2048, "MiB of a bulk transfer")
	fs.IntVar(&o.rounds.Repeat, "repeat", 5, "repetitions of each case, interleaved")
	list(&o.ciphers, "ciphers", "default,aes128-gcm@openssh.com,chacha20-poly1305@openssh.com", "of the bulk case")
	list(&o.ops, "ops", "get,put", "directions of the bulk case")
	var streams []string
	list(&streams, "streams", "1,4", "bulk transfers at a time, of the ftp and dav cases")
	fs.Float64Var(&o.rounds.Quiet, "quiet", 0, "repeat a run during which others used more than so many CPUs; 0 never")
	fs.IntVar(&o.rounds.Retries, "retries", 3, "how often")
	fs.Int64Var(&o.linkMiB, "link-size", 256, "MiB of a transfer over the long link")
	fs.IntVar(&o.linkRepeat, "link-repeat", 3, "repetitions over the long link")
	rtt := fs.Duration("rtt", 100*time.Millisecond, "round trip of the long link")
	flight := fs.Int("in-flight", 64, "MiB that the long link holds in one direction of one connection")
	rate := fs.Int64("rate", 1000, "Mbit/s of the long link; 0 is no limit")
	fs.DurationVar(&o.stall, "stall", 5*time.Second, "how long the link stalls under a transfer")
	fs.IntVar(&o.logins, "logins", 500, "logins of each kind in the login case, which stay until they are counted")
	var entries []string
	list(&entries, "entries", "10000,100000", "sizes of the folders of the listing case")
	fs.IntVar(&o.connections, "connections", 500, "idle SFTP connections")
	fs.IntVar(&o.ftpConnections, "ftp-connections", 10000, "idle FTP connections; those of the others, which have a process or two for each, are a twentieth")
	fs.IntVar(&o.davConnections, "dav-connections", 10000, "idle HTTP connections; Apache has a twentieth")
	fs.DurationVar(&o.settle, "settle", 20*time.Second, "wait before memory is read")
	var accounts []string
	list(&accounts, "accounts", "10,10000", "that Gantry has when it starts, in the start case")
	fs.IntVar(&o.samples, "samples", 1000, "attempts of each kind in the timing case")
	fs.IntVar(&o.files, "files", 20000, "small files of the ftp case")
	fs.IntVar(&o.storm, "storm", 1000, "logins at once of the ftp case")
	fs.IntVar(&o.requests, "requests", 40000, "small requests of each kind in the dav case")
	fs.DurationVar(&o.soak, "soak", 15*time.Minute, "how long the soak case goes on")
	fs.DurationVar(&o.limit, "limit", time.Second, "how long each of the machine's limits is measured; 0 leaves them out")
	fs.StringVar(&o.json, "json", "", "write all figures to this file")
	fs.StringVar(&o.svg, "svg", "", "draw the ratios into this file")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if slices.Equal(o.cases, []string{"all"}) {
		o.cases = names
	}
	for _, c := range o.cases {
		if !slices.Contains(names, c) {
			return nil, fmt.Errorf("gantry-bench: unknown case %q, there are %s", c, strings.Join(names, ", "))
		}
	}
	o.link = bench.Link{Delay: *rtt / 2, InFlight: *flight << 20, Rate: *rate * 1e6 / 8}
	numbers := func(name string, words []string) (out []int, err error) {
		for _, w := range words {
			n, err := strconv.Atoi(w)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("gantry-bench: -%s: %q is not a number above 0", name, w)
			}
			out = append(out, n)
		}
		return out, nil
	}
	var err error
	if o.streams, err = numbers("streams", streams); err != nil {
		return nil, err
	}
	if o.entries, err = numbers("entries", entries); err != nil {
		return nil, err
	}
	if o.accounts, err = numbers("accounts", accounts); err != nil {
		return nil, err
	}
	for i, c := range o.ciphers {
		if c == "default" {
			o.ciphers[i] = ""
		}
	}
	return &o, nil
}

// bencher is one run.
type bencher struct {
	*options
	ctx context.Context
	env *bench.Env
	out io.Writer
	r   report
}

func run(ctx context.Context, args []string, out, log io.Writer) error {
	if len(args) > 0 && args[0] == "floor" {
		return bench.ServeFloor(ctx, args[1:])
	}
	o, err := parse(args, log)
	if err != nil {
		return err
	}
	if runtime.GOOS != "linux" {
		return fmt.Errorf("gantry-bench reads /proc and runs on Linux, this is %s", runtime.GOOS)
	}
	if o.gantry == "" {
		dir, err := os.MkdirTemp("", "gantry-built-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.gantry = filepath.Join(dir, "gantry")
		if b, err := exec.CommandContext(ctx, "go", "build", "-o", o.gantry, "github.com/gantryhq/gantry/cmd/gantry").CombinedOutput(); err != nil {
			return fmt.Errorf("gantry-bench: build: %w: %s", err, b)
		}
	}
	e, err := bench.NewEnv(o.ram, o.gantry, log)
	if err != nil {
		return err
	}
	defer e.Close()
	var machine strings.Builder
	bench.Machine(&machine)
	commit, _ := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	b := &bencher{options: o, ctx: ctx, env: e, out: out, r: report{Machine: strings.TrimSpace(machine.String()), Commit: strings.TrimSpace(string(commit)),
		Begun: time.Now().UTC().Truncate(time.Second), Tables: map[string]*bench.Table{}, ConnIdle: map[string][]bench.ConnIdle{}}}
	fmt.Fprintf(out, "%s\ncommit %s, %s\n", b.r.Machine, b.r.Commit, b.r.Begun.Format(time.RFC3339))
	if o.limit > 0 {
		if b.r.Limits, err = bench.RunLimits(ctx, e, o.limit); err != nil {
			return err
		}
		b.title("What the machine can do")
		bench.WriteLimits(out, b.r.Limits)
	}
	for _, c := range cases {
		if !slices.Contains(o.cases, c.name) {
			continue
		}
		// What has been measured is written in any case.
		err := c.run(b)
		if ctx.Err() != nil { // what else failed, failed by it
			err = errors.New("interrupted")
		}
		if err != nil {
			return errors.Join(fmt.Errorf("gantry-bench: %s: %w", c.name, err), b.write())
		}
	}
	return b.write()
}

// write holds the rows against their budgets and writes the figures to the files that were asked for.
func (b *bencher) write() error {
	var tables []*bench.Table
	for _, c := range cases {
		if t := b.r.Tables[c.name]; t != nil {
			tables = append(tables, t)
			b.r.Budgets = append(b.r.Budgets, t.Verdicts()...)
		}
	}
	for _, i := range b.r.Idle {
		if i.Peer == "gantry" {
			b.r.Budgets = append(b.r.Budgets, i.Verdict())
		}
	}
	for _, s := range b.r.Starts {
		if s.Peer == "gantry" && s.Runs > 1 {
			b.r.Budgets = append(b.r.Budgets, s.Verdict())
		}
	}
	for _, c := range []struct{ name, what string }{{"ftpidle", "FTP"}, {"davidle", "HTTP"}} {
		for _, i := range b.r.ConnIdle[c.name] {
			if i.Peer == "gantry" {
				b.r.Budgets = append(b.r.Budgets, i.Verdict(c.what))
			}
		}
	}
	if len(b.r.Budgets) > 0 {
		b.title("Budgets")
		fmt.Fprint(b.out, "| case | what | got | budget | |\n|---|---|---|---|---|\n")
		for _, v := range b.r.Budgets {
			fmt.Fprintf(b.out, "| %s | %s | %.2f | %g | %s |\n", v.Case, v.What, v.Got, v.Budget, map[bool]string{true: "kept", false: "**missed**"}[v.Kept])
		}
	}
	var errs []error
	if b.json != "" {
		text, err := json.MarshalIndent(b.r, "", "\t")
		if err == nil {
			err = os.WriteFile(b.json, append(text, '\n'), 0o644)
		}
		errs = append(errs, err)
	}
	if b.svg != "" {
		var text strings.Builder
		err := bench.Chart(&text, fmt.Sprintf("commit %s, %s; %s", b.r.Commit, b.r.Begun.Format("2006-01-02"), b.r.Machine), tables)
		if err == nil {
			err = os.WriteFile(b.svg, []byte(text.String()), 0o644)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (b *bencher) title(format string, args ...any) {
	fmt.Fprintf(b.out, "\n## "+format+"\n\n", args...)
}

// pick gives the peers of those names.
func pick(all []bench.Peer, names []string) ([]bench.Peer, error) {
	var out []bench.Peer
	for _, n := range names {
		i := slices.IndexFunc(all, func(p bench.Peer) bool { return p.Name() == n })
		if i < 0 {
			return nil, fmt.Errorf("unknown peer %q", n)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// table runs a series, prints what there is of it, also after a failure, and keeps it.
func (b *bencher) table(name string, all []bench.Peer, names []string, series func(peers []bench.Peer) (*bench.Table, error), title string, args ...any) error {
	peers, err := pick(all, names)
	if err != nil {
		return err
	}
	t, err := series(peers)
	if t != nil {
		b.r.Tables[name] = t
		b.title(title, args...)
		t.Write(b.out)
	}
	return err
}

func (b *bencher) bulk() error {
	return b.table("bulk", bench.SFTPPeers(), b.peers, func(p []bench.Peer) (*bench.Table, error) {
		return bench.RunBulk(b.ctx, b.env, p, bench.BulkOptions{Size: b.mib << 20, Ciphers: b.ciphers, Ops: b.ops, Rounds: b.rounds})
	}, "Bulk: %d MiB, %d repetitions, interleaved", b.mib, b.rounds.Repeat)
}

func (b *bencher) ftp() error {
	return b.table("ftp", bench.FTPPeers(), b.ftpPeers, func(p []bench.Peer) (*bench.Table, error) {
		return bench.RunFTP(b.ctx, b.env, p, bench.FTPOptions{Size: b.mib << 20, Files: b.files, Clients: 8, Storm: b.storm, StreamCases: b.streams, Rounds: b.rounds})
	}, "FTP: %d MiB, %d small files, %d repetitions, interleaved", b.mib, b.files, b.rounds.Repeat)
}

func (b *bencher) dav() error {
	return b.table("dav", bench.DAVPeers(), b.davPeers, func(p []bench.Peer) (*bench.Table, error) {
		return bench.RunDAV(b.ctx, b.env, p, bench.DAVOptions{Size: b.mib << 20, StreamCases: b.streams, Requests: b.requests, Clients: 8, Rounds: b.rounds})
	}, "WebDAV: %d MiB, %d small requests, %d repetitions, interleaved", b.mib, b.requests, b.rounds.Repeat)
}

// threeTables is a series over the SFTP, FTP and WebDAV servers.
func (b *bencher) threeTables(name string, series func(sftp, ftp, dav []bench.Peer) (*bench.Table, error), title string, args ...any) error {
	ftp, err := pick(bench.FTPPeers(), b.ftpPeers)
	if err != nil {
		return err
	}
	dav, err := pick(bench.DAVPeers(), b.davPeers)
	if err != nil {
		return err
	}
	return b.table(name, bench.SFTPPeers(), b.peers, func(sftp []bench.Peer) (*bench.Table, error) { return series(sftp, ftp, dav) }, title, args...)
}

func (b *bencher) login() error {
	return b.threeTables("login", func(sftp, ftp, _ []bench.Peer) (*bench.Table, error) {
		own, err := os.Executable()
		if err != nil {
			return nil, err
		}
		ftp, sftp = append(slices.Clone(ftp), bench.FloorFTP{Program: own}), append(slices.Clone(sftp), bench.FloorSSH{Program: own})
		return bench.RunLogin(b.ctx, b.env, ftp, sftp, bench.LoginOptions{Logins: b.logins, Clients: 8, Rounds: b.rounds})
	}, "Logins: %d each, %d where each is an account's first, %d repetitions, interleaved", b.logins, max(1, b.logins/8), b.rounds.Repeat)
}

func (b *bencher) listing() error {
	return b.threeTables("listing", func(sftp, ftp, dav []bench.Peer) (*bench.Table, error) {
		return bench.RunListing(b.ctx, b.env, sftp, ftp, dav, bench.ListingOptions{Entries: b.entries, Rounds: b.rounds})
	}, "Listings, %d repetitions, interleaved", b.rounds.Repeat)
}

func (b *bencher) s3() error {
	return b.table("s3", nil, nil, func([]bench.Peer) (*bench.Table, error) {
		return bench.RunS3(b.ctx, b.env, bench.BulkOptions{Size: b.linkMiB << 20, Ciphers: []string{"aes128-gcm@openssh.com"}, Ops: b.ops, Rounds: b.rounds})
	}, "SFTP with S3 behind it (versitygw): %d MiB, %d repetitions, interleaved", b.linkMiB, b.rounds.Repeat)
}

func (b *bencher) runLink() error {
	rounds := b.rounds
	rounds.Repeat = b.linkRepeat
	err := b.threeTables("link", func(sftp, ftp, dav []bench.Peer) (*bench.Table, error) {
		return bench.RunLink(b.ctx, b.env, sftp, ftp, dav, bench.LinkOptions{Size: b.linkMiB << 20, Link: b.link, Rounds: rounds})
	}, "A long link: %d MiB, round trip %v, %d Mbit/s, %d repetitions", b.linkMiB, 2*b.link.Delay, b.link.Rate*8/1e6, b.linkRepeat)
	if err != nil {
		return err
	}
	b.r.Checks, err = bench.RunLinkChecks(b.ctx, b.env, 8<<20, b.stall)
	b.title("A link that fails")
	bench.WriteLinkChecks(b.out, b.r.Checks)
	return err
}

func (b *bencher) idle() error {
	peers, err := pick(bench.SFTPPeers(), b.peers)
	if err != nil {
		return err
	}
	if b.r.Idle, err = bench.RunIdle(b.ctx, b.env, peers, bench.IdleOptions{Connections: b.connections, Settle: b.settle}); err != nil {
		return err
	}
	b.title("Idle logged-in SFTP connections, read %v after the last login", b.settle)
	fmt.Fprint(b.out, bench.IdleHeader)
	for _, i := range b.r.Idle {
		i.Write(b.out)
	}
	return nil
}

// connIdle runs both channels of each peer with its number of connections.
func (b *bencher) connIdle(name string, all []bench.Peer, names []string, number func(peer string) int,
	one func(ctx context.Context, e *bench.Env, p bench.Peer, secure bool, n int, settle time.Duration) (bench.ConnIdle, error), title string) error {
	peers, err := pick(all, names)
	if err != nil {
		return err
	}
	b.title(title+", read %v after the last login", b.settle)
	fmt.Fprint(b.out, bench.ConnIdleHeader)
	for i, p := range peers {
		for _, secure := range []bool{false, true} {
			if b.ctx.Err() != nil {
				return b.ctx.Err()
			}
			x, err := one(b.ctx, b.env, p, secure, number(p.Name()), b.settle)
			if err != nil && i == 0 {
				return err
			}
			if err != nil {
				fmt.Fprintf(b.env.Log, "left out: %s: %v\n", p.Name(), err)
				continue
			}
			b.r.ConnIdle[name] = append(b.r.ConnIdle[name], x)
			x.Write(b.out)
		}
	}
	return nil
}

func (b *bencher) ftpIdle() error {
	number := func(peer string) int {
		if peer != "gantry" { // a process or two for each
			return max(min(50, b.ftpConnections), b.ftpConnections/20)
		}
		return b.ftpConnections
	}
	return b.connIdle("ftpidle", bench.FTPPeers(), b.ftpPeers, number, bench.RunFTPIdle, "Idle logged-in FTP connections")
}

func (b *bencher) davIdle() error {
	number := func(peer string) int {
		if peer == "apache" {
			return max(min(50, b.davConnections), b.davConnections/20)
		}
		return b.davConnections
	}
	return b.connIdle("davidle", bench.DAVPeers(), b.davPeers, number, bench.RunDAVIdle, "Idle HTTP connections that have logged in and got a file")
}

func (b *bencher) timing() error {
	hash, err := bcrypt.GenerateFromPassword([]byte(fmt.Sprint(time.Now().UnixNano())), 10)
	if err != nil {
		return err
	}
	if b.r.Timing, err = bench.RunTiming(b.ctx, b.env, bench.TimingOptions{Samples: b.samples, Hash: string(hash)}); err != nil {
		return err
	}
	b.title("Failed logins (bcrypt, cost 10)")
	b.r.Timing.Write(b.out)
	return nil
}

// start measures all servers of all protocols, ours once.
func (b *bencher) start() error {
	peers, err := pick(bench.SFTPPeers(), b.peers)
	if err != nil {
		return err
	}
	for _, more := range []struct {
		all   []bench.Peer
		names []string
	}{{bench.FTPPeers(), b.ftpPeers}, {bench.DAVPeers(), b.davPeers}} {
		p, err := pick(more.all, more.names)
		if err != nil {
			return err
		}
		peers = append(peers, slices.DeleteFunc(p, func(p bench.Peer) bool { return p.Name() == "gantry" })...)
	}
	b.r.Starts, err = bench.RunStart(b.ctx, b.env, peers, bench.StartOptions{Users: b.accounts, Repeat: max(2, b.rounds.Repeat)})
	b.title("Starting, with what is configured and cached")
	fmt.Fprint(b.out, bench.StartHeader)
	for _, s := range b.r.Starts {
		s.Write(b.out)
	}
	return err
}

func (b *bencher) runSoak() error {
	seen, err := bench.RunSoak(b.ctx, b.env, b.soak)
	b.r.Soak = &seen
	b.title("%v of clients that come, transfer, abort and vanish", b.soak)
	seen.Write(b.out)
	return err
}
