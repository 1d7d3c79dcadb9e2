package sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/membership"
)

// plan enters the troubles of a history at random times before its end.
func (w *world) plan(length time.Duration) {
	kinds := w.mild()
	if !w.calm {
		kinds = append(kinds, w.grave()...)
	}
	for range w.rng.IntN(2 * min(len(w.nodes), 15)) {
		w.after(w.between(0, length), kinds[w.rng.IntN(len(kinds))])
	}
}

// mild are troubles that nobody may lose a block by.
func (w *world) mild() []func() {
	return []func(){w.restart, w.restart, w.newcomer, w.newcomer, w.leave, w.populate, w.populate}
}

// grave are all others.
func (w *world) grave() []func() {
	return []func(){
		w.crash, w.crash, w.die, w.restartAll, w.split, w.split, w.split, w.cutOneWay, w.misjudge, w.misjudge,
		w.badNetwork, w.jump, w.breakDisk, w.loseState, w.reinstall, w.restoreBackup, w.moveAddress, w.takeOver, w.intrude, w.strand, w.forgetDead, w.forgetDead,
	}
}

// some is a random machine.
func (w *world) some() *node { return w.nodes[w.rng.IntN(len(w.nodes))] }

// while says how long a trouble lasts: often seconds, at times minutes.
func (w *world) while() time.Duration {
	if w.chance(3) {
		return w.between(time.Second, 2*time.Minute)
	}
	return w.between(100*time.Millisecond, 15*time.Second)
}

// restart is by an operator: what is known is saved.
func (w *world) restart() {
	n := w.some()
	if n.running && n.published {
		_ = n.store.Save() // where the disk fails, an older state is restored
	}
	n.stop()
	w.after(w.while(), n.start)
}

func (w *world) newcomer() {
	if len(w.keys) > 1 {
		w.add(len(w.nodes[0].seeds)).start()
	}
}

// leave is for good, or until the machine is added again.
func (w *world) leave() {
	n := w.some()
	if !n.running || !n.published || len(n.peers) == 0 || n == w.nodes[0] {
		return
	}
	if err := n.store.Leave(); err != nil {
		return // its disk fails
	}
	w.say("%s leaves", n)
	n.left = true
	n.check()
	n.announce()
	n.after(2*time.Second, func() {
		n.stop()
		clear(n.pods)
		if w.quiet {
			n.gone = true
			return
		}
		w.after(w.while(), n.start)
	})
}

// populate gives pods addresses of what a node owns.
func (w *world) populate() {
	n := w.some()
	for _, p := range n.routes {
		n.pods[p] = true
	}
}

// drain moves pods off blocks that their node owns no more, sooner or later.
func (n *node) drain() {
	if !n.w.quiet && !n.w.chance(3) {
		return
	}
	maps.DeleteFunc(n.pods, func(p netip.Prefix, _ bool) bool { return !slices.Contains(n.routes, p) })
}

func (w *world) crash() {
	n := w.some()
	n.stop()
	w.after(w.while(), n.start)
}

func (w *world) die() {
	if n := w.some(); n.number >= len(n.seeds) {
		n.stop()
		n.gone = true
	}
}

func (w *world) restartAll() {
	for _, n := range w.nodes {
		n.stop()
		w.after(w.between(0, 10*time.Second), n.start)
	}
}

// split divides the network in up to three parts.
func (w *world) split() {
	parts := 2 + w.rng.IntN(2)
	for _, n := range w.nodes {
		w.net.parts[n] = w.rng.IntN(parts)
	}
	w.say("the network is divided: %s", w.parts())
	w.splits++
	split := w.splits
	w.after(w.while(), func() {
		if split == w.splits {
			w.say("the network is one again")
			clear(w.net.parts)
		}
	})
}

func (w *world) parts() string {
	text := ""
	for _, n := range w.nodes {
		text += fmt.Sprintf(" %s:%d", n, w.net.parts[n])
	}
	return text
}

func (w *world) cutOneWay() {
	a, b := w.some(), w.some()
	w.say("nothing gets from %s to %s", a, b)
	w.net.oneWay[[2]int{a.number, b.number}] = true
	w.after(w.while(), func() { delete(w.net.oneWay, [2]int{a.number, b.number}) })
}

// misjudge has a node count one as dead that lives.
func (w *world) misjudge() {
	n := w.some()
	if !n.running {
		return
	}
	for _, p := range n.somePeers(1) {
		w.say("%s counts %s as dead", n, p.node)
		n.miss(p.id)
	}
}

