package gossip

import (
	"net/netip"
	"sync"
	"time"

	"github.com/weft-net/weft/membership"
)

// hostsAge is how old the answer of hosts may be: it costs a view of the cluster, and is
// asked for at the rate at which strangers connect.
const hostsAge = time.Second

// hosts remembers where the members gossip.
type hosts struct {
	store *membership.Store
	mu    sync.Mutex
	at    time.Time
	known map[netip.Addr]bool
}

// members returns the hosts of all members that have not left, alive or not. The map is
// not changed.
func (h *hosts) members() map[netip.Addr]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if !h.at.IsZero() && now.Sub(h.at) < hostsAge {
		return h.known
	}
	h.at, h.known = now, make(map[netip.Addr]bool)
	for _, m := range h.store.View(now).Members {
		if m.State != membership.StateLeft && m.Gossip.IsValid() {
			h.known[m.Gossip.Addr()] = true
		}
	}
	return h.known
}

// crowded says that the gossip port has more streams than it serves.
func (g *Gossip) crowded(from netip.Addr) {
	g.displaced.Add(1)
	g.warn("crowded", "the gossip port has too many connections: one was closed for another; a firewall should let the nodes alone reach it", "from", from)
}
