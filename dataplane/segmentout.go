package dataplane

import (
	"net/netip"
	"time"

	"github.com/weft-net/weft/dataplane/fdb"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

/* The way out of a segment: from the TAP to its members.
 *
 * 1. Read frames as the TUN's packets are (egress.go). Most of TCP comes as superpackets.
 * 2. Parse the Ethernet header; enter the source in the FDB as this node's.
 * 3. Answer a question for the hardware address of a host that is known, instead of asking
 *    all members.
 * 4. Look up which member has the destination; a frame for several stations, or for one
 *    that nobody has heard of, goes to all, but no more of them than Segment.Flood.
 * 5. Encapsulate, as packets are, with the frame's Ethernet header in place of the VTEPs', and
 *    send (message.go).
 *
 * What came from a member never goes to another (split horizon): step 1 reads nothing else
 * than the TAP.
 */

// tail is what egress keeps of the frame at hand.
type tail struct {
	segment  *segment // nil of the pod network
	ethernet packet.Ethernet
	link     []byte        // the Ethernet header; nil of the pod network
	inner    packet.Packet // what is behind it
	raw      bool          // and is no IP packet that weft understands
	count    int           // wire frames
	largest  int           // of these, in bytes, without link
	next     int           // index of the member that gets the next copy
}

// decideFrames is decide for the frames of a TAP.
func (w *egress) decideFrames(t *tables) {
	s := t.segments[w.at-1]
	w.now = seconds(w.began)
	if w.frame.next > 0 { // of the tables that it was begun by
		if !w.replicate(w.frame.segment) {
			return
		}
		w.next++
	}
	w.frame.segment = s
	for w.next < w.n && w.room() {
		if s == nil {
			w.account.Received++
			w.account.drop(NoRoute, 1)
		} else if !w.bridge(&w.pkts[w.next]) {
			break
		}
		w.next++
	}
}

// bridge decides about frame p and queues it to its member, or to all. It returns false where
// there was no room for all of the copies; the next call goes on with the others.
func (w *egress) bridge(p *packet.Packet) (done bool) {
	s := w.frame.segment
	if !w.dissect(p) {
		w.account.Received++
		w.account.drop(Malformed, 1)
		return true
	}
	f := &w.frame
	e := &f.ethernet
	switch {
	case e.EtherType == etherTypeProbe:
		if probe, ok := parseProbe(p.Data(), e); ok { // is no packet of anybody's
			s.hear(probe, w.now)
			return true
		}
	case s.Blocked:
		w.discard(Looped)
		return true
	}
	s.learn(e.Src, fdb.Local, w.now)
	if w.discovers() && w.resolve(s, p.Data()) {
		return true
	}
	if !e.Dst.Multicast() {
		// A host of this side is asked for where its bridge knows it no more: it may have gone.
		if to := s.at(s.fdb.Lookup(e.Dst, w.now)); to != nil {
			w.carry(to)
			return true
		}
	}
	return w.flood(s)
}

// dissect finds what is in p. ok is false where it is no frame, or its metadata do not agree with it.
func (w *egress) dissect(p *packet.Packet) (ok bool) {
	f, frame := &w.frame, p.Data()
	if !packet.ParseEthernet(frame, &f.ethernet) {
		return false
	}
	n := f.ethernet.Len
	f.link, f.inner, f.count = frame[:n], *p, 1
	f.inner.Start += n
	data := f.inner.Data()
	f.largest = len(data)
	if p.CsumStart != 0 {
		if f.inner.CsumStart -= n; f.inner.CsumStart <= 0 || f.inner.CsumStart+p.CsumOffset+2 > len(data) {
			return false
		}
	}
	f.raw = !packet.ParseFrame(frame, &f.ethernet, &w.header) || !f.inner.Check(&w.header)
	if f.raw {
		w.header = packet.Header{}
	}
	if p.GSO == packet.NoGSO {
		if f.raw {
			packet.Complete(&f.inner)
		}
		return true
	}
	if f.raw {
		return false
	}
	w.supers++
	w.segmenter.Reset(&f.inner, &w.header)
	f.count, f.largest = w.segmenter.Len(), w.segmenter.PacketLen()
	return f.count <= packet.MaxSegments && encap.FrameOverhead+n+w.segmenter.HeaderLen() <= maxHeaders
}

const (
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd

	protocolICMPv6 = 58
)

// discovers says whether the frame at hand may be about a neighbour (RFC 826, RFC 4861).
func (w *egress) discovers() bool {
	return discovers(&w.frame.ethernet, &w.header, w.frame.raw)
}

func discovers(e *packet.Ethernet, h *packet.Header, raw bool) bool {
	return e.EtherType == etherTypeARP || e.EtherType == etherTypeIPv6 && !raw && h.Protocol == protocolICMPv6
}

// resolve learns from a frame about a neighbour, and answers it in the name of a host that is
// known to be behind a member. A frame to one station is for that to answer.
func (w *egress) resolve(s *segment, frame []byte) (answered bool) {
	e := &w.frame.ethernet
	if ip, mac, ok := packet.NeighbourClaim(frame, e); ok {
		s.neighbours.Learn(e.VLAN, ip, mac, w.now)
	}
	target, asks := packet.NeighbourQuestion(frame, e)
	if !asks || !e.Dst.Multicast() || !w.replies.room() {
		return false
	}
	mac, known := s.neighbours.Lookup(e.VLAN, target, w.now)
	if !known || s.at(s.fdb.Lookup(mac, w.now)) == nil {
		return false
	}
	w.replies.add(frame, e, target, mac)
	s.answered.Add(1)
	return true
}

// discard enters that the frame at hand goes no further.
func (w *egress) discard(r Reason) {
	w.account.Received += uint64(w.frame.count)
	w.account.drop(r, w.frame.count)
}

// carry queues the frame at hand for a member.
func (w *egress) carry(to *peer) {
	switch {
	case w.frame.largest > min(to.MTU, w.frame.segment.MTU):
		w.discard(TooBig)
	case !to.To.IsValid():
		w.discard(NoRoute)
	default:
		w.encapsulate(to, &w.frame.inner, false)
	}
}

// flood sends the frame at hand to all members, within the limit.
func (w *egress) flood(s *segment) (done bool) {
	n := w.frame.count
	switch {
	case len(s.members) == 0:
		w.discard(NoRoute)
		return true
	case !s.limits[w.index].AllowN(time.Now(), n):
		s.limited.Add(uint64(n))
		w.discard(FloodLimit)
		return true
	}
	s.flooded.Add(uint64(n))
	return w.replicate(s)
}

// replicate queues a copy for each member from the next one on, as far as there is room: each counts
// as a frame of its own. The copies of a wire frame are the same bytes: where one member does not take
// a partial checksum it is complete for all.
func (w *egress) replicate(s *segment) (done bool) {
	for ; w.frame.next < len(s.members); w.frame.next++ {
		if !w.room() {
			return false
		}
		w.carry(s.members[w.frame.next])
	}
	w.frame.next = 0
	return true
}

// flow is the hash of the flow that p, which is the packet or frame at hand, belongs to.
func (w *egress) flow(p *packet.Packet) uint32 {
	if w.frame.link == nil || !w.frame.raw {
		return w.header.FlowHash(p.Data())
	}
	h := uint32(2166136261) // FNV-1a
	for _, b := range w.frame.link[:12] {
		h = (h ^ uint32(b)) * 16777619
	}
	return h
}

// shim is how many bytes wrap writes.
func (w *egress) shim(to *peer, sum encap.Checksum) int {
	if w.frame.link == nil {
		return to.Tunnel.Len(sum)
	}
	return encap.FrameOverhead + len(w.frame.link)
}

// wrap writes what stands in front of the packet at buf[at], and returns where the datagram starts.
func (w *egress) wrap(to *peer, buf []byte, at int, sum encap.Checksum) (start int) {
	link := w.frame.link
	if link == nil {
		return to.Tunnel.Encap(buf, at, sum)
	}
	at -= len(link)
	copy(buf[at:], link)
	return encap.EncapFrame(buf, at, len(link), to.Tunnel.VNI, sum)
}

// replies collects the answers of one turn, which are for the TAP that it has read.
type replies struct {
	bufs   [mostReplies][replyRoom]byte
	groups []packet.Group
}

const (
	mostReplies = 32
	replyRoom   = 128 // no neighbour advertisement with two VLAN tags is longer
)

func newReplies() *replies {
	r := &replies{groups: make([]packet.Group, mostReplies)}
	for i := range r.groups {
		r.groups[i].Members = make([][]byte, 1)
	}
	r.groups = r.groups[:0]
	return r
}

func (r *replies) room() bool { return len(r.groups) < mostReplies }

func (r *replies) add(frame []byte, e *packet.Ethernet, target netip.Addr, mac packet.MAC) {
	i := len(r.groups)
	answer := packet.AppendNeighbourAnswer(r.bufs[i][:0], frame, e, target, mac)
	r.groups = r.groups[:i+1]
	r.groups[i].Link, r.groups[i].Members[0] = answer[:e.Len], answer[e.Len:]
}

// take returns the answers, valid until the next add, and begins with none.
func (r *replies) take() []packet.Group {
	all := r.groups
	r.groups = r.groups[:0]
	return all
}
