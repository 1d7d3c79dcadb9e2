package reference

import (
	"bytes"

	"github.com/weft-net/weft/dataplane/packet"
)

// Limit is the superpacket p, to be cut into segments of at most mtu bytes. ok is
// false where it is not to be cut so.
func Limit(p packet.Packet, mtu int) (limited packet.Packet, ok bool) {
	if longest(Segment(p)) <= mtu {
		return p, true
	}
	b := p.Data()
	l := Read(b)
	headers, _ := headersOf(b)
	if l.Protocol != 6 || mtu <= headers {
		return p, false
	}
	t := b[l.Transport:]
	if t[13]&(0x02|0x04|0x20) != 0 || t[12]&0x0f != 0 { // SYN, RST, URG; reserved
		return p, false
	}
	p.SegmentSize = mtu - headers
	return p, len(Segment(p)) <= packet.MaxSegments
}

func longest(all [][]byte) (n int) {
	for _, b := range all {
		n = max(n, len(b))
	}
	return n
}

// Lone is a TCP packet that is no superpacket as one, to be cut into segments of at
// most mtu bytes. ok is false where it is not to be cut so.
func Lone(p packet.Packet, mtu int) (limited packet.Packet, ok bool) {
	b := bytes.Clone(p.Data())
	l := Read(b)
	headers, whole := headersOf(b)
	if p.GSO != packet.NoGSO || l.Protocol != 6 || l.Fragment || !whole || headers == len(b) {
		return p, false
	}
	if p.CsumStart > 0 && (p.CsumStart != l.Transport || p.CsumOffset != 16) {
		return p, false
	}
	given := bytes.Clone(b)
	Checksum(b, p.CsumStart > 0)
	if !sameNumber(given[l.Transport+16:], b[l.Transport+16:]) {
		return p, false
	}
	Checksum(b, true)
	p = packet.Packet{Buf: b, GSO: packet.TCP4, SegmentSize: len(b) - headers, CsumStart: l.Transport, CsumOffset: 16}
	if l.Version == 6 {
		p.GSO = packet.TCP6
	}
	return Limit(p, mtu)
}

// sameNumber says whether two checksums are the same in one's complement, where all
// ones are 0 too.
func sameNumber(a, b []byte) bool {
	ones, zero := []byte{0xff, 0xff}, []byte{0, 0}
	if bytes.Equal(a[:2], ones) {
		a = zero
	}
	if bytes.Equal(b[:2], ones) {
		b = zero
	}
	return bytes.Equal(a[:2], b[:2])
}
