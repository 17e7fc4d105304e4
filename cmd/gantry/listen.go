package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/systemd"
	"github.com/gantryhq/gantry/ssh"
)

// listen takes the ports, or the sockets that the service manager passed in their place.
func (n *node) listen(ctx context.Context) error {
	passed, err := n.manager.Listeners()
	if err != nil {
		return err
	}
	var bindings []ssh.Binding
	for _, b := range n.s.SFTPD.Bindings {
		if b.IsValid() {
			bindings = append(bindings, b)
		}
	}
	for i, b := range bindings {
		var l net.Listener
		if len(passed) == 0 {
			if l, err = b.Listen(ctx); err != nil {
				return fmt.Errorf("sftpd.bindings[%d]: %w", i, err)
			}
			n.take(n.door(l, b.ApplyProxyConfig))
		}
	}
	if len(passed) > 0 {
		// PRIV-1: a low port needs no privilege of ours.
		if err := matchSockets(bindings, passed); err != nil {
			for _, s := range passed {
				s.Close()
			}
			return err
		}
		for _, s := range passed {
			i := slices.IndexFunc(bindings, func(b ssh.Binding) bool { return isSocketOf(b, s.Addr()) })
			n.take(n.door(s.Listener, bindings[i].ApplyProxyConfig))
		}
	}
	if len(n.listeners)+len(n.ftpDoors) == 0 {
		return errNoService
	}
	return nil
}

// ftpDoor is a listener of an FTP binding.
type ftpDoor struct {
	*engine.Listener
	index int
}

// listenFTP takes the ports of the FTP server, always by itself: sockets that are passed in are SFTP's.
func (n *node) listenFTP(ctx context.Context) error {
	for i, b := range n.s.FTPD.Bindings {
		if !b.IsValid() {
			continue
		}
		l, err := b.Listen(ctx)
		if err != nil {
			return fmt.Errorf("ftpd.bindings[%d]: %w", i, err)
		}
		d := n.door(l, b.ApplyProxyConfig)
		n.ftpDoors = append(n.ftpDoors, ftpDoor{d, i})
		n.later(func(context.Context) error {
			d.Close() // may be closed already
			return nil
		})
	}
	return nil
}

// door is the engine's face of a listener.
func (n *node) door(l net.Listener, proxy bool) *engine.Listener {
	p := &n.proxy
	if !proxy {
		p = nil
	}
	return engine.NewListener(l, p, n.log.With("sender", "service"))
}

// take makes l one of the node's listeners. It is closed with the node.
func (n *node) take(l net.Listener) {
	n.listeners = append(n.listeners, l)
	n.later(func(context.Context) error {
		l.Close() // may be closed already
		return nil
	})
}

// matchSockets refuses sockets that are not those of the bindings, one for one: a server that listens
// elsewhere than its configuration says would surprise its operator.
func matchSockets(bindings []ssh.Binding, passed []systemd.Socket) error {
	var errs []error
	used := make([]bool, len(passed))
bindings:
	for _, b := range bindings {
		for i, s := range passed {
			if !used[i] && isSocketOf(b, s.Addr()) {
				used[i] = true
				continue bindings
			}
		}
		errs = append(errs, fmt.Errorf("sftpd.bindings has %s, for which the socket unit passes no socket: add ListenStream= for it to gantry.socket or remove the binding",
			net.JoinHostPort(b.Address, strconv.Itoa(b.Port))))
	}
	for i, s := range passed {
		if !used[i] {
			errs = append(errs, fmt.Errorf("the socket unit passes %s (%q), for which sftpd.bindings has no element: add it or remove its ListenStream= from gantry.socket", s.Addr(), s.Name))
		}
	}
	return errors.Join(errs...)
}

// isSocketOf reports whether a socket listens where b says.
func isSocketOf(b ssh.Binding, addr net.Addr) bool {
	a, ok := addr.(*net.TCPAddr)
	if !ok || a.Port != b.Port {
		return false
	}
	got := a.AddrPort().Addr().Unmap()
	if b.Address == "" {
		return got.IsUnspecified()
	}
	want, err := netip.ParseAddr(b.Address)
	return err == nil && want.Unmap() == got
}
