package sim

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/membership"
)

// ledger is what nodes were promised: it outlives their disks.
type ledger struct {
	// version is the highest that each node published.
	version map[membership.ID]uint64
	// held are the blocks that each node held in its own view, and was not beaten to.
	held map[membership.ID]map[netip.Prefix]bool
	// claimed are the nodes that ever published a block as held. All blocks of a history
	// have one length, so that two are the same or apart.
	claimed map[netip.Prefix]map[membership.ID]bool
	// excused may lose their blocks, and why.
	excused map[membership.ID]string
}

func newLedger() ledger {
	return ledger{
		version: make(map[membership.ID]uint64),
		held:    make(map[membership.ID]map[netip.Prefix]bool),
		claimed: make(map[netip.Prefix]map[membership.ID]bool),
		excused: make(map[membership.ID]string),
	}
}

// excuse says that from here on the node may lose its blocks.
func (l *ledger) excuse(id membership.ID, why string) { l.excused[id] = why }

// forfeit says that the node's disk goes back, or is gone.
func (l *ledger) forfeit(id membership.ID, why string) {
	delete(l.version, id)
	l.excuse(id, why)
}

// disputed says whether another node ever held p.
func (l *ledger) disputed(p netip.Prefix, id membership.ID) bool {
	for other := range l.claimed[p] {
		if other != id {
			return true
		}
	}
	return false
}

// check asserts what must hold at any time in one node's eyes.
func (n *node) check() {
	w := n.w
	own, ok := n.store.Own()
	if w.failed() || !ok || w.large && string(own.Payload) == n.checked && !w.chance(200) {
		return
	}
	changed := string(own.Payload) != n.checked
	n.checked = string(own.Payload)
	v := n.store.View(n.clock())
	if changed {
		w.result.Records++
		if n.disk.Own == nil || !bytes.Equal(n.disk.Own.Payload, own.Payload) {
			w.fail("%s shows a record that is not on its disk", n)
		}
		w.say("%s publishes version %d: settled %v, left %v, %v", n, v.Self.Version, v.Self.Settled, v.Self.Left, v.Self.Claims)
	}
	n.checkLedger(&v.Self)
	n.checkBurial(&v.Self)
	n.checkTable(&v)
	if n.routes = v.Self.Prefixes; w.calm {
		n.checkOverlap()
	}
}

// checkLedger asserts that the node's own versions rise, and that it keeps what it holds
// since it is settled.
func (n *node) checkLedger(self *membership.Member) {
	l, id := &n.w.ledger, n.identity.ID
	if self.Version < l.version[id] {
		n.w.fail("%s went back from version %d to %d", n, l.version[id], self.Version)
	}
	l.version[id] = self.Version
	if self.Left {
		l.excuse(id, "left")
	}
	if self.Replaced {
		l.excuse(id, "replaced")
	}
	var holds []netip.Prefix
	for _, c := range self.Claims {
		if c.Tentative {
			continue
		}
		holds = append(holds, c.Prefix)
		if l.claimed[c.Prefix] == nil {
			l.claimed[c.Prefix] = make(map[membership.ID]bool)
		}
		l.claimed[c.Prefix][id] = true
	}
	for p := range l.held[id] {
		lost := slices.Contains(self.Lost, p)
		if !lost && slices.Contains(holds, p) {
			continue
		}
		switch {
		case l.excused[id] != "":
		case l.disputed(p, id):
			n.w.result.Moved++
		case !lost && n.another(self, p):
		default:
			n.w.fail("%s lost %s, which no other node ever held: it claims %v, and lost %v", n, p, self.Claims, self.Lost)
		}
		delete(l.held[id], p)
	}
	for _, p := range self.Prefixes {
		if !self.Settled {
			break
		}
		if l.held[id] == nil {
			l.held[id] = make(map[netip.Prefix]bool)
		}
		l.held[id][p] = true
	}
}

// noteBurial remembers that n is said to be gone, where that is newer than what it says.
func (n *node) noteBurial(e membership.Envelope) {
	if n.w.large || e.Signer == n.identity.ID || e.Subject() != n.identity.ID {
		return
	}
	r, err := membership.Open(e)
	if self := n.store.View(n.clock()).Self; err == nil && r.Version > self.Version && self.Version > 0 {
		n.buried = max(n.buried, r.Version)
	}
}

// checkBurial asserts that a node which was said to be gone claims as of its return.
func (n *node) checkBurial(self *membership.Member) {
	if n.buried == 0 || self.Version <= n.buried {
		return
	}
	for _, c := range self.Claims {
		if c.Since <= n.buried {
			n.w.fail("%s was forgotten in version %d, and claims %s since %d", n, n.buried, c.Prefix, c.Since)
		}
	}
	n.buried = 0
}

// leastHeard is for how long others could have heard of every claim before it is held,
// by a clock that runs a little fast.
const leastHeard = 590 * time.Millisecond

