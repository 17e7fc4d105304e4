package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gantryhq/gantry/internal/logs"
	"github.com/gantryhq/gantry/internal/systemd"
)

// serveFlags are those of serve alone.
type serveFlags struct {
	flags
	dump      string // to load before serving
	mode      int
	scan      int
	clean     bool
	grace     int // seconds
	firstUser string
}

func (a *app) serveCmd() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start the server",
		Long: "serve runs until it is told to stop. TERM or Ctrl-C ends it in order: no new connections, transfers may finish\n" +
			"within the grace time, a second signal ends them at once. HUP reads configuration, host keys and banners again,\n" +
			"USR1 rotates the log. Every flag has a variable: --log-level is GANTRY_LOG_LEVEL (or SFTPGO_LOG_LEVEL).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sig, stop := signals()
			defer stop()
			return a.serve(cmd.Context(), f, cmd.Flags(), sig, nil)
		},
	}
	f.add(cmd.Flags())
	f.addLog(cmd.Flags())
	f.addLoad(cmd.Flags())
	cmd.Flags().IntVar(&f.scan, "loaddata-scan", 0, "scan the used quota after loading: 1 of all users, 2 of those with a limit")
	cmd.Flags().IntVar(&f.grace, "grace-time", 0, "seconds that open transfers have when the server stops")
	cmd.Flags().StringVar(&f.firstUser, "first-user", "", "make this user if it is not there, with a password that is printed once")
	return cmd
}

// addLoad adds the flags of the initial load.
func (f *serveFlags) addLoad(fs *pflag.FlagSet) {
	fs.StringVar(&f.dump, "loaddata-from", "", "load this dump before serving")
	fs.IntVar(&f.mode, "loaddata-mode", 1, "0 add new and update old objects, 1 add new ones only")
	fs.BoolVar(&f.clean, "loaddata-clean", false, "remove the dump after it was loaded")
}

// validate checks the flags' values.
func (f *serveFlags) validate() error {
	var errs []error
	if f.mode < 0 || f.mode > 1 {
		errs = append(errs, fmt.Errorf("--loaddata-mode must be 0 or 1, it is %d", f.mode))
	}
	if f.scan < 0 || f.scan > 2 {
		errs = append(errs, fmt.Errorf("--loaddata-scan must be 0, 1 or 2, it is %d", f.scan))
	}
	if f.grace < 0 || f.grace > 24*3600 {
		errs = append(errs, fmt.Errorf("--grace-time must be between 0 and 86400 seconds, it is %d", f.grace))
	}
	return errors.Join(errs...)
}

// wish is what a signal asks for.
type wish int

const (
	stop wish = iota
	reload
	rotate
)

// serve runs the server until a signal or a failing part ends it. ready, if set, is called when clients
// can connect.
func (a *app) serve(ctx context.Context, f *serveFlags, fs *pflag.FlagSet, sig <-chan os.Signal, ready func(*node)) error {
	s, err := a.load(&f.flags, fs)
	if err == nil {
		err = f.validate()
	}
	if err != nil {
		return err
	}
	if err := s.ensureDir(); err != nil {
		return err
	}
	setUmask(s.Common.Umask)
	log, err := s.openLog(fs, a.stdout)
	if err != nil {
		return err
	}
	defer log.Close()
	if f.log.Path != "" || isTerminal(a.stdout) {
		a.tellWarnings(s)
	}
	log.Info("starting", "sender", "service", "version", buildInfo().String(), "config_dir", s.dir, "config_file", s.report.File)

	n := &node{app: a, s: s, f: f, log: log, manager: systemd.New(a.environ)}
	told := func(err error) {
		if err != nil {
			log.Warn("the service manager was not told", "sender", "service", "error", err)
		}
	}
	if err := n.startUnless(ctx, sig); err != nil {
		n.stop(0, nil)
		log.Error("the server did not start", "sender", "service", "error", err)
		return err
	}
	log.Info("serving", "sender", "service", "listeners", strings.Join(n.addresses(), " "))
	n.announce(a.console(f.log))
	told(n.manager.Ready(n.status()))
	alive := n.watchdog()
	defer alive.Stop()
	if ready != nil {
		ready(n)
	}
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	go watchMemory(watching)
	for {
		select {
		case <-alive.C:
			told(n.manager.Alive())
		case err := <-n.failed:
			log.Error("a listener failed, the server stops", "sender", "service", "error", err)
			told(n.manager.Stopping())
			n.stop(0, nil)
			return err
		case <-ctx.Done():
			n.stop(0, nil)
			return nil
		case x := <-sig:
			switch wishOf(x) {
			case reload:
				told(n.manager.Reloading())
				n.reload(fs)
				told(n.manager.Ready(n.status()))
			case rotate:
				if err := log.Rotate(); err != nil {
					log.Error("the log was not rotated", "sender", "service", "error", err)
				}
			default:
				log.Info("stopping", "sender", "service", "signal", x.String(), "grace_seconds", f.grace)
				told(n.manager.Stopping())
				err := n.stop(time.Duration(f.grace)*time.Second, sig)
				log.Info("stopped", "sender", "service")
				return err
			}
		}
	}
}

// startUnless starts the parts; a signal that asks to stop interrupts that.
func (n *node) startUnless(ctx context.Context, sig <-chan os.Signal) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	started := make(chan error, 1)
	go func() { started <- n.start(ctx) }() // its end is waited for below
	for {
		select {
		case err := <-started:
			if cause := context.Cause(ctx); err != nil && cause != nil {
				return cause
			}
			return err
		case x := <-sig:
			if wishOf(x) == stop {
				cancel(errInterrupted)
			}
		}
	}
}

// errInterrupted ends a start that a signal interrupted.
var errInterrupted = errors.New("interrupted while starting")

// console is where the server speaks to its operator: standard output, unless the log goes there.
func (a *app) console(c logs.Config) *os.File {
	if c.Path == "" {
		return a.stderr
	}
	return a.stdout
}

// status is the line that the service manager shows.
func (n *node) status() string { return "serving " + strings.Join(n.addresses(), " ") }

// watchdog ticks when the service manager expects a sign of life, twice as often as it asks; never without one.
// The signs come from serve's own loop, so that a stuck server is restarted. Once it stops, its time is the
// manager's TimeoutStopSec.
func (n *node) watchdog() *time.Ticker {
	if d := n.manager.Watchdog(); d > 0 {
		return time.NewTicker(max(d/2, time.Millisecond))
	}
	t := time.NewTicker(time.Hour)
	t.Stop()
	return t
}
