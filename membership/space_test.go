package membership

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawWithin draws a prefix inside n, n itself among them.
func drawWithin(t *rapid.T, n netip.Prefix, label string) netip.Prefix {
	width := n.Addr().BitLen()
	bits := rapid.IntRange(n.Bits(), min(width, n.Bits()+12)).Draw(t, label+" bits")
	b := n.Addr().AsSlice()
	for i := n.Bits(); i < bits; i++ {
		if rapid.Bool().Draw(t, label+" bit") {
			b[i/8] |= 0x80 >> (i % 8)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, bits)
}

func drawNetwork(t *rapid.T) netip.Prefix {
	a := rapid.SampledFrom([]string{"10.244.0.0", "0.0.0.0", "255.255.255.255", "fd00:10:244::", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}).Draw(t, "address")
	addr := netip.MustParseAddr(a)
	return netip.PrefixFrom(addr, rapid.IntRange(0, addr.BitLen()).Draw(t, "network bits")).Masked()
}

// blocksOf lists the blocks of n, one after the other.
func blocksOf(n netip.Prefix, length int) []netip.Prefix {
	all := []netip.Prefix{netip.PrefixFrom(n.Addr(), n.Bits())}
	for bits := n.Bits(); bits < length; bits++ {
		var halves []netip.Prefix
		for _, p := range all {
			b := p.Addr().AsSlice()
			b[bits/8] |= 0x80 >> (bits % 8)
			upper, _ := netip.AddrFromSlice(b)
			halves = append(halves, netip.PrefixFrom(p.Addr(), bits+1), netip.PrefixFrom(upper, bits+1))
		}
		all = halves
	}
	return all
}

// A space agrees with a list of all blocks, of which each is compared with all that is taken.
func TestSpaceTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawNetwork(t)
		length := rapid.IntRange(n.Bits(), min(n.Addr().BitLen(), n.Bits()+7)).Draw(t, "length")
		var taken []netip.Prefix
		for range rapid.IntRange(0, 12).Draw(t, "taken") {
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				taken = append(taken, drawNetwork(t))
			case 1: // what n is nested in
				taken = append(taken, netip.PrefixFrom(n.Addr(), max(0, n.Bits()-rapid.IntRange(0, 3).Draw(t, "above"))).Masked())
			default:
				taken = append(taken, drawWithin(t, n, "taken"))
			}
		}
		s := newSpace(n, length, taken)
		blocks := blocksOf(n, length)
		if s.total != uint64(len(blocks)) {
			t.Fatalf("%d blocks of /%d in %s: want %d", s.total, length, n, len(blocks))
		}
		free := func(p netip.Prefix) bool { return !slices.ContainsFunc(taken, p.Overlaps) }
		var used uint64
		for i, p := range blocks {
			if got := s.block(uint64(i)); got != p {
				t.Fatalf("block %d of %s is %s: want %s", i, n, got, p)
			}
			if got := s.number(p.Addr()); got != uint64(i) {
				t.Fatalf("%s is block %d of %s: want %d", p, got, n, i)
			}
			if s.free(p) != free(p) {
				t.Fatalf("%s is free: %v, beside %v", p, s.free(p), taken)
			}
			if !free(p) {
				used++
			}
		}
		if s.used() != used {
			t.Fatalf("%d blocks are used: want %d", s.used(), used)
		}
		from := rapid.Uint64().Draw(t, "from")
		got, ok := s.next(from)
		for i := range blocks {
			at := (from%s.total + uint64(i)) % s.total
			if free(blocks[at]) {
				if !ok || got != at {
					t.Fatalf("the first free block from %d on is %d, %v: want %d", from%s.total, got, ok, at)
				}
				return
			}
		}
		if ok {
			t.Fatalf("block %d is free where none is", got)
		}
	})
}

// Blocks far beyond the 64th bit, and more of them than a number counts, have the
// numbers that they are made from.
func TestSpaceOfAnySize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawNetwork(t)
		length := rapid.IntRange(n.Bits(), n.Addr().BitLen()).Draw(t, "length")
		s := newSpace(n, length, nil)
		if want := uint64(1) << min(length-n.Bits(), maxOrder); s.total != want {
			t.Fatalf("%d blocks of /%d in %s: want %d", s.total, length, n, want)
		}
		i := rapid.Uint64Range(0, s.total-1).Draw(t, "number")
		p := s.block(i)
		if p != p.Masked() || !within([]netip.Prefix{n}, p) || p.Bits() != length {
			t.Fatalf("block %d of /%d in %s is %s", i, length, n, p)
		}
		if got := s.number(p.Addr()); got != i {
			t.Fatalf("block %d of %s has number %d", i, n, got)
		}
		if s = newSpace(n, length, []netip.Prefix{p}); s.used() != 1 || s.free(p) {
			t.Fatalf("with %s taken, %d blocks of %s are used", p, s.used(), n)
		}
		if next, ok := s.next(i); ok != (s.total > 1) || ok && next != (i+1)%s.total {
			t.Fatalf("after block %d of %d comes %d, %v", i, s.total, next, ok)
		}
	})
}

func TestSpaceBeyondItsEnd(t *testing.T) {
	n := netip.MustParsePrefix("fd00::/16")
	far := netip.MustParsePrefix("fd00:ffff:ffff:ffff::/64") // number 2^48 - 1
	if s := newSpace(n, 64, []netip.Prefix{far}); s.free(far) || s.total != 1<<48 {
		t.Errorf("%s is free among %d blocks", far, s.total)
	}
	beyond := netip.MustParsePrefix("fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")
	s := newSpace(n, 128, []netip.Prefix{beyond}) // 2^112 blocks, of which 2^62 count
	if s.used() != 0 || s.free(beyond) {
		t.Errorf("%s is beyond the last block that counts: %d used, free %v", beyond, s.used(), s.free(beyond))
	}
}
