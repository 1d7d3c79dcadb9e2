package dataplane_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

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
	between          []byte // IPv4's options, or a whole hop-by-hop header of IPv6
	seq              uint32
	options          []byte // TCP's
	sent             int    // bytes of payload
}

// newFlow goes from a pod of one node to a pod of another, now and then to somewhere
// else, or from an address that is not the sender's.
func (d *dice) newFlow(from, to byte) flow {
	six := d.oneIn(3)
	at := func(node, host byte) netip.Addr {
		if six {
			return pod6(node, host)
		}
		return pod(node, host)
	}
	f := flow{
		src: at(from, 1+byte(d.roll(3))), dst: at(to, 1+byte(d.roll(3))),
		protocol: packet.ProtocolTCP,
		srcPort:  uint16(40000 + d.roll(8)), dstPort: 443,
		ds: uint8(d.roll(4)), flags4: 0x4000,
		id: uint16(d.roll(1 << 16)), seq: uint32(d.roll(1<<24)) << 8,
	}
	if d.oneIn(2) {
		f.protocol = packet.ProtocolUDP
	}
	if d.oneIn(3) {
		f.flags4 = 0
	}
	switch {
	case d.oneIn(2):
		f.options = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2} // timestamps
	case d.oneIn(4):
		f.options = []byte{2, 4, 0x5, 0xb4} // the MSS of a SYN, 1460
	}
	if d.oneIn(6) {
		f.between = []byte{0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0} // router alert, which is in all fragments, and record route
		if six {
			f.between = []byte{f.protocol, 0, 5, 2, 0, 0, 1, 0} // router alert
		}
	}
	switch d.roll(16) {
	case 15:
		f.src = at(3, 1)
	case 14:
		f.dst = at(9, 1)
	case 13:
		f.dst = at(from, 2)
	case 12:
		if f.src = endpoint(from).Addr(); six {
			f.src = endpoint6(from).Addr()
		}
	}
	return f
}

// next is the flow's next packet with so many bytes of payload and a partial
// checksum. What makes a superpacket of it is left to the caller.
func (f *flow) next(payload int, tcpFlags byte) packet.Packet {
	b := f.ip()
	p := packet.Packet{CsumStart: len(b)}
	b = binary.BigEndian.AppendUint16(b, f.srcPort)
	b = binary.BigEndian.AppendUint16(b, f.dstPort)
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
	resize(b)
	reference.Checksum(b, true)
	p.Buf = b
	return p
}

// ip is the IP header, without what depends on the length.
func (f *flow) ip() (b []byte) {
	if f.src.Is6() {
		first := f.protocol
		if f.between != nil {
			first = 0
		}
		b = append(b, 0x60|f.ds>>4, f.ds<<4|1, 0x23, 0x45, 0, 0, first, 64)
	} else {
		b = append(b, 0x45+byte(len(f.between)/4), f.ds, 0, 0)
		b = binary.BigEndian.AppendUint16(b, f.id)
		b = binary.BigEndian.AppendUint16(b, f.flags4)
		b = append(b, 64, f.protocol, 0, 0)
	}
	b = append(append(b, f.src.AsSlice()...), f.dst.AsSlice()...)
	return append(b, f.between...)
}

// resize makes the IP header say what length b has.
func resize(b []byte) {
	if b[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		return
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	reference.HeaderChecksum(b)
}

// maxPayload leaves room for the longest headers here.
const maxPayload = 65535 - 48 - 32

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
	p = super(p, size)
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
		if p.Buf[0]>>4 == 6 {
			p.Buf = slices.Insert(p.Buf, 40, p.Buf[6], 0, 0, 1, 0, 0, 0, 7)
			p.Buf[6] = 44
		} else {
			p.Buf[6] |= 0x20
		}
		resize(p.Buf)
	case 7: // a tunnel of the pods' own: the checksum is that of what is inside
		p.Buf = append(p.Buf, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88)
		resize(p.Buf)
		p.CsumStart, p.CsumOffset = len(p.Buf)-8, 2
	case 6: // cut short
		p.Buf = p.Buf[:len(p.Buf)-1]
	}
}
