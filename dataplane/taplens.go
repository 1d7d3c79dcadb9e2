package dataplane

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

/* What the workers show to taps. While there are none, all of it is a branch
 * for each packet: lens.taps is nil.
 */

// lens is how one direction of a worker looks for taps. One worker owns it.
type lens struct {
	from  *atomic.Pointer[[]*Tap]
	index int // of the worker

	taps []*Tap // of this batch
	now  time.Time

	sight  sight
	around outer
	header [outerRoom]byte
}

// outerRoom holds an outer IPv6 header and UDP's.
const outerRoom = 40 + 8

// sight is a packet that is shown, and what else filters ask for.
type sight struct {
	Captured
	inner []byte // the first bytes of the inner packet
}

// open begins a batch.
func (l *lens) open() {
	if all := l.from.Load(); all != nil {
		l.taps, l.now = *all, time.Now()
	} else {
		l.taps = nil
	}
}

// shut lets go of the taps, so that a worker that sleeps does not hold the memory of those
// that have ended.
func (l *lens) shut() { l.taps = nil }

// begin describes the next packet by s.
func (l *lens) begin(d Direction, layer Layer, p *peer) *sight {
	s := &l.sight
	*s = sight{Captured: Captured{Time: l.now, Direction: d, Layer: layer, Segments: 1}}
	if p != nil {
		s.Peer = p.ID
	}
	return s
}

// drop says that s went no further.
func (s *sight) drop(r Reason, count int) {
	s.Dropped, s.Reason, s.Segments = true, r, count
}

// about says what of the inner packet filters ask for.
func (s *sight) about(h *packet.Header, inner []byte) {
	s.Src, s.Dst, s.inner = h.Src, h.Dst, inner
}

// show hands the sight, whose bytes are in pieces, to the taps that take it.
func (l *lens) show(pieces ...[]byte) { l.showBehind(nil, pieces...) }

// outer is what the header in front of a datagram says.
type outer struct {
	from, to netip.AddrPort
	ds       uint8
	size     int         // of the datagram, or of several that leave in one send
	codec    encap.Codec // whose port a tap puts in the place of a destination port of 0
}

// showBehind shows an outer packet, of which pieces is the datagram.
func (l *lens) showBehind(o *outer, pieces ...[]byte) {
	s, header := &l.sight, l.header[:0]
	if o != nil {
		header = l.header[:outerLen(o.to.Addr())]
		s.Length = len(header) + o.size
	}
	for _, t := range l.taps {
		r := t.rings[l.index]
		if !t.filter.takes(s) || !r.draw(t.sample) {
			continue
		}
		if o != nil {
			o.put(header, t.ports[o.codec])
		}
		r.put(s, header, pieces)
	}
}

// outerLen is the length of an outer IP header without options, and of UDP's.
func outerLen(addr netip.Addr) int {
	if addr.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

const (
	outerHops    = 64
	dontFragment = 0x40 // of byte 6 of an IPv4 header
	largestField = 65535
)

// put writes the IP header and UDP's of o. The kernel makes the like: what weft does not see,
// identification and hops, is 0 and as Linux has it by itself, and the UDP checksum is left out.
func (o *outer) put(b []byte, port uint16) {
	clear(b)
	udp, length := b[len(b)-8:], uint16(min(8+o.size, largestField))
	if o.to.Port() != 0 {
		port = o.to.Port()
	}
	if o.to.Addr().Is4() {
		b[0], b[1], b[6], b[8], b[9] = 0x45, o.ds, dontFragment, outerHops, packet.ProtocolUDP
		binary.BigEndian.PutUint16(b[2:], uint16(min(len(b)+o.size, largestField)))
		src, dst := o.from.Addr().As4(), o.to.Addr().As4()
		copy(b[12:], src[:])
		copy(b[16:], dst[:])
		binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:20], 0))
	} else {
		b[0], b[1], b[6], b[7] = 0x60|o.ds>>4, o.ds<<4, packet.ProtocolUDP, outerHops
		binary.BigEndian.PutUint16(b[4:], length)
		src, dst := o.from.Addr().As16(), o.to.Addr().As16()
		copy(b[8:], src[:])
		copy(b[24:], dst[:])
	}
	binary.BigEndian.PutUint16(udp, o.from.Port())
	binary.BigEndian.PutUint16(udp[2:], port)
	binary.BigEndian.PutUint16(udp[4:], length)
}
