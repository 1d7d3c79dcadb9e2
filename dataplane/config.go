package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/weft-net/weft/dataplane/route"
	"github.com/weft-net/weft/encap"
)

// Config is what the engine shall do: who this node is, and who owns what.
type Config struct {
	// PodCIDRs are this node's own blocks.
	PodCIDRs []netip.Prefix

	// Addresses are the TUN's, one of a family at the most: the senders of ICMP errors.
	Addresses []netip.Addr

	// Endpoints are this node's underlay addresses.
	Endpoints []netip.Addr

	// Station is what this node takes as VXLAN for itself.
	Station encap.Station

	// MTU is the size of the largest inner packet this node takes, in bytes.
	MTU int

	// ClampMSS lowers the MSS in TCP handshakes to what the peer's MTU allows.
	ClampMSS bool

	// Peers are the other nodes. Their blocks overlap neither each other nor PodCIDRs.
	Peers []Peer

	// Segments are the layer-2 segments. Each has a TAP.
	Segments []Segment
}

// Peer is another node, and the way to it.
type Peer struct {
	ID        string       // what the peer's counters are kept under
	Endpoints []netip.Addr // the underlay addresses that its datagrams come from
	PodCIDRs  []netip.Prefix

	// To is where its datagrams go. It is invalid where there is no way to the peer
	// but what the kernel routes by itself.
	To     netip.AddrPort
	Tunnel encap.Tunnel

	// MTU is the size of the largest inner packet that gets there by this way, in
	// bytes. Larger ones of TCP, and of IPv4 without Don't Fragment, are cut.
	MTU int

	// Fragment says that the path is narrower than any that IPv6 may have, so that
	// outer packets may be fragmented, whatever is in them.
	Fragment bool

	// RCO says that the peer takes packets whose checksum is left to its kernel
	// (remote checksum offload), and that this node shall send such.
	RCO bool

	// Foreign says that the peer does not run weft: its kernel may send packets with
	// unfinished checksums, see Unsegmented.
	Foreign bool
}

// tables is a Config made ready for lookups. It is immutable, except for the
// counters that its peers point to, and replaced whole.
type tables struct {
	self   *peer // what lookups find for this node's own blocks
	local  Config
	routes *route.Table[*peer]

	// endpoints finds the sender of a datagram. A node's source port carries
	// the inner flow's hash, so only its address says who it is.
	endpoints map[netip.Addr]*peer

	segments []*segment          // by the index of their TAPs; nil without a Segment
	networks map[uint32]*segment // the same by VNI; nil without any
}

type peer struct {
	Peer
	*link
}

// link is what each worker keeps of one peer. It outlives the tables.
type link struct{ workers []traffic }

// traffic counts inner packets and bytes of one worker with one peer.
type traffic struct {
	txPackets, txBytes, rxPackets, rxBytes atomic.Uint64

	_ [32]byte // no two workers write to one cache line
}

func (l *link) read() (s PeerStats) {
	for i := range l.workers {
		t := &l.workers[i]
		s.TxPackets += t.txPackets.Load()
		s.TxBytes += t.txBytes.Load()
		s.RxPackets += t.rxPackets.Load()
		s.RxBytes += t.rxBytes.Load()
	}
	return s
}

// link is what is kept of the peer of that ID.
func (e *Engine) link(id string) *link {
	if e.links[id] == nil {
		e.links[id] = &link{workers: make([]traffic, len(e.workers))}
	}
	return e.links[id]
}

// compile checks c and makes its tables. The caller holds e.mu.
func (e *Engine) compile(c Config) (*tables, error) {
	t := &tables{
		self:      new(peer),
		local:     c,
		endpoints: make(map[netip.Addr]*peer, len(c.Peers)),
	}
	var entries []route.Entry[*peer]
	for _, cidr := range c.PodCIDRs {
		entries = append(entries, route.Entry[*peer]{Prefix: cidr, Value: t.self})
	}
	for _, p := range c.Peers {
		entry := &peer{Peer: p, link: e.link(p.ID)}
		for _, addr := range p.Endpoints {
			if other, taken := t.endpoints[addr]; taken && other != entry {
				return nil, fmt.Errorf("configure the dataplane: peers %s and %s have the same endpoint address %s", other.ID, p.ID, addr)
			}
			t.endpoints[addr] = entry
		}
		for _, cidr := range p.PodCIDRs {
			entries = append(entries, route.Entry[*peer]{Prefix: cidr, Value: entry})
		}
	}
	var err error
	if t.routes, err = route.Build(entries); err != nil {
		return nil, fmt.Errorf("configure the dataplane: %w", err)
	}
	return t, t.compileSegments(c, e)
}

// isLocal says whether addr may be the source of a packet from this node: one of
// its pods, its TUN or its underlay address.
func (t *tables) isLocal(addr netip.Addr) bool {
	if owner, ok := t.routes.Lookup(addr); ok && owner == t.self {
		return true
	}
	return slices.Contains(t.local.Endpoints, addr)
}

// mayCarry says whether addr may be the source of a packet from p: one of its
// pods, or the node itself.
func (t *tables) mayCarry(p *peer, addr netip.Addr) bool {
	if owner, ok := t.routes.Lookup(addr); ok && owner == p {
		return true
	}
	return slices.Contains(p.Endpoints, addr)
}

// address is the TUN's address of the same family as to; the zero Addr is none.
func (t *tables) address(to netip.Addr) netip.Addr {
	for _, a := range t.local.Addresses {
		if a.Is4() == to.Is4() {
			return a
		}
	}
	return netip.Addr{}
}
