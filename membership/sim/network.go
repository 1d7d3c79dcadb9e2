package sim

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/weft-net/weft/membership"
)

// network carries messages between nodes, or does not.
type network struct {
	w        *world
	loss     float64         // of datagrams
	slow     time.Duration   // the most that a datagram takes
	parts    map[*node]int   // the part of a divided network that a node is in
	oneWay   map[[2]int]bool // from and to, by number: nothing passes
	envelope int             // bytes that a broadcast may hold
}

func newNetwork(w *world) network {
	return network{w: w, slow: 20 * time.Millisecond, parts: make(map[*node]int), oneWay: make(map[[2]int]bool), envelope: 1360}
}

// passes says whether a datagram can get from a to b at all.
func (t *network) passes(a, b *node) bool {
	return b.running && t.parts[a] == t.parts[b] && !t.oneWay[[2]int{a.number, b.number}]
}

// talk says whether a and b can hold a conversation.
func (t *network) talk(a, b *node) bool { return a.running && t.passes(a, b) && t.passes(b, a) }

// send carries a broadcast: it may be lost, late, overtaken, or arrive twice.
func (t *network) send(from, to *node, envs []membership.Envelope) {
	for range 1 + t.twice() {
		if t.w.rng.Float64() < t.loss {
			continue
		}
		life := to.life
		t.w.after(t.w.between(time.Millisecond/10, t.slow), func() {
			if to.life == life && t.passes(from, to) {
				to.receive(envs)
			}
		})
	}
}

func (t *network) twice() int {
	if t.loss > 0 && t.w.chance(20) {
		return 1
	}
	return 0
}

// Memberlist's and gossip's own constants.
const (
	gossipInterval = 200 * time.Millisecond
	gossipNodes    = 3
	retransmit     = 4
	exchangeEvery  = 30 * time.Second
	secondExchange = time.Second
	relayMost      = 32
	dialSample     = 32
	probeEvery     = time.Second
	redialMin      = time.Second
	redialMax      = 5 * time.Second
	redialEach     = 100 * time.Millisecond
	idleMax        = 30 * time.Second
	pullEvery      = time.Second
	burstNews      = 4
	burstPulls     = 3
)

// broadcast is a record in a node's queue.
type broadcast struct {
	about membership.ID
	env   membership.Envelope
	sent  int
	order uint64
}

// queue takes a record to be spread; it displaces an older one about the same node.
func (n *node) queue(e membership.Envelope) {
	about := e.Subject()
	n.broadcasts = slices.DeleteFunc(n.broadcasts, func(b *broadcast) bool { return b.about == about })
	n.broadcasts = append(n.broadcasts, &broadcast{about: about, env: e, order: n.queued})
	n.queued++
	if !n.gossiping {
		n.gossiping = true
		n.after(n.w.between(0, gossipInterval), n.gossip)
	}
}

// gossip sends what is queued to a few peers, the least sent first.
func (n *node) gossip() {
	limit := retransmit * int(math.Ceil(math.Log10(float64(len(n.peers)+2))))
	if n.w.calm {
		limit *= 2 // else one in some thousand records misses a node, until the next exchange
	}
	for _, p := range n.somePeers(gossipNodes) {
		slices.SortFunc(n.broadcasts, func(a, b *broadcast) int {
			return cmp.Or(a.sent-b.sent, cmp.Compare(b.order, a.order))
		})
		var envs []membership.Envelope
		left := n.w.net.envelope
		for _, b := range n.broadcasts {
			size := len(b.env.Payload) + 101
			if left < size {
				break
			}
			left -= size
			b.sent++
			envs = append(envs, b.env)
		}
		n.broadcasts = slices.DeleteFunc(n.broadcasts, func(b *broadcast) bool { return b.sent >= limit })
		if len(envs) > 0 {
			n.w.net.send(n, p.node, envs)
		}
	}
	if n.gossiping = len(n.broadcasts) > 0; n.gossiping {
		n.after(gossipInterval, n.gossip)
	}
}

// receive merges the records of one message, and relays what is news unless that is much.
func (n *node) receive(envs []membership.Envelope) {
	var news []membership.Envelope
	for _, e := range envs {
		n.noteBurial(e)
		changed, err := n.merge(e)
		if err != nil {
			n.w.fail("%s refuses a record of %s: %v", n, e.Subject().Short(), err)
			return
		}
		if changed {
			n.aware(e)
			news = append(news, e)
		}
	}
	n.learned(len(news))
	if len(news) <= relayMost {
		for _, e := range news {
			n.queue(e)
		}
	}
	n.changed(len(news) > 0)
}

