package sim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/membership"
)

func (n *node) knows(p *node) bool {
	_, ok := n.peerAt[p.identity.ID]
	return ok
}

// learn counts p as alive.
func (n *node) learn(p *node) {
	id := p.identity.ID
	if _, known := n.peerAt[id]; known || p == n {
		return
	}
	first := len(n.peers) == 0
	n.peerAt[id] = len(n.peers)
	n.peers = append(n.peers, peer{id, p})
	n.store.SetAlive(id, true, n.clock())
	n.learned(1)
	n.changed(false)
	if first {
		n.after(secondExchange, n.exchangeAgain)
	}
}

// exchangeAgain finds what was broadcast while the node joined.
func (n *node) exchangeAgain() {
	for _, p := range n.somePeers(1) {
		n.dial(p.node, func(bool) {})
	}
}

// miss counts the node with that ID as dead.
func (n *node) miss(id membership.ID) {
	i, known := n.peerAt[id]
	if !known {
		return
	}
	last := n.peers[len(n.peers)-1]
	n.peers[i] = last
	n.peerAt[last.id] = i
	n.peers = n.peers[:len(n.peers)-1]
	delete(n.peerAt, id)
	n.store.SetAlive(id, false, n.clock())
	n.changed(false)
	n.delay = redialMin
	n.redialIn(n.w.between(redialMin/2, redialMin))
}

// somePeers returns up to count different peers.
func (n *node) somePeers(count int) []peer {
	if len(n.peers) <= count {
		return slices.Clone(n.peers)
	}
	var some []peer
	for len(some) < count {
		p := n.peers[n.w.rng.IntN(len(n.peers))]
		if !slices.Contains(some, p) {
			some = append(some, p)
		}
	}
	return some
}

// probe finds the dead: half of those that do not answer each time.
func (n *node) probe() {
	var dead []membership.ID
	for _, p := range n.peers {
		if (p.node.identity.ID != p.id || !n.w.net.talk(n, p.node)) && n.w.chance(2) {
			dead = append(dead, p.id)
		}
	}
	for _, id := range dead {
		n.miss(id)
	}
	n.after(probeEvery, n.probe)
}

// hears says whether a member is alive at an address.
func (n *node) hears(a netip.Addr) bool {
	return slices.ContainsFunc(n.peers, func(p peer) bool { return p.node.address == a })
}

// missing are the machines at the addresses of the join list and of known members that
// are neither alive nor left, in random order.
func (n *node) missing() []*node {
	var all []*node
	try := func(a netip.Addr) {
		for _, m := range n.w.nodes {
			if m.address == a && m != n && !n.knows(m) && !slices.Contains(all, m) {
				all = append(all, m)
			}
		}
	}
	for _, s := range n.seeds {
		try(s.address)
	}
	asked := len(all)
	if len(n.store.Envelopes()) > len(n.peers)+1 || asked > 0 {
		for _, m := range n.store.View(n.clock()).Members {
			if m.State != membership.StateLeft && !m.Alive {
				try(m.Gossip.Addr())
			}
		}
	}
	others := all[asked:]
	n.w.rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return all[:min(len(all), asked+dialSample)]
}

// redialIn begins a round of dials after d, instead of the one that was planned.
func (n *node) redialIn(d time.Duration) {
	n.redials++
	round := n.redials
	n.after(d, func() {
		if n.redials == round {
			n.redial()
		}
	})
}

// redial dials whoever is missing, for ever.
func (n *node) redial() {
	targets := n.missing()
	gained := false
	for _, p := range targets {
		n.dial(p, func(ok bool) {
			if ok && !gained {
				gained = true
				n.delay = redialMin
			}
		})
	}
	n.gather()
	n.delay = min(2*n.delay, idleMax)
	if len(targets) > 0 {
		n.delay = min(n.delay, max(redialMax, redialEach*time.Duration(len(n.w.nodes))))
	}
	n.redialIn(n.w.between(n.delay/2, n.delay))
}

// forgetLapsed forgets those that have been missed for too long.
func (n *node) forgetLapsed() {
	if n.w.lapse == 0 {
		return
	}
	lapsed := n.store.Lapsed(n.clock(), n.w.lapse)
	slices.SortFunc(lapsed, membership.ID.Compare)
	for _, id := range lapsed {
		n.checkLapsed(id)
		n.forget(id)
	}
}

// forget publishes that a node is gone for good.
func (n *node) forget(id membership.ID) {
	e, err := n.store.Forget(id)
	if err != nil {
		return // it is alive, or has left
	}
	n.w.say("%s forgets %s", n, id.Short())
	n.w.ledger.excuse(id, "forgotten")
	n.queue(e)
	n.changed(true)
}
