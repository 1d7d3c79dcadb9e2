package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/membership"
)

const (
	// messageRing is the first byte of a message that holds a ring of gossip keys. What
	// follows is for whoever takes it from Rings: to gossip it is bytes.
	messageRing = 3

	// maxRings is how many rings wait to be taken. What is lost is sent again: see SendRing.
	maxRings = 16
)

// Rings delivers the rings that other nodes sent, for the receiver to keep.
func (g *Gossip) Rings() <-chan []byte { return g.rings }

// takeRing takes b, which its caller will use again, if it is a ring.
func (g *Gossip) takeRing(b []byte) bool {
	if len(b) == 0 || b[0] != messageRing {
		return false
	}
	select {
	case g.rings <- bytes.Clone(b[1:]):
	default:
		g.log.Debug("a ring of gossip keys was not taken: too many wait")
	}
	return true
}

// SpreadRing broadcasts a ring of at most membership.MaxEnvelope bytes, in place of the one before.
func (g *Gossip) SpreadRing(ring []byte) {
	g.queue.QueueBroadcast(&ringBroadcast{ringMessage(ring)})
}

// SendRing sends a ring to a member that is alive, for one that missed the broadcast. It
// does not wait: the record of the member tells whether it arrived.
func (g *Gossip) SendRing(id membership.ID, ring []byte) {
	g.mu.Lock()
	addr, alive := g.peers[id]
	g.mu.Unlock()
	if !alive {
		return
	}
	to := peer(id, addr)
	g.start(func() {
		if err := g.list.SendReliable(to, ringMessage(ring)); err != nil {
			g.log.Debug("a ring of gossip keys was not sent", "to", id, "error", err)
		}
	})
}

func ringMessage(ring []byte) []byte { return append([]byte{messageRing}, ring...) }

// ringBroadcast is the ring in the queue. A later one displaces it.
type ringBroadcast struct{ msg []byte }

func (b *ringBroadcast) Name() string    { return "ring" }
func (b *ringBroadcast) Message() []byte { return b.msg }
func (b *ringBroadcast) Finished()       {}

func (b *ringBroadcast) Invalidates(other memberlist.Broadcast) bool {
	_, ok := other.(*ringBroadcast)
	return ok
}

// SetKeys has gossip encrypt by the first of keys, and read by all: 16 or 32 bytes each. It is
// for a node that has had a key from the start. SetKeys is not called concurrently with itself.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if g.keyring == nil || len(keys) == 0 {
		return errors.New("set the gossip keys: gossip that began with a key cannot go on without, nor the other way round")
	}
	for _, key := range keys {
		if err := g.keyring.AddKey(key); err != nil {
			return fmt.Errorf("set the gossip keys: %w", err)
		}
	}
	if err := g.keyring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("set the gossip keys: %w", err)
	}
	unwanted := func(key []byte) bool {
		return !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
	}
	held := g.keyring.GetKeys()
	first := slices.IndexFunc(held, unwanted)
	if first < 0 {
		return nil
	}
	// memberlist (v0.7.0, Keyring.RemoveKey) moves the keys behind the removed one in place, in
	// the midst of who is decrypting by them: so the last goes first, and what was wanted returns.
	for _, key := range slices.Backward(held[first:]) {
		if err := g.keyring.RemoveKey(key); err != nil {
			return fmt.Errorf("remove a gossip key: %w", err)
		}
	}
	for _, key := range keys {
		if err := g.keyring.AddKey(key); err != nil {
			return fmt.Errorf("set the gossip keys: %w", err)
		}
	}
	return nil
}
