package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/gantryhq/gantry/dav"
	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/ftp"
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
	if len(passed) > 0 {
		// PRIV-1: a low port needs no privilege of ours.
		if err := matchSockets(bindings, n.s.FTPD.Bindings, n.s.WebDAVD.Bindings, passed); err != nil {
			for _, s := range passed {
				s.Close()
			}
			return err
		}
	}
	for _, s := range passed {
		if i := slices.IndexFunc(bindings, func(b ssh.Binding) bool { return isSocketAt(b.Address, b.Port, s.Addr()) }); i >= 0 {
			n.take(n.door(s.Listener, bindings[i].ApplyProxyConfig))
			continue
		}
		if i := slices.IndexFunc(n.s.FTPD.Bindings, func(b ftp.Binding) bool { return isSocketAt(b.Address, b.Port, s.Addr()) }); i >= 0 {
			n.takeFTP(s.Listener, i)
			continue
		}
		i := slices.IndexFunc(n.s.WebDAVD.Bindings, func(b dav.Binding) bool { return isSocketAt(b.Address, b.Port, s.Addr()) })
		n.takeDAV(s.Listener, i)
	}
	if err := n.listenFTP(ctx); err != nil {
		return err
	}
	if err := n.listenDAV(ctx); err != nil {
		return err
	}
	if err := n.listenHTTP(ctx); err != nil {
		return err
	}
	if err := n.listenTelemetry(ctx); err != nil {
		return err
	}
	for i, b := range bindings {
		if len(passed) == 0 {
			l, err := b.Listen(ctx)
			if err != nil {
				return fmt.Errorf("sftpd.bindings[%d]: %w", i, err)
			}
			n.take(n.door(l, b.ApplyProxyConfig))
		}
	}
	if len(n.listeners)+len(n.ftpDoors)+len(n.davDoors)+len(n.httpDoors) == 0 {
		return errNoService
	}
	return nil
}

// ftpDoor is a listener of an FTP binding.
type ftpDoor struct {
	*engine.Listener
	index int
}

// listenFTP takes the ports of the FTP bindings that no socket was passed for.
func (n *node) listenFTP(ctx context.Context) error {
	for i, b := range n.s.FTPD.Bindings {
		if !b.IsValid() || slices.ContainsFunc(n.ftpDoors, func(d ftpDoor) bool { return d.index == i }) {
			continue
		}
		l, err := b.Listen(ctx)
		if err != nil {
			return fmt.Errorf("ftpd.bindings[%d]: %w", i, err)
		}
		n.takeFTP(l, i)
	}
	return nil
}

// takeFTP makes l the listener of an FTP binding. It is closed with the node.
func (n *node) takeFTP(l net.Listener, index int) {
	d := n.door(l, n.s.FTPD.Bindings[index].ApplyProxyConfig)
	n.ftpDoors = append(n.ftpDoors, ftpDoor{d, index})
	n.later(func(context.Context) error {
		d.Close() // may be closed already
		return nil
	})
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

// matchSockets refuses sockets that are not those of the bindings: a server that listens elsewhere than its
// configuration says would surprise its operator. Every binding of SFTP must have one, those of FTP and
// WebDAV may.
func matchSockets(bindings []ssh.Binding, ftps []ftp.Binding, davs []dav.Binding, passed []systemd.Socket) error {
	var errs []error
	used := make([]bool, len(passed))
	find := func(address string, port int) bool {
		for i, s := range passed {
			if !used[i] && isSocketAt(address, port, s.Addr()) {
				used[i] = true
				return true
			}
		}
		return false
	}
	for _, b := range bindings {
		if !find(b.Address, b.Port) {
			errs = append(errs, fmt.Errorf("sftpd.bindings has %s, for which the socket unit passes no socket: add ListenStream= for it to gantry.socket or remove the binding",
				net.JoinHostPort(b.Address, strconv.Itoa(b.Port))))
		}
	}
	for _, b := range ftps {
		if b.IsValid() {
			find(b.Address, b.Port)
		}
	}
	for _, b := range davs {
		if b.IsValid() {
			find(b.Address, b.Port)
		}
	}
	for i, s := range passed {
		if !used[i] {
			errs = append(errs, fmt.Errorf("the socket unit passes %s (%q), for which none of sftpd.bindings, ftpd.bindings and webdavd.bindings has an element: add it or remove its ListenStream= from gantry.socket", s.Addr(), s.Name))
		}
	}
	return errors.Join(errs...)
}

// isSocketAt reports whether a socket listens where a binding says.
func isSocketAt(address string, port int, addr net.Addr) bool {
	a, ok := addr.(*net.TCPAddr)
	if !ok || a.Port != port || port == 0 {
		return false
	}
	got := a.AddrPort().Addr().Unmap()
	if address == "" {
		return got.IsUnspecified()
	}
	want, err := netip.ParseAddr(address)
	return err == nil && want.Unmap() == got
}
