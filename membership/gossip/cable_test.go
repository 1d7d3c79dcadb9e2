package gossip

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// cable is a network of real sockets that can be cut between two groups.
type cable struct {
	mu   sync.Mutex
	away map[string]bool // addresses beyond the cut
}

// cut separates these nodes from all others; none heals it.
func (c *cable) cut(nodes ...*node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = make(map[string]bool)
	for _, n := range nodes {
		c.away[n.gossip.Addr().String()] = true
	}
}

func (c *cable) blocked(from, to string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away[from] != c.away[to]
}

func (c *cable) network(addr netip.AddrPort) (memberlist.NodeAwareTransport, netip.AddrPort, error) {
	t, err := listenAt(addr)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return &cabled{NodeAwareTransport: t, cable: c, from: t.addr.String()}, t.addr, nil
}

// cabled is a transport whose packets are lost and whose dials fail across the cut.
type cabled struct {
	memberlist.NodeAwareTransport
	cable *cable
	from  string
}

func (c *cabled) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if c.cable.blocked(c.from, a.Addr) {
		return time.Now(), nil
	}
	return c.NodeAwareTransport.WriteToAddress(b, a)
}

func (c *cabled) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if c.cable.blocked(c.from, a.Addr) {
		return nil, errors.New("the cable is cut")
	}
	return c.NodeAwareTransport.DialAddressTimeout(a, timeout)
}
