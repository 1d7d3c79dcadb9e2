package dataplane

import (
	"net/netip"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

// see shows p, which goes on to owner as count wire packets.
func (w *egress) see(owner *peer, p *packet.Packet, count int) {
	s := w.lens.begin(Out, Inner, owner)
	s.about(&w.header, p.Data())
	s.of(p, count)
	w.lens.show(p.Data())
}

// seeMalformed shows p, in which there is no packet.
func (w *egress) seeMalformed(p *packet.Packet) {
	s := w.lens.begin(Out, Inner, nil)
	s.of(p, 1)
	s.drop(Malformed, 1)
	w.lens.show(p.Data())
}

// seeRefused shows p, which goes no further.
func (w *egress) seeRefused(owner *peer, p *packet.Packet, r Reason, count int) {
	s := w.lens.begin(Out, Inner, owner)
	s.about(&w.header, p.Data())
	s.of(p, count)
	s.drop(r, count)
	w.lens.show(p.Data())
}

// of says what p is.
func (s *sight) of(p *packet.Packet, count int) {
	s.Length, s.Segments, s.Partial = len(p.Data()), count, p.CsumStart != 0
	if p.GSO != packet.NoGSO {
		s.SegmentSize = p.SegmentSize
	}
}

// seeDatagrams shows the last n datagrams of m, which carry the packet at hand: the headers and
// the payload of the first, as one outer packet.
func (w *egress) seeDatagrams(owner *peer, m *encap.Message, n int) {
	pieces := w.pieces[len(w.pieces)-n*m.PerSegment:]
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	s := w.lens.begin(Out, Outer, owner)
	s.about(&w.header, innerOf(owner, pieces[0]))
	if s.Segments = n; n > 1 {
		s.SegmentSize = m.SegmentSize
	}
	w.lens.showBehind(w.outer(owner, m, size), pieces[:m.PerSegment]...)
}

// seeLost shows that datagrams of m were not sent: as many as m says, and the first of them all.
func (w *egress) seeLost(owner *peer, m *encap.Message) {
	s := w.lens.begin(Out, Outer, owner)
	s.inner = innerOf(owner, m.Pieces[0])
	s.Src, s.Dst = addresses(s.inner)
	s.drop(reasonOf(m.Err), m.Lost)
	w.lens.showBehind(w.outer(owner, m, m.Lost*m.SegmentSize), m.Pieces[:m.PerSegment]...)
}

func (w *egress) outer(owner *peer, m *encap.Message, size int) *outer {
	w.lens.around = outer{
		from: netip.AddrPortFrom(w.tables.Load().endpoint(m.Addr.Addr()), m.SourcePort()),
		to:   m.Addr, ds: m.DSField, size: size, codec: owner.Tunnel.Codec,
	}
	return &w.lens.around
}

// endpoint is this node's underlay address of the family of to.
func (t *tables) endpoint(to netip.Addr) netip.Addr {
	for _, a := range t.local.Endpoints {
		if a.Is4() == to.Is4() {
			return a
		}
	}
	if to.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// innerOf is the inner packet in the first bytes of a datagram to p, as p takes it apart; nil where
// these are too few.
func innerOf(p *peer, datagram []byte) []byte {
	there := encap.Station{VNI: p.Tunnel.VNI, MAC: p.Tunnel.Remote}
	inner, _, kind := there.Decap(p.Tunnel.Codec, datagram)
	if kind != encap.Packet {
		return nil
	}
	return inner
}

// addresses are those of the IP header that p begins with; invalid where it has none.
func addresses(p []byte) (src, dst netip.Addr) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	case len(p) >= 40 && p[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	}
	return netip.Addr{}, netip.Addr{}
}

// arrive notes what the datagrams of m came in.
func (w *ingress) arrive(t *tables, m *encap.Received, codec encap.Codec) {
	w.lens.around = outer{
		from: m.Addr, to: netip.AddrPortFrom(t.endpoint(m.Addr.Addr()), 0), ds: m.DSField, codec: codec,
	}
}

// seeDatagram shows one of them, with the inner packet in it.
func (w *ingress) seeDatagram(from *peer, datagram, inner []byte) {
	w.lens.begin(In, Outer, from).about(&w.header, inner)
	w.lens.around.size = len(datagram)
	w.lens.showBehind(&w.lens.around, datagram)
}

// seeStray shows one in which there is none.
func (w *ingress) seeStray(from *peer, datagram []byte, r Reason) {
	w.lens.begin(In, Outer, from).drop(r, 1)
	w.lens.around.size = len(datagram)
	w.lens.showBehind(&w.lens.around, datagram)
}

// seeRefused shows an inner packet that goes no further.
func (w *ingress) seeRefused(from *peer, p []byte, partial bool, r Reason) {
	s := w.lens.begin(In, Inner, from)
	s.about(&w.header, p)
	s.drop(r, 1)
	s.Length, s.Partial = len(p), partial
	w.lens.show(p)
}

// writeSeen hands over one group after the other, so that it is known what became of each.
func (w *ingress) writeSeen(groups []packet.Group) (refused int) {
	t := w.tables.Load()
	for i := range groups {
		n, _ := w.queue.Write(groups[i : i+1])
		w.seeGroup(t, &groups[i], n)
		refused += n
	}
	return refused
}

// seeGroup shows what one write hands to the kernel, of which refused wire packets went no further.
func (w *ingress) seeGroup(t *tables, g *packet.Group, refused int) {
	first := g.Members[0]
	s := w.lens.begin(In, Inner, nil)
	s.inner = first
	s.Src, s.Dst = addresses(first)
	if from := t.senderOf(s.Src); from != nil {
		s.Peer = from.ID
	}
	s.Length = len(g.Header)
	for _, m := range g.Members {
		s.Length += len(m) - len(g.Header)
	}
	s.Segments, s.Partial = len(g.Members), g.CsumStart != 0
	if len(g.Members) > 1 {
		s.SegmentSize = g.SegmentSize
	}
	if refused > 0 {
		s.drop(DeviceRefused, refused)
	}
	w.lens.show(g.Header, first[len(g.Header):])
}

// senderOf is the peer whose packets may have the inner source src; nil for none.
func (t *tables) senderOf(src netip.Addr) *peer {
	if owner, ok := t.routes.Lookup(src); ok && owner != t.self {
		return owner
	}
	return t.endpoints[src]
}
