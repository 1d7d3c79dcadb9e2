package fdb

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
)

// together runs do in so many goroutines.
func together(n int, do func(worker int, r *rand.Rand)) {
	var all sync.WaitGroup
	for w := range n {
		all.Go(func() { do(w, rand.New(rand.NewPCG(uint64(w), 1))) })
	}
	all.Wait()
}

// Whatever many do at once, no MAC is there twice, and all that is there is found.
func TestTableOfMany(t *testing.T) {
	for range 10 {
		table := New(16)
		together(8, func(_ int, r *rand.Rand) {
			for range 1000 {
				mac, o, now := station(r.IntN(40)), Local+Owner(r.IntN(4)), uint32(r.IntN(100))
				switch r.IntN(16) {
				case 0:
					table.Flush(o)
				case 1:
					table.All(now)
				case 2, 3:
					table.Announce(mac, o, now)
				case 4, 5, 6:
					if o := table.Lookup(mac, now); o > Local+3 {
						t.Errorf("%v is %d's, who is nobody", mac, o)
					}
				default:
					if was := table.Learn(mac, o, now); was > Local+3 {
						t.Errorf("%v was %d's, who is nobody", mac, was)
					}
				}
			}
		})
		all := table.All(100)
		for i, e := range all {
			if i > 0 && all[i-1].MAC == e.MAC {
				t.Fatalf("%v is there twice, as %d's and %d's", e.MAC, all[i-1].Owner, e.Owner)
			}
			if got := table.Lookup(e.MAC, 100); got != e.Owner {
				t.Errorf("%v is %d's, and found as %d's", e.MAC, e.Owner, got)
			}
		}
		if len(all) > table.Cap() || len(all) == 0 {
			t.Errorf("%d entries, room for %d", len(all), table.Cap())
		}
	}
}

// While an entry is being added to a set, others are moved in it and none is added; and none is
// added twice by who has looked for it too early.
func TestTableAddsOneAtATime(t *testing.T) {
	table := New(1)
	old, fresh := station(1), station(2)
	table.Learn(old, 2, 0)
	table.adding[0].Store(true)
	table.Announce(fresh, 2, 0)
	if was, is := table.Learn(fresh, 2, 0), table.Lookup(fresh, 0); was != None || is != None {
		t.Errorf("it was %d's and is %d's", was, is)
	}
	if was, is := table.Learn(old, 3, 0), table.Lookup(old, 0); was != 2 || is != 3 {
		t.Errorf("the old one was %d's and is %d's", was, is)
	}
	table.adding[0].Store(false)
	if table.add(0, number(old), 4, 0) || !table.add(0, number(fresh), 4, 0) || table.adding[0].Load() {
		t.Error("added twice, or not at all, or still at it")
	}
	if n, o, f := table.Len(0), table.Lookup(old, 0), table.Lookup(fresh, 0); n != 2 || o != 3 || f != 4 {
		t.Errorf("%d entries, of %d and %d", n, o, f)
	}
}

// A MAC that only one goroutine moves is where that has seen it last, whatever is said of it
// meanwhile, and others see it there or where it was.
func TestTableMovesAtOnce(t *testing.T) {
	const movers, rounds = 4, 5000
	table := New(64)
	for i := range movers {
		table.Learn(station(i), 2, 1)
	}
	together(2*movers, func(w int, r *rand.Rand) {
		for i := range rounds {
			if w >= movers {
				table.Announce(station(r.IntN(movers)), 9, 1)
				if o := table.Lookup(station(r.IntN(movers)), 1); o < 2 || o > 4 {
					t.Errorf("found as %d's", o)
					return
				}
				continue
			}
			o := Owner(2 + i%3)
			table.Learn(station(w), o, 1)
			if got := table.Lookup(station(w), 1); got != o {
				t.Errorf("learnt of %d, found as %d's", o, got)
				return
			}
		}
	})
}

// Moves and Neighbours under the race detector.
func TestMovesAndNeighboursOfMany(t *testing.T) {
	var m Moves
	n := NewNeighbours(16)
	together(8, func(_ int, r *rand.Rand) {
		for range 1000 {
			i, now := r.IntN(100), uint32(r.IntN(200))
			m.Note(station(i), 2, 3, now)
			ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			n.Learn(0, ip, station(i), now)
			if mac, ok := n.Lookup(0, ip, now); ok && mac != station(i) {
				t.Errorf("%s is at %v", ip, mac)
			}
			if r.IntN(100) == 0 {
				m.Duplicates(now)
				n.All(now)
			}
		}
	})
}
