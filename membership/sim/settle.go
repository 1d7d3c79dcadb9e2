package sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/membership"
)

// Patience is how long after the end of all trouble every node has one block of each
// family and all agree: what is counted is at most a minute of dialling in ever longer
// intervals, a minute between two publications above another's, and a full exchange.
const Patience = 4 * time.Minute

// stable is for how long nothing may change from then on.
const stable = time.Minute

// mend ends all trouble.
func (w *world) mend() {
	w.say("all is mended")
	w.quiet = true
	w.splits++
	clear(w.net.parts)
	clear(w.net.oneWay)
	w.goodNetwork()
	for _, n := range w.nodes {
		n.broken = false
		if !n.running && n.number >= len(n.seeds) && w.chance(4) {
			n.gone = true
		}
		w.after(w.between(0, time.Second), n.start)
	}
}

// settle waits until all agree, and sees that they go on so.
func (w *world) settle() {
	mended := w.now
	if !w.agree() {
		return
	}
	w.result.Converged = w.now - mended
	w.say("all agree")
	before := w.result.Records
	w.runUntil(w.now+stable, w.failed)
	if w.lapse > 0 { // a dead node may have been forgotten, and its block be another's
		if w.agree() {
			w.bury()
		}
		return
	}
	if why := w.disagreement(); why != "" {
		w.fail("%s after all had agreed: %s", stable, why)
	}
	if w.result.Records != before {
		w.fail("%d records were published after all had agreed", w.result.Records-before)
	}
	w.bury()
}

// bury has an operator forget all that will not come back, and sees that everybody does.
func (w *world) bury() {
	i := slices.IndexFunc(w.nodes, func(n *node) bool { return n.running })
	if w.large || w.failed() || i < 0 {
		return
	}
	dead := make(map[membership.ID]bool)
	for _, m := range w.nodes[i].store.View(w.nodes[i].clock()).Members {
		if !m.Alive && !m.Left {
			w.nodes[i].forget(m.ID)
			dead[m.ID] = true
		}
	}
	if len(dead) == 0 || !w.agree() {
		return
	}
	for _, n := range w.nodes {
		for _, m := range n.store.View(n.clock()).Members {
			if n.running && dead[m.ID] && !m.Left {
				w.fail("%s forgot %s, and %s did not", w.nodes[i], m.Name, n)
			}
		}
	}
}

// agree waits until all agree, and says whether they do.
func (w *world) agree() bool {
	began, interval := w.now, time.Second
	if w.large {
		interval = 5 * time.Second
	}
	for {
		w.runUntil(w.now+interval, w.failed)
		why := w.disagreement()
		if why == "" || w.failed() {
			return !w.failed()
		}
		if w.now-began >= Patience {
			w.fail("%s after all was mended: %s", w.now-began, why)
			return false
		}
	}
}

// disagreement says what is not as it must be in the end, or "".
func (w *world) disagreement() string {
	var first *node
	var want map[netip.Prefix]membership.ID
	var records map[membership.ID]uint64
	for _, n := range w.nodes {
		if !n.running {
			if !n.gone {
				return fmt.Sprintf("%s is not started", n)
			}
			continue
		}
		v := n.store.View(n.clock())
		if why := n.unfinished(&v); why != "" {
			return why
		}
		table, held := routes(&v), versions(&v)
		if first == nil {
			first, want, records = n, table, held
			continue
		}
		if !maps.Equal(table, want) {
			return fmt.Sprintf("%s routes %s, %s %s", first, w.named(want), n, w.named(table))
		}
		if !maps.Equal(held, records) {
			return fmt.Sprintf("%s and %s hold different records", first, n)
		}
	}
	for _, n := range w.nodes {
		for _, p := range n.routes {
			if n.running && want[p] != n.identity.ID {
				return fmt.Sprintf("nobody routes %s to %s", p, n)
			}
		}
	}
	return ""
}

// unfinished says what a node still has to do, or "".
func (n *node) unfinished(v *membership.View) string {
	n.routes = v.Self.Prefixes
	if !n.published || v.Self.Left || !v.Self.Settled {
		return fmt.Sprintf("%s is no member", n)
	}
	if len(v.Members) >= n.w.used {
		return fmt.Sprintf("%s holds %d records, and there never were more than %d nodes", n, len(v.Members), n.w.used)
	}
	if n.fixed.IsValid() {
		return ""
	}
	if len(v.Self.Pending) > 0 || len(v.Self.Lost) > 0 {
		return fmt.Sprintf("%s waits for %v, and lost %v", n, v.Self.Pending, v.Self.Lost)
	}
	for _, net := range n.w.terms.Networks {
		has := 0
		for _, p := range v.Self.Prefixes {
			if net.Overlaps(p) {
				has++
			}
		}
		if has > 1 && !n.inUse(net) || has == 0 && !n.w.full(v, net) {
			return fmt.Sprintf("%s has %d blocks in %s: it claims %v", n, has, net, v.Self.Claims)
		}
	}
	return ""
}

// inUse says whether pods have addresses of more than one of the node's blocks in a network.
func (n *node) inUse(net netip.Prefix) bool {
	count := 0
	for p := range n.pods {
		if net.Overlaps(p) {
			count++
		}
	}
	return count > 1
}

// full says whether every block of a network is claimed.
func (w *world) full(v *membership.View, net netip.Prefix) bool {
	if net.Addr().Is6() {
		return false
	}
	claimed := make(map[netip.Prefix]bool)
	for _, m := range v.Members {
		if m.Left || m.State == membership.StateReplaced {
			continue
		}
		for _, c := range m.Claims {
			claimed[c.Prefix] = net.Overlaps(c.Prefix)
		}
	}
	return len(claimed) >= 1<<(w.bits4-net.Bits())
}

func routes(v *membership.View) map[netip.Prefix]membership.ID {
	table := make(map[netip.Prefix]membership.ID)
	for _, p := range v.Self.Prefixes {
		table[p] = v.Self.ID
	}
	for i := range v.Members {
		for _, p := range v.Members[i].Prefixes {
			table[p] = v.Members[i].ID
		}
	}
	return table
}

// versions are those of all records that a node holds.
func versions(v *membership.View) map[membership.ID]uint64 {
	held := map[membership.ID]uint64{v.Self.ID: v.Self.Version}
	for i := range v.Members {
		held[v.Members[i].ID] = v.Members[i].Version
	}
	return held
}

func (w *world) named(table map[netip.Prefix]membership.ID) string {
	text := ""
	for _, p := range slices.SortedFunc(maps.Keys(table), netip.Prefix.Compare) {
		text += " " + p.String() + ":" + table[p].Short()
	}
	return text
}
