package reference

import (
	"bytes"
	"encoding/binary"

	"github.com/weft-net/weft/dataplane/packet"
)

// Arrival is a wire packet as it came.
type Arrival struct {
	Packet  []byte
	Partial bool // its checksum is
}

// Merge is what a packet.Merger makes of the packets of one round.
func Merge(round []Arrival, tso, uso bool) []packet.Group {
	var groups []packet.Group
	for len(round) > 0 {
		n := 1
		for n < len(round) && mergeable(round[:n+1], tso, uso) {
			n++
		}
		groups = append(groups, group(round[:n]))
		round = round[n:]
	}
	return groups
}

// group is the superpacket that the members make, or the one packet.
func group(members []Arrival) packet.Group {
	first := members[0]
	l := Read(first.Packet)
	g := packet.Group{Partial: first.Partial && wholeChecksum(first.Packet)}
	for _, m := range members {
		g.Members = append(g.Members, m.Packet)
	}
	if g.Partial || len(members) > 1 {
		g.CsumStart, g.CsumOffset = l.Transport, checksumAt(l.Protocol)
	}
	if len(members) == 1 {
		return g
	}
	super := Super(members)
	g.Header = super.Data()[:len(first.Packet)-super.SegmentSize]
	g.GSO, g.SegmentSize = super.GSO, super.SegmentSize
	return g
}

// wholeChecksum says whether p has a TCP or UDP checksum field.
func wholeChecksum(p []byte) bool {
	l := Read(p)
	at := checksumAt(l.Protocol)
	return at > 0 && !l.Fragment && len(p) >= l.Transport+at+2
}

// Super is the superpacket of several members.
func Super(members []Arrival) packet.Packet {
	first, last := members[0].Packet, members[len(members)-1].Packet
	l := Read(first)
	headers, _ := headersOf(first)
	b := bytes.Clone(first)
	for _, m := range members[1:] {
		b = append(b, m.Packet[headers:]...)
	}
	p := packet.Packet{Buf: b, GSO: packet.UDP, SegmentSize: len(first) - headers}
	if l.Version == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		HeaderChecksum(b)
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	}
	t := b[l.Transport:]
	if l.Protocol == 17 {
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	} else {
		t[13] = last[l.Transport+13]
		p.GSO = packet.TCP4
		if l.Version == 6 {
			p.GSO = packet.TCP6
		}
	}
	Checksum(b, true)
	p.CsumStart, p.CsumOffset = l.Transport, checksumAt(l.Protocol)
	return p
}

// headersOf is the length of IP and transport header; ok is false where the latter
// is not whole.
func headersOf(p []byte) (n int, ok bool) {
	l := Read(p)
	n = l.Transport + 8
	if l.Protocol == 6 {
		if len(p) < l.Transport+20 {
			return 0, false
		}
		words := int(p[l.Transport+12] >> 4)
		if words < 5 {
			return 0, false
		}
		n = l.Transport + 4*words
	}
	return n, n <= len(p)
}

// mergeable says whether these two or more may be one superpacket. All but the
// last are so already.
func mergeable(members []Arrival, tso, uso bool) bool {
	first := members[0].Packet
	l := Read(first)
	if l.Protocol != 6 && l.Protocol != 17 || l.Protocol == 6 && !tso || l.Protocol == 17 && !uso {
		return false
	}
	if l.Protocol == 17 && len(members) > 64 || len(members) > 1022 {
		return false
	}
	headers, _ := headersOf(first)
	total := headers
	for i, m := range members {
		if m.Partial != members[0].Partial || Read(m.Packet) != l || !plain(m.Packet, i == len(members)-1) {
			return false
		}
		if n, _ := headersOf(m.Packet); n != headers {
			return false
		}
		total += len(m.Packet) - headers
	}
	if total > 65535 {
		return false
	}
	// And what comes out must be what went in. That compares all other fields.
	for i, s := range Segment(Super(members)) {
		if i >= len(members) || !bytes.Equal(essence(s, l), essence(whole(members[i]), l)) {
			return false
		}
	}
	return true
}

// plain says whether a packet may be a member at all.
func plain(p []byte, last bool) bool {
	l := Read(p)
	headers, ok := headersOf(p)
	if !ok || headers == len(p) || l.Fragment || l.Transport != l.IPHeader {
		return false
	}
	if l.Version == 4 && p[6]&0x80 != 0 {
		return false
	}
	t := p[l.Transport:]
	if l.Protocol == 17 {
		return int(binary.BigEndian.Uint16(t[4:])) == len(t)
	}
	allowed := byte(0x10 | 0x40) // ACK, ECE
	if last {
		allowed |= 0x01 | 0x08 // FIN, PSH
	}
	return t[12]&0x0f == 0 && t[13]&^allowed == 0
}

// whole is the packet with its partial checksum completed; nothing where that was wrong.
func whole(a Arrival) []byte {
	b := bytes.Clone(a.Packet)
	if !a.Partial {
		return b
	}
	Checksum(b, true)
	if !bytes.Equal(b, a.Packet) {
		return nil
	}
	Checksum(b, false)
	return b
}

// essence is p without the identification where that means nothing: RFC 6864
// section 4.1.
func essence(p []byte, l Layout) []byte {
	p = bytes.Clone(p)
	if len(p) > 0 && l.Version == 4 && p[6]&0x40 != 0 {
		right := bytes.Clone(p)
		HeaderChecksum(right)
		if bytes.Equal(right, p) {
			p[4], p[5], p[10], p[11] = 0, 0, 0, 0
		}
	}
	return p
}
