package membership

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMergeKeepsTheNewest(t *testing.T) {
	s := memoryStore(1)
	two := seal(t, 2, record(2, 2, claim("10.244.2.0/24", 2)))
	merge(t, s, two, true)
	merge(t, s, two, false)                      // idempotent
	merge(t, s, seal(t, 2, record(2, 1)), false) // older
	merge(t, s, seal(t, 2, record(2, 3)), true)  // newer
	merge(t, s, two, false)                      // older again
	three := s.Envelopes()[0]
	three.Signature[0] ^= 1
	merge(t, s, three, false) // known bytes are not verified again
	if m := member(t, s, 2); m.Version != 3 || len(m.Claims) != 0 {
		t.Fatalf("kept %+v", m.Record)
	}
}

// Two records of one version come from a cloned key: every node must keep the same.
func TestMergeEqualVersions(t *testing.T) {
	x := seal(t, 2, record(2, 5, claim("10.244.2.0/24", 5)))
	y := seal(t, 2, record(2, 5, claim("10.244.3.0/24", 5)))
	a, b := memoryStore(1), memoryStore(1)
	for _, e := range []Envelope{x, y} {
		if _, err := a.Merge(e); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range []Envelope{y, x} {
		if _, err := b.Merge(e); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := member(t, a, 2).Claims, member(t, b, 2).Claims; !slices.Equal(got, want) {
		t.Fatalf("%v in one order, %v in the other", got, want)
	}
}

func TestMergeRejects(t *testing.T) {
	s := memoryStore(1)
	e := seal(t, 2, record(2, 1<<40))
	e.Signature[0] ^= 1
	changed, err := s.Merge(e)
	wantReject(t, err, RejectSignature)
	if changed || len(s.View(start).Members) != 0 {
		t.Fatal("a forged record was kept")
	}
	publish(t, s, 1)
	if v := ownRecord(t, s).Version; v > 2 {
		t.Fatalf("a forged record moved the clock to %d", v)
	}
}

func TestMergeIsBounded(t *testing.T) {
	s := memoryStore(1)
	for i := range MaxMembers { // filled by hand: signing as many takes seconds
		s.members[ID{0: 1, 1: byte(i), 2: byte(i >> 8)}] = &entry{}
	}
	_, err := s.Merge(seal(t, 2, record(2, 1)))
	wantReject(t, err, RejectFull)
}

func TestMergeCopies(t *testing.T) {
	s := memoryStore(1)
	e := seal(t, 2, record(2, 1))
	merge(t, s, e, true)
	for i := range e.Payload {
		e.Payload[i] = 0
	}
	if _, err := Open(s.Envelopes()[0]); err != nil {
		t.Fatalf("the store shares the caller's bytes: %v", err)
	}
}

func TestLiveness(t *testing.T) {
	s := memoryStore(1)
	id := identity(2).ID
	merge(t, s, seal(t, 2, record(2, 1, claim("10.244.2.0/24", 1))), true)
	check := func(after time.Duration, want State, routed int) {
		t.Helper()
		if m := memberAt(t, s, 2, start.Add(after)); m.State != want || len(m.Prefixes) != routed {
			t.Fatalf("after %s: %s with %v; want %s with %d", after, m.State, m.Prefixes, want, routed)
		}
	}
	check(0, StateDown, 0) // known from another's exchange, never answered
	s.SetAlive(id, true, start)
	check(time.Hour, StateUp, 1)
	s.SetAlive(id, false, start.Add(time.Minute))
	s.SetAlive(id, false, start.Add(2*time.Minute)) // does not restart the grace period
	check(time.Minute, StateGrace, 1)
	check(time.Minute+testGrace-1, StateGrace, 1)
	check(time.Minute+testGrace, StateDown, 0)
	if next := s.View(start.Add(time.Minute)).Next; !next.Equal(start.Add(time.Minute + testGrace)) {
		t.Fatalf("next change at %s", next)
	}
	if next := s.View(start.Add(time.Hour)).Next; !next.IsZero() {
		t.Fatalf("next change at %s, want none", next)
	}
	s.SetAlive(id, true, start.Add(time.Hour))
	check(time.Hour, StateUp, 1)
}

// Liveness of a node whose record comes later is kept; of one that went, it is not.
func TestLivenessBeforeTheRecord(t *testing.T) {
	s := memoryStore(1)
	s.SetAlive(identity(2).ID, true, start)
	s.SetAlive(identity(3).ID, true, start)
	s.SetAlive(identity(3).ID, false, start)
	merge(t, s, seal(t, 2, record(2, 1)), true)
	if m := member(t, s, 2); m.State != StateUp {
		t.Fatalf("state %s", m.State)
	}
	if len(s.alive) != 1 {
		t.Fatalf("liveness of %d nodes is kept", len(s.alive))
	}
}

// Both machines of a clone hear of it, and a restored backup is none.
func TestClone(t *testing.T) {
	s := memoryStore(1)
	s.Settle()
	publish(t, s, 1, "10.244.1.0/24")
	merge(t, s, seal(t, 1, record(1, 40)), false)
	if at, ok := s.Clone(); ok {
		t.Fatalf("a backup is taken for a clone at %s", at)
	}
	for i := range uint64(2) {
		if at, ok := s.Clone(); ok {
			t.Fatalf("a clone at %s after %d records", at, i)
		}
		if _, err := s.Refresh(); err != nil {
			t.Fatal(err)
		}
		merge(t, s, seal(t, 1, at(record(1, 100*(i+1)), "192.0.2.9:8285")), false)
	}
	if at, ok := s.Clone(); !ok || at != netip.MustParseAddr("192.0.2.9") {
		t.Fatalf("clone at %s, %v", at, ok)
	}
}

func TestViewFences(t *testing.T) {
	s := memoryStore(1)
	s.Settle()
	publish(t, s, 1, "10.244.1.0/24")
	if self := s.View(start).Self; self.State != StateUp || len(self.Prefixes) != 1 {
		t.Fatalf("self %+v", self)
	}
	// n2 has held the block since before, on the other side of a partition.
	merge(t, s, seal(t, 2, record(2, 9, claim("10.244.0.0/22", 1))), true)
	s.SetAlive(identity(2).ID, true, start)
	v := s.View(start)
	if v.Self.State != StateFenced || len(v.Self.Prefixes) != 0 || !strings.Contains(v.Self.Reason, "n2") {
		t.Fatalf("self %+v", v.Self)
	}
	if len(v.Conflicts) != 1 || v.Conflicts[0].Winner != identity(2).ID || v.Conflicts[0].Loser != identity(1).ID {
		t.Fatalf("conflicts %v", v.Conflicts)
	}
	err := s.Claim(netip.MustParsePrefix("10.244.1.0/24"))
	if _, ok := errors.AsType[*ConflictError](err); !ok {
		t.Fatalf("claiming it again: %v", err)
	}
	// A reservation outlives its owner's death.
	s.SetAlive(identity(2).ID, false, start)
	if v := s.View(start.Add(time.Hour)); v.Self.State != StateFenced {
		t.Fatalf("self %+v", v.Self)
	}
	// The loser in the winner's eyes.
	other := memoryStore(3)
	own, _ := s.Own()
	for _, e := range []Envelope{own, s.Envelopes()[1]} {
		merge(t, other, e, true)
	}
	if m := member(t, other, 1); m.State != StateRefused || !strings.Contains(m.Reason, "n2") {
		t.Fatalf("member %+v", m)
	}
}

// A node whose IPv6 block is another's keeps its IPv4 one, in its own eyes and in others'.
func TestOneClaimOfSeveralIsLost(t *testing.T) {
	s := memoryStore(1)
	publish(t, s, 1, "10.244.1.0/24", "10.244.9.0/24", "fd00:10:244:1::/64")
	s.Settle()
	if self := s.View(start).Self; self.State != StateUp || len(self.Prefixes) != 3 {
		t.Fatalf("self %+v", self)
	}
	merge(t, s, seal(t, 2, record(2, 9, claim("10.244.2.0/24", 9), claim("fd00:10:244:1::/64", 1))), true)
	s.SetAlive(identity(2).ID, true, start)
	own, _ := s.Own()
	other := memoryStore(3)
	for _, e := range []Envelope{own, s.Envelopes()[1]} {
		merge(t, other, e, true)
	}
	other.SetAlive(identity(1).ID, true, start)
	kept := parse([]string{"10.244.1.0/24", "10.244.9.0/24"})
	for _, m := range []Member{s.View(start).Self, member(t, other, 1)} {
		if m.State != StateUp || !slices.Equal(m.Prefixes, kept) || !strings.Contains(m.Reason, "fd00:10:244:1::/64") || !strings.Contains(m.Reason, "n2") {
			t.Errorf("%s: %s with %v, %q", m.ID.Short(), m.State, m.Prefixes, m.Reason)
		}
	}
	if m := member(t, s, 2); len(m.Prefixes) != 2 || m.Reason != "" {
		t.Errorf("the owner has %v, %q", m.Prefixes, m.Reason)
	}
}

func TestSubscribeCoalesces(t *testing.T) {
	s := memoryStore(1)
	changes, cancel := s.Subscribe()
	for v := range uint64(5) {
		merge(t, s, seal(t, 2, record(2, v+1)), true)
	}
	<-changes
	select {
	case <-changes:
		t.Fatal("two tokens")
	default:
	}
	merge(t, s, seal(t, 2, record(2, 5)), false)
	select {
	case <-changes:
		t.Fatal("a token for nothing")
	default:
	}
	cancel()
	merge(t, s, seal(t, 2, record(2, 9)), true)
	select {
	case <-changes:
		t.Fatal("a token after cancel")
	default:
	}
}

// For the race detector: every method at once.
func TestConcurrentUse(t *testing.T) {
	s := memoryStore(1)
	var envs []Envelope
	for v := range uint64(20) {
		envs = append(envs, seal(t, 2, record(2, v+1)), seal(t, 1, record(1, 10*v+1)))
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			changes, cancel := s.Subscribe()
			defer cancel()
			for i, e := range envs {
				if _, err := s.Merge(e); err != nil {
					t.Error(err)
				}
				s.SetAlive(identity(2).ID, i%2 == 0, start)
				select {
				case <-changes:
				default:
				}
				s.View(start)
				s.Envelopes()
			}
		})
		wg.Go(func() {
			for range 10 {
				if err := s.Publish(record(1, 1).Description); err != nil {
					t.Error(err)
				}
				if _, err := s.Refresh(); err != nil {
					t.Error(err)
				}
				if err := s.Save(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
