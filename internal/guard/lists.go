package guard

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// Entry is one line of a list.
type Entry struct {
	Net       netip.Prefix // its host bits do not matter
	Deny      bool
	Protocols Protocol // 0 means all
}

// Lists are those of the store (data-model.md 9). The zero value of each is empty.
type Lists struct {
	Allow    List // who may connect at all
	Defender List // who is never banned, and who is always refused
	RateSafe List // whom rate limiters pass over
}

// List finds the most specific network of an address. It is made for a million entries: 5 bytes for each of IPv4, 17
// of IPv6. Immutable.
type List struct {
	v4, v6 []level // longest prefix first
	size   int
}

// level holds the networks of one length in order.
type level struct {
	bits  int
	hi    []uint64 // the first 64 bits of IPv6
	lo    []uint64 // the last; nil when the prefix ends before
	small []uint32 // IPv4
	rule  []uint8  // deny << 4 | protocols
}

const denyBit = 1 << 4

// NewList makes a list. Entries of networks that are not valid are left out.
func NewList(entries []Entry) List {
	type row struct {
		bits   int
		v4     bool
		hi, lo uint64
		rule   uint8
	}
	rows := make([]row, 0, len(entries))
	for _, e := range entries {
		n := e.Net
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		if !n.IsValid() {
			continue
		}
		n = n.Masked()
		r := row{bits: n.Bits(), v4: n.Addr().Is4(), rule: uint8(e.Protocols & AllProtocols)}
		if r.rule == 0 {
			r.rule = uint8(AllProtocols)
		}
		if e.Deny {
			r.rule |= denyBit
		}
		r.hi, r.lo = halves(n.Addr())
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.bits, a.bits), cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo), cmp.Compare(b.rule, a.rule))
	})
	l := List{size: len(rows)}
	for _, r := range rows {
		levels := &l.v6
		if r.v4 {
			levels = &l.v4
		}
		if n := len(*levels); n == 0 || (*levels)[n-1].bits != r.bits {
			*levels = append(*levels, level{bits: r.bits})
		}
		v := &(*levels)[len(*levels)-1]
		switch {
		case r.v4:
			v.small = append(v.small, uint32(r.lo))
		default:
			v.hi = append(v.hi, r.hi)
			if r.bits > 64 {
				v.lo = append(v.lo, r.lo)
			}
		}
		v.rule = append(v.rule, r.rule)
	}
	for _, levels := range [][]level{l.v4, l.v6} {
		for i := range levels { // what append reserved is not needed
			v := &levels[i]
			v.small, v.hi, v.lo, v.rule = slices.Clip(v.small), slices.Clip(v.hi), slices.Clip(v.lo), slices.Clip(v.rule)
		}
	}
	return l
}

// halves gives an address as two numbers; an IPv4 address is the second.
func halves(a netip.Addr) (hi, lo uint64) {
	if a.Is4() {
		b := a.As4()
		return 0, uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// Len is the number of entries.
func (l *List) Len() int { return l.size }

// Match finds the most specific network of addr that is meant for p. Of two that are equal the one that denies holds.
func (l *List) Match(addr netip.Addr, p Protocol) (deny, ok bool) {
	addr = addr.Unmap()
	switch {
	case addr.Is4():
		_, a := halves(addr)
		for i := range l.v4 {
			v := &l.v4[i]
			key := uint32(a) & uint32(^uint64(0)<<(32-v.bits))
			at, found := slices.BinarySearch(v.small, key)
			for ; found && at < len(v.small) && v.small[at] == key; at++ {
				if Protocol(v.rule[at])&p != 0 {
					return v.rule[at]&denyBit != 0, true
				}
			}
		}
	case addr.Is6():
		hi, lo := halves(addr)
		for i := range l.v6 {
			v := &l.v6[i]
			khi, klo := mask(hi, v.bits), mask(lo, v.bits-64)
			for at := v.search(khi, klo); at < len(v.hi) && v.hi[at] == khi && (v.lo == nil || v.lo[at] == klo); at++ {
				if Protocol(v.rule[at])&p != 0 {
					return v.rule[at]&denyBit != 0, true
				}
			}
		}
	}
	return false, false
}

// mask keeps the first n bits of x; none for n ≤ 0.
func mask(x uint64, n int) uint64 {
	if n <= 0 {
		return 0
	}
	return x &^ (^uint64(0) >> min(n, 64))
}

// search gives the first place at which hi and lo could stand.
func (v *level) search(hi, lo uint64) int {
	low, high := 0, len(v.hi)
	for low < high {
		mid := int(uint(low+high) >> 1)
		less := v.hi[mid] < hi
		if v.lo != nil && v.hi[mid] == hi {
			_, borrow := bits.Sub64(v.lo[mid], lo, 0)
			less = borrow == 1
		}
		if less {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}