// checkStep asserts that an allotter claims nothing while nobody would hear of it, and
// holds nothing that others had no time to object to.
func (n *node) checkStep(before []membership.Claim, ready bool) {
	for _, c := range n.claims() {
		i := slices.IndexFunc(before, func(b membership.Claim) bool { return b.Prefix == c.Prefix })
		switch {
		case i >= 0 && before[i].Tentative == c.Tentative:
		case !ready:
			n.w.fail("%s claims %s, and may not claim", n, c.Prefix)
		case !c.Tentative && n.w.now-n.readyAt < leastHeard:
			n.w.fail("%s holds %s, and hears others for %s only", n, c.Prefix, n.w.now-n.readyAt)
		}
	}
}

// another says whether the node owns a block of p's family beside p.
func (n *node) another(self *membership.Member, p netip.Prefix) bool {
	return slices.ContainsFunc(self.Prefixes, func(o netip.Prefix) bool { return o != p && o.Addr().Is4() == p.Addr().Is4() })
}

// checkOverlap asserts that no two nodes use one address, where nothing keeps them from
// hearing of each other in time.
func (n *node) checkOverlap() {
	for _, m := range n.w.nodes {
		for _, p := range m.routes {
			if m != n && slices.ContainsFunc(n.routes, p.Overlaps) {
				n.w.fail("%s and %s both use %s, and nothing kept them from hearing of each other", n, m, p)
			}
		}
	}
}

// checkTable compares what a node routes with the rules, applied claim by claim.
func (n *node) checkTable(v *membership.View) {
	all := make([]*membership.Member, 0, len(v.Members)+1)
	for i := range v.Members {
		all = append(all, &v.Members[i])
	}
	all = append(all, &v.Self)
	owner := make(map[netip.Prefix]*membership.Member)
	for _, m := range all {
		for _, p := range m.Prefixes {
			if o := owner[p]; o != nil {
				n.w.fail("%s routes %s to %s and to %s", n, p, o.Name, m.Name)
			}
			owner[p] = m
		}
		if n.w.large && m != &v.Self && !n.w.chance(len(all)) {
			continue
		}
		routed := m == &v.Self || m.Alive || !m.Since.IsZero() && n.clock().Before(m.Since.Add(grace))
		for _, c := range m.Claims {
			want := routed && !m.Left && !c.Tentative && !replaced(m, all) && !beaten(m, c, all)
			if got := slices.Contains(m.Prefixes, c.Prefix); got != want {
				n.w.fail("%s routes %s to %s: %v, by the rules %v", n, c.Prefix, m.Name, got, want)
			}
		}
		if len(m.Prefixes) > len(m.Claims) {
			n.w.fail("%s routes %v to %s, which claims %v", n, m.Prefixes, m.Name, m.Claims)
		}
	}
}

// replaced says whether another record names an address of m's, and is newer.
func replaced(m *membership.Member, all []*membership.Member) bool {
	for _, o := range all {
		newer := o.Version > m.Version || o.Version == m.Version && o.ID.Compare(m.ID) < 0
		if o != m && newer && len(o.Endpoints) > 0 && len(m.Endpoints) > 0 && o.Endpoints[0].Addr() == m.Endpoints[0].Addr() {
			return true
		}
	}
	return false
}

// beaten says whether an overlapping claim is stronger than m's c.
func beaten(m *membership.Member, c membership.Claim, all []*membership.Member) bool {
	for _, o := range all {
		if o == m || o.Left || !slices.ContainsFunc(o.Claims, func(d membership.Claim) bool { return d.Prefix.Overlaps(c.Prefix) && stronger(o, d, m, c) }) {
			continue
		}
		if !replaced(o, all) {
			return true
		}
	}
	return false
}

// stronger says whether d of o goes before c of m.
func stronger(o *membership.Member, d membership.Claim, m *membership.Member, c membership.Claim) bool {
	switch {
	case d.Tentative != c.Tentative:
		return c.Tentative
	case o.Settled != m.Settled:
		return o.Settled
	case d.Since != c.Since:
		return d.Since < c.Since
	}
	return o.ID.Compare(m.ID) < 0
}

// checkLapsed asserts that n, of those that are alive to it, is the one to forget, and
// sees most.
func (n *node) checkLapsed(id membership.ID) {
	present, all := 1, 1
	for _, m := range n.store.View(n.clock()).Members {
		if m.Left {
			continue
		}
		all++
		if !m.Alive {
			continue
		}
		present++
		if m.ID == id || m.ID.Compare(n.identity.ID) < 0 {
			n.w.fail("%s would forget %s, and hears %s", n, id.Short(), m.Name)
		}
	}
	if 2*present <= all {
		n.w.fail("%s would forget %s, and hears %d of %d only", n, id.Short(), present, all)
	}
}
