package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/membership"
)

// node is one machine: what is on its disk, and the daemon that runs on it or does not.
type node struct {
	w         *world
	number    int
	seeds     []*node // its join list, itself perhaps among them
	bootstrap bool
	address   netip.Addr
	gone      bool // never to be started again
	// fixed is the block that it is configured to have; invalid where it has an allotter.
	fixed netip.Prefix

	// On its disk.
	identity membership.Identity
	disk     membership.Snapshot
	backup   membership.Snapshot
	broken   bool // the disk takes no writes
	left     bool // by its own word

	// Its clock: now is skewed by offset, and drifts by so many seconds in one.
	offset time.Duration
	drift  float64

	pods map[netip.Prefix]bool // blocks that pods have addresses of

	// While it runs.
	running    bool
	life       int // counts starts and stops
	store      *membership.Store
	allot      *membership.Allot
	changes    <-chan struct{}
	peers      []peer // alive, as gossip knows
	peerAt     map[membership.ID]int
	broadcasts []*broadcast
	queued     uint64
	gossiping  bool
	news       int // records learnt of since the last pull
	pulls      int // to come without news
	pulling    bool
	published  bool
	waking     bool
	announced  membership.Envelope
	refreshed  time.Duration // the last Refresh that published
	gap        time.Duration // least time to the next
	readyAt    time.Duration // since when it might claim, or 0
	buried     uint64        // the version in which it was said to be gone, until it answers that
	stepAt     time.Duration // when the allotter is due, or 0
	redials    uint64        // rounds begun
	delay      time.Duration // to the next redial

	routes  []netip.Prefix // of its own, when it was checked last
	checked string         // its own record then
}

// peer is a node under the ID that it had when it was met.
type peer struct {
	id   membership.ID
	node *node
}

func (n *node) String() string { return fmt.Sprintf("n%d", n.number) }

// add makes a machine that has never run.
func (w *world) add(seeds int) *node {
	n := &node{w: w, number: len(w.nodes), identity: w.key(), pods: make(map[netip.Prefix]bool)}
	w.nodes = append(w.nodes, n)
	n.seeds = w.nodes[:min(seeds, len(w.nodes))]
	for _, s := range w.nodes[:min(seeds, len(w.nodes))] {
		s.seeds = w.nodes[:min(seeds, len(w.nodes))]
	}
	n.address = w.freeAddress()
	if !w.calm {
		n.offset = w.between(-time.Hour, time.Hour)
		n.drift = (w.rng.Float64() - 0.5) / 50
	}
	return n
}

// freeAddress is one that no machine ever had.
func (w *world) freeAddress() netip.Addr {
	w.addresses++
	return netip.AddrFrom4([4]byte{192, 168, byte(w.addresses >> 8), byte(w.addresses)})
}

// clock is the time as the node has it.
func (n *node) clock() time.Time {
	return epoch().Add(n.w.now + n.offset + time.Duration(float64(n.w.now)*n.drift))
}

// after does something later, unless the node is stopped before.
func (n *node) after(d time.Duration, do func()) {
	life := n.life
	n.w.after(d, func() {
		if n.running && n.life == life {
			do()
		}
	})
}

// start is what a daemon does: restore, ask everybody once, and go on when one answered
// or none did.
func (n *node) start() {
	if n.running || n.gone {
		return
	}
	n.running = true
	n.life++
	n.peers, n.peerAt = nil, make(map[membership.ID]int)
	n.broadcasts, n.gossiping, n.published, n.waking = nil, false, false, false
	n.announced, n.refreshed, n.gap, n.stepAt, n.readyAt, n.buried, n.delay = membership.Envelope{}, 0, 0, 0, 0, 0, redialMin
	n.news, n.pulls, n.pulling = 0, 0, false
	var warnings []string
	n.store, warnings = membership.RestoreStore(n.identity, n.w.terms, grace, n.persist, n.disk, n.clock())
	if len(warnings) > 0 {
		n.w.fail("%s cannot restore what it wrote: %v", n, warnings)
		return
	}
	n.allot = membership.NewAllot(n.store, n.w.bits4, n.w.bits6)
	n.changes, _ = n.store.Subscribe()
	n.w.say("%s starts as %s at %s", n, n.identity.ID.Short(), n.address)
	n.check()
	n.sync()
}

// stop is a crash, or a shutdown: others are not told.
func (n *node) stop() {
	if !n.running {
		return
	}
	n.w.say("%s stops", n)
	n.running = false
	n.life++
	n.routes, n.checked = nil, ""
}

func (n *node) persist(s membership.Snapshot) error {
	if n.broken {
		return errors.New("no space left on device")
	}
	s.Members, s.Gone = slices.Clone(s.Members), slices.Clone(s.Gone)
	n.disk = s
	return nil
}
