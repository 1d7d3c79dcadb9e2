package gossip

import (
	"crypto/rand"
	"net/netip"

	"github.com/weft-net/weft/membership"
)

// A broadcast has one record in each packet, behind memberlist's own news, and takes
// minutes where a thousand nodes start at once. A pull brings all that another node knows.
const (
	// burstNews is how much news, in the time between two pulls, is more than some
	// node's change: then a node pulls.
	burstNews = 4
	// joinNews is what a member counts that came back: two at once may be the far side of a
	// partition, with records that changed meanwhile; one is a restart.
	joinNews = 2
	// burstPulls is how many pulls in a row bring nothing before it ends.
	burstPulls = 3
)

// learned counts news.
func (g *Gossip) learned(n int) {
	if n > 0 {
		g.news.Add(int64(n))
		signal(g.learnt)
	}
}

// pull sends a digest to some live member, which answers with what this node lacks.
func (g *Gossip) pull() {
	id, addr := g.someone()
	if !addr.IsValid() {
		return
	}
	if err := g.list.SendReliable(peer(id, addr), g.digest()); err != nil {
		g.log.Debug("a member could not be asked for what is lacking", "id", id.Short(), "error", err)
	}
}

// digest is what this node holds.
func (g *Gossip) digest() []byte {
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails
	return g.store.AppendDigest(nil, salt)
}

// someone returns a live member, or none.
func (g *Gossip) someone() (id membership.ID, addr netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, addr = range g.peers { // in random order
		break
	}
	return id, addr
}
