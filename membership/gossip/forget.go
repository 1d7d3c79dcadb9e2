package gossip

import "github.com/weft-net/weft/membership"

// Forget has the store forget a node, and spreads its word: see Store.Forget.
func (g *Gossip) Forget(id membership.ID) error {
	e, err := g.store.Forget(id)
	if err != nil {
		return err
	}
	g.queue.QueueBroadcast(&broadcast{id: id, msg: membership.AppendMessage(nil, e)})
	return nil
}
