package account

import (
	"context"
	"fmt"
	"net/netip"
)

// IPListEntry is one network of the allow list (type 1), the defender's list (2) or the rate limiters'
// safe list (3).
type IPListEntry struct {
	IPOrNet     string `json:"ipornet"`
	Description string `json:"description,omitempty"`
	Type        int    `json:"type"`
	Mode        int    `json:"mode"`      // 1 allow, 2 deny
	Protocols   int    `json:"protocols"` // bits: 1 SSH, 2 FTP, 4 DAV, 8 HTTP; 0 all
	CreatedAt   int64  `json:"created_at"`
	UpdatedAt   int64  `json:"updated_at"`

	// Some dumps carry these; they follow from IPOrNet.
	First  string `json:"first,omitempty"`
	Last   string `json:"last,omitempty"`
	IPType int    `json:"ip_type,omitempty"`
}

// Kind implements Document.
func (e *IPListEntry) Kind() Kind { return KindIPList }

// Key implements Document: one network may stand in several lists.
func (e *IPListEntry) Key() string { return fmt.Sprintf("%d/%s", e.Type, e.IPOrNet) }

// References implements Document.
func (e *IPListEntry) References() []Ref { return nil }

// Normalize implements Document. Host bits stay as they were written.
func (e *IPListEntry) Normalize(_ context.Context, _ Rules) error {
	c := &checker{kind: string(KindIPList), name: e.IPOrNet}
	if p, err := netip.ParsePrefix(e.IPOrNet); err == nil {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		e.IPOrNet = p.String()
	} else if a, err := netip.ParseAddr(e.IPOrNet); err == nil && a.Zone() == "" {
		a = a.Unmap()
		e.IPOrNet = netip.PrefixFrom(a, a.BitLen()).String()
	} else {
		c.bad("ipornet", "cidr", "%q is neither an address nor a network", e.IPOrNet)
	}
	if e.Type < 1 || e.Type > 3 {
		c.bad("type", "range", "must be 1 allow list, 2 defender or 3 rate limiters' safe list")
	}
	if e.Mode != 1 && !(e.Mode == 2 && e.Type == 2) {
		c.bad("mode", "range", "must be 1 (allow), or 2 (deny) in the defender's list")
	}
	if e.Protocols < 0 || e.Protocols > 15 {
		c.bad("protocols", "range", "must be a sum of 1, 2, 4 and 8")
	}
	if e.Protocols == 15 {
		e.Protocols = 0
	}
	e.First, e.Last, e.IPType = "", "", 0
	return c.result()
}