func (w *world) badNetwork() {
	w.net.loss, w.net.slow = w.rng.Float64()/2, w.between(10*time.Millisecond, 2*time.Second)
	w.say("the network loses %.0f %% and takes up to %s", 100*w.net.loss, w.net.slow)
	w.after(w.while(), w.goodNetwork)
}

func (w *world) goodNetwork() { w.net.loss, w.net.slow = 0, 20*time.Millisecond }

// jump sets a node's clock while it is down: a running process goes by the monotonic clock.
func (w *world) jump() {
	n := w.some()
	n.stop()
	w.after(w.while(), n.start)
	n.offset += w.between(-10*time.Minute, 10*time.Minute)
	w.say("%s's clock jumps", n)
}

func (w *world) breakDisk() {
	n := w.some()
	w.say("%s's disk takes no writes", n)
	n.broken = true
	w.after(w.while(), func() { n.broken = false })
}

// loseState leaves a node its key only.
func (w *world) loseState() {
	n := w.some()
	n.stop()
	w.say("%s loses its state", n)
	n.disk = membership.Snapshot{}
	w.ledger.forfeit(n.identity.ID, "lost its state")
	w.after(w.while(), n.start)
}

// reinstall leaves a machine its address only.
func (w *world) reinstall() {
	n := w.some()
	if len(w.keys) < 2 {
		return
	}
	n.stop()
	w.say("%s is installed anew", n)
	w.ledger.forfeit(n.identity.ID, "lost its key")
	n.disk, n.backup, n.identity = membership.Snapshot{}, membership.Snapshot{}, w.key()
	w.after(w.while(), n.start)
}

// restoreBackup puts back what was on the disk when it was called the last time.
func (w *world) restoreBackup() {
	n := w.some()
	if n.backup.Own == nil {
		n.backup = n.disk
		return
	}
	n.stop()
	w.say("%s is restored from a backup", n)
	w.ledger.forfeit(n.identity.ID, "was restored from a backup")
	n.disk, n.backup = n.backup, membership.Snapshot{}
	w.after(w.while(), n.start)
}

func (w *world) moveAddress() {
	n := w.some()
	n.stop()
	n.address = w.freeAddress()
	w.say("%s moves to %s", n, n.address)
	w.after(w.while(), n.start)
}

// takeOver gives a node the address of another, which moves away while it is down.
func (w *world) takeOver() {
	a, b := w.some(), w.some()
	if a == b {
		return
	}
	a.stop()
	b.stop()
	a.address, b.address = b.address, w.freeAddress()
	w.say("%s moves to %s, %s to %s", a, a.address, b, b.address)
	w.after(w.while(), a.start)
	w.after(w.while(), b.start)
}

// intrude adds a node with a fixed block, that has heard of nobody when it claims it; at times
// two that know nothing of each other, and so claim it since the same logical time.
func (w *world) intrude() {
	p := netip.PrefixFrom(w.terms.Networks[0].Addr(), w.bits4)
	if m := w.some(); len(m.routes) > 0 && m.routes[0].Addr().Is4() {
		p = m.routes[0]
	}
	for range 1 + w.rng.IntN(2) {
		if len(w.keys) < 2 {
			return
		}
		n := w.add(len(w.nodes[0].seeds))
		n.fixed = p
		w.say("%s is alone, and to have %s", n, n.fixed)
		w.net.parts[n] = -1 - n.number
		n.start()
		w.after(w.between(5*time.Second, 20*time.Second), func() { w.net.parts[n] = 0 })
	}
}

// strand adds a node that hears nobody any more soon after it was heard.
func (w *world) strand() {
	if len(w.keys) < 2 {
		return
	}
	n := w.add(len(w.nodes[0].seeds))
	n.start()
	n.after(w.between(0, 2*time.Second), func() {
		w.say("%s hears nobody", n)
		w.net.parts[n] = -1 - n.number
		for _, p := range n.somePeers(len(n.peers)) {
			n.miss(p.id)
		}
	})
	w.after(w.between(3*time.Second, 20*time.Second), func() { w.net.parts[n] = 0 })
}

// forgetDead is an operator's `weft forget` of a node that does not answer.
func (w *world) forgetDead() {
	n := w.some()
	if !n.running || !n.published {
		return
	}
	for _, m := range n.store.View(n.clock()).Members {
		if !m.Alive && !m.Left {
			n.forget(m.ID)
			return
		}
	}
}
