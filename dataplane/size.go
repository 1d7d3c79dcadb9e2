package dataplane

import (
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

/* Step 4 of the way out, for what is larger than the way to its peer takes. The
 * pods' MTU is one for all peers, and a path can be narrower than that, or become so.
 *
 *   TCP                      is segmented at the size that fits: sender and
 *                            receiver need not know
 *   IPv4 that may be cut     is fragmented
 *   IPv6 of up to 1280       goes as it is, and the outer packet is fragmented,
 *                            since no IPv6 path may be narrower (RFC 8200 section 5)
 *   all else                 is answered with what fits
 */

// minMTU6 is the least MTU that IPv6 has.
const minMTU6 = 1280

// fit queues p, which stands for count wire packets of up to largest bytes and is
// too large for the way to owner.
func (w *egress) fit(t *tables, owner *peer, p *packet.Packet, count, largest int) {
	h, v6 := &w.header, w.header.Src.Is6()
	switch {
	case h.Protocol == packet.ProtocolTCP && w.resegment(owner, p):
		w.cut(owner, p, false)
	case v6 && largest <= minMTU6:
		w.encapsulate(owner, p, true)
	case !v6 && w.fragment(owner, p, count):
		if w.lens.taps != nil {
			w.see(owner, p, count)
		}
	default:
		w.refuse(owner, p, TooBig, count)
		w.answers.add(t.address(h.Src), w.quote(p), h.Src, packet.TooBig, owner.MTU)
	}
}

// resegment has the segmenter cut p, of TCP, into what owner takes.
func (w *egress) resegment(owner *peer, p *packet.Packet) (ok bool) {
	if p.GSO != packet.NoGSO {
		return w.segmenter.Limit(owner.MTU)
	}
	return w.segmenter.ResetLone(p, &w.header, owner.MTU) && w.segmenter.HeaderLen() <= maxHeaders-encap.Headroom
}

// fragment queues the fragments of p's wire packets, all or none. They leave from the
// source port of their flow, so that they keep their place in it.
func (w *egress) fragment(owner *peer, p *packet.Packet, count int) (ok bool) {
	h, f, s := &w.header, &w.fragmenter, &w.segmenter
	flow, shim := h.FlowHash(p.Data()), owner.Tunnel.Len(encap.Checksum{})
	if p.GSO == packet.NoGSO {
		if p.CsumStart != 0 {
			packet.Complete(p)
		}
		if !f.Reset(p.Data(), h, owner.MTU) || f.Len() > packet.MaxSegments {
			return false
		}
		w.fragments(owner, flow, shim)
		return true
	}
	for i := range count {
		head := w.headers[w.made+shim:][:s.HeaderLen()]
		payload := s.Put(head, i)
		s.Finish(head, payload)
		cut := f.ResetSegment(head, payload, h, owner.MTU)
		switch {
		case i == 0 && (!cut || count*f.Len() > packet.MaxSegments):
			return false
		case cut:
			w.made += shim + len(head) // borrowed until the fragments are made
			w.fragments(owner, flow, shim)
		default: // the last one, which is short enough
			w.datagram(owner, flow, shim, len(head), payload)
		}
	}
	return true
}

// fragments queues what the fragmenter was given.
func (w *egress) fragments(owner *peer, flow uint32, shim int) {
	for i := range w.fragmenter.Len() {
		n, payload := w.fragmenter.Put(w.headers[w.made+shim:], i)
		w.datagram(owner, flow, shim, n, payload)
	}
}

// datagram queues a packet without a partial checksum, whose first n bytes are in the
// header arena, behind room for the encapsulation, and the rest is payload.
func (w *egress) datagram(owner *peer, flow uint32, shim, n int, payload []byte) {
	w.account.Received++
	head := w.headers[w.made:][:shim+n]
	w.made += len(head)
	owner.Tunnel.Encap(head, shim, encap.Checksum{})
	size := len(head) + len(payload)
	m, _ := w.message(owner, flow, 2, size, false)
	w.pieces = append(w.pieces, head, payload)
	w.grow(m, 1, size, size-shim)
}
