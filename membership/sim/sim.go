// Package sim runs whole clusters of the shipped membership in virtual time: stores and
// allotters as they are, over a network, disks, clocks and operators that fail in every way
// a seed can think of. Nothing in it is concurrent and no real clock is read, so a seed
// replays its history exactly.
//
// # API
//
//	MakeKeys(n) (Keys, error)          node keys that are the same each time
//	Run(History, Keys) Result          one history
//	Join(n, newcomers, seed, Keys)     how long a newcomer takes in a cluster of n
//
// # A history
//
// Nodes start, all at once or one by one, and find each other over a join list. While
// trouble lasts (trouble.go), after every event that may have changed a store its node is
// checked (check.go). Then everything is mended, whoever is alive runs, and within
// [Patience] all must agree, each with one block of each family (settle.go).
package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/membership"
)

// History says which history is to be run; it follows from nothing else.
type History struct {
	Seed   uint64
	Number uint64
	Nodes  int
	// Verbose keeps the events in Result.Events.
	Verbose bool
}

// Result is how a history went.
type Result struct {
	Failure   string        // the first rule that was broken; empty if none was
	Events    []string      // one line each, where asked for
	Virtual   time.Duration // that passed
	Converged time.Duration // from the end of trouble until all agreed
	Records   int           // own records that were published
	Moved     int           // held blocks that were lost to another
}

// grace is how long a node that does not answer is routed.
const grace = 5 * time.Second

// epoch is when virtual time begins.
func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// world is one cluster in one history.
type world struct {
	agenda
	rng       *rand.Rand
	keys      []membership.Identity // not used yet
	authority membership.Identity   // zero where there is none
	terms     membership.Terms
	bits4     int
	bits6     int
	nodes     []*node
	net       network
	calm      bool          // nothing fails but processes, and packets are never full: then no two nodes ever use one address
	lapse     time.Duration // after which the missed are forgotten; 0 is never
	large     bool          // checks are samples
	ledger    ledger
	verified  map[[64]byte]membership.Verified // by signature
	verbose   bool
	addresses int           // given out
	used      int           // keys given out
	splits    int           // so far
	quiet     bool          // all is mended
	awaited   membership.ID // a newcomer: see Join
	unaware   int           // nodes that do not route it yet
	result    Result
}

// Run runs one history to its end, or to the first rule that is broken.
func Run(h History, keys Keys) Result {
	w := newWorld(h, keys)
	w.begin(h.Nodes)
	length := w.between(20*time.Second, 5*time.Minute)
	if w.large {
		length = w.between(20*time.Second, time.Minute)
	}
	w.plan(length)
	w.runUntil(length, w.failed)
	w.mend()
	w.settle()
	w.result.Virtual = w.now
	return w.result
}

func newWorld(h History, keys Keys) *world {
	w := &world{rng: rand.New(rand.NewPCG(h.Seed, h.Number)), verbose: h.Verbose, large: h.Nodes > 30, ledger: newLedger(),
		verified: make(map[[64]byte]membership.Verified)}
	w.keys = slices.Clone(keys)
	w.rng.Shuffle(len(w.keys), func(i, j int) { w.keys[i], w.keys[j] = w.keys[j], w.keys[i] })
	w.net = newNetwork(w)
	w.drawTerms(h.Nodes)
	if w.calm = w.chance(4); w.calm {
		w.net.envelope = 64 << 10
	}
	if !w.calm && w.chance(4) {
		w.lapse = w.between(20*time.Second, 2*time.Minute)
	}
	return w
}

// drawTerms makes a pod network that is roomy, or so small that nodes meet in it.
func (w *world) drawTerms(nodes int) {
	w.bits4, w.bits6 = 24, 64
	v4 := netip.MustParsePrefix("10.244.0.0/16")
	if nodes > 100 {
		v4 = netip.MustParsePrefix("10.128.0.0/12")
	}
	if !w.large && w.chance(2) { // 8 to 32 blocks
		v4 = netip.PrefixFrom(v4.Addr(), w.bits4-3-w.rng.IntN(3))
	}
	w.terms.Networks = []netip.Prefix{v4}
	if w.chance(2) {
		w.terms.Networks = append(w.terms.Networks, netip.MustParsePrefix("fd00:10:244::/48"))
	}
	if w.chance(8) {
		w.authority = w.key()
		w.terms.Authority = w.authority.ID
	}
}

// begin makes the first nodes, and starts them in some order.
func (w *world) begin(nodes int) {
	seeds := 1 + w.rng.IntN(min(3, nodes))
	for range nodes {
		w.add(seeds)
	}
	gathers := w.chance(2) // nobody is told to begin: all of the join list do
	w.nodes[0].bootstrap = !gathers || seeds == 1
	within := w.between(0, 5*time.Second)
	if w.chance(3) {
		within = 0 // all at once
	}
	for _, n := range w.nodes {
		w.after(w.between(0, within), n.start)
	}
}

// key takes a node key that was never used.
func (w *world) key() membership.Identity {
	k := w.keys[0]
	w.keys = w.keys[1:]
	w.used++
	return k
}

// chance is true once in n times.
func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

func (w *world) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(w.rng.Int64N(int64(high-low)))
}

func (w *world) failed() bool { return w.result.Failure != "" }

// fail ends the history.
func (w *world) fail(format string, args ...any) {
	if !w.failed() {
		w.result.Failure = fmt.Sprintf(format, args...)
		w.say("FAILED: %s", w.result.Failure)
	}
}

func (w *world) say(format string, args ...any) {
	if w.verbose {
		w.result.Events = append(w.result.Events, fmt.Sprintf("%10.3f  %s", w.now.Seconds(), fmt.Sprintf(format, args...)))
	}
}
