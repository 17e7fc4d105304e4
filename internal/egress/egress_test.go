package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
)

// TestAddresses is the table of SSRF-1.
func TestAddresses(t *testing.T) {
	policy := func(list ...string) *Policy {
		p, err := New(list)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	public, private, loopback, any := policy(), policy("private"), policy("loopback"), policy("any")
	named := policy("169.254.169.254", "10.1.0.0/16")
	for _, c := range []struct {
		addr                                    string
		public, private, loopback, named, never bool
	}{
		{addr: "93.184.216.34", public: true, private: true, loopback: true, named: true},
		{addr: "2606:2800:220:1::1", public: true, private: true, loopback: true, named: true},
		{addr: "127.0.0.1", loopback: true},
		{addr: "127.8.8.8", loopback: true},
		{addr: "::1", loopback: true},
		{addr: "::ffff:127.0.0.1", loopback: true},
		{addr: "10.1.2.3", private: true, named: true},
		{addr: "::ffff:10.1.2.3", private: true, named: true},
		{addr: "64:ff9b::a01:203", private: true, named: true},
		{addr: "2002:a01:203::1", private: true, named: true},
		{addr: "10.2.2.3", private: true},
		{addr: "192.168.1.1", private: true},
		{addr: "172.31.0.1", private: true},
		{addr: "fd12::1", private: true},
		{addr: "169.254.169.254", named: true},
		{addr: "64:ff9b::a9fe:a9fe", named: true},
		{addr: "fd00:ec2::254"},
		{addr: "fe80::1"},
		{addr: "fe80::1%eth0"},
		{addr: "0.0.0.0"},
		{addr: "0.1.2.3"},
		{addr: "::"},
		{addr: "100.100.100.200"},
		{addr: "224.0.0.1"},
		{addr: "ff02::1"},
		{addr: "255.255.255.255"},
		{addr: "240.0.0.1"},
		{addr: "2001::1"},
	} {
		a := netip.MustParseAddr(c.addr)
		for _, w := range []struct {
			name string
			p    *Policy
			want bool
		}{{"none", nil, c.public}, {"public", public, c.public}, {"private", private, c.private}, {"loopback", loopback, c.loopback}, {"named", named, c.named}, {"any", any, true}} {
			if got := w.p.Allows(a); got != w.want {
				t.Errorf("policy %s, address %s: %t, want %t", w.name, c.addr, got, w.want)
			}
		}
	}
	for _, bad := range []string{"", "10.0.0.0/33", "host.example"} {
		if _, err := New([]string{bad}); err == nil {
			t.Errorf("New(%q) passed", bad)
		}
	}
}

// TestTheResolvedAddressIsJudged: a name is judged by where it leads at the dial.
func TestTheResolvedAddressIsJudged(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	var p Policy
	for _, host := range []string{"127.0.0.1", "localhost"} {
		if c, err := p.DialContext(context.Background(), "tcp", net.JoinHostPort(host, port)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, %v", host, c, err)
		}
	}
	if _, err := p.DialContext(context.Background(), "unix", "/nowhere"); !errors.Is(err, ErrRefused) {
		t.Errorf("a Unix socket: %v", err)
	}
	open, _ := New([]string{"loopback"})
	c, err := open.DialContext(context.Background(), "tcp", net.JoinHostPort("localhost", port))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
