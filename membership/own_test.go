package membership

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestVersionIsLamport(t *testing.T) {
	s := memoryStore(1)
	merge(t, s, seal(t, 2, record(2, 41)), true)
	publish(t, s, 1, "10.244.1.0/24")
	r := ownRecord(t, s)
	if r.Version <= 41 || r.Claims[0].Since <= 41 {
		t.Fatalf("version %d, since %d after seeing 41", r.Version, r.Claims[0].Since)
	}
	since := r.Claims[0].Since
	merge(t, s, seal(t, 3, record(3, 99)), true)
	d := record(1, 1).Description
	d.MTU = 1300
	if err := s.Publish(d); err != nil {
		t.Fatal(err)
	}
	if r = ownRecord(t, s); r.Version != 100 || r.Claims[0].Since != since {
		t.Fatalf("version %d, since %d; want 100, %d", r.Version, r.Claims[0].Since, since)
	}
}

// One record near the top must not leave the others without versions.
func TestHugeVersionIsNotFollowed(t *testing.T) {
	s := memoryStore(1)
	merge(t, s, seal(t, 2, record(2, maxVersion)), true)
	publish(t, s, 1, "10.244.1.0/24")
	if v := ownRecord(t, s).Version; v > 10 {
		t.Fatalf("version %d", v)
	}
}

func TestPublishAndClaimAreIdempotent(t *testing.T) {
	s := memoryStore(1)
	publish(t, s, 1, "10.244.2.0/24", "10.244.1.0/24")
	v := ownRecord(t, s).Version
	publish(t, s, 1, "10.244.1.0/24", "10.244.2.0/24")
	if got := ownRecord(t, s).Version; got != v {
		t.Fatalf("version %d after publishing the same, was %d", got, v)
	}
	publish(t, s, 1, "10.244.2.0/24", "10.244.3.0/24")
	r := ownRecord(t, s)
	want := []Claim{claim("10.244.2.0/24", v), claim("10.244.3.0/24", r.Version)}
	if !slices.Equal(r.Claims, want) {
		t.Fatalf("claims %v; want %v", r.Claims, want)
	}
}

// What a node says of itself is published again when any of it changed.
func TestPublishOfAnyChange(t *testing.T) {
	s := memoryStore(1)
	publish(t, s, 1)
	d := record(1, 1).Description
	for i, change := range []func(){
		func() { d.VTEPMAC = "02:00:00:00:00:01" },
		func() { d.VXLANPort = 4789 },
		func() { d.VNI = 7 },
		func() { d.LinkMTU = 1500 },
		func() { d.Modes = []string{"direct", "udp", "vxlan"} },
	} {
		before := ownRecord(t, s).Version
		change()
		if err := s.Publish(d); err != nil {
			t.Fatal(err)
		}
		if r := ownRecord(t, s); r.Version != before+1 || !r.Description.equal(d) {
			t.Errorf("change %d: published %+v", i, r)
		}
	}
}

func TestClaimRefusals(t *testing.T) {
	s := memoryStore(1)
	if err := s.Claim(parse([]string{"10.244.1.0/24"})...); !errors.Is(err, ErrUnpublished) {
		t.Fatalf("claimed before publishing: %v", err)
	}
	merge(t, s, seal(t, 2, record(2, 5, claim("10.244.2.0/24", 5))), true)
	publish(t, s, 1, "10.244.1.0/24")
	before, _ := s.Own()
	for prefix, want := range map[string]string{
		"10.245.0.0/24":      "outside the pod network 10.244.0.0/16, fd00:10:244::/48",
		"fd00:10:244::/47":   "outside the pod network",
		"fd00:10:245:1::/64": "outside the pod network",
		"10.0.0.0/8":         "outside the pod network",
		"10.244.3.1/24":      "host bits",
		"10.244.2.0/25":      "overlaps 10.244.2.0/24 of node n2",
	} {
		p := netip.MustParsePrefix(prefix)
		for _, err := range []error{s.Claim(p), s.Check(record(1, 1).Description, p)} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("claim %s: %v; want %q", prefix, err, want)
			}
		}
	}
	if err := s.Claim(parse([]string{"10.244.4.0/24", "10.244.4.0/25"})...); err == nil {
		t.Error("claimed overlapping prefixes")
	}
	if err := s.Check(record(1, 1).Description, netip.MustParsePrefix("10.244.4.0/24")); err != nil {
		t.Errorf("a free prefix: %v", err)
	}
	if after, _ := s.Own(); after.Signature != before.Signature {
		t.Fatal("a refused claim was published")
	}

	err := s.Claim(netip.MustParsePrefix("10.244.2.0/25"))
	conflict, ok := errors.AsType[*ConflictError](err)
	if !ok || conflict.Other != identity(2).ID || conflict.OtherPrefix.String() != "10.244.2.0/24" ||
		conflict.Prefix.String() != "10.244.2.0/25" || conflict.OtherState != StateDown {
		t.Fatalf("conflict %+v, %v", conflict, err)
	}
}

