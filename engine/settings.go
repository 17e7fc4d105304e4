package engine

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Listen opens a port, or the UNIX socket that an absolute path as the address names: its folder is made if it is
// missing, and the socket of a server that is no more is replaced.
func Listen(ctx context.Context, address string, port int) (net.Listener, error) {
	var lc net.ListenConfig
	if !filepath.IsAbs(address) {
		return lc.Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	}
	if err := os.MkdirAll(filepath.Dir(address), 0o770); err != nil {
		return nil, err
	}
	if i, err := os.Lstat(address); err == nil && i.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(address); err != nil {
			return nil, err
		}
	}
	l, err := lc.Listen(ctx, "unix", address)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(address, 0o770); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// CipherSuites finds the suites of TLS 1.2 by name; insecure ones too, for whoever names them.
func CipherSuites(names []string) ([]uint16, error) {
	all := append(tls.CipherSuites(), tls.InsecureCipherSuites()...)
	var out []uint16
	for _, n := range names {
		i := slices.IndexFunc(all, func(s *tls.CipherSuite) bool { return s.Name == n })
		if i < 0 {
			return nil, fmt.Errorf("unknown cipher suite %q", n)
		}
		out = append(out, all[i].ID)
	}
	return out, nil
}

// Networks reads networks and addresses.
func Networks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			a = a.Unmap().WithZone("")
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
