package dataplane

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/weft-net/weft/dataplane/route"
	"github.com/weft-net/weft/encap"
)

// Config is what the engine shall do: who this node is, and who owns what.
type Config struct {
	// PodCIDRs are this node's own blocks.
	PodCIDRs []netip.Prefix

	// Address is the TUN's address, the sender of ICMP errors.
	Address netip.Addr

	// Endpoints are this node's underlay addresses.
	Endpoints []netip.Addr

	// MTU is the size of the largest inner packet this node takes, in bytes.
	MTU int

	// Peers are the other nodes. Their blocks overlap neither each other nor PodCIDRs.
	Peers []Peer
}

// Peer is another node.
type Peer struct {
	ID       string         // what the peer's counters are kept under
	Endpoint netip.AddrPort // where its datagrams go to, and the address they come from
	PodCIDRs []netip.Prefix
	MTU      int // size of the largest inner packet that it takes, in bytes
	Codec    encap.Codec

	// RCO says that the peer takes packets whose checksum is left to its kernel
	// (remote checksum offload), and that this node shall send such.
	RCO bool
}

// tables is a Config made ready for lookups. It is immutable, except for the
// counters that its peers point to, and replaced whole.
type tables struct {
	codec  encap.Codec // of the one socket there is
	self   *peer       // what lookups find for this node's own blocks
	local  Config
	routes *route.Table[*peer]

	// endpoints finds the sender of a datagram. A node's source port carries
	// the inner flow's hash, so only its address says who it is.
	endpoints map[netip.Addr]*peer
}

type peer struct {
	Peer
	*link
}

// link is the traffic with one peer, as each worker counts it. It outlives the tables.
type link struct{ workers []traffic }

// traffic counts inner packets and bytes of one worker with one peer.
type traffic struct {
	txPackets, txBytes, rxPackets, rxBytes atomic.Uint64

	// No two workers write to one cache line.
	_ [32]byte
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

// compile checks c and makes its tables, with a link for each peer: that of links,
// or a new one that it adds there, for so many workers.
func compile(c Config, codec encap.Codec, workers int, links map[string]*link) (*tables, error) {
	t := &tables{
		codec:     codec,
		self:      new(peer),
		local:     c,
		endpoints: make(map[netip.Addr]*peer, len(c.Peers)),
	}
	var entries []route.Entry[*peer]
	for _, cidr := range c.PodCIDRs {
		entries = append(entries, route.Entry[*peer]{Prefix: cidr, Value: t.self})
	}
	for _, p := range c.Peers {
		if links[p.ID] == nil {
			links[p.ID] = &link{workers: make([]traffic, workers)}
		}
		entry := &peer{Peer: p, link: links[p.ID]}
		addr := p.Endpoint.Addr()
		if other, taken := t.endpoints[addr]; taken {
			return nil, fmt.Errorf("configure the dataplane: peers %s and %s have the same endpoint address %s", other.ID, p.ID, addr)
		}
		t.endpoints[addr] = entry
		for _, cidr := range p.PodCIDRs {
			entries = append(entries, route.Entry[*peer]{Prefix: cidr, Value: entry})
		}
	}
	var err error
	if t.routes, err = route.Build(entries); err != nil {
		return nil, fmt.Errorf("configure the dataplane: %w", err)
	}
	return t, nil
}

// isLocal says whether addr may be the source of a packet from this node: one of
// its pods, its TUN or its underlay address.
func (t *tables) isLocal(addr netip.Addr) bool {
	if owner, ok := t.routes.Lookup(addr); ok && owner == t.self {
		return true
	}
	for _, e := range t.local.Endpoints {
		if e == addr {
			return true
		}
	}
	return false
}

// mayCarry says whether addr may be the source of a packet from p: one of its
// pods, or the node itself.
func (t *tables) mayCarry(p *peer, addr netip.Addr) bool {
	if owner, ok := t.routes.Lookup(addr); ok && owner == p {
		return true
	}
	return addr == p.Endpoint.Addr()
}
