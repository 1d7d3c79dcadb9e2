package packet_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// dice turn the bytes of a fuzzer into decisions, so that what it finds are
// packets, and not ways to fail at the first check. After the last byte all
// decisions are 0, the most usual choice.
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

// rounds is n, and a part of it in short runs, which are those under the race detector: that makes
// them ten times as long, and finds nothing where all is one goroutine.
func rounds(n uint64) uint64 {
	if testing.Short() {
		return n / 5
	}
	return n
}

// randomDice are for tests that run without a fuzzer, the same at each run.
func randomDice(seed uint64, n int) dice {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	b := make([]byte, n)
	_, _ = r.Read(b) // never fails
	return b
}

// flow is where one stands in a flow of TCP or UDP, from pod to pod.
type flow struct {
	gso           packet.GSO
	six           bool
	ds, ttl       uint8
	id, flags4    uint16 // IPv4's flags and fragment offset
	options       []byte // IPv4's, or IPv6's extension headers
	next          uint8  // IPv6: the first header's number
	seq, ack      uint32
	flags         uint8
	window        uint16
	urgent        uint16
	tcpOptions    []byte
	src, dst      uint16
	sent, headers int
}

// The usual one: TCP with timestamps, and Don't Fragment set.
func tcpFlow(six bool) flow {
	f := flow{gso: packet.TCP4, ttl: 64, id: 0xfffe, flags4: 0x4000, next: packet.ProtocolTCP,
		seq: 0xffff_f000, ack: 0x01020304, flags: 0x10, window: 502, src: 40000, dst: 443,
		tcpOptions: []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}}
	if six {
		f.gso, f.six = packet.TCP6, true
	}
	return f
}

func udpFlow(six bool) flow {
	return flow{gso: packet.UDP, six: six, ttl: 64, id: 7, flags4: 0x4000, next: packet.ProtocolUDP, src: 40000, dst: 4433}
}

// flow is any.
func (d *dice) flow() flow {
	f := tcpFlow(d.roll(2) == 1)
	if d.roll(3) == 2 {
		f = udpFlow(f.six)
	}
	if d.oneIn(4) {
		f.ds = uint8(d.roll(256))
	}
	if d.oneIn(3) {
		f.flags4, f.id = 0, uint16(d.roll(65536))
	}
	if d.oneIn(4) {
		f.tcpOptions = [][]byte{
			nil,
			{1, 1, 5, 10, 0, 0, 1, 0, 0, 0, 2, 0}, // SACK, one block
			{2, 4, 5, 0x78, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}, // of a SYN
			append([]byte{1, 1, 5, 34}, make([]byte, 36)...)[:36],            // SACK, four blocks
			append([]byte{254, 40}, []byte("an experiment of forty bytes, all in")...)[:36],
			append(make([]byte, 0, 40), make([]byte, 40)...), // the longest
		}[d.roll(6)]
	}
	if f.six && d.oneIn(6) {
		f.options, f.next = []byte{f.next, 0, 5, 2, 0, 0, 1, 0}, 0
	}
	if !f.six && d.oneIn(6) {
		f.options = append([]byte{7, 39}, make([]byte, 38)...)[:4+4*d.roll(10)]
	}
	if d.oneIn(8) {
		f.flags = uint8(d.roll(256))
	}
	if d.oneIn(8) {
		f.urgent = uint16(d.roll(65536))
	}
	return f
}

// header is that of a packet, without lengths and checksums.
func (f *flow) header() []byte {
	var b []byte
	protocol := uint8(packet.ProtocolTCP)
	if f.gso == packet.UDP {
		protocol = packet.ProtocolUDP
	}
	if f.six {
		b = append(b, 6<<4|f.ds>>4, f.ds<<4|1, 0x23, 0x45, 0, 0, f.next, f.ttl)
		b = append(b, 0xfd, 0, 0, 0x10, 2, 0x44, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7)
		b = append(b, 0xfd, 0, 0, 0x10, 2, 0x44, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9)
	} else {
		b = append(b, 4<<4|uint8(5+len(f.options)/4), f.ds, 0, 0)
		b = binary.BigEndian.AppendUint16(b, f.id)
		b = binary.BigEndian.AppendUint16(b, f.flags4)
		b = append(b, f.ttl, protocol, 0, 0, 10, 244, 1, 7, 10, 244, 2, 9)
	}
	b = append(b, f.options...)
	b = binary.BigEndian.AppendUint16(b, f.src)
	b = binary.BigEndian.AppendUint16(b, f.dst)
	if f.gso == packet.UDP {
		return append(b, 0, 0, 0, 0)
	}
	b = binary.BigEndian.AppendUint32(b, f.seq)
	b = binary.BigEndian.AppendUint32(b, f.ack)
	b = append(b, uint8(5+len(f.tcpOptions)/4)<<4, f.flags)
	b = binary.BigEndian.AppendUint16(b, f.window)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, f.urgent)
	return append(b, f.tcpOptions...)
}

// packet is the next packet of the flow, with payload bytes of data.
func (f *flow) packet(payload int, partial bool) []byte {
	b := f.header()
	f.headers = len(b)
	for i := range payload {
		b = append(b, byte((f.sent+i)*7>>3))
	}
	f.sent += payload
	f.seq += uint32(payload)
	f.id++
	if f.gso == packet.UDP {
		binary.BigEndian.PutUint16(b[f.headers-4:], uint16(payload+8))
	}
	finish(b, partial)
	return b
}

// superpacket is all of the flow's next payload bytes in one, behind some headroom.
func (f *flow) superpacket(payload, size int) packet.Packet {
	b := f.packet(payload, true)
	p := packet.Packet{Buf: append(make([]byte, 64), b...), Start: 64, GSO: f.gso, SegmentSize: size}
	p.CsumStart = reference.Read(b).Transport
	p.CsumOffset = 16
	if f.gso == packet.UDP {
		p.CsumOffset = 6
	}
	return p
}

// finish fills in the IP length and all checksums.
func finish(b []byte, partial bool) {
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		reference.HeaderChecksum(b)
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	}
	l := reference.Read(b)
	if n := len(b) - l.Transport; l.Protocol == packet.ProtocolTCP && n >= 20 || l.Protocol == packet.ProtocolUDP && n >= 8 {
		reference.Checksum(b, partial)
	}
}

// parse is ParseInto as a function.
func parse(p []byte) (h packet.Header, ok bool) {
	ok = packet.ParseInto(p, &h)
	return h, ok
}

func parsed(tb testing.TB, p []byte) *packet.Header {
	tb.Helper()
	h, ok := parse(p)
	if !ok {
		tb.Fatalf("ParseInto refuses %x", p)
	}
	return &h
}
