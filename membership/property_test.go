package membership

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Merging is commutative, associative and idempotent: whatever order records arrive
// in, however often, every store has the same view.
func TestMergeOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var envs []Envelope
		for range rapid.IntRange(1, 12).Draw(t, "records") {
			n := byte(rapid.IntRange(2, 6).Draw(t, "node"))
			e, err := Seal(identity(n), drawRecord(t, n))
			if err != nil {
				t.Fatal(err)
			}
			envs = append(envs, e)
		}
		again := append(rapid.Permutation(envs).Draw(t, "order"), rapid.SliceOf(rapid.SampledFrom(envs)).Draw(t, "repeated")...)

		a, b := memoryStore(1), memoryStore(1)
		for _, e := range envs {
			mustMerge(t, a, e)
		}
		for _, e := range again {
			mustMerge(t, b, e)
		}
		for _, s := range []*Store{a, b} {
			s.SetAlive(identity(2).ID, true, start)
			s.SetAlive(identity(3).ID, true, start)
			s.SetAlive(identity(3).ID, false, start)
		}
		va, vb := a.View(start), b.View(start)
		if !reflect.DeepEqual(va, vb) {
			t.Fatalf("one order:\n%+v\nthe other:\n%+v", va, vb)
		}
		owners(t, va)
		if a.clock != b.clock {
			t.Fatalf("clocks %d and %d", a.clock, b.clock)
		}
	})
}

func mustMerge(t *rapid.T, s *Store, e Envelope) {
	if _, err := s.Merge(e); err != nil {
		t.Fatal(err)
	}
}

// cluster is a few nodes whose messages, deaths and disks rapid controls.
type cluster struct {
	nodes []*node
	now   time.Time
}

type node struct {
	n     byte
	store *Store
	disk  Snapshot
	own   uint64 // the highest version it ever published
}

func (c *cluster) boot(n *node) {
	persist := func(s Snapshot) error { n.disk = s; return nil }
	n.store, _ = RestoreStore(identity(n.n), testTerms, testGrace, persist, n.disk, c.now)
}

// deliver gives to what from publishes.
func (c *cluster) deliver(t *rapid.T, from, to *node) {
	for _, e := range from.store.Envelopes() {
		mustMerge(t, to.store, e)
	}
}

// check asserts what must hold in every view at any time.
func (c *cluster) check(t *rapid.T) {
	for _, n := range c.nodes {
		owners(t, n.store.View(c.now))
		if e, ok := n.store.Own(); ok {
			r, err := Open(e)
			if err != nil {
				t.Fatal(err)
			}
			if r.Version < n.own {
				t.Fatalf("node %d went back from version %d to %d", n.n, n.own, r.Version)
			}
			n.own = r.Version
		}
	}
}

// Nodes that claim, leave, crash, lose their state, are restored and change their
// address, in any order and seeing each other or not: no view ever has two owners of
// an address, and once all see each other and are quiet all agree on the owners.
func TestClusterConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &cluster{now: start}
		for n := range byte(4) {
			node := &node{n: n + 1}
			c.boot(node)
			c.nodes = append(c.nodes, node)
		}
		some := func() *node { return rapid.SampledFrom(c.nodes).Draw(t, "node") }
		endpoint := func() Description {
			return describe("n", fmt.Sprintf("192.0.2.%d:8285", rapid.IntRange(1, 5).Draw(t, "endpoint")))
		}
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) { _ = some().store.Publish(endpoint()) }, // may conflict
			"claim": func(t *rapid.T) {
				_ = some().store.Claim(rapid.SliceOfNDistinct(prefixes(), 0, 2, rapid.ID[netip.Prefix]).Draw(t, "prefixes")...)
			},
			"leave":   func(t *rapid.T) { _ = some().store.Leave() },
			"refresh": func(t *rapid.T) { _, _ = some().store.Refresh() },
			"save":    func(t *rapid.T) { _ = some().store.Save() },
			"deliver": func(t *rapid.T) { c.deliver(t, some(), some()) },
			"liveness": func(t *rapid.T) {
				some().store.SetAlive(some().store.ID(), rapid.Bool().Draw(t, "alive"), c.now)
			},
			"restart": func(t *rapid.T) { c.boot(some()) },
			"lose the disk": func(t *rapid.T) {
				n := some()
				n.disk, n.own = Snapshot{}, 0
				c.boot(n)
			},
			"time passes": func(t *rapid.T) { c.now = c.now.Add(testGrace / 2) },
			"":            c.check,
		})
		c.settle(t)
		want := owners(t, c.nodes[0].store.View(c.now))
		for _, n := range c.nodes[1:] {
			if got := owners(t, n.store.View(c.now)); !maps.Equal(got, want) {
				t.Fatalf("node 1 routes %v, node %d %v", want, n.n, got)
			}
		}
	})
}

// settle lets everyone see everyone until nothing changes.
func (c *cluster) settle(t *rapid.T) {
	const rounds = 20
	for _, n := range c.nodes { // a daemon that lost its disk publishes when it starts
		if _, ok := n.store.Own(); !ok {
			if err := n.store.Publish(describe("n", fmt.Sprintf("192.0.2.%d:8285", 10+n.n))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range rounds {
		quiet := true
		for _, a := range c.nodes {
			for _, b := range c.nodes {
				b.store.SetAlive(a.store.ID(), true, c.now)
				c.deliver(t, a, b)
			}
		}
		for _, n := range c.nodes {
			published, err := n.store.Refresh()
			if err != nil {
				t.Fatal(err)
			}
			quiet = quiet && !published
		}
		c.check(t)
		if quiet {
			return
		}
	}
	t.Fatalf("still publishing after %d rounds", rounds)
}
