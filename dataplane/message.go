package dataplane

import (
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

/* Step 5 of the way out: packets become datagrams, and datagrams of one size to
 * one peer become a message, which is one send for the kernel.
 */

// encapsulate queues p for owner; outer says that the outer packets may be fragmented on
// their way.
func (w *egress) encapsulate(owner *peer, p *packet.Packet, outer bool) {
	if p.GSO == packet.NoGSO {
		w.enqueue(owner, p, outer)
		return
	}
	w.cut(owner, p, outer)
}

// enqueue queues a wire packet. The DS field is copied to the outer header: ECN by RFC 6040
// section 4.1, normal mode; DSCP so that the underlay can tell classes apart, while the
// inner one arrives as it was sent.
func (w *egress) enqueue(owner *peer, p *packet.Packet, outer bool) {
	w.account.Received++
	if w.lens.taps != nil {
		w.see(owner, p, 1)
	}
	size, flow := len(p.Data()), w.flow(p)
	sum := w.checksum(owner, p)
	if p.CsumStart != 0 && sum == (encap.Checksum{}) {
		packet.Complete(p)
	}
	start := w.wrap(owner, p.Buf, p.Start, sum)
	datagram := p.Buf[start:]
	m, _ := w.message(owner, flow, 1, len(datagram), outer)
	w.pieces = append(w.pieces, datagram)
	w.grow(m, 1, len(datagram), size)
}

// cut makes datagrams of the superpacket that the segmenter was given. One send
// takes encap.MaxPayload bytes, which a full superpacket with its headers exceeds:
// what does not fit goes with the next superpacket's.
func (w *egress) cut(owner *peer, p *packet.Packet, outer bool) {
	s, flow := &w.segmenter, w.flow(p)
	sum := w.checksum(owner, p)
	shim := w.shim(owner, sum)
	size := shim + s.PacketLen()
	w.account.Received += uint64(s.Len())
	if w.lens.taps != nil {
		w.see(owner, p, s.Len())
	}

	for i := 0; i < s.Len(); {
		m, room := w.message(owner, flow, 2, size, outer)
		n, inner, last := min(room, s.Len()-i), 0, 0
		for range n {
			head := w.headers[w.made:][:shim+s.HeaderLen()]
			var payload []byte
			if i > 1 && i < s.Len()-1 && sum != (encap.Checksum{}) {
				copy(head, w.headers[w.made-len(head):])
				payload = s.Step(head[shim:], i)
			} else {
				payload = w.head(owner, head, shim, i, sum)
			}
			w.made += len(head)
			w.pieces = append(w.pieces, head, payload)
			last = len(head) + len(payload)
			inner += last - shim
			i++
		}
		w.grow(m, n, last, inner)
	}
}

// head writes what stands in front of segment i, whose own headers are behind shim bytes.
func (w *egress) head(owner *peer, head []byte, shim, i int, sum encap.Checksum) (payload []byte) {
	payload = w.segmenter.Put(head[shim:], i)
	if sum == (encap.Checksum{}) {
		w.segmenter.Finish(head[shim:], payload)
	}
	w.wrap(owner, head, shim, sum)
	return payload
}

// message is what the next datagrams go into, of size bytes and in so many pieces
// each, and how many of them: the last message, where that is one send for the
// kernel, since peer, source port and DS field are the same and none before is
// shorter than another; or else a new one. What may be fragmented outside goes alone.
func (w *egress) message(owner *peer, flow uint32, perSegment, size int, outer bool) (m *encap.Message, room int) {
	outer = outer || owner.Fragment
	if last := len(w.msgs) - 1; last >= 0 && w.fates[last].peer == owner && !w.short && !outer && !w.msgs[last].Fragment {
		m = &w.msgs[last]
		room = capacity(m.SegmentSize) - m.Segments
		if size < m.SegmentSize {
			room = min(room, 1)
		}
		if room > 0 && size <= m.SegmentSize && m.PerSegment == perSegment &&
			m.DSField == w.header.DSField && encap.SamePort(m.Flow, flow) {
			return m, room
		}
	}
	w.short, w.from = false, len(w.pieces)
	w.fates = append(w.fates, fate{peer: owner})
	w.msgs = append(w.msgs, encap.Message{
		SegmentSize: size, PerSegment: perSegment, Addr: owner.To, DSField: w.header.DSField, Flow: flow, Fragment: outer,
	})
	if room = capacity(size); outer {
		room = 1
	}
	return &w.msgs[len(w.msgs)-1], room
}

// capacity is how many datagrams of that size one send takes.
func capacity(size int) int { return max(1, min(encap.MaxSegments, encap.MaxPayload/size)) }

// grow gives m, which is the last message, the n datagrams whose pieces were
// appended. last is the size of the last of them, inner that of all their packets.
func (w *egress) grow(m *encap.Message, n, last, inner int) {
	m.Pieces = w.pieces[w.from:]
	m.Segments += n
	w.short = last < m.SegmentSize
	f := &w.fates[len(w.fates)-1]
	f.bytes += inner
	if w.lens.taps != nil {
		w.seeDatagrams(f.peer, m, n)
	}
}

// checksum is what remote checksum offload tells owner of p's checksum: nothing
// where that is complete, or owner does not take it.
func (w *egress) checksum(owner *peer, p *packet.Packet) encap.Checksum {
	sum := encap.Checksum{Start: p.CsumStart, Field: p.CsumStart + p.CsumOffset}
	if p.CsumStart == 0 || !owner.RCO || !plausible(sum, &w.header) {
		return encap.Checksum{}
	}
	if link := w.frame.link; link == nil && owner.Tunnel.Takes(sum) || link != nil && encap.FrameTakes(len(link), sum) {
		return sum
	}
	return encap.Checksum{}
}
