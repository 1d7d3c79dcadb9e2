package path_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/dataplane/path"
)

// world is an underlay in virtual time: nodes with a Tracker each, joined by links.
type world struct {
	tb    testing.TB
	rng   *rand.Rand
	now   time.Time
	nodes map[string]*node
	links map[string]*link // by mode
	mail  []letter         // in order of arrival
}

type node struct {
	*path.Tracker
	id      string
	busy    map[string]bool
	only    path.Way // is busy, where it is set
	sent    []sent
	changes int
	refused map[error]int
}

type sent struct {
	at   time.Time
	way  path.Way
	size int
}

// link carries the probes of one mode, each way.
type link struct {
	mtu    int           // what is larger is lost
	local  int           // what is larger is refused at the sender, where not 0
	loss   float64       // of each datagram
	delay  time.Duration // one way
	jitter time.Duration // random, on top
}

type letter struct {
	at       time.Time
	from, to string
	mode     string
	message  []byte
	size     int
}

// long leaves a test out of short runs, which are those under the race detector: that makes them
// ten times as long, and finds nothing where all is one goroutine.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a simulation: run it without -short")
	}
}

func newWorld(tb testing.TB, seed uint64, ids ...string) *world {
	w := &world{
		tb:    tb,
		rng:   rand.New(rand.NewPCG(seed, 0)),
		now:   time.Date(2026, 1, 1, 0, 0, 0, int(seed), time.UTC),
		nodes: map[string]*node{},
		links: map[string]*link{},
	}
	for _, id := range ids {
		w.nodes[id] = &node{
			Tracker: path.New(id, path.Key([]byte("secret")), w.now),
			id:      id, busy: map[string]bool{}, refused: map[error]int{},
		}
	}
	return w
}

// pair is a world of a and b, which know each other over one link.
func pair(tb testing.TB, seed uint64, l link, ceiling int) *world {
	w := newWorld(tb, seed, "a", "b")
	w.links["udp"] = &l
	w.nodes["a"].Set([]path.Candidate{{Way: to("b"), Ceiling: ceiling}}, w.now)
	w.nodes["b"].Set([]path.Candidate{{Way: to("a"), Ceiling: ceiling}}, w.now)
	return w
}

func to(peer string) path.Way {
	return path.Way{Peer: peer, Mode: "udp", To: netip.MustParseAddrPort("192.0.2.1:8285")}
}

// run lets d pass.
func (w *world) run(d time.Duration) {
	w.runUntil(d, func() bool { return false })
}

// runUntil lets time pass until done, and returns how much did: d at the most.
func (w *world) runUntil(d time.Duration, done func() bool) time.Duration {
	w.tb.Helper()
	began := w.now
	end := w.now.Add(d)
	for turns := 0; !done(); turns++ {
		if turns > 1_000_000 {
			w.tb.Fatalf("at %v the world stands still", w.now.Sub(began))
		}
		next := end
		for _, n := range w.nodes {
			if at := n.Next(); at.Before(next) {
				next = at
			}
		}
		if len(w.mail) > 0 && w.mail[0].at.Before(next) {
			next = w.mail[0].at
		}
		if !next.Before(end) {
			w.now = end
			break
		}
		if next.After(w.now) {
			w.now = next
		}
		w.deliver()
		w.tick()
	}
	return w.now.Sub(began)
}

func (w *world) deliver() {
	for len(w.mail) > 0 && !w.mail[0].at.After(w.now) {
		l := w.mail[0]
		w.mail = w.mail[1:]
		n := w.nodes[l.to]
		answer, err := n.Receive(l.from, l.message, l.size, w.now)
		if err != nil {
			n.refused[err]++
		}
		if answer != nil {
			w.send(letter{from: l.to, to: l.from, mode: l.mode, message: answer, size: len(answer) + 28})
		}
		n.note()
	}
}

func (w *world) tick() {
	for _, id := range slices.Sorted(maps.Keys(w.nodes)) {
		n := w.nodes[id]
		for _, p := range n.Tick(w.now, func(w path.Way) bool { return n.busy[w.Peer] || w == n.only }) {
			n.sent = append(n.sent, sent{w.now, p.Way, p.Size})
			if local := w.links[p.Way.Mode].local; local > 0 && p.Size > local {
				n.Unsent(p, w.now)
				continue
			}
			padded := append(slices.Clone(p.Message), make([]byte, p.Size-28-len(p.Message))...)
			w.send(letter{from: id, to: p.Way.Peer, mode: p.Way.Mode, message: padded, size: p.Size})
		}
		n.note()
	}
}

func (n *node) note() {
	if n.Changed() {
		n.changes++
	}
}

func (w *world) send(l letter) {
	k := w.links[l.mode]
	if l.size > k.mtu || w.rng.Float64() < k.loss || w.nodes[l.to] == nil {
		return
	}
	l.at = w.now.Add(k.delay)
	if k.jitter > 0 {
		l.at = l.at.Add(time.Duration(w.rng.Int64N(int64(k.jitter))))
	}
	at, _ := slices.BinarySearchFunc(w.mail, l.at, func(m letter, at time.Time) int {
		if m.at.After(at) {
			return 1
		}
		return -1 // behind what arrives at the same time
	})
	w.mail = slices.Insert(w.mail, at, l)
}

// large returns how many probes for sizes n sent since then.
func (n *node) large(since time.Time) int {
	count := 0
	for _, s := range n.sent {
		if s.size > path.SmallSize && !s.at.Before(since) {
			count++
		}
	}
	return count
}

func (w *world) String() string {
	return fmt.Sprintf("%+v at %v", *w.links["udp"], w.now.Format("15:04:05.000"))
}
