package route

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// slowLookup is the obviously right twin: look at every entry, keep the longest.
func slowLookup(entries []Entry[int], addr netip.Addr) (v int, ok bool) {
	best := -1
	for _, e := range entries {
		if e.Prefix.Contains(addr) && e.Prefix.Bits() > best {
			best, v, ok = e.Prefix.Bits(), e.Value, true
		}
	}
	return v, ok
}

func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(2) == 0 {
		// Few distinct high bytes, so that prefixes nest and lookups hit.
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(8)), byte(r.IntN(256))})
	}
	a := [16]byte{0: 0xfd, 7: byte(r.IntN(4)), 15: byte(r.IntN(256))}
	return netip.AddrFrom16(a)
}

func TestLookupEqualsSlowTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		seen := map[netip.Prefix]bool{}
		var entries []Entry[int]
		for i := range r.IntN(200) {
			addr := randomAddr(r)
			p := netip.PrefixFrom(addr, r.IntN(addr.BitLen()+1)).Masked()
			if !seen[p] {
				seen[p] = true
				entries = append(entries, Entry[int]{p, i})
			}
		}
		table, err := Build(entries)
		if err != nil {
			t.Fatal(err)
		}
		for range 500 {
			addr := randomAddr(r)
			got, ok := table.Lookup(addr)
			want, wantOK := slowLookup(entries, addr)
			if got != want || ok != wantOK {
				t.Fatalf("Lookup(%s) = %d %v, want %d %v", addr, got, ok, want, wantOK)
			}
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	p := netip.MustParsePrefix
	for name, entries := range map[string][]Entry[int]{
		"host bits": {{p("10.244.1.5/24"), 1}},
		"invalid":   {{netip.Prefix{}, 1}},
		"twice":     {{p("10.244.1.0/24"), 1}, {p("10.244.1.0/24"), 2}},
	} {
		if _, err := Build(entries); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	table, err := Build([]Entry[int]{{netip.MustParsePrefix("10.244.0.0/16"), 1}})
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("10.244.3.4")
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := table.Lookup(addr); !ok {
			t.Fatal("no match")
		}
	}); n != 0 {
		t.Errorf("%v allocations per lookup", n)
	}
}