func TestLeaveAndReturn(t *testing.T) {
	s := memoryStore(1)
	if err := s.Leave(); err != nil {
		t.Fatalf("left before publishing: %v", err)
	}
	publish(t, s, 1, "10.244.1.0/24")
	if err := s.Leave(); err != nil {
		t.Fatal(err)
	}
	r := ownRecord(t, s)
	if !r.Left || len(r.Claims) != 0 || s.View(start).Self.State != StateLeft {
		t.Fatalf("after leaving: %+v", r)
	}
	other := memoryStore(2)
	e, _ := s.Own()
	merge(t, other, e, true)
	other.SetAlive(identity(1).ID, true, start)
	if m := member(t, other, 1); m.State != StateLeft || len(m.Prefixes) != 0 {
		t.Fatalf("others see %+v", m)
	}
	publish(t, other, 2, "10.244.1.0/24") // released
	publish(t, s, 1)
	if s.View(start).Self.State != StateUnclaimed {
		t.Fatalf("after returning: %+v", s.View(start).Self)
	}
}

func TestPersistBeforeVisible(t *testing.T) {
	var s *Store
	disk := errors.New("disk full")
	fail := true
	s = NewStore(identity(1), testTerms, testGrace, func(snap Snapshot) error {
		if e, ok := s.Own(); ok && e.Signature == snap.Own.Signature {
			t.Error("visible before it was durable")
		}
		if fail {
			return disk
		}
		return nil
	})
	if err := s.Publish(record(1, 1).Description); !errors.Is(err, disk) {
		t.Fatalf("published on a full disk: %v", err)
	}
	if _, ok := s.Own(); ok {
		t.Fatal("a record that is on no disk is visible")
	}
	fail = false
	publish(t, s, 1, "10.244.1.0/24")
	before, _ := s.Own()
	fail = true
	for name, do := range map[string]func() error{
		"claim": func() error { return s.Claim(parse([]string{"10.244.2.0/24"})...) },
		"leave": s.Leave,
		"refresh": func() error {
			merge(t, s, seal(t, 1, record(1, 50)), false)
			_, err := s.Refresh()
			return err
		},
	} {
		if err := do(); !errors.Is(err, disk) {
			t.Errorf("%s on a full disk: %v", name, err)
		}
	}
	if after, _ := s.Own(); after.Signature != before.Signature {
		t.Fatal("the own record changed on a full disk")
	}
	fail = false
	if published, err := s.Refresh(); !published || err != nil {
		t.Fatalf("refresh with room again: %v, %v", published, err)
	}
}

// Records of our own ID that are newer than ours: a restored backup.
func TestRefreshAboveOurOwn(t *testing.T) {
	s := memoryStore(1)
	publish(t, s, 1, "10.244.1.0/24", "10.244.2.0/24")
	changes, cancel := s.Subscribe()
	defer cancel()
	merge(t, s, seal(t, 1, record(1, 40, claim("10.244.1.0/24", 33))), false)
	select {
	case <-changes:
	default:
		t.Fatal("no notification: nobody would refresh")
	}
	if published, err := s.Refresh(); !published || err != nil {
		t.Fatalf("refresh: %v, %v", published, err)
	}
	want := []Claim{claim("10.244.1.0/24", 33), claim("10.244.2.0/24", 41)}
	if r := ownRecord(t, s); r.Version != 41 || !slices.Equal(r.Claims, want) {
		t.Fatalf("published %d with %v; want 41 with %v", r.Version, r.Claims, want)
	}
	if published, err := s.Refresh(); published || err != nil {
		t.Fatalf("refreshed twice: %v, %v", published, err)
	}
	merge(t, s, seal(t, 1, record(1, 40, claim("10.244.1.0/24", 33))), false)
	if published, _ := s.Refresh(); published {
		t.Fatal("an old record of ours made it publish")
	}
}

