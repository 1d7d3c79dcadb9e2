package membership

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// goneRecord is node by's word that node n is gone.
func goneRecord(by, n byte, version uint64) Record {
	return Record{Format: Format, ID: identity(n).ID, Version: version, Left: true, By: identity(by).ID, Description: Description{Name: "n"}}
}

func forget(t *testing.T, s *Store, n byte) Envelope {
	t.Helper()
	e, err := s.Forget(identity(n).ID)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A node that is forgotten is gone for everyone who hears of it, in whatever order, and
// its block is free.
func TestForget(t *testing.T) {
	a, b, c := memoryStore(1), memoryStore(2), memoryStore(3)
	publish(t, a, 1, "10.244.1.0/24")
	dead := seal(t, 9, record(9, 5, claim("10.244.9.0/24", 5)))
	merge(t, a, dead, true)
	merge(t, b, dead, true)
	e := forget(t, a, 9)
	merge(t, b, e, true)
	merge(t, c, e, true)
	merge(t, c, dead, false)
	for _, s := range []*Store{a, b, c} {
		if m := member(t, s, 9); m.State != StateLeft || m.Name != "n9" || len(m.Prefixes) != 0 {
			t.Errorf("the forgotten node is %+v", m)
		}
	}
	if err := b.Publish(record(2, 1).Description); err != nil {
		t.Fatal(err)
	}
	if err := b.Claim(netip.MustParsePrefix("10.244.9.0/24")); err != nil {
		t.Errorf("its block is not free: %v", err)
	}
}

func TestForgetRefuses(t *testing.T) {
	s := memoryStore(1)
	publish(t, s, 1)
	merge(t, s, seal(t, 2, record(2, 2)), true)
	s.SetAlive(identity(2).ID, true, start)
	gone := record(3, 3)
	gone.Left = true
	merge(t, s, seal(t, 3, gone), true)
	for n, want := range map[byte]error{1: ErrUnknown, 2: ErrAlive, 3: ErrUnknown, 4: ErrUnknown} {
		if _, err := s.Forget(identity(n).ID); !errors.Is(err, want) {
			t.Errorf("forgetting node %d: %v, want %v", n, err, want)
		}
	}
}

// A node that was forgotten and returns is a member again; its block is its own still
// where nobody took it, and the other's where somebody did.
func TestForgottenReturns(t *testing.T) {
	for _, taken := range []bool{false, true} {
		a, dead := memoryStore(1), memoryStore(9)
		a.Settle()
		dead.Settle()
		publish(t, a, 1, "10.244.1.0/24")
		publish(t, dead, 9, "10.244.9.0/24")
		own, _ := dead.Own()
		merge(t, a, own, true)
		gone := forget(t, a, 9)
		if taken {
			if err := a.Claim(parse([]string{"10.244.1.0/24", "10.244.9.0/24"})...); err != nil {
				t.Fatal(err)
			}
		}
		merge(t, dead, gone, false)
		for _, e := range a.Envelopes() { // as in a full exchange
			if _, err := dead.Merge(e); err != nil {
				t.Fatal(err)
			}
		}
		if published, err := dead.Refresh(); err != nil || !published {
			t.Fatalf("it did not say that it is back: %v", err)
		}
		own, _ = dead.Own()
		merge(t, a, own, true)
		a.SetAlive(identity(9).ID, true, start)
		m := member(t, a, 9)
		if taken && (m.State != StateRefused || len(m.Prefixes) != 0) || !taken && len(m.Prefixes) != 1 {
			t.Errorf("its block was taken: %v; it is %s and routed %v", taken, m.State, m.Prefixes)
		}
	}
}

// lapsing is a store of node n with others known, of whom some are alive.
func lapsing(t *testing.T, n byte, others, alive []byte) *Store {
	t.Helper()
	s := memoryStore(n)
	publish(t, s, n)
	for _, o := range others {
		merge(t, s, seal(t, o, record(o, 2)), true)
	}
	for _, o := range alive {
		s.SetAlive(identity(o).ID, true, start)
	}
	return s
}

// byID returns three test nodes by the order of their IDs.
func byID() []byte {
	nodes := []byte{1, 2, 3}
	slices.SortFunc(nodes, func(a, b byte) int { return identity(a).ID.Compare(identity(b).ID) })
	return nodes
}

func TestLapsed(t *testing.T) {
	const after = 10 * time.Minute
	n := byID()
	low, mid, high := n[0], n[1], n[2]
	for _, c := range []struct {
		name   string
		self   byte
		alive  []byte
		missed byte
		want   bool
	}{
		{"by the lowest that lives", low, []byte{mid}, high, true},
		{"not by another", mid, []byte{low}, high, false},
		{"by the next, where the lowest is missed", mid, []byte{high}, low, true},
		{"not by the smaller part", low, nil, high, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			others := slices.DeleteFunc(slices.Clone(n), func(o byte) bool { return o == c.self })
			s := lapsing(t, c.self, others, c.alive)
			now := start
			var got []ID
			for range 4 { // the first counts for nothing, each other for 5 minutes
				if got = s.Lapsed(now, after); len(got) > 0 && now.Before(start.Add(3*longestTick)) {
					t.Fatalf("lapsed after %s: want more than %s", now.Sub(start), after)
				}
				now = now.Add(longestTick)
			}
			if want := []ID{identity(c.missed).ID}; slices.Equal(got, want) != c.want {
				t.Fatalf("lapsed: %v, want %v: %v", got, want, c.want)
			}
		})
	}
}

// Neither a suspended machine nor a clock that is set counts as time.
func TestLapsedAfterSuspension(t *testing.T) {
	n := byID()
	s := lapsing(t, n[0], n[1:], n[1:2])
	s.Lapsed(start, time.Hour)
	for _, d := range []time.Duration{1000 * time.Hour, -time.Hour, time.Minute} {
		if got := s.Lapsed(start.Add(d), time.Hour); len(got) != 0 {
			t.Fatalf("lapsed %v at %s", got, d)
		}
	}
}

// Who answers again was not missed; and what was counted outlives the process.
func TestLapsedCount(t *testing.T) {
	const after = 7 * time.Minute
	n := byID()
	s := lapsing(t, n[0], n[1:], n[1:2])
	missed := identity(n[2]).ID
	s.Lapsed(start, after)
	s.Lapsed(start.Add(5*time.Minute), after)

	snap, _ := s.snapshot()
	again, warnings := RestoreStore(identity(n[0]), testTerms, testGrace, func(Snapshot) error { return nil }, snap, start)
	if len(warnings) != 0 {
		t.Fatal(warnings)
	}
	again.SetAlive(identity(n[1]).ID, true, start)
	again.Lapsed(start, after)
	if got := again.Lapsed(start.Add(3*time.Minute), after); !slices.Equal(got, []ID{missed}) {
		t.Errorf("after 5 minutes, a restart and 3 more: lapsed %v", got)
	}

	s.SetAlive(missed, true, start)
	s.SetAlive(missed, false, start)
	if got := s.Lapsed(start.Add(8*time.Minute), after); len(got) != 0 {
		t.Errorf("lapsed %v, which answered in between", got)
	}
}
