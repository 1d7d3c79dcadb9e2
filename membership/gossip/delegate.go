package gossip

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/membership"
)

// delegate is what memberlist calls. Of these, the Notify methods about nodes are
// called with memberlist's node lock held: they must not call memberlist, nor wait
// for the queue, whose NumNodes others may hold.
type delegate struct{ g *Gossip }

// NodeMeta is empty: records are too large for it.
func (d *delegate) NodeMeta(int) []byte { return nil }

// NotifyMsg takes a broadcast, a digest whose sender asks for what it lacks, or an answer.
func (d *delegate) NotifyMsg(b []byte) {
	if !d.g.takeRing(b) {
		d.g.take(b)
	}
}

// GetBroadcasts hands out queued records.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.g.queue.GetBroadcasts(overhead, limit)
}

// LocalState is our half of a full exchange: every record for a node that joins, so that
// it knows all when Sync returns, and a digest of them from time to time.
func (d *delegate) LocalState(join bool) []byte {
	if join {
		return membership.AppendMessage(nil, d.g.store.Envelopes()...)
	}
	return d.g.digest()
}

// MergeRemoteState takes the other half.
func (d *delegate) MergeRemoteState(b []byte, _ bool) { d.g.take(b) }

func (g *Gossip) take(b []byte) {
	if membership.IsDigest(b) {
		g.digested(b)
		return
	}
	g.receive(b)
}

// relayMost bounds the news of one message that is relayed: what a node learns of a large
// cluster that it joins, or of the far side of a healed partition, others come to ask for
// (see pull). A few at once may be news to our side alone.
const relayMost = 32

// maxRejects is after how many refused records the rest of a message is dropped:
// each costs a signature check.
const maxRejects = 16

// receive merges the records of one message, and relays those that were news unless they
// are more than relayMost.
func (g *Gossip) receive(b []byte) {
	envs, err := membership.ParseMessage(b)
	if err != nil {
		g.reject(err)
		return
	}
	rejects := 0
	var news []membership.Envelope
	for _, e := range envs {
		changed, err := g.store.Merge(e)
		if err != nil {
			g.reject(err)
			if rejects++; rejects >= maxRejects {
				break
			}
		}
		if changed {
			news = append(news, e)
		}
	}
	g.learned(len(news))
	if len(news) > relayMost {
		return
	}
	for _, e := range news {
		g.queue.QueueBroadcast(&broadcast{id: e.Subject(), msg: membership.AppendMessage(nil, e)})
	}
}

func (g *Gossip) reject(err error) {
	reason, ok := errors.AsType[membership.Reject](err)
	if !ok {
		reason = "other"
	}
	g.mu.Lock()
	g.rejected[string(reason)]++
	g.mu.Unlock()
	g.warn("reject "+string(reason), "a gossiped record was dropped", "error", err)
}

// broadcast is one record in the queue. A newer one of the same node displaces it.
type broadcast struct {
	id   membership.ID
	msg  []byte
	done chan struct{} // capacity 1, or nil
}

func (b *broadcast) Name() string    { return b.id.String() }
func (b *broadcast) Message() []byte { return b.msg }

func (b *broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*broadcast)
	return ok && o.id == b.id
}

// Finished is called when it was sent often enough, or displaced.
func (b *broadcast) Finished() { signal(b.done) }

// NotifyAlive refuses nodes that are not ours to know.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if _, err := membership.ParseID(n.Name); err != nil {
		return fmt.Errorf("not a weft node: %w", err)
	}
	return nil
}

// NotifyJoin says that a node is alive, again or for the first time.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.g.setAlive(n, true) }

// NotifyLeave says that it died or left: its record knows which.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.g.setAlive(n, false) }

// NotifyUpdate would be about metadata.
func (d *delegate) NotifyUpdate(*memberlist.Node) {}

func (g *Gossip) setAlive(n *memberlist.Node, alive bool) {
	id, err := membership.ParseID(n.Name)
	if err != nil || id == g.store.ID() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.closed: // a suspicion timer outlives Shutdown
		return
	default:
	}
	if alive {
		if g.peers[id] = nodeAddr(n); len(g.peers) == 1 {
			signal(g.met)
		}
		g.learned(joinNews)
		delete(g.disputes, n.Name)
	} else {
		delete(g.peers, id)
		g.flapped(id, time.Now())
		signal(g.died)
	}
	g.alive.Store(int64(len(g.peers)))
	g.store.SetAlive(id, alive, time.Now())
}

const (
	flapWindow = time.Minute
	flapDeaths = 3 // in a window, of a node that is said to flap
)

// flapped counts the death of a node, and says once in a window which node keeps dying.
func (g *Gossip) flapped(id membership.ID, now time.Time) {
	ok, more := g.flaps.allow(id.String(), now)
	if !ok || more+1 < flapDeaths {
		return
	}
	name, known := g.store.Name(id)
	if !known {
		name = "unknown"
	}
	g.log.Warn("a node keeps dying and coming back: does its daemon restart again and again (journalctl -u weftd there), or does the underlay lose packets?",
		"node", name, "id", id.Short(), "deaths", more+1)
}

// signal leaves a token in a channel of capacity 1.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// NotifyConflict says that one node ID was seen at two addresses. It happens while a node
// has a new address, and is not yet found dead at the old one; else its key was copied.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	if !d.g.disputed(existing.Name, time.Now()) {
		return
	}
	d.g.conflicts.Add(1)
	d.g.warn("conflict "+existing.Name, "one node ID at two addresses: if this lasts, a machine was cloned with its state directory; remove that on the copy",
		"id", existing.Name, "has", nodeAddr(existing), "also", nodeAddr(other))
}

// dispute is about the address of a node.
type dispute struct{ since, last time.Time }

// maxDisputes bounds what is remembered: whoever has the gossip key can make up nodes.
const maxDisputes = 1000

// disputeWindow is how far apart two exchanges with a copy may be.
const disputeWindow = 10 * time.Minute

// disputed says whether a node's address is disputed for longer than a move takes. That ends with
// the node's being alive again.
func (g *Gossip) disputed(node string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.disputes[node]
	if now.Sub(d.last) > disputeWindow {
		d.since = now
	}
	d.last = now
	if len(g.disputes) >= maxDisputes {
		clear(g.disputes)
	}
	g.disputes[node] = d
	return now.Sub(d.since) >= g.timing.move
}

func nodeAddr(n *memberlist.Node) netip.AddrPort {
	a, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(a.Unmap(), n.Port)
}
