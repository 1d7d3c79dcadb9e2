package gossip

import (
	"testing"
	"time"

	"github.com/weft-net/weft/membership"
)

// After much news a node asks others until there is no more; after one change it does not.
func TestPull(t *testing.T) {
	timing := fast()
	timing.second = time.Hour
	a := start(t, 1, Config{timing: timing})
	b := start(t, 2, Config{timing: timing, Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })

	hidden := stranger(t, 3)
	a.put(hidden)
	b.gossip.receive(membership.AppendMessage(nil, stranger(t, 4)))
	eventually(t, "the one is counted, and forgotten", func() bool { return b.gossip.news.Load() == 0 })
	if b.holds(hidden) {
		t.Fatal("one change makes a node ask for everything")
	}
	var burst []membership.Envelope
	for i := range burstNews {
		burst = append(burst, stranger(t, 10+i))
	}
	b.gossip.receive(membership.AppendMessage(nil, burst...))
	eventually(t, "what it lacks arrives", func() bool { return b.holds(hidden) })
}
