package dataplane_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// dice turn the bytes of a fuzzer into decisions. After the last byte all decisions
// are 0, the most usual choice.
type dice []byte

func (d *dice) roll(n int) int {
	v := 0
	for limit := 1; limit < n; limit <<= 8 {
		if len(*d) == 0 {
			return 0
		}
		v = v<<8 | int((*d)[0])
		*d = (*d)[1:]
	}
	return v % n
}

func (d *dice) oneIn(n int) bool { return d.roll(n) == n-1 }

// randomDice are the same at each run.
func randomDice(seed uint64, n int) dice {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(b) // never fails
	return b
}

// flow is where one stands in a flow between two pods.
type flow struct {
	src, dst         netip.Addr
	protocol         byte
	srcPort, dstPort uint16
	ds               uint8
	flags4           uint16 // IPv4's flags
	id               uint16
	seq              uint32
	options          []byte // TCP's
	sent             int    // bytes of payload
}

// newFlow goes from a pod of one node to a pod of another, now and then to somewhere
// else, or from an address that is not the sender's.
func (d *dice) newFlow(from, to byte) flow {
	f := flow{
		src: pod(from, 1+byte(d.roll(3))), dst: pod(to, 1+byte(d.roll(3))),
		protocol: packet.ProtocolTCP,
		srcPort:  uint16(40000 + d.roll(8)), dstPort: 443,
		ds: uint8(d.roll(4)), flags4: 0x4000,
		id: uint16(d.roll(1 << 16)), seq: uint32(d.roll(1<<24)) << 8,
	}
	if d.oneIn(2) {
		f.protocol = packet.ProtocolUDP
	}
	if d.oneIn(4) {
		f.flags4 = 0
	}
	if d.oneIn(2) {
		f.options = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2} // timestamps
	}
	switch d.roll(16) {
	case 15:
		f.src = pod(3, 1)
	case 14:
		f.dst = pod(9, 1)
	case 13:
		f.dst = pod(from, 2)
	case 12:
		f.src = endpoint(from).Addr()
	}
	return f
}

// next is the flow's next packet with so many bytes of payload and a partial
// checksum. What makes a superpacket of it is left to the caller.
func (f *flow) next(payload int, tcpFlags byte) packet.Packet {
	b := []byte{0x45, f.ds, 0, 0}
	b = binary.BigEndian.AppendUint16(b, f.id)
	b = binary.BigEndian.AppendUint16(b, f.flags4)
	b = append(b, 64, f.protocol, 0, 0)
	b = append(append(b, f.src.AsSlice()...), f.dst.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, f.srcPort)
	b = binary.BigEndian.AppendUint16(b, f.dstPort)
	p := packet.Packet{CsumStart: 20}
	if f.protocol == packet.ProtocolUDP {
		b = binary.BigEndian.AppendUint16(b, uint16(8+payload))
		b = append(b, 0, 0)
		p.CsumOffset = 6
	} else {
		b = binary.BigEndian.AppendUint32(b, f.seq)
		b = append(b, 0, 0, 0, 1, byte(5+len(f.options)/4)<<4, tcpFlags, 1, 0, 0, 0, 0, 0)
		b = append(b, f.options...)
		p.CsumOffset = 16
	}
	for i := range payload {
		b = append(b, byte((f.sent+i)*7>>3))
	}
	f.sent += payload
	f.seq += uint32(payload)
	f.id++
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	reference.HeaderChecksum(b)
	reference.Checksum(b, true)
	p.Buf = b
	return p
}

// maxPayload leaves room for the longest headers here.
const maxPayload = 65535 - 20 - 32

// packets are some packets that node from reads, mostly of a few flows to node to.
func (d *dice) packets(count int, from, to byte) (all []packet.Packet) {
	flows := []flow{d.newFlow(from, to), d.newFlow(from, to), d.newFlow(from, to)}
	at := 0
	for range count {
		if d.oneIn(4) {
			at = d.roll(len(flows))
		}
		if d.oneIn(16) {
			flows[at] = d.newFlow(from, to)
		}
		all = append(all, d.packet(&flows[at]))
	}
	return all
}

// packet is the next one of f: a superpacket, a wire packet, or something wrong.
func (d *dice) packet(f *flow) packet.Packet {
	flags := byte(0x10)
	if d.oneIn(8) {
		flags |= byte(d.roll(256))
	}
	size := []int{1400, 1200, 536, 1 + d.roll(1400), 1 + d.roll(3000)}[d.roll(5)]
	if d.oneIn(2) {
		p := f.next(min(d.roll(size+1), testMTU-100), flags)
		d.distort(&p)
		return p
	}
	segments := 1 + d.roll(8)
	switch d.roll(16) {
	case 15:
		segments = 65535 // of any size: maybe too many
	case 14, 13:
		segments = packet.MaxSegments
	}
	p := f.next(min(segments*size-d.roll(size), maxPayload), flags)
	p.GSO, p.SegmentSize = packet.TCP4, size
	if f.protocol == packet.ProtocolUDP {
		p.GSO = packet.UDP
	}
	if d.oneIn(16) {
		p.CsumOffset += 2 // its metadata lie
	}
	return p
}

// distort makes of a wire packet another that is possible too.
func (d *dice) distort(p *packet.Packet) {
	switch d.roll(12) {
	case 8, 9, 10: // a sender that computes checksums itself
		p.Buf = reference.Complete(*p)
		p.CsumStart, p.CsumOffset = 0, 0
	case 11: // the first fragment of something
		p.Buf = reference.Complete(*p)
		p.CsumStart, p.CsumOffset = 0, 0
		p.Buf[6] |= 0x20
		reference.HeaderChecksum(p.Buf)
	case 7: // a tunnel of the pods' own: the checksum is that of what is inside
		p.Buf = append(p.Buf, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88)
		binary.BigEndian.PutUint16(p.Buf[2:], uint16(len(p.Buf)))
		reference.HeaderChecksum(p.Buf)
		p.CsumStart, p.CsumOffset = len(p.Buf)-8, 2
	case 6: // cut short
		p.Buf = p.Buf[:len(p.Buf)-1]
	}
}
