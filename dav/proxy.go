package dav

import (
	"net/netip"
	"strings"
)

// client finds who sends a request, as trusted proxies tell it: the address, and the scheme and host that the client uses.
// Nobody else's headers are read (AUTH-6). An address that cannot be read leaves the proxy's own.
func (c *conn) applyProxy(r *request) {
	if c.behind == nil {
		return
	}
	name := c.b.ClientIPProxyHeader
	if name == "" {
		name = "X-Forwarded-For"
	}
	if a, ok := forwardedFor(r.header(name), c.b.ClientIPHeaderDepth); ok {
		r.remote = netip.AddrPortFrom(a, 0)
	}
	if s := lastOf(r.header("X-Forwarded-Proto")); s == "http" || s == "https" {
		r.scheme = s
	}
	if h := lastOf(r.header("X-Forwarded-Host")); isHost([]byte(h)) {
		r.host = h
	}
}

// forwardedFor finds the address in a list of them, depth steps from the right; -1 is the leftmost.
func forwardedFor(list string, depth int) (netip.Addr, bool) {
	all := strings.Split(list, ",")
	i := len(all) - 1 - depth
	if depth < 0 {
		i = 0
	}
	if i < 0 {
		return netip.Addr{}, false
	}
	s := strings.TrimSpace(all[i])
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// lastOf is the last of a list: what the proxy next to us says.
func lastOf(list string) string {
	if i := strings.LastIndexByte(list, ','); i >= 0 {
		list = list[i+1:]
	}
	return strings.ToLower(strings.TrimSpace(list))
}