// A newer record of ours that arrives while one is being written is not lost.
func TestOurOwnDuringPublication(t *testing.T) {
	var s *Store
	arriving := seal(t, 1, record(1, 40, claim("10.244.1.0/24", 33)))
	s = NewStore(identity(1), testTerms, testGrace, func(Snapshot) error {
		_, err := s.Merge(arriving)
		return err
	})
	if err := s.Publish(record(1, 1).Description); err != nil {
		t.Fatal(err)
	}
	if published, err := s.Refresh(); !published || err != nil {
		t.Fatalf("refresh: %v, %v", published, err)
	}
	if v := ownRecord(t, s).Version; v != 41 {
		t.Fatalf("version %d; want 41", v)
	}
}

// The key survived, the state did not: others give the claims back with their Since.
func TestLostStateIsLearnt(t *testing.T) {
	s := memoryStore(1)
	merge(t, s, seal(t, 2, record(2, 50)), true)
	merge(t, s, seal(t, 1, record(1, 40, claim("10.244.1.0/24", 33))), false)
	if published, err := s.Refresh(); published || err != nil {
		t.Fatalf("published before it was told what: %v, %v", published, err)
	}
	publish(t, s, 1, "10.244.1.0/24")
	if r := ownRecord(t, s); r.Version != 51 || !slices.Equal(r.Claims, []Claim{claim("10.244.1.0/24", 33)}) {
		t.Fatalf("published %d with %v", r.Version, r.Claims)
	}
}

// A node that claimed alone must not outrank those who were there before.
func TestProvisionalClaims(t *testing.T) {
	newcomer := memoryStore(1)
	publish(t, newcomer, 1, "10.244.1.0/24")
	merge(t, newcomer, seal(t, 2, record(2, 30, claim("10.244.1.0/24", 20))), true)
	if published, err := newcomer.Refresh(); !published || err != nil {
		t.Fatalf("refresh: %v, %v", published, err)
	}
	if v := newcomer.View(start); v.Self.State != StateFenced {
		t.Fatalf("self %+v", v.Self)
	}
	if published, _ := newcomer.Refresh(); published {
		t.Fatal("refreshed twice")
	}

	first := memoryStore(3)
	first.Settle() // nobody to ask
	publish(t, first, 3, "10.244.3.0/24")
	since := ownRecord(t, first).Claims[0].Since
	merge(t, first, seal(t, 2, record(2, 30)), true)
	if published, err := first.Refresh(); published || err != nil || ownRecord(t, first).Claims[0].Since != since {
		t.Fatalf("a settled claim moved: %v, %v", published, err)
	}
}

func TestReinstalledMachine(t *testing.T) {
	old := record(2, 30, claim("10.244.1.0/24", 20))
	old.Endpoints = record(1, 1).Endpoints
	s := memoryStore(1)
	merge(t, s, seal(t, 2, old), true)
	s.SetAlive(old.ID, true, start)
	if err := s.Check(record(1, 1).Description); err == nil {
		t.Error("the address of a live node is free to take")
	}
	conflict, ok := errors.AsType[*ConflictError](s.Publish(record(1, 1).Description))
	if !ok || !conflict.Address.IsValid() || conflict.Other != old.ID || conflict.OtherState != StateUp {
		t.Fatalf("published over a live node: %+v", conflict)
	}
	s.SetAlive(old.ID, false, start)
	publish(t, s, 1, "10.244.1.0/24")
	v := s.View(start)
	if v.Self.State != StateUp || v.Members[0].State != StateReplaced || len(v.Conflicts) != 0 {
		t.Fatalf("self %s, old %s, %v", v.Self.State, v.Members[0].State, v.Conflicts)
	}
}

func TestEndpointOfADeadNodeIsTakenBack(t *testing.T) {
	s := memoryStore(1)
	s.Settle()
	publish(t, s, 1, "10.244.1.0/24")
	other := at(record(2, 30), "192.0.2.1:8285")
	s.SetAlive(other.ID, true, start)
	merge(t, s, seal(t, 2, other), true)
	if published, err := s.Refresh(); published || err != nil {
		t.Fatalf("fights a live node: %v, %v", published, err)
	}
	v := s.View(start)
	if v.Self.State != StateFenced || len(v.Conflicts) != 1 || !v.Conflicts[0].Address.IsValid() {
		t.Fatalf("self %+v, %v", v.Self, v.Conflicts)
	}
	s.SetAlive(other.ID, false, start)
	if published, err := s.Refresh(); !published || err != nil {
		t.Fatalf("refresh: %v, %v", published, err)
	}
	if v := s.View(start); v.Self.State != StateUp || v.Members[0].State != StateReplaced {
		t.Fatalf("self %s, other %s", v.Self.State, v.Members[0].State)
	}
}
