package ipam

import (
	"math"
	"math/big"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// slowUsable counts through the block and leaves out what is reserved: numbers 0 and 1, and the last one of IPv4.
func slowUsable(block netip.Prefix) []netip.Addr {
	var all []netip.Addr
	for a := block.Masked().Addr(); block.Contains(a); a = a.Next() {
		all = append(all, a)
	}
	if block.Addr().Is4() {
		all = all[:len(all)-1]
	}
	return all[min(2, len(all)):]
}

// slowAfter looks at all addresses of the block in turn, the first one greater than from to begin with.
func slowAfter(held map[netip.Addr]Key, block netip.Prefix, from netip.Addr) (netip.Addr, bool) {
	all := slowUsable(block)
	i := max(0, slices.IndexFunc(all, from.Less))
	for _, a := range append(slices.Clone(all[i:]), all[:i]...) {
		if _, taken := held[a]; !taken {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// drawBlock returns a block of up to 64 addresses, at either end of the family's space or within.
func drawBlock(t *rapid.T) netip.Prefix {
	size := 4
	if rapid.Bool().Draw(t, "IPv6") {
		size = 16
	}
	bytes := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 10, 255}), size, size).Draw(t, "address")
	a, _ := netip.AddrFromSlice(bytes)
	block, _ := a.Prefix(8*size - rapid.IntRange(0, 6).Draw(t, "host bits"))
	return block
}

// drawNear returns an address in the block or beside it.
func drawNear(t *rapid.T, block netip.Prefix) netip.Addr {
	n := new(big.Int).SetBytes(block.Addr().AsSlice())
	n.Add(n, big.NewInt(int64(rapid.IntRange(-2, 66).Draw(t, "number"))))
	bytes := make([]byte, block.Addr().BitLen()/8)
	if n.Sign() < 0 || n.BitLen() > 8*len(bytes) {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(n.FillBytes(bytes))
	return a
}

func TestAfterIsTheNextOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		block := drawBlock(t)
		held := make(map[netip.Addr]Key)
		for range rapid.IntRange(0, 70).Draw(t, "held") {
			held[drawNear(t, block)] = Key{"c1", "eth0"}
		}
		delete(held, netip.Addr{})
		p := picker{held: held}
		from := drawNear(t, block)
		got, ok := p.after(block, from)
		want, wantOK := slowAfter(held, block, from)
		if got != want || ok != wantOK {
			t.Fatalf("%s after %s, held %v: %s, %v; want %s, %v", block, from, held, got, ok, want, wantOK)
		}
		if n := Usable(block); n != uint64(len(slowUsable(block))) {
			t.Fatalf("%s: %d usable; want %d", block, n, len(slowUsable(block)))
		}
	})
}

func TestUsable(t *testing.T) {
	for _, c := range []struct {
		block string
		want  uint64
	}{
		{"10.0.0.0/8", 1<<24 - 3}, {"10.244.1.0/24", 253}, {"10.244.1.0/29", 5}, {"10.244.1.0/30", 1}, {"10.244.1.0/31", 0}, {"10.244.1.0/32", 0},
		{"255.255.255.255/32", 0}, {"0.0.0.0/0", 1<<32 - 3},
		{"fd00::/65", 1<<63 - 2}, {"fd00::/64", math.MaxUint64}, {"::/0", math.MaxUint64},
		{"fd00::/125", 6}, {"fd00::/126", 2}, {"fd00::/127", 0}, {"fd00::/128", 0}, {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", 0},
	} {
		if got := Usable(netip.MustParsePrefix(c.block)); got != c.want {
			t.Errorf("%s: %d; want %d", c.block, got, c.want)
		}
	}
}

func TestLargeBlockGoesRound(t *testing.T) {
	block := netip.MustParsePrefix("fd00::/64")
	end := netip.MustParseAddr("fd00::ffff:ffff:ffff:ffff")
	p := picker{held: make(map[netip.Addr]Key)}
	if a, _ := p.after(block, end.Prev()); a != end {
		t.Fatalf("the last one is %s; want %s", a, end)
	}
	p.held[netip.MustParseAddr("fd00::2")] = Key{"c1", "eth0"}
	if a, _ := p.after(block, end); a != netip.MustParseAddr("fd00::3") {
		t.Fatalf("after the last one comes %s", a)
	}
	if a, _ := p.after(netip.MustParsePrefix("::/0"), netip.Addr{}); a != netip.MustParseAddr("::2") {
		t.Fatalf("first of all is %s", a)
	}
}
