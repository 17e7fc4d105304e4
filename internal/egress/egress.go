// Package egress dials what records name: the endpoints of storages (SSRF-1).
//
// Who may edit a record must not reach what only this machine can: the address is judged after the name was
// resolved, on the socket that is about to connect, so that a name that changes its address in between (DNS
// rebinding) gains nothing. This machine, private networks, link-local addresses and the metadata services of
// clouds are refused unless the configuration allows them.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// ErrRefused says that the policy refuses an address.
var ErrRefused = errors.New("the address is not allowed")

// dialWait bounds one dial, the name's resolution included.
const dialWait = 15 * time.Second

// Policy says which addresses may be dialled. The zero Policy and nil allow the public ones. Immutable.
type Policy struct {
	networks          []netip.Prefix
	loopback, private bool
	any               bool
}

// New makes a policy that allows the public addresses and what list names: networks (192.0.2.0/24), addresses,
// "loopback", "private" (the networks that are routed within an organisation) or "any".
func New(list []string) (*Policy, error) {
	p := &Policy{}
	for i, text := range list {
		switch text = strings.TrimSpace(text); text {
		case "loopback":
			p.loopback = true
		case "private":
			p.private = true
		case "any":
			p.any = true
		default:
			n, err := netip.ParsePrefix(text)
			if err != nil {
				a, aerr := netip.ParseAddr(text)
				if aerr != nil {
					return nil, fmt.Errorf("[%d]: %q is not a network such as 192.0.2.0/24, an address, loopback, private or any", i, text)
				}
				n = netip.PrefixFrom(a, a.BitLen())
			}
			p.networks = append(p.networks, n.Masked())
		}
	}
	return p, nil
}

// Special networks that are reachable from some machines and never meant by a public endpoint. Read only.
var (
	special = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("100::/64"),
	}
	// metadata are services of clouds that stand in private networks.
	metadata = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254")}
	nat64    = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour,
	teredo = netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32")
)

// Allows reports whether a may be dialled.
func (p *Policy) Allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return false
	}
	if p != nil {
		if p.any {
			return true
		}
		for _, n := range p.networks {
			if n.Contains(a) {
				return true
			}
		}
	}
	b := a.As16()
	switch {
	case nat64.Contains(a): // the address that is meant stands inside
		return p.Allows(netip.AddrFrom4([4]byte(b[12:])))
	case sixToFour.Contains(a):
		return p.Allows(netip.AddrFrom4([4]byte(b[2:6])))
	case teredo.Contains(a):
		return false
	case a.IsLoopback():
		return p != nil && p.loopback
	case a.IsPrivate():
		for _, m := range metadata {
			if a == m {
				return false
			}
		}
		return p != nil && p.private
	case !a.IsGlobalUnicast():
		return false
	}
	for _, n := range special {
		if n.Contains(a) {
			return false
		}
	}
	return true
}

// Any reports whether every address may be dialled.
func (p *Policy) Any() bool { return p != nil && p.any }

// DialContext dials as net.Dialer's does, in at most 15 seconds. A refused address is ErrRefused.
func (p *Policy) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialWait, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(resolved)
		if err != nil || !p.Allows(a.Addr()) {
			return fmt.Errorf("%w: %s leads to this machine, a private or a special network; if that is meant, add it to common.allowed_endpoints", ErrRefused, address)
		}
		return nil
	}
	if !strings.HasPrefix(network, "tcp") && !p.Any() {
		return nil, fmt.Errorf("%w: network %q", ErrRefused, network)
	}
	return d.DialContext(ctx, network, address)
}
