package fdb

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane/packet"
)

func station(n int) packet.MAC {
	return packet.MAC{2, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// seeds is n, and few in short runs, which are those under the race detector: it makes them ten
// times as long, and finds nothing where all is one goroutine.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return n / 10
	}
	return n
}

// slow is what a Table of one set does, without any cleverness.
type slow [ways]slowEntry

type slowEntry struct {
	mac              packet.MAC
	owner            Owner // None: there is no entry
	heard            int64 // on a clock that does not wrap around
	announced, again bool
}

func (s *slow) find(mac packet.MAC) *slowEntry {
	for i := range s {
		if s[i].owner != None && s[i].mac == mac {
			return &s[i]
		}
	}
	return nil
}

func (s *slow) lookup(mac packet.MAC, now int64) Owner {
	if e := s.find(mac); e != nil && now-e.heard <= 300 {
		return e.owner
	}
	return None
}

func (s *slow) learn(mac packet.MAC, o Owner, now int64) {
	if e := s.find(mac); e != nil {
		*e = slowEntry{mac: mac, owner: o, heard: now, again: e.again && !e.announced || e.heard != now}
		return
	}
	s.replace(slowEntry{mac: mac, owner: o, heard: now}, now)
}

func (s *slow) announce(mac packet.MAC, o Owner, now int64) {
	fresh := slowEntry{mac: mac, owner: o, heard: now, announced: true}
	if e := s.find(mac); e == nil {
		s.replace(fresh, now)
	} else if e.announced || now-e.heard > 30 {
		*e = fresh
	}
}

func (s *slow) replace(by slowEntry, now int64) {
	rank := func(e slowEntry) int64 {
		switch {
		case e.owner == None:
			return 1 << 40
		case e.announced || e.again:
			return now - e.heard
		}
		return now - e.heard + 30
	}
	at := 0
	for i := range s {
		if rank(s[i]) > rank(s[at]) {
			at = i
		}
	}
	s[at] = by
}

func (s *slow) flush(o Owner) {
	for i := range s {
		if s[i].owner == o {
			s[i] = slowEntry{}
		}
	}
}

func (s *slow) all(now int64) (all []Entry) {
	for _, e := range s {
		if e.owner != None && now-e.heard <= 300 {
			all = append(all, Entry{e.mac, e.owner, uint32(now - e.heard), e.announced})
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return bytes.Compare(a.MAC[:], b.MAC[:]) })
	return all
}

// The clock wraps around meanwhile.
func TestTableEqualsSlowTwin(t *testing.T) {
	for _, c := range []struct{ macs, step int }{{ways + 5, 1}, {ways + 5, 4}, {ways + 5, 80}, {ways, 2}, {ways, 200}, {2, 40}} {
		for seed := range seeds(20) {
			r := rand.New(rand.NewPCG(seed, 0))
			table, twin := New(1), new(slow)
			const start = 1<<32 - 3000
			now := int64(start)
			for range 3000 {
				now += int64(r.IntN(c.step + 1))
				mac, o, clock := station(r.IntN(c.macs)), Local+Owner(r.IntN(3)), uint32(now)
				want := twin.lookup(mac, now)
				if got := table.Lookup(mac, clock); got != want {
					t.Fatalf("%+v, seed %d: Lookup(%v, %d) = %d, want %d", c, seed, mac, now, got, want)
				}
				switch r.IntN(8) {
				case 0, 1:
					table.Announce(mac, o, clock)
					twin.announce(mac, o, now)
				case 2, 3, 4, 5:
					if was := table.Learn(mac, o, clock); was != want {
						t.Fatalf("%+v, seed %d: Learn(%v, %d) says it was %d's, want %d", c, seed, mac, now, was, want)
					}
					twin.learn(mac, o, now)
				case 6:
					if got, want := table.All(clock), twin.all(now); !slices.Equal(got, want) || table.Len(clock) != len(want) {
						t.Fatalf("%+v, seed %d: %d entries at %d (-want +got):\n%s", c, seed, table.Len(clock), now, cmp.Diff(want, got))
					}
				case 7:
					if r.IntN(20) == 0 {
						table.Flush(o)
						twin.flush(o)
					}
				}
			}
		}
	}
}

