package dataplane

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// The filter agrees with one that asks for each condition by itself.
func TestFilter(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	addrs := []netip.Addr{{}, netip.MustParseAddr("10.244.1.1"), netip.MustParseAddr("10.244.2.2"), netip.MustParseAddr("fd00::1")}
	peers := []string{"", "a", "b"}
	yes := 0
	for range 200_000 {
		f := Filter{Direction: Direction(random.IntN(3)), Layer: Layer(random.IntN(3)), Peer: peers[random.IntN(3)], Dropped: random.IntN(2) == 0}
		for range random.IntN(3) {
			f.Pods = append(f.Pods, addrs[1+random.IntN(3)])
		}
		if f.Dropped {
			for range random.IntN(3) {
				f.Reasons = append(f.Reasons, Reason(random.IntN(int(reasons))))
			}
		}
		if random.IntN(4) == 0 {
			f.Marker = []byte("mark")
		}
		s := sight{Captured: Captured{Src: addrs[random.IntN(4)], Dst: addrs[random.IntN(4)]}}
		s.Direction, s.Layer, s.Peer = Direction(1+random.IntN(2)), Layer(1+random.IntN(2)), peers[random.IntN(3)]
		if random.IntN(2) == 0 {
			s.drop(Reason(random.IntN(int(reasons))), 1)
		}
		s.inner = make([]byte, random.IntN(markerReach+10))
		at := -1
		if room := len(s.inner) - 4; room >= 0 {
			at = random.IntN(room + 1)
			copy(s.inner[at:], "mark")
		}

		ready := newFilter(f)
		want := takesSlowly(f, &s, at)
		if got := ready.takes(&s); got != want {
			t.Fatalf("%+v of %+v: %v, want %v", f, s, got, want)
		}
		if want {
			yes++
		}
	}
	if yes < 1000 {
		t.Errorf("only %d of the packets passed", yes)
	}
}

func takesSlowly(f Filter, s *sight, markerAt int) bool {
	direction := f.Direction == 0 || f.Direction == s.Direction
	layer := f.Layer == 0 || f.Layer == s.Layer
	peer := f.Peer == "" || f.Peer == s.Peer
	pod := len(f.Pods) == 0
	for _, a := range f.Pods {
		pod = pod || a == s.Src || a == s.Dst
	}
	drop := !f.Dropped || s.Dropped && (len(f.Reasons) == 0 || slices.Contains(f.Reasons, s.Reason))
	marker := f.Marker == nil || markerAt >= 0 && markerAt+len(f.Marker) <= markerReach
	return direction && layer && peer && pod && drop && marker
}
