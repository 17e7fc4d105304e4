package main

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"github.com/gantryhq/gantry/dav"
	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/ftp"
	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/guard"
	"github.com/gantryhq/gantry/internal/logs"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/systemd"
	"github.com/gantryhq/gantry/pprof"
	"github.com/gantryhq/gantry/ssh"
)

// Deadlines of the start and the end, beside the grace time.
const (
	startWait = 2 * time.Minute  // for the store: a large one may be upgraded
	closeWait = 20 * time.Second // for ending what the grace time left, and writing the counters
)

// node is a running server: the parts in the order in which they start. Owned by serve's goroutine.
type node struct {
	app *app
	s   *settings
	f   *serveFlags
	log *logs.Log

	manager   systemd.Manager
	listeners []net.Listener
	store     account.Store
	member    account.Node
	shared    *sharing // nil: the database is ours alone
	guard     *guard.Guard
	hooks     *hooks
	auth      *auth.Authenticator
	sessions  *session.Server
	engine    *engine.Engine
	ssh       *ssh.Server
	ftp       *ftp.Server
	ftpDoors  []ftpDoor
	dav       *dav.Server
	davDoors  []davDoor
	admin     *admin.Service
	http      *httpapi.Server
	httpDoors []httpDoor
	proxy     engine.Proxy
	hasher    *auth.Hasher
	cloud     *cloud
	metrics   *pprof.Metrics
	telemetry *telemetry // nil: off
	stopping  atomic.Bool
	undo      []func(ctx context.Context) error // ends what was started, last first

	serving sync.WaitGroup // one for each listener
	failed  chan error     // of a listener; buffered for all

	made       *firstUser // made by this start, or nil
	setupToken string     // for the first administrator; empty if there is one

	portable bool // one user of the command line, whose storage may be anywhere
}

// start builds the parts and serves. What was started is ended by stop, also after an error. Ports are taken
// first and connections accepted last, so that a start that cannot succeed leaves the accounts as they were.
func (n *node) start(ctx context.Context) error {
	proxy, err := n.s.Common.proxy()
	if err != nil {
		return err
	}
	n.proxy.Set(proxy)
	limitMemory()
	if err := n.listen(ctx); err != nil {
		return err
	}
	if err := n.build(ctx); err != nil {
		return err
	}
	if n.f.dump != "" {
		if err := n.initialLoad(ctx); err != nil {
			return err
		}
	}
	if err := n.loadLists(ctx); err != nil {
		return err
	}
	// Before anyone can upload: what a crash left is swept and counted.
	if err := n.sessions.Recover(ctx); err != nil {
		n.log.Error("the quota of some accounts may be wrong until the next start", "sender", "service", "error", err)
	}
	if n.f.dump != "" && n.f.scan > 0 {
		if err := n.scan(ctx); err != nil {
			return err
		}
	}
	if err := n.firstAdmin(ctx); err != nil {
		return err
	}
	if n.f.firstUser != "" {
		if err := n.makeFirstUser(ctx); err != nil {
			return err
		}
	}
	n.accept()
	if err := n.serveTelemetry(); err != nil {
		return err
	}
	n.backups()
	n.tellStartup()
	return nil
}

// tellStartup runs startup_hook in the background. The stop of the server interrupts it.
func (n *node) tellStartup() {
	ctx, cancel := context.WithCancel(context.Background()) // not the start's, which is over
	var done sync.WaitGroup
	done.Go(func() { n.hooks.startup(ctx) })
	n.later(func(context.Context) error {
		cancel()
		done.Wait()
		return nil
	})
}

// accept lets clients in.
func (n *node) accept() {
	n.failed = make(chan error, len(n.listeners)+len(n.ftpDoors)+len(n.davDoors)+len(n.httpDoors)+1) // and telemetry's
	for _, d := range n.httpDoors {
		n.serving.Go(func() {
			if err := n.http.Serve(d.index, d.Listener); err != nil {
				n.failed <- err
			}
		})
	}
	for _, l := range n.listeners {
		n.serving.Go(func() {
			// Ends with Shutdown; connections outlive the signal's context on purpose.
			if err := n.ssh.Serve(context.Background(), l); err != nil {
				n.failed <- err
			}
		})
	}
	for _, d := range n.ftpDoors {
		n.serving.Go(func() {
			if err := n.ftp.Serve(context.Background(), d.index, d.Listener); err != nil {
				n.failed <- err
			}
		})
	}
	for _, d := range n.davDoors {
		n.serving.Go(func() {
			if err := n.dav.Serve(context.Background(), d.index, d.Listener); err != nil {
				n.failed <- err
			}
		})
	}
}

