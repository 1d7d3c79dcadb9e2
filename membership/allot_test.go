package membership

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// allotted is a node with an allotter, which is told that it may claim.
type allotted struct {
	*Store
	allot *Allot
	now   time.Time
	ready bool
	used  []netip.Prefix
	avoid []netip.Prefix
}

// newAllotted returns node n, settled, whose network is one IPv4 prefix with blocks of /24.
func newAllotted(t *testing.T, n byte, network string) *allotted {
	t.Helper()
	return allottedOn(t, n, network, func(Snapshot) error { return nil })
}

func allottedOn(t *testing.T, n byte, network string, persist func(Snapshot) error) *allotted {
	t.Helper()
	s := NewStore(identity(n), Terms{Networks: parse([]string{network})}, testGrace, persist)
	s.Settle()
	if err := s.Publish(record(n, 1).Description); err != nil {
		t.Fatal(err)
	}
	return &allotted{Store: s, allot: NewAllot(s, 24, 64), now: start, ready: true}
}

func (a *allotted) step(t *testing.T) time.Time {
	t.Helper()
	next, err := a.try()
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// try is a Step, and another as a daemon does where the first changed the store.
func (a *allotted) try() (next time.Time, err error) {
	for range 2 {
		next, err = a.allot.Step(a.now, Surroundings{
			Ready: a.ready, Avoid: a.avoid,
			Used: func(p netip.Prefix) bool { return slices.Contains(a.used, p) },
		})
	}
	return next, err
}

// settleClaims steps until nothing is due.
func (a *allotted) settleClaims(t *testing.T) {
	t.Helper()
	for range 10 {
		next := a.step(t)
		if next.IsZero() {
			return
		}
		a.now = next
	}
	t.Fatalf("still due at %s", a.now)
}

func (a *allotted) self() Member { return a.View(a.now).Self }

func tentative(prefix string, since uint64) Claim {
	c := claim(prefix, since)
	c.Tentative = true
	return c
}

func TestAllotHoldsDown(t *testing.T) {
	a := newAllotted(t, 1, "10.244.0.0/16")
	next := a.step(t)
	if self := a.self(); len(self.Pending) != 1 || len(self.Prefixes) != 0 {
		t.Fatalf("after the first step: pending %v, routed %v", self.Pending, self.Prefixes)
	}
	if want := start.Add(holdDown(0)); !next.Equal(want) {
		t.Fatalf("due at %s: want %s", next, want)
	}
	first := a.self().Pending[0]
	a.now = next.Add(-time.Nanosecond)
	if a.step(t); len(a.self().Prefixes) != 0 {
		t.Fatal("held before its time")
	}
	a.now = next
	if next = a.step(t); !next.IsZero() || !slices.Equal(a.self().Prefixes, []netip.Prefix{first}) {
		t.Fatalf("routed %v, due %s: want %s", a.self().Prefixes, next, first)
	}
}

// A claim that was announced to nobody is held down when there is somebody.
func TestAllotHoldsDownWithAnAudience(t *testing.T) {
	a := newAllotted(t, 1, "10.244.0.0/16")
	a.step(t)
	a.ready, a.now = false, a.now.Add(time.Millisecond)
	a.step(t)
	a.ready, a.now = true, a.now.Add(time.Hour)
	if next := a.step(t); len(a.self().Prefixes) != 0 || !next.Equal(a.now.Add(holdDown(0))) {
		t.Fatalf("routed %v, due %s", a.self().Prefixes, next)
	}
	a.settleClaims(t)
}

// While others are heard of for the first time there may be more whose claims are on
// their way; but not for ever.
func TestAllotHoldsDownWhileOthersAppear(t *testing.T) {
	a := newAllotted(t, 1, "10.244.0.0/16")
	a.step(t)
	began := a.now
	for n := byte(2); len(a.self().Prefixes) == 0; n++ {
		a.now = a.now.Add(holdDown(0) - time.Millisecond)
		merge(t, a.Store, seal(t, n, record(n, 9)), true)
		a.step(t)
		if a.now.Sub(began) > 2*growth {
			t.Fatal("not held, since others go on appearing")
		}
	}
	if got := a.now.Sub(began); got < growth {
		t.Errorf("held after %s, while others appeared", got)
	}
}

func TestAllotNotReady(t *testing.T) {
	a := newAllotted(t, 1, "10.244.0.0/16")
	a.ready = false
	if next := a.step(t); !next.IsZero() || len(a.self().Claims) != 0 {
		t.Fatalf("claims %v, due %s, and may not claim", a.self().Claims, next)
	}
}

func TestAllotGivesWay(t *testing.T) {
	for _, rival := range []struct {
		name string
		of   func(p string) Claim
	}{
		{"to what is held", func(p string) Claim { return claim(p, 9) }},
		{"to an older tentative claim", func(p string) Claim { return tentative(p, 1) }},
	} {
		t.Run(rival.name, func(t *testing.T) {
			a := newAllotted(t, 1, "10.244.0.0/16")
			a.step(t)
			first := a.self().Pending[0]
			merge(t, a.Store, seal(t, 2, record(2, 9, rival.of(first.String()))), true)
			a.settleClaims(t)
			if got := a.self().Prefixes; len(got) != 1 || got[0] == first {
				t.Fatalf("routed %v, after another was quicker at %s", got, first)
			}
		})
	}
}

// A held block that is lost stays claimed while pods are on it, and another is taken.
func TestAllotLost(t *testing.T) {
	a := newAllotted(t, 1, "10.244.0.0/16")
	a.settleClaims(t)
	lost := a.self().Prefixes[0]
	a.used = []netip.Prefix{lost}
	merge(t, a.Store, seal(t, 2, record(2, 9, claim(lost.String(), 1))), true)
	a.settleClaims(t)
	self := a.self()
	if !slices.Equal(self.Lost, a.used) || len(self.Prefixes) != 1 || self.Prefixes[0] == lost {
		t.Fatalf("lost %v, routed %v", self.Lost, self.Prefixes)
	}
	kept := self.Prefixes[0]
	a.used = nil
	a.settleClaims(t)
	if self := a.self(); len(self.Lost) != 0 || !slices.Equal(self.Prefixes, []netip.Prefix{kept}) {
		t.Fatalf("without pods: lost %v, routed %v", self.Lost, self.Prefixes)
	}
}

// A lost block that is the node's again is one too many, and goes with its last pod.
func TestAllotSpare(t *testing.T) {
	a := newAllotted(t, 1, "10.244.0.0/16")
	a.settleClaims(t)
	lost := a.self().Prefixes[0]
	a.used = []netip.Prefix{lost}
	merge(t, a.Store, seal(t, 2, record(2, 9, claim(lost.String(), 1))), true)
	a.settleClaims(t)
	other := a.self().Prefixes[0]
	a.used = append(a.used, other)
	gone := record(2, 99)
	gone.Left = true
	merge(t, a.Store, seal(t, 2, gone), true)
	if a.settleClaims(t); len(a.self().Prefixes) != 2 {
		t.Fatalf("routed %v, and pods are on both", a.self().Prefixes)
	}
	a.used = []netip.Prefix{lost}
	if a.settleClaims(t); !slices.Equal(a.self().Prefixes, a.used) {
		t.Fatalf("routed %v: want the one with pods, %s", a.self().Prefixes, lost)
	}
}

// What stands in the way: held and tentative claims, of the dead too, what a refused node
// is about to have, and blocks of nodes that publish nothing.
func TestAllotPassesOver(t *testing.T) {
	a := newAllotted(t, 1, "10.244.0.0/21") // 8 blocks
	merge(t, a.Store, seal(t, 2, record(2, 2, claim("10.244.0.0/24", 1))), true)
	merge(t, a.Store, seal(t, 3, record(3, 3, claim("10.244.0.0/24", 2), tentative("10.244.1.0/24", 3))), true)
	merge(t, a.Store, seal(t, 4, record(4, 4, claim("10.244.2.0/23", 4))), true)
	merge(t, a.Store, seal(t, 5, record(5, 5, claim("10.244.4.64/26", 5))), true)
	left := record(6, 6)
	left.Left = true
	merge(t, a.Store, seal(t, 6, left), true)
	a.avoid = parse([]string{"10.244.6.0/23"})
	a.settleClaims(t)
	if want := parse([]string{"10.244.5.0/24"}); !slices.Equal(a.self().Prefixes, want) {
		t.Fatalf("routed %v: want %v, the only free one", a.self().Prefixes, want)
	}
}

// A machine that was installed anew takes the block back that it had.
func TestAllotTakesBack(t *testing.T) {
	a := newAllotted(t, 1, "10.244.0.0/16")
	before := record(2, 1, claim("10.244.77.0/24", 1))
	before.Endpoints = record(1, 1).Endpoints
	merge(t, a.Store, seal(t, 2, before), true)
	if published, err := a.Refresh(); err != nil || !published {
		t.Fatalf("not published above the machine's former record: %v", err)
	}
	a.settleClaims(t)
	if want := parse([]string{"10.244.77.0/24"}); !slices.Equal(a.self().Prefixes, want) {
		t.Fatalf("routed %v: want %v", a.self().Prefixes, want)
	}
}

func TestAllotExhausted(t *testing.T) {
	a := newAllotted(t, 1, "10.244.0.0/23")
	merge(t, a.Store, seal(t, 2, record(2, 2, claim("10.244.0.0/24", 1))), true)
	merge(t, a.Store, seal(t, 3, record(3, 3, claim("10.244.1.0/24", 1))), true)
	a.SetAlive(identity(2).ID, true, start)
	_, err := a.try()
	e, ok := errors.AsType[*ExhaustedError](err)
	if !ok || e.Total != 2 || !slices.Equal(e.Up, []string{"n2"}) || !slices.Equal(e.Down, []string{"n3"}) {
		t.Fatalf("error %v: want all 2 held, by n2 that is up and n3 that is down", err)
	}
	if !strings.Contains(err.Error(), "weft forget") {
		t.Errorf("no way out in %q", err)
	}
	if _, err := a.Forget(identity(3).ID); err != nil {
		t.Fatal(err)
	}
	a.settleClaims(t)
	if want := parse([]string{"10.244.1.0/24"}); !slices.Equal(a.self().Prefixes, want) {
		t.Fatalf("routed %v: want %v, which was freed", a.self().Prefixes, want)
	}
}

// Where a claim cannot be written to disk it is neither published nor forgotten.
func TestAllotDiskFails(t *testing.T) {
	var failing error
	a := allottedOn(t, 1, "10.244.0.0/16", func(Snapshot) error { return failing })
	failing = errors.New("no space left on device")
	next, err := a.try()
	if !errors.Is(err, failing) || !next.Equal(a.now.Add(retry)) || len(a.self().Claims) != 0 {
		t.Fatalf("claims %v, due %s, error %v", a.self().Claims, next, err)
	}
	failing, a.now = nil, next
	a.settleClaims(t)
}

func TestAllotWithinCertificate(t *testing.T) {
	ca := identity(200)
	cert, err := Certify(ca, identity(1).ID, parse([]string{"10.244.8.0/24"}))
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore(identity(1), Terms{Networks: podNetworks, Authority: ca.ID}, testGrace, func(Snapshot) error { return nil })
	s.Settle()
	d := record(1, 1).Description
	d.Cert = &cert
	if err := s.Publish(d); err != nil {
		t.Fatal(err)
	}
	a := &allotted{Store: s, allot: NewAllot(s, 24, 64), now: start, ready: true}
	for range 3 { // no IPv6 block is allowed, and so none is missed
		next, err := a.try()
		if err != nil {
			t.Fatal(err)
		}
		if !next.IsZero() {
			a.now = next
		}
	}
	if want := parse([]string{"10.244.8.0/24"}); !slices.Equal(a.self().Prefixes, want) {
		t.Fatalf("routed %v: want %v", a.self().Prefixes, want)
	}
}

// Nodes begin their search at different places, so that few of them meet.
func TestAllotPlaces(t *testing.T) {
	seen := make(map[string]bool)
	for n := range byte(20) {
		a := newAllotted(t, n+1, "10.128.0.0/9")
		a.step(t)
		seen[fmt.Sprint(a.self().Pending)] = true
	}
	if len(seen) < 19 { // of 32,768: two of 20 meet once in 170 times
		t.Errorf("20 nodes begin at %d places", len(seen))
	}
}
