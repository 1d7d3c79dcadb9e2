package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/weft-net/weft/membership"
)

// Join lets a cluster of so many nodes come up until it is silent, has newcomers join it one after the
// other, and returns how long each took from its start until every node routed its block.
func Join(nodes, newcomers int, seed uint64, keys Keys) ([]time.Duration, error) {
	w := newWorld(History{Seed: seed, Nodes: nodes}, keys)
	w.calm, w.lapse = true, 0
	for w.begin(nodes); (w.disagreement() != "" || !w.silent()) && w.now < 5*Patience && !w.failed(); {
		w.runUntil(w.now+5*time.Second, w.failed)
	}
	var times []time.Duration
	for range newcomers {
		if why := w.disagreement(); why != "" {
			w.fail("a quiet cluster of %d nodes does not agree: %s", nodes, why)
		}
		if w.failed() {
			return nil, fmt.Errorf("seed %d: %s", seed, w.result.Failure)
		}
		began := w.now
		n := w.add(len(w.nodes[0].seeds))
		w.awaited, w.unaware = n.identity.ID, len(w.nodes)-1
		n.start()
		w.runUntil(w.now+Patience, func() bool { return w.failed() || w.unaware == 0 })
		times = append(times, w.now-began)
		w.runUntil(w.now+5*time.Second, w.failed)
	}
	return times, nil
}

// silent says whether all nodes have met, and what they had to tell each other is told: else it is in the way of news for
// some minutes.
func (w *world) silent() bool {
	return !slices.ContainsFunc(w.nodes, func(n *node) bool { return len(n.peers) < len(w.nodes)-1 || len(n.broadcasts) > 0 })
}

// aware counts the nodes that have not heard what block the awaited newcomer holds.
func (n *node) aware(e membership.Envelope) {
	if e.Signer != n.w.awaited {
		return
	}
	r, err := membership.Open(e)
	if err != nil {
		n.w.fail("%s merged what does not open: %v", n, err)
		return
	}
	for _, c := range r.Claims {
		if c.Tentative {
			return
		}
	}
	if len(r.Claims) == len(n.w.terms.Networks) {
		n.w.unaware--
	}
}
