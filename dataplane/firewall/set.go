package firewall

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// prefixSet is the set of the prefixes of one family.
func prefixSet(name string, f *family, prefixes []netip.Prefix) set {
	s := set{name: setName(name, f), keyType: f.addrType, interval: true}
	for _, r := range rangesOf(f.of(prefixes)) {
		s.elements = append(s.elements, nftables.SetElement{Key: r.first.AsSlice()})
		if r.end.IsValid() {
			s.elements = append(s.elements, nftables.SetElement{Key: r.end.AsSlice(), IntervalEnd: true})
		}
	}
	return s
}

func portSet(ports []uint16) set {
	s := set{name: setPorts, keyType: nftables.TypeInetService}
	for _, p := range slices.Compact(slices.Sorted(slices.Values(ports))) {
		s.elements = append(s.elements, nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, p)})
	}
	return s
}

// addrRange is what an interval set holds: end is the first address behind it, zero behind the last of the family.
type addrRange struct{ first, end netip.Addr }

// rangesOf joins prefixes of one family into ranges that neither overlap, which the kernel refuses, nor touch.
func rangesOf(prefixes []netip.Prefix) []addrRange {
	sorted := slices.SortedFunc(slices.Values(prefixes), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var ranges []addrRange
	for _, p := range sorted {
		r := addrRange{p.Addr(), lastOf(p).Next()}
		if len(ranges) == 0 {
			ranges = append(ranges, r)
			continue
		}
		// Two prefixes are nested or apart: one that starts inside the range before it ends there, too.
		switch before := &ranges[len(ranges)-1]; {
		case !before.end.IsValid() || r.first.Less(before.end):
		case r.first == before.end:
			before.end = r.end
		default:
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// prefixesIn are the prefixes that the sorted elements of a set stand for, without what lies in others.
func prefixesIn(elements []nftables.SetElement, f *family, others []netip.Prefix) []netip.Prefix {
	var ranges []addrRange
	for _, e := range elements {
		a, _ := netip.AddrFromSlice(e.Key)
		if a.BitLen() != f.bits {
			return nil // a set of the same name, but none of weft's
		}
		if n := len(ranges); n > 0 && !ranges[n-1].end.IsValid() {
			ranges[n-1].end = a
		}
		if !e.IntervalEnd {
			ranges = append(ranges, addrRange{first: a})
		}
	}
	var prefixes []netip.Prefix
	for _, r := range ranges {
		prefixes = append(prefixes, r.prefixes(f.of(others))...)
	}
	return prefixes
}

// prefixes cuts the range, without what lies in others, into as few prefixes as can be.
func (r addrRange) prefixes(others []netip.Prefix) []netip.Prefix {
	var prefixes []netip.Prefix
	for a := r.first; r.holds(a); {
		if i := slices.IndexFunc(others, func(o netip.Prefix) bool { return o.Contains(a) }); i >= 0 {
			a = lastOf(others[i]).Next()
			continue
		}
		p := netip.PrefixFrom(a, a.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(a, p.Bits()-1)
			if wider != wider.Masked() || !r.holds(lastOf(wider)) || slices.ContainsFunc(others, wider.Overlaps) {
				break
			}
			p = wider
		}
		prefixes = append(prefixes, p)
		a = lastOf(p).Next()
	}
	return prefixes
}

// holds is false for the address after the last of all, which is not valid.
func (r addrRange) holds(a netip.Addr) bool {
	return a.IsValid() && !a.Less(r.first) && (!r.end.IsValid() || a.Less(r.end))
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// compareElements orders by key, the end of a range before the beginning of the next.
func compareElements(a, b nftables.SetElement) int {
	if c := bytes.Compare(a.Key, b.Key); c != 0 {
		return c
	}
	switch {
	case a.IntervalEnd == b.IntervalEnd:
		return 0
	case a.IntervalEnd:
		return -1
	default:
		return 1
	}
}