// errNoService is a configuration that listens nowhere.
var errNoService = errors.New("no service is enabled: give sftpd.bindings, ftpd.bindings, webdavd.bindings or httpd.bindings an element with a port")

// later notes how to end what has just started.
func (n *node) later(undo func(ctx context.Context) error) { n.undo = append(n.undo, undo) }

// stop ends the server: no new connections, transfers may finish within grace, then everything is closed in
// the reverse order of the start. Another signal that asks to stop ends the grace time.
func (n *node) stop(grace time.Duration, sig <-chan os.Signal) error {
	n.stopping.Store(true) // what telemetry says of our health; it is there until the transfers have ended
	if n.ssh != nil {
		// Not the caller's context: it may have ended, and that is why we stop.
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		over := make(chan struct{})
		var watch sync.WaitGroup
		watch.Go(func() {
			for {
				select {
				case <-over:
					return
				case x := <-sig:
					if wishOf(x) == stop {
						cancel()
					}
				}
			}
		})
		var ftpErr, davErr, httpErr error
		var both sync.WaitGroup
		if n.ftp != nil {
			both.Go(func() { ftpErr = n.ftp.Shutdown(ctx) })
		}
		if n.dav != nil {
			both.Go(func() { davErr = n.dav.Shutdown(ctx) })
		}
		if n.http != nil {
			both.Go(func() { httpErr = n.http.Shutdown(ctx) })
		}
		err := n.ssh.Shutdown(ctx)
		both.Wait()
		if err == nil {
			err = errors.Join(ftpErr, davErr, httpErr)
		}
		close(over)
		watch.Wait()
		cancel()
		if err != nil && grace > 0 && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			n.log.Warn("connections did not end in order", "sender", "service", "error", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	n.telemetry.stop(ctx)
	n.serving.Wait()
	var errs []error
	for i := len(n.undo) - 1; i >= 0; i-- {
		if err := n.undo[i](ctx); err != nil {
			n.log.Error("stopping", "sender", "service", "error", err)
			errs = append(errs, err)
		}
	}
	n.undo = nil
	return errors.Join(errs...)
}

// addresses are those that are listened on.
func (n *node) addresses() []string {
	var out []string
	for _, l := range n.listeners {
		out = append(out, l.Addr().String())
	}
	for _, d := range n.davDoors {
		out = append(out, d.Addr().String())
	}
	for _, d := range n.ftpDoors {
		out = append(out, d.Addr().String())
	}
	for _, d := range n.httpDoors {
		out = append(out, d.Addr().String())
	}
	if n.telemetry != nil {
		out = append(out, n.telemetry.door.Addr().String())
	}
	return out
}

// reload reads the configuration again and gives the parts what they can take while they serve. A file that
// is not valid leaves everything as it is.
func (n *node) reload(fs *pflag.FlagSet) {
	log := n.log.With("sender", "service")
	old := n.f.flags
	fresh, err := n.app.load(&n.f.flags, fs)
	if err != nil {
		n.f.flags = old
		for _, e := range flatten(err) {
			log.Error("the configuration was not reloaded, the old one stays", "error", e)
		}
		return
	}
	for _, w := range fresh.report.Warnings {
		log.Warn(w)
	}
	level, err := logs.ParseLevel(n.f.log.Level)
	if err != nil {
		n.f.flags = old
		log.Error("the configuration was not reloaded, the old one stays", "error", err)
		return
	}
	if err := n.apply(fresh); err != nil {
		for _, e := range flatten(err) {
			log.Error("not everything was reloaded, what is named here stays as it was", "error", e)
		}
	}
	n.log.SetLevel(level)
	for _, key := range needRestart(n.s.report, fresh.report) {
		log.Warn("a changed value needs a restart", "key", key)
	}
	log.Info("reloaded", "config_file", fresh.report.File)
}
