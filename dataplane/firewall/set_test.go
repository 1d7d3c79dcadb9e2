package firewall

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// prefixesOf draws prefixes of a few neighbouring addresses, so that they nest, touch and reach the last address.
func prefixesOf(family int) *rapid.Generator[[]netip.Prefix] {
	return rapid.SliceOf(rapid.Custom(func(t *rapid.T) netip.Prefix {
		addr := addressOf(family).Draw(t, "address")
		return netip.PrefixFrom(addr, addr.BitLen()-rapid.IntRange(0, 8).Draw(t, "free bits")).Masked()
	}))
}

func addressOf(family int) *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		b := make([]byte, families[family].bits/8)
		if rapid.Bool().Draw(t, "at the end") {
			b = slices.Repeat([]byte{0xff}, len(b))
		}
		b[len(b)-1] = rapid.Byte().Draw(t, "last octet")
		addr, _ := netip.AddrFromSlice(b)
		return addr
	})
}

// The ranges hold what the prefixes hold, in order, and neither overlap nor touch.
func TestRangesHoldThePrefixes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		family := rapid.IntRange(0, 1).Draw(t, "family")
		prefixes := prefixesOf(family).Draw(t, "prefixes")
		ranges := rangesOf(slices.Clone(prefixes))
		for i, r := range ranges {
			if i > 0 && !ranges[i-1].end.Less(r.first) || r.end.IsValid() && !r.first.Less(r.end) {
				t.Fatalf("range %d of %v", i, ranges)
			}
		}
		addr := addressOf(family).Draw(t, "probe")
		want := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
		got := slices.ContainsFunc(ranges, func(r addrRange) bool {
			return !addr.Less(r.first) && (!r.end.IsValid() || addr.Less(r.end))
		})
		if got != want {
			t.Fatalf("%v in %v: %t, want %t", addr, ranges, got, want)
		}
	})
}

// What is read out of a set is what was put in, without what is others'.
func TestElementsStandForThePrefixes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		family := rapid.IntRange(0, 1).Draw(t, "family")
		prefixes := prefixesOf(family).Draw(t, "prefixes")
		others := prefixesOf(family).Draw(t, "others")
		got := prefixesIn(prefixSet(setDirect, &families[family], prefixes).elements, &families[family], others)
		probe := addressOf(family).Draw(t, "probe")
		contains := func(list []netip.Prefix) bool {
			return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(probe) })
		}
		if want := contains(prefixes) && !contains(others); contains(got) != want {
			t.Fatalf("%v in %v: %t, want %t", probe, got, !want, want)
		}
		for i, p := range got {
			if p != p.Masked() || i > 0 && !lastOf(got[i-1]).Less(p.Addr()) {
				t.Fatalf("prefix %d of %v", i, got)
			}
		}
	})
}
