package sim

import (
	"fmt"
	"time"

	"github.com/weft-net/weft/membership"
)

// Join lets a quiet cluster of so many nodes come up, has newcomers join it one after the
// other, and returns how long each took from its start until every node routed its block.
func Join(nodes, newcomers int, seed uint64, keys Keys) ([]time.Duration, error) {
	w := newWorld(History{Seed: seed, Nodes: nodes}, keys)
	w.calm, w.lapse = true, 0
	for w.begin(nodes); w.disagreement() != "" && w.now < Patience && !w.failed(); {
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
