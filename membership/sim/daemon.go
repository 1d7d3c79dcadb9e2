package sim

import (
	"bytes"
	"errors"
	"net/netip"
	"time"

	"github.com/weft-net/weft/membership"
)

// sync asks everybody once.
func (n *node) sync() {
	targets := n.missing()
	waiting := len(targets)
	if waiting == 0 {
		n.run()
		return
	}
	done := false
	for _, p := range targets {
		n.dial(p, func(ok bool) {
			if waiting--; !done && (ok || waiting == 0) {
				done = true
				n.run()
			}
		})
	}
	n.after(6*time.Second, func() {
		if !done {
			done = true
			n.run()
		}
	})
}

// run is the daemon once it has heard of others, or knows that none answers.
func (n *node) run() {
	n.publish()
	n.after(n.w.between(0, n.exchangeInterval()), n.exchangeRound)
	n.redialIn(n.w.between(redialMin/2, redialMin))
	n.after(n.w.between(0, probeEvery), n.probe)
	n.after(10*time.Second, n.housekeep)
	n.changed(true)
}

// publish says what the node is, again and again where a node that is thought alive
// has its address.
func (n *node) publish() {
	at := netip.AddrPortFrom(n.address, 8285)
	d := membership.Description{
		Name: n.String(), Endpoints: []netip.AddrPort{at}, Gossip: netip.AddrPortFrom(n.address, 7946),
		Modes: []string{"udp"}, MTU: 1400,
	}
	if n.w.terms.Authority != (membership.ID{}) {
		c, err := membership.Certify(n.w.authority, n.identity.ID, nil)
		if err != nil {
			n.w.fail("%s is not certified: %v", n, err)
			return
		}
		d.Cert = &c
	}
	if n.store.View(n.clock()).Self.Replaced { // it gives up what another machine has released
		n.w.ledger.excuse(n.identity.ID, "replaced")
	}
	if err := n.store.Publish(d); err != nil {
		n.after(2*time.Second, n.publish)
		return
	}
	n.published, n.left = true, false
	if n.fixed.IsValid() {
		_ = n.store.Claim(n.fixed) // where it is another's, this node has none
	}
	n.changed(true)
}

// gather settles the nodes of one join list where none has heard of a cluster.
func (n *node) gather() {
	if n.store.Settled() || len(n.peers) == 0 {
		return
	}
	for _, s := range n.seeds {
		if s != n && !n.hears(s.address) {
			return
		}
	}
	n.w.say("%s begins a cluster with all that it was told of", n)
	n.store.Settle()
	n.changed(true)
}

// housekeep is what a daemon does every few seconds.
func (n *node) housekeep() {
	if n.published {
		n.gather()
		n.forgetLapsed()
		n.drain()
		_ = n.store.Save() // a disk that fails is tried again
		n.changed(true)
	}
	n.after(n.w.between(9*time.Second, 10*time.Second), n.housekeep)
}

// changed has the node look at its store a little later, and checks it at once.
func (n *node) changed(news bool) {
	if news {
		n.check()
	}
	if len(n.changes) == 0 && !news || n.waking || !n.published {
		return
	}
	n.waking = true
	latency := n.w.between(time.Millisecond, 20*time.Millisecond)
	if n.w.large {
		latency = n.w.between(50*time.Millisecond, 150*time.Millisecond) // many changes at once
	}
	n.after(latency, n.wake)
}

// wake is the daemon's answer to a change.
func (n *node) wake() {
	n.waking = false
	select {
	case <-n.changes:
	default:
	}
	n.refresh()
	n.announce()
	n.step()
	n.announce()
	n.changed(false)
}

// refresh is what gossip does: at most once a second, and ever less often.
func (n *node) refresh() {
	if due := n.refreshed + n.gap; n.refreshed > 0 && n.w.now < due {
		n.after(due-n.w.now, func() { n.changed(true) })
		return
	}
	published, err := n.store.Refresh()
	switch {
	case err != nil:
		n.after(time.Second, func() { n.changed(true) })
	case published:
		if n.gap = min(2*n.gap, 64*time.Second); n.gap == 0 || n.w.now-n.refreshed > n.gap {
			n.gap = time.Second
		}
		n.refreshed = n.w.now
		n.check()
	}
}

func (n *node) announce() {
	own, ok := n.store.Own()
	if !ok || bytes.Equal(own.Payload, n.announced.Payload) {
		return
	}
	n.announced = own
	n.queue(own)
}

// step brings the claims one step on.
func (n *node) step() {
	if n.fixed.IsValid() {
		return
	}
	ready := n.ready()
	if !ready {
		n.readyAt = 0
	} else if n.readyAt == 0 {
		n.readyAt = n.w.now
	}
	before := n.claims()
	next, err := n.allot.Step(n.clock(), membership.Surroundings{
		Ready: ready,
		Used:  func(p netip.Prefix) bool { return n.pods[p] },
	})
	n.checkStep(before, ready)
	n.check()
	if err != nil {
		if _, exhausted := errors.AsType[*membership.ExhaustedError](err); !exhausted && !n.broken && !n.left {
			n.w.fail("%s cannot claim: %v", n, err)
		}
	}
	if !next.IsZero() {
		n.stepIn(max(time.Millisecond, next.Sub(n.clock())))
	}
}

// stepIn has the allotter called after d, unless it is called before.
func (n *node) stepIn(d time.Duration) {
	at := n.w.now + d
	if n.stepAt > n.w.now && n.stepAt <= at {
		return
	}
	n.stepAt = at
	n.after(d, func() { n.changed(true) })
}

// claims are the node's own; none in a large cluster, whose views take long.
func (n *node) claims() []membership.Claim {
	if n.w.large {
		return nil
	}
	return n.store.View(n.clock()).Self.Claims
}

// ready says whether the node may claim.
func (n *node) ready() bool {
	return n.bootstrap || n.store.Settled() && len(n.peers) > 0
}
