package gossip

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/membership"
)

// After much news a node asks others until there is no more; after one change it does not.
// All of it is before the first periodic exchange.
func TestPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &herd{t: t, say: t.Logf, authority: newIdentity(t)}
		a, b := h.add(), h.add()
		time.Sleep(10 * time.Second) // of virtual time: until they have met
		hidden := stranger(t, 3)
		a.put(hidden)
		b.gossip.receive(membership.AppendMessage(nil, stranger(t, 4)))
		time.Sleep(5 * time.Second)
		if b.holds(hidden) {
			t.Error("one change makes a node ask for everything")
		}
		var burst []membership.Envelope
		for i := range burstNews {
			burst = append(burst, stranger(t, 10+i))
		}
		b.gossip.receive(membership.AppendMessage(nil, burst...))
		time.Sleep(5 * time.Second)
		if !b.holds(hidden) {
			t.Error("after much news a node does not ask for what it lacks")
		}
		a.stop()
		b.stop()
		time.Sleep(10 * time.Second) // memberlist's own loops end by themselves
	})
}
