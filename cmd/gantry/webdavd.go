package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/gantryhq/gantry/dav"
	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/guard"
)

// davDoor is a listener of a WebDAV binding.
type davDoor struct {
	*engine.Listener
	index int
}

// listenDAV takes the ports of the WebDAV bindings that no socket was passed for.
func (n *node) listenDAV(ctx context.Context) error {
	for i, b := range n.s.WebDAVD.Bindings {
		if !b.IsValid() || slices.ContainsFunc(n.davDoors, func(d davDoor) bool { return d.index == i }) {
			continue
		}
		l, err := b.Listen(ctx)
		if err != nil {
			return fmt.Errorf("webdavd.bindings[%d]: %w", i, err)
		}
		n.takeDAV(l, i)
	}
	return nil
}

// takeDAV makes l the listener of a WebDAV binding. It is closed with the node.
func (n *node) takeDAV(l net.Listener, index int) {
	d := n.door(l, n.s.WebDAVD.Bindings[index].ProxyMode == 1)
	n.davDoors = append(n.davDoors, davDoor{d, index})
	n.later(func(context.Context) error {
		d.Close() // may be closed already
		return nil
	})
}

// buildDAV makes the WebDAV server.
func (n *node) buildDAV() (err error) {
	for _, d := range n.davDoors {
		isProxy, check := n.s.WebDAVD.Bindings[d.index].Proxies(), n.check(account.ProtocolDAV)
		d.Check(func(addr netip.Addr) error {
			if isProxy(addr) {
				return nil // AUTH-9: its clients are asked about
			}
			return check(addr)
		})
	}
	g := davGate{gate{n.guard, n.hooks, account.ProtocolDAV}}
	n.dav, err = dav.New(n.s.WebDAVD, n.engine, n.sessions, g, n.log.With("sender", "webdavd"))
	return err
}

// davGate is the gate for connections and requests of WebDAV.
type davGate struct{ gate }

// Admit implements dav.Gate.
func (g davGate) Admit(ctx context.Context, addr netip.Addr) (release func(), err error) {
	release, err = g.gate.Admit(ctx, addr)
	return release, davRefusal(err)
}

// Take implements dav.Gate.
func (g davGate) Take(ctx context.Context, addr netip.Addr) error {
	return davRefusal(g.Guard.Take(ctx, addr, guard.ProtocolOf(g.protocol)))
}

// davRefusal says to WebDAV why the guard refuses.
func davRefusal(err error) error {
	if r, ok := errors.AsType[*guard.RateError](err); ok {
		return &dav.TooFast{After: r.RetryAfter, Err: err}
	}
	if errors.Is(err, guard.ErrTooMany) {
		return fmt.Errorf("%w: %w", dav.ErrBusy, err)
	}
	return err
}

// listenPortableDAV takes the WebDAV port that was asked for.
func (n *node) listenPortableDAV(ctx context.Context, f *portableFlags) error {
	if f.davPort < 0 {
		return nil
	}
	c := &n.s.WebDAVD
	for name, file := range map[*string]string{&c.CertificateFile: f.davCert, &c.CertificateKeyFile: f.davKey} {
		if file == "" {
			continue
		}
		path, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		*name = path
	}
	for try := 0; ; try++ {
		port := f.davPort
		if port == 0 {
			r, err := rand.Int(rand.Reader, big.NewInt(64152-49152))
			if err != nil {
				return err
			}
			port = 49152 + int(r.Int64())
		}
		c.Bindings = []dav.Binding{{Address: f.address, Port: port, EnableHTTPS: c.CertificateFile != ""}}
		err := n.listenDAV(ctx)
		if err == nil {
			return nil
		}
		if f.davPort != 0 || try == 20 || !isInUse(err) {
			return fmt.Errorf("port %d: %w", port, errors.Unwrap(err))
		}
	}
}
