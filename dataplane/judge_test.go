package dataplane_test

import (
	"net/netip"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// judge says what shall become of p that n reads: the wire packets that arrive at
// node to, or else how many are dropped, and why.
func (n *node) judge(p packet.Packet, to byte) (arrive [][]byte, dropped int, why dataplane.Reason) {
	var h packet.Header
	if !packet.ParseInto(p.Data(), &h) || !p.Check(&h) {
		return nil, 1, dataplane.Malformed
	}
	from := n.endpoint.Addr().As4()[3]
	wire := reference.Segment(p)
	count := len(wire)
	own := n.config.Endpoints
	switch ours := isIn(from, h.Src) || h.Src == own[0] || h.Src == own[1]; {
	case count > packet.MaxSegments, p.GSO != packet.NoGSO && headerLen(p) > 256:
		return nil, count, dataplane.Malformed
	case !ours:
		return nil, count, dataplane.Spoofed
	case isIn(from, h.Dst):
		return nil, count, dataplane.NotOurs
	case !isIn(to, h.Dst):
		return nil, count, dataplane.NoRoute
	}
	if way := n.features.way(); len(wire[0]) > way {
		if wire = narrow(p, wire, way); len(wire) == 0 {
			return nil, count, dataplane.TooBig
		}
	}
	return wire, 0, 0
}

func isIn(node byte, addr netip.Addr) bool {
	return block(node).Contains(addr) || block6(node).Contains(addr)
}

// headerLen is the length of IP and transport header.
func headerLen(p packet.Packet) int {
	l := reference.Read(p.Data())
	if l.Protocol == packet.ProtocolUDP {
		return l.Transport + 8
	}
	return l.Transport + int(p.Data()[l.Transport+12]>>4)*4
}

// narrow is what arrives of p by a way that takes mtu bytes, less than the first of
// its wire packets has: nothing where it is too big.
func narrow(p packet.Packet, wire [][]byte, mtu int) (arrive [][]byte) {
	if p.GSO != packet.NoGSO {
		if limited, ok := reference.Limit(p, mtu); ok {
			return reference.Segment(limited)
		}
	} else if limited, ok := reference.Lone(p, mtu); ok && headerLen(limited) <= 256 {
		return reference.Segment(limited)
	}
	if p.Data()[0]>>4 == 6 {
		if len(wire[0]) <= 1280 {
			return wire // in fragments of the underlay
		}
		return nil
	}
	first := reference.Fragment(wire[0], mtu)
	if len(first)*len(wire) > packet.MaxSegments {
		return nil
	}
	if l := reference.Read(wire[0]); p.GSO != packet.NoGSO && (mtu-l.Transport)/8*8 < headerLen(p)-l.Transport {
		return nil // a fragment has not all of the transport header
	}
	for _, w := range wire {
		if len(w) <= mtu {
			arrive = append(arrive, w)
			continue
		}
		fragments := reference.Fragment(w, mtu)
		if fragments == nil {
			return nil
		}
		arrive = append(arrive, fragments...)
	}
	return arrive
}
