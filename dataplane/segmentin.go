package dataplane

import (
	"bytes"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

/* The way in to a segment: from its members to the TAP.
 *
 * 1. Receive datagrams as those with packets are (ingress.go), and tell frames of a segment
 *    by their VNI.
 * 2. Find the member by the outer source address: from nobody else is a frame taken.
 * 3. Parse the Ethernet header; check the size; enter the source in the FDB.
 * 4. Merge the underlay's congestion mark into an IP header; merge runs of one flow into
 *    superpackets, as long as they have one Ethernet header.
 * 5. Write them to the TAP.
 */

// head is what ingress keeps of the frames at hand: whose superpackets the merger makes.
type head struct {
	port     int    // of the segment
	link     []byte // the Ethernet header of them all; nil of the pod network
	ethernet packet.Ethernet
	raw      []packet.Group // one frame that goes as it is
}

// segmentOf is the segment that a datagram is of, nil for none.
func (t *tables) segmentOf(codec encap.Codec, datagram []byte) *segment {
	if len(t.networks) == 0 || codec != encap.VXLAN {
		return nil
	}
	vni, ok := encap.Network(datagram)
	if !ok {
		return nil
	}
	return t.networks[vni]
}

// bridge decides about one datagram of a segment.
func (w *ingress) bridge(s *segment, m *encap.Received, datagram []byte) {
	w.account.Received++
	from := s.sources[m.Addr.Addr()]
	if from == nil {
		w.account.drop(NotMember, 1)
		return
	}
	reason, ok := w.take(s, from, m, datagram)
	if !ok {
		w.account.drop(reason, 1)
		return
	}
	counters := &from.workers[w.index]
	counters.rxPackets.Add(1)
	counters.rxBytes.Add(uint64(len(datagram) - encap.FrameOverhead))
}

// take hands over a member's frame, or says why not.
func (w *ingress) take(s *segment, from *member, m *encap.Received, datagram []byte) (r Reason, ok bool) {
	frame, e, h := encap.Frame(datagram), &w.frames.ethernet, &w.header
	if !packet.ParseEthernet(frame, e) || e.EtherType == etherTypeProbe && isProbe(frame, e) {
		return Malformed, false
	}
	inner := frame[e.Len:]
	sum, ok := encap.FrameChecksum(datagram, e.Len)
	partial := sum != encap.Checksum{}
	raw := !packet.ParseFrame(frame, e, h)
	switch {
	case !ok, partial && (raw || !plausible(sum, h)):
		return Malformed, false
	case s.Blocked:
		return Looped, false
	case from.Foreign && !raw && !partial && packet.Unfinished(inner, h):
		return Unsegmented, false
	case len(inner) > s.MTU:
		return TooBig, false
	case !raw && !packet.MergeECN(inner, m.DSField):
		return Congestion, false
	}
	s.learn(e.Src, from.owner, w.now)
	if discovers(e, h, raw) {
		if ip, mac, ok := packet.NeighbourClaim(frame, e); ok {
			s.neighbours.Learn(e.VLAN, ip, mac, w.now)
		}
	}
	w.aim(s.port, frame[:e.Len])
	if raw {
		w.writeRaw(inner)
		return 0, true
	}
	w.merger.Add(inner, h, partial)
	w.merged++
	return 0, true
}

func isProbe(frame []byte, e *packet.Ethernet) bool {
	_, ok := parseProbe(frame, e)
	return ok
}

// aim has what follows go to the TAP of port, behind link; nil is the TUN. What was for
// another is delivered first.
func (w *ingress) aim(port int, link []byte) {
	f := &w.frames
	if w.merged == mergeRound || w.merged > 0 && (port != f.port || !bytes.Equal(link, f.link)) {
		w.deliver()
	}
	f.port, f.link = port, link
}

// writeRaw delivers a frame that no other can be merged with, behind what there is.
func (w *ingress) writeRaw(inner []byte) {
	if w.merged > 0 {
		w.deliver()
	}
	f := &w.frames
	f.raw[0].Link, f.raw[0].Members[0] = f.link, inner
	w.batches.queue.enter(1)
	refused, _ := w.taps[f.port].Write(f.raw)
	w.account.drop(DeviceRefused, refused)
	w.account.Forwarded += uint64(1 - refused)
}
