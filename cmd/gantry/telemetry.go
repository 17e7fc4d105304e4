package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/pprof"
)

// telemetry is the telemetry listener at work.
type telemetry struct {
	door   *engine.Listener
	server *pprof.Server // nil before serveTelemetry
	certs  *engine.Certs // nil: without TLS
	token  string        // the file with the token for this machine's verbs; "" without one
}

// tokenFile holds, in the configuration directory and while the server runs, what lets `gantry profile` in.
const tokenFile = "telemetry.token"

// listenTelemetry takes the telemetry port, or socket, where one is configured.
func (n *node) listenTelemetry(ctx context.Context) error {
	c := &n.s.Telemetry
	if !c.IsOn() || n.portable {
		return nil
	}
	l, err := engine.Listen(ctx, c.BindAddress, c.BindPort)
	if isInUse(err) {
		return fmt.Errorf("telemetry: %w: set bind_port to another one, or to 0 for none", err)
	}
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	n.telemetry = &telemetry{door: engine.NewListener(l, nil, n.log.With("sender", "telemetry"))}
	n.later(func(context.Context) error {
		n.telemetry.door.Close() // may be closed already
		return nil
	})
	return nil
}

// serveTelemetry serves it. It is the last part to begin and the first to end once clients have gone.
func (n *node) serveTelemetry() error {
	t := n.telemetry
	if t == nil {
		return nil
	}
	c := n.s.Telemetry
	log := n.log.With("sender", "telemetry")
	n.readMetrics()
	deps := pprof.Deps{Metrics: n.metrics, Checks: n.checks(), Passwords: n.hasher, Log: log, Refused: n.telemetryRefused}
	if c.IsTLS() {
		suites, err := engine.CipherSuites(c.TLSCipherSuites)
		if err != nil {
			return fmt.Errorf("telemetry.tls_cipher_suites: %w", err)
		}
		version := uint16(tls.VersionTLS12)
		if c.MinTLSVersion != 0 {
			version = tls.VersionTLS10 + uint16(c.MinTLSVersion-10)
		}
		t.certs, err = engine.NewCerts(engine.CertConfig{
			Cert: n.s.path(c.CertificateFile), Key: n.s.path(c.CertificateKeyFile), MinVersion: version, Suites: suites, Protocols: []string{"http/1.1"},
		})
		if err != nil {
			return fmt.Errorf("telemetry: certificate: %w", err)
		}
		deps.TLS = t.certs.Config()
	}
	if c.AuthUserFile != "" {
		deps.Token = rand.Text()
		file := filepath.Join(n.s.dir, tokenFile)
		if err := writeSecret(file, deps.Token); err != nil {
			log.Warn("gantry profile cannot log in", "error", err)
		} else {
			t.token = file
		}
	}
	var err error
	if t.server, err = pprof.New(c, n.s.dir, deps); err != nil {
		return err
	}
	// Who is banned, or not in the allow list, reaches nothing here either. This machine always does: what looks after
	// the server must.
	knock := n.check(account.ProtocolHTTP)
	t.door.Check(func(addr netip.Addr) error {
		if !addr.IsValid() || addr.IsLoopback() {
			return nil
		}
		return knock(addr)
	})
	n.serving.Go(func() {
		if err := t.server.Serve(t.door); err != nil {
			n.failed <- err
		}
	})
	return nil
}

// stop ends it, once transfers have ended.
func (t *telemetry) stop(ctx context.Context) {
	if t == nil || t.server == nil {
		return
	}
	t.server.Shutdown(ctx)
	if t.token != "" {
		os.Remove(t.token)
	}
}

// reload reads the certificate again.
func (t *telemetry) reload() error {
	if t == nil || t.certs == nil {
		return nil
	}
	if err := t.certs.Reload(); err != nil {
		return fmt.Errorf("telemetry: certificate: %w", err)
	}
	return nil
}

// telemetryRefused records a failed login there as that of an administrator (AUTH-9).
func (n *node) telemetryRefused(ctx context.Context, addr netip.Addr, username string, err error) {
	n.sessions.Refused(ctx, addr, account.ProtocolHTTP, username, account.MethodPassword, err)
}

// writeSecret writes a file for its owner alone, whatever was there.
func writeSecret(name, text string) error {
	os.Remove(name)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// loopWait is how long an event loop may take to answer.
const loopWait = 2 * time.Second

// minFree is how much room a disk must have, in bytes: the database and the log need it.
const minFree = 64 << 20

// checks are what must be well.
func (n *node) checks() []pprof.Check {
	return []pprof.Check{
		{Name: "provider", Run: func(ctx context.Context) error { return n.store.Ping(ctx) }},
		{Name: "listeners", Run: func(context.Context) error { return n.listenersErr() }},
		{Name: "engine", Run: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, loopWait)
			defer cancel()
			for i, lag := range n.engine.Lag(ctx) {
				if lag >= loopWait {
					return fmt.Errorf("event loop %d does not answer", i)
				}
			}
			return nil
		}},
		{Name: "disk", Run: func(context.Context) error {
			var errs []error
			for _, dir := range n.disks() {
				free, err := diskFree(dir)
				switch {
				case err != nil:
					errs = append(errs, err)
				case free < minFree:
					errs = append(errs, fmt.Errorf("%s has %d MiB left", dir, free>>20))
				}
			}
			return errors.Join(errs...)
		}},
		{Name: "running", Run: func(context.Context) error {
			if n.stopping.Load() {
				return errors.New("the server is stopping")
			}
			return nil
		}},
	}
}

// listenersErr says which listeners do not accept.
func (n *node) listenersErr() error {
	var errs []error
	look := func(l *engine.Listener) {
		if err := l.Err(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.Addr(), err))
		}
	}
	for _, l := range n.listeners {
		if d, ok := l.(*engine.Listener); ok {
			look(d)
		}
	}
	for _, d := range n.ftpDoors {
		look(d.Listener)
	}
	for _, d := range n.davDoors {
		look(d.Listener)
	}
	for _, d := range n.httpDoors {
		look(d.Listener)
	}
	return errors.Join(errs...)
}

// disks are the directories that must have room: where the database and the log are, and where new users' files go.
func (n *node) disks() []string {
	out := []string{n.s.dir}
	if p := n.f.log.Path; p != "" {
		out = append(out, filepath.Dir(n.s.path(p)))
	}
	if b := n.s.DataProvider.UsersBaseDir; b != "" {
		if _, err := os.Stat(b); err == nil { // else the first login makes it
			out = append(out, b)
		}
	}
	return out
}
