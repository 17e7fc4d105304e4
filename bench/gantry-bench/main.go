// Command gantry-bench compares Gantry with the peers that are installed here. See package bench.
package main

import (
	"context"
	"encoding/json"
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
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gantryhq/gantry/bench"
)

// report is the JSON form of all that was measured.
type report struct {
	Machine string        `json:"machine"`
	Commit  string        `json:"commit"`
	Begun   time.Time     `json:"begun"`
	Bulk    *bench.Table  `json:"bulk,omitempty"`
	Link    *bench.Table  `json:"link,omitempty"`
	Idle    []bench.Idle  `json:"idle,omitempty"`
	Timing  *bench.Timing `json:"timing,omitempty"`

	FTP     *bench.Table    `json:"ftp,omitempty"`
	FTPIdle []bench.FTPIdle `json:"ftp_idle,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, log io.Writer) error {
	fs := flag.NewFlagSet("gantry-bench", flag.ContinueOnError)
	var (
		cases   = fs.String("cases", "bulk,link,idle,timing,ftp,ftpidle", "what to measure")
		binary  = fs.String("gantry", "", "Gantry's binary; empty builds it")
		ram     = fs.String("ram", "/dev/shm", "folder in memory")
		peers   = fs.String("peers", "gantry,openssh", "servers; the first is compared with the others")
		mib     = fs.Int64("size", 2048, "MiB of a bulk transfer")
		repeat  = fs.Int("repeat", 5, "repetitions of each bulk transfer, interleaved")
		ciphers = fs.String("ciphers", "default,aes128-gcm@openssh.com,chacha20-poly1305@openssh.com", "of bulk transfers")
		ops     = fs.String("ops", "get,put", "directions of bulk transfers")
		quiet   = fs.Float64("quiet", 0, "repeat a transfer during which others used more than so many CPUs; 0 never")
		retries = fs.Int("retries", 3, "how often")
		linkMiB = fs.Int64("link-size", 256, "MiB of a transfer over the long link")
		linkN   = fs.Int("link-repeat", 3, "repetitions over the long link")
		rtt     = fs.Duration("rtt", 100*time.Millisecond, "round trip of the long link")
		flight  = fs.Int("in-flight", 64, "MiB that the long link holds")
		conns   = fs.Int("connections", 500, "idle connections")
		settle  = fs.Duration("settle", 20*time.Second, "wait before memory is read")
		samples = fs.Int("samples", 1000, "attempts of each kind in the timing case")
		ftps    = fs.String("ftp-peers", "gantry,vsftpd,proftpd,pure-ftpd", "FTP servers; those that are not there are left out")
		files   = fs.Int("files", 20000, "small files of the ftp case")
		storm   = fs.Int("storm", 1000, "logins at once of the ftp case")
		streams = fs.String("streams", "1,4", "bulk transfers at a time, of the ftp case")
		ftpIdle = fs.Int("ftp-connections", 10000, "idle FTP connections of Gantry; the others have a twentieth")
		soak    = fs.Duration("soak", 15*time.Minute, "how long the soak case goes on")
		file    = fs.String("json", "", "write all figures to this file")
	)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if runtime.GOOS != "linux" {
		return fmt.Errorf("gantry-bench reads /proc and runs on Linux, this is %s", runtime.GOOS)
	}
	if *binary == "" {
		dir, err := os.MkdirTemp("", "gantry-built-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		*binary = filepath.Join(dir, "gantry")
		if b, err := exec.CommandContext(ctx, "go", "build", "-o", *binary, "github.com/gantryhq/gantry/cmd/gantry").CombinedOutput(); err != nil {
			return fmt.Errorf("gantry-bench: build: %w: %s", err, b)
		}
	}
	known := map[string]bench.Peer{"gantry": bench.Gantry{}, "openssh": bench.OpenSSH{}}
	var list []bench.Peer
	for _, name := range strings.Split(*peers, ",") {
		p, ok := known[name]
		if !ok {
			return fmt.Errorf("gantry-bench: unknown peer %q", name)
		}
		list = append(list, p)
	}
	e, err := bench.NewEnv(*ram, *binary, log)
	if err != nil {
		return err
	}
	defer e.Close()

	var machine strings.Builder
	bench.Machine(&machine)
	commit, _ := exec.Command("git", "describe", "--always", "--dirty").Output()
	r := report{Machine: strings.TrimSpace(machine.String()), Commit: strings.TrimSpace(string(commit)), Begun: time.Now().UTC().Truncate(time.Second)}
	fmt.Fprintf(out, "%s\ncommit %s, %s\n", r.Machine, r.Commit, r.Begun.Format(time.RFC3339))
	want := strings.Split(*cases, ",")
	for _, w := range want {
		if !slices.Contains([]string{"bulk", "link", "idle", "timing", "ftp", "ftpidle", "soak"}, w) {
			return fmt.Errorf("gantry-bench: unknown case %q", w)
		}
	}
	if slices.Contains(want, "ftp") || slices.Contains(want, "ftpidle") {
		if err := runFTP(ctx, e, &r, want, strings.Split(*ftps, ","), strings.Split(*streams, ","), *ftpIdle, *settle, bench.FTPOptions{
			Size: *mib << 20, Repeat: *repeat, Files: *files, Clients: 8, Storm: *storm, Quiet: *quiet, Retries: *retries}, out); err != nil {
			return err
		}
	}
	if slices.Contains(want, "soak") {
		seen, err := bench.RunSoak(ctx, e, *soak)
		fmt.Fprintf(out, "\n## %v of FTP and FTPS clients that come, transfer, abort and vanish\n\n", *soak)
		seen.Write(out)
		if err != nil {
			return err
		}
	}
	if slices.Contains(want, "bulk") {
		list1 := strings.Split(*ciphers, ",")
		for i, c := range list1 {
			if c == "default" {
				list1[i] = ""
			}
		}
		r.Bulk, err = bench.RunBulk(ctx, e, list, bench.BulkOptions{Size: *mib << 20, Repeat: *repeat, Ciphers: list1,
			Ops: strings.Split(*ops, ","), Quiet: *quiet, Retries: *retries})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\n## Bulk: %d MiB, %d repetitions, interleaved\n\n", *mib, *repeat)
		r.Bulk.Write(out)
	}
	if slices.Contains(want, "link") {
		r.Link, err = bench.RunLink(ctx, e, list, bench.LinkOptions{Size: *linkMiB << 20, Repeat: *linkN, RTT: *rtt, InFlight: *flight << 20})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\n## A long link: %d MiB, round trip %v, %d repetitions\n\n", *linkMiB, *rtt, *linkN)
		r.Link.Write(out)
	}
	if slices.Contains(want, "idle") {
		if r.Idle, err = bench.RunIdle(ctx, e, list, bench.IdleOptions{Connections: *conns, Settle: *settle}); err != nil {
			return err
		}
		fmt.Fprintf(out, "\n## Idle logged-in SFTP connections, read %v after the last login\n\n%s", *settle, bench.IdleHeader)
		for _, i := range r.Idle {
			i.Write(out)
		}
	}
	if slices.Contains(want, "timing") {
		hash, err := bcrypt.GenerateFromPassword([]byte(fmt.Sprint(time.Now().UnixNano())), 10)
		if err != nil {
			return err
		}
		if r.Timing, err = bench.RunTiming(ctx, e, bench.TimingOptions{Samples: *samples, Hash: string(hash)}); err != nil {
			return err
		}
		fmt.Fprint(out, "\n## Failed logins (bcrypt, cost 10)\n\n")
		r.Timing.Write(out)
	}
	if *file != "" {
		b, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return err
		}
		return os.WriteFile(*file, append(b, '\n'), 0o644)
	}
	return nil
}

// runFTP runs the cases of FTP.
func runFTP(ctx context.Context, e *bench.Env, r *report, want, names, streams []string, idle int, settle time.Duration, o bench.FTPOptions, out io.Writer) error {
	var list []bench.Peer
	for _, p := range bench.FTPPeers() {
		if slices.Contains(names, p.Name()) {
			list = append(list, p)
		}
	}
	for _, s := range streams {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("gantry-bench: -streams: %q is no number of transfers", s)
		}
		o.StreamCases = append(o.StreamCases, n)
	}
	if slices.Contains(want, "ftp") {
		var err error
		if r.FTP, err = bench.RunFTP(ctx, e, list, o); err != nil {
			return err
		}
		fmt.Fprintf(out, "\n## FTP: %d MiB, %d small files, %d repetitions, interleaved\n\n", o.Size>>20, o.Files, o.Repeat)
		r.FTP.Write(out)
	}
	if !slices.Contains(want, "ftpidle") {
		return nil
	}
	fmt.Fprintf(out, "\n## Idle logged-in FTP connections, read %v after the last login\n\n%s", settle, bench.FTPIdleHeader)
	for _, p := range list {
		n := idle
		if p.Name() != "gantry" {
			n = max(50, idle/20)
		}
		for _, secure := range []bool{false, true} {
			i, err := bench.RunFTPIdle(ctx, e, p, secure, n, settle)
			if err != nil {
				fmt.Fprintf(e.Log, "left out: %s: %v\n", p.Name(), err)
				continue
			}
			r.FTPIdle = append(r.FTPIdle, i)
			i.Write(out)
		}
	}
	return nil
}