// merge is Store.Merge, with a record verified once for all nodes: signatures are most of
// the work of a large history.
func (n *node) merge(e membership.Envelope) (changed bool, err error) {
	v, ok := n.w.verified[e.Signature]
	if !ok {
		if v, err = membership.Verify(e); err != nil {
			return false, err
		}
		n.w.verified[e.Signature] = v
	}
	return n.store.Accept(v)
}

// learned counts news, and has more fetched where there is much of it.
func (n *node) learned(news int) {
	n.news += news
	if news > 0 && !n.pulling {
		n.pulling = true
		n.after(n.w.between(pullEvery/2, pullEvery), n.pull)
	}
}

// pull asks some peer for what is lacking, until nothing was for a while.
func (n *node) pull() {
	n.pulling = false
	if n.news >= burstNews || n.pulls > 0 && n.news > 0 {
		n.pulls = burstPulls
	}
	n.news = 0
	if n.pulls == 0 {
		return
	}
	n.pulls--
	for _, p := range n.somePeers(1) {
		n.digests(p.node)
	}
	n.pulling = true
	n.after(n.w.between(pullEvery/2, pullEvery), n.pull)
}

// exchangeRound is a node's periodic exchange with one peer: each sends a digest, and
// gets what it lacks.
func (n *node) exchangeRound() {
	for _, p := range n.somePeers(1) {
		n.digests(p.node)
		p.node.digests(n)
	}
	n.after(n.exchangeInterval(), n.exchangeRound)
}

// exchangeInterval grows with the cluster as memberlist's does.
func (n *node) exchangeInterval() time.Duration {
	const scaleFrom = 32
	if len(n.peers) < scaleFrom {
		return exchangeEvery
	}
	return exchangeEvery * time.Duration(math.Ceil(math.Log2(float64(len(n.peers)+1))-math.Log2(scaleFrom))+1)
}

// digests sends p a digest, which p answers.
func (n *node) digests(p *node) {
	if !n.w.net.talk(n, p) {
		return
	}
	var salt [8]byte
	for i := range salt {
		salt[i] = byte(n.w.rng.Uint32())
	}
	b := n.store.AppendDigest(nil, salt)
	n.tell(p, func() {
		d, err := membership.ParseDigest(b)
		if err != nil {
			n.w.fail("%s sends a digest that %s cannot read: %v", n, p, err)
			return
		}
		if newer := sorted(p.store.Newer(d)); len(newer) > 0 {
			p.tell(n, func() { n.receive(newer) })
		}
	})
}

// tell has do happen at to, a little later, if the conversation gets that far.
func (n *node) tell(to *node, do func()) {
	lives := [2]int{n.life, to.life}
	n.w.after(n.w.between(time.Millisecond, 5*n.w.net.slow), func() {
		if n.life == lives[0] && to.life == lives[1] && n.w.net.talk(n, to) {
			do()
		}
	})
}

// dial is a full exchange with p in both directions, after which each counts the other
// as alive; done hears once whether it took place.
func (n *node) dial(p *node, done func(ok bool)) {
	ended := false
	end := func(ok bool) {
		if !ended {
			ended = true
			done(ok)
		}
	}
	if p == n || !n.w.net.talk(n, p) {
		n.after(n.w.between(10*time.Millisecond, 2*time.Second), func() { end(false) })
		return
	}
	ours := sorted(n.store.Envelopes())
	n.tell(p, func() {
		theirs := sorted(p.store.Envelopes())
		p.joined(n, ours)
		p.tell(n, func() {
			n.joined(p, theirs)
			n.introduce(p)
			end(true)
		})
	})
	n.after(time.Second+20*n.w.net.slow, func() { end(false) })
}

// joined takes the other half of a full exchange with p.
func (n *node) joined(p *node, envs []membership.Envelope) {
	n.learn(p)
	n.receive(envs)
}

// introduce makes n and those whom p knows as alive known to each other, as memberlist's
// own part of an exchange and its gossip do.
func (n *node) introduce(p *node) {
	for _, q := range p.peers {
		q := q.node
		if q == n || n.knows(q) && q.knows(n) {
			continue
		}
		n.tell(q, func() { n.learn(q) })
		q.after(n.w.between(gossipInterval/4, 5*gossipInterval), func() {
			if n.w.net.talk(n, q) {
				q.learn(n)
				n.learn(q)
			}
		})
	}
}

// sorted orders records, whose order in a store depends on a map.
func sorted(envs []membership.Envelope) []membership.Envelope {
	slices.SortFunc(envs, func(a, b membership.Envelope) int {
		return cmp.Or(a.Signer.Compare(b.Signer), bytes.Compare(a.Payload, b.Payload))
	})
	return envs
}
