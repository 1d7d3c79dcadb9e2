package fdb

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The twin of Moves keeps every move there was.
func TestMovesEqualSlowTwin(t *testing.T) {
	for seed := range seeds(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		var m Moves
		log := map[int][]slowMove{}
		for now := int64(1<<32 - 3000); now < 1<<32+3000; now += int64(r.IntN(1 + r.IntN(30))) {
			mac := r.IntN(3)
			if r.IntN(60) == 0 {
				now += int64(r.IntN(150))
			}
			from, to := Local+Owner(r.IntN(3)), Local+Owner(r.IntN(3))
			m.Note(station(mac), from, to, uint32(now))
			log[mac] = append(log[mac], slowMove{now, from, to})
			var want []Duplicate
			for mac := range 3 {
				if d, is := slowDuplicate(log[mac], now); is {
					d.MAC = station(mac)
					want = append(want, d)
				}
			}
			if got := m.Duplicates(uint32(now)); !slices.Equal(got, want) {
				t.Fatalf("seed %d, at %d (-want +got):\n%s", seed, now, cmp.Diff(want, got))
			}
		}
	}
}

type slowMove struct {
	at       int64
	from, to Owner
}

func slowDuplicate(log []slowMove, now int64) (d Duplicate, is bool) {
	if len(log) == 0 || now-log[len(log)-1].at > 60 {
		return d, false
	}
	first := len(log) - 1 // of those without a rest between
	for first > 0 && log[first].at-log[first-1].at <= 60 {
		first--
	}
	log = log[first:]
	for i := range log {
		if i >= 4 && log[i].at-log[i-4].at <= 30 {
			is = true
		}
	}
	last := log[len(log)-1]
	d = Duplicate{Between: [2]Owner{last.from, last.to}, Moves: len(log), Last: uint32(last.at)}
	slices.Sort(d.Between[:])
	return d, is
}

func TestMoves(t *testing.T) {
	for _, c := range []struct {
		name string
		at   []uint32
		now  uint32
		want bool
	}{
		{"four at once", []uint32{0, 0, 0, 0}, 0, false},
		{"five at once", []uint32{0, 0, 0, 0, 0}, 0, true},
		{"five within 30 s", []uint32{0, 1, 2, 3, 30}, 30, true},
		{"five within 31 s", []uint32{0, 1, 2, 3, 31}, 31, false},
		{"five of six, too slowly", []uint32{0, 20, 40, 45, 50, 55}, 55, false},
		{"the last five", []uint32{0, 20, 40, 45, 50, 55, 60}, 60, true},
		{"60 s ago", []uint32{0, 0, 0, 0, 0}, 60, true},
		{"61 s ago", []uint32{0, 0, 0, 0, 0}, 61, false},
		{"still, more slowly", []uint32{0, 0, 0, 0, 0, 50, 100, 150}, 210, true},
		{"again after a rest", []uint32{0, 0, 0, 0, 0, 61}, 61, false},
	} {
		var m Moves
		for i, at := range c.at {
			m.Note(station(1), Owner(2+i%2), Owner(3-i%2), at)
		}
		if got := m.Duplicates(c.now); (len(got) == 1) != c.want {
			t.Errorf("%s: %+v, want one: %v", c.name, got, c.want)
		}
	}
}

// Many MACs that move once do not displace each other without end, or allocate.
func TestMovesAreBounded(t *testing.T) {
	var m Moves
	m.Note(station(0), 2, 3, 0)
	i := 0
	if n := testing.AllocsPerRun(10000, func() {
		i++
		for range movesOfDuplicate {
			m.Note(station(i), 2, 3, 1)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := len(m.Duplicates(1)); n < mostMoving || n > 2*mostMoving {
		t.Errorf("%d duplicates are known", n)
	}
}