// MACs are handed out in sequence, or at random, or differ in the vendor only; a secret key spreads
// them all.
func TestTableKeepsAsManyAsItWasMadeFor(t *testing.T) {
	const entries = 4096
	r := rand.New(rand.NewPCG(5, 6))
	for name, mac := range map[string]func(i int) packet.MAC{
		"in sequence": station,
		"by vendor":   func(i int) packet.MAC { return packet.MAC{byte(i>>5) &^ 1, byte(i >> 4), byte(i << 4), 0, 0, 1} },
		"by threes":   func(i int) packet.MAC { return station(3 * i << 4) },
		"at random":   func(int) packet.MAC { return station(r.Int()) },
	} {
		distinct := map[packet.MAC]bool{}
		table := New(entries)
		for i := range entries {
			m := mac(i)
			table.Learn(m, Local, 0)
			distinct[m] = true
		}
		// 2 sets of 100 are too small for a few of theirs: 0.6 % of all, with a deviation
		// of 0.15 %.
		if n := table.Len(0); n < len(distinct)*98/100 || table.Cap() < entries {
			t.Errorf("%s: %d entries of %d, and room for %d", name, n, len(distinct), table.Cap())
		}
	}
}

// Stations that are heard of every 20 s keep their places when ten thousand forged ones a second
// come.
func TestTableUnderFlood(t *testing.T) {
	const stations, rounds = 100, 60
	flood := 10000
	if testing.Short() {
		flood = 500 // The race detector finds nothing where all is one goroutine.
	}
	table := New(4096)
	r := rand.New(rand.NewPCG(1, 2))
	learn := func(now uint32) (known int) {
		for i := range stations {
			if table.Learn(station(i), 3, now) == 3 {
				known++
			}
		}
		return known
	}
	learn(0)
	learn(1)
	for now := uint32(1); now < rounds; now++ {
		for range flood {
			table.Learn(packet.MAC{4, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}, 2, now)
		}
		if now%20 == 0 {
			if known := learn(now); known != stations {
				t.Errorf("after %d s of it %d of %d stations are known", now, known, stations)
			}
		}
	}
	if n := table.Len(rounds); n > table.Cap() || table.Cap() > 8192 {
		t.Errorf("%d entries, room for %d", n, table.Cap())
	}
	if n := len(table.All(rounds + MaxAge)); n != 0 {
		t.Errorf("%d entries are left when all are too old", n)
	}
}

// What a worker that is one second behind learns is as old as what is there.
func TestTableOfTwoClocks(t *testing.T) {
	table := New(8)
	table.Learn(station(1), 2, 1000)
	if got := table.Lookup(station(1), 999); got != 2 {
		t.Errorf("a second before it was heard it is %d's", got)
	}
	if was := table.Learn(station(1), 3, 999); was != 2 {
		t.Errorf("a second before it was heard it was %d's", was)
	}
}

func TestTableAllocatesNothing(t *testing.T) {
	table := New(64)
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		table.Learn(station(i), Local, uint32(i))
		table.Announce(station(i+1), 2, uint32(i))
		table.Lookup(station(i), uint32(i))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	table, macs := filled()
	i := 0
	for b.Loop() {
		table.Lookup(macs[i&1023], 1)
		i++
	}
}

// BenchmarkLearn is for the usual case: nothing has changed.
func BenchmarkLearn(b *testing.B) {
	table, macs := filled()
	i := 0
	for b.Loop() {
		table.Learn(macs[i&1023], 2, 0)
		i++
	}
}

func BenchmarkLearnFlood(b *testing.B) {
	table, _ := filled()
	i := 0
	for b.Loop() {
		table.Learn(station(i), 3, 1)
		i++
	}
}

func filled() (table *Table, macs [1024]packet.MAC) {
	table = New(4096)
	for i := range macs {
		macs[i] = station(i)
		table.Learn(macs[i], 2, 0)
	}
	return table, macs
}
