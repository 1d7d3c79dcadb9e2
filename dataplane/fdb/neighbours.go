package fdb

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"github.com/weft-net/weft/dataplane/packet"
)

// NeighbourMaxAge is for how many seconds what was heard of an address is repeated to who
// asks. Hosts ask again after 30 s or so (RFC 4861 section 10), and one that answers is heard.
const NeighbourMaxAge = 120

// Neighbours maps addresses of the network layer to MACs, in each VLAN of a segment for
// itself.
type Neighbours struct {
	mu     sync.Mutex
	recent *recent[address, packet.MAC]
}

// address is an IPv4 address as the IPv6 address that it is mapped to.
type address struct {
	vlan uint32
	ip   [16]byte
}

// NewNeighbours makes a Neighbours with room for entries addresses.
func NewNeighbours(entries int) *Neighbours {
	return &Neighbours{recent: newRecent[address, packet.MAC](entries)}
}

// Learn enters that ip is at mac in vlan, as packet.Ethernet has it. What was known of ip
// before is forgotten.
func (n *Neighbours) Learn(vlan uint32, ip netip.Addr, mac packet.MAC, now uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.recent.touch(address{vlan, ip.As16()}, now, NeighbourMaxAge).value = mac
}

// Lookup is where ip is. ok is false where nothing has been heard of it for NeighbourMaxAge
// seconds.
func (n *Neighbours) Lookup(vlan uint32, ip netip.Addr, now uint32) (mac packet.MAC, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := n.recent.find(address{vlan, ip.As16()})
	if i == nil || age(i.last, now) > NeighbourMaxAge {
		return packet.MAC{}, false
	}
	return i.value, true
}

// Neighbour is an address, and where it is.
type Neighbour struct {
	VLAN uint32 // as packet.Ethernet has it
	IP   netip.Addr
	MAC  packet.MAC
}

// All is all that Lookup finds, sorted by VLAN and address. It takes the memory for them.
func (n *Neighbours) All(now uint32) []Neighbour {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []Neighbour
	n.recent.all(now, NeighbourMaxAge, func(i *item[address, packet.MAC]) {
		all = append(all, Neighbour{VLAN: i.key.vlan, IP: netip.AddrFrom16(i.key.ip).Unmap(), MAC: i.value})
	})
	slices.SortFunc(all, func(a, b Neighbour) int { return cmp.Or(cmp.Compare(a.VLAN, b.VLAN), a.IP.Compare(b.IP)) })
	return all
}
