package ftp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// parsePort reads the argument of PORT: h1,h2,h3,h4,p1,p2 (RFC 959 4.1.2).
func parsePort(arg string) (netip.AddrPort, error) {
	part := strings.Split(strings.TrimSpace(arg), ",")
	if len(part) != 6 {
		return netip.AddrPort{}, errSyntax
	}
	var b [6]byte
	for i, p := range part {
		n, err := decimal(strings.TrimSpace(p), 3, 255)
		if err != nil {
			return netip.AddrPort{}, errSyntax
		}
		b[i] = byte(n)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(b[4])<<8|uint16(b[5])), nil
}

// parseEPRT reads |1|132.235.1.2|6275| with any delimiter (RFC 2428 2).
func parseEPRT(arg string) (netip.AddrPort, error) {
	if len(arg) < 2 || arg[0] < 33 || arg[0] > 126 || arg[0] >= '0' && arg[0] <= '9' {
		return netip.AddrPort{}, errSyntax
	}
	part := strings.Split(arg, arg[:1])
	if len(part) != 5 || part[0] != "" || part[4] != "" {
		return netip.AddrPort{}, errSyntax
	}
	if part[1] != "1" && part[1] != "2" {
		return netip.AddrPort{}, fail(522, "Network protocol not supported, use (1,2)")
	}
	a, err := netip.ParseAddr(part[2])
	if err != nil || a.Zone() != "" || a.Is4() != (part[1] == "1") {
		return netip.AddrPort{}, errSyntax
	}
	port, err := decimal(part[3], 5, 65535)
	if err != nil || port == 0 {
		return netip.AddrPort{}, errSyntax
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(port)), nil
}

// epsv is what the argument of EPSV asks for: a family, or that only EPSV comes from now on.
type epsv struct {
	v4, v6, all bool
}

func parseEPSV(arg string) (epsv, error) {
	switch strings.ToUpper(strings.TrimSpace(arg)) {
	case "":
		return epsv{}, nil
	case "1":
		return epsv{v4: true}, nil
	case "2":
		return epsv{v6: true}, nil
	case "ALL":
		return epsv{all: true}, nil
	}
	return epsv{}, fail(522, "Network protocol not supported, use (1,2)")
}

// pasvText is the part of 227 that clients look for.
func pasvText(a netip.Addr, port uint16) string {
	b := a.As4()
	return fmt.Sprintf("(%d,%d,%d,%d,%d,%d)", b[0], b[1], b[2], b[3], port>>8, port&255)
}

// decimal reads a number of digits alone, at most so many and so large.
func decimal(s string, digits int, most int64) (int64, error) {
	if s == "" || len(s) > digits {
		return 0, errSyntax
	}
	for _, r := range s {
		if r < '0' || r > '9' {
			return 0, errSyntax
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > most {
		return 0, errSyntax
	}
	return n, nil
}
