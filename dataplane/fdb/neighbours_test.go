package fdb

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane/packet"
)

type slowNeighbour struct {
	mac packet.MAC
	at  int64
}

// In a Neighbours of one set, as the Table is tested.
func TestNeighboursEqualSlowTwin(t *testing.T) {
	ips := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("9.0.0.1"),
		netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("::1.2.3.4")}
	type key struct {
		vlan uint32
		ip   netip.Addr
	}
	for seed := range seeds(50) {
		r := rand.New(rand.NewPCG(seed, 4))
		n, twin := NewNeighbours(1), map[key]slowNeighbour{}
		for now := int64(1<<32 - 3000); now < 1<<32+3000; now += 1 + int64(r.IntN(40)) {
			k, mac := key{uint32(r.IntN(2)), ips[r.IntN(len(ips))]}, station(r.IntN(4))
			want, known := twin[k]
			known = known && now-want.at <= 120
			if got, ok := n.Lookup(k.vlan, k.ip, uint32(now)); ok != known || ok && got != want.mac {
				t.Fatalf("seed %d: Lookup(%v, %d) = %v, %v, want %v, %v", seed, k, now, got, ok, want.mac, known)
			}
			n.Learn(k.vlan, k.ip, mac, uint32(now))
			if _, there := twin[k]; !there && len(twin) == ways {
				keys := slices.Collect(maps.Keys(twin))
				delete(twin, slices.MinFunc(keys, func(a, b key) int { return int(twin[a].at - twin[b].at) }))
			}
			twin[k] = slowNeighbour{mac, now}

			all := n.All(uint32(now))
			var wantAll []Neighbour
			for _, vlan := range []uint32{0, 1} {
				for _, ip := range slices.SortedFunc(slices.Values(ips), netip.Addr.Compare) {
					if v, is := twin[key{vlan, ip}]; is && now-v.at <= 120 {
						wantAll = append(wantAll, Neighbour{vlan, ip, v.mac})
					}
				}
			}
			if !slices.Equal(all, wantAll) {
				t.Fatalf("seed %d, at %d (-want +got):\n%s", seed, now, cmp.Diff(wantAll, all, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })))
			}
		}
	}
}

func TestNeighboursAreBounded(t *testing.T) {
	const entries = 64
	n := NewNeighbours(entries)
	i := uint32(0)
	if allocs := testing.AllocsPerRun(10000, func() {
		i++
		ip := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		n.Learn(0, ip, station(int(i)), 1)
		n.Lookup(0, ip, 1)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if got := len(n.All(1)); got < entries || got > 2*entries {
		t.Errorf("%d are known", got)
	}
}
