package packet_test

import (
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
)

func TestCheck(t *testing.T) {
	super := func(f flow) func() packet.Packet { return func() packet.Packet { return f.superpacket(1000, 100) } }
	tcp4, tcp6, udp4, udp6 := super(tcpFlow(false)), super(tcpFlow(true)), super(udpFlow(false)), super(udpFlow(true))
	wire := func() packet.Packet {
		p := tcp4()
		p.GSO, p.SegmentSize = packet.NoGSO, 0
		return p
	}
	whole := wire()
	length := len(whole.Data())
	withOptions := tcpFlow(true)
	withOptions.options, withOptions.next = []byte{packet.ProtocolTCP, 0, 5, 2, 0, 0, 1, 0}, 0
	noData := tcpFlow(false)

	for _, c := range []struct {
		name   string
		packet func() packet.Packet
		change func(p *packet.Packet, b []byte)
		want   bool
	}{
		{"no checksum", wire, func(p *packet.Packet, _ []byte) { p.CsumStart, p.CsumOffset = 0, 0 }, true},
		{"TCP checksum", wire, nil, true},
		{"at the end of the packet", wire, func(p *packet.Packet, _ []byte) { p.CsumStart = length - 2; p.CsumOffset = 0 }, true},
		{"half out of the packet", wire, func(p *packet.Packet, _ []byte) { p.CsumStart = length - 1; p.CsumOffset = 0 }, false},
		{"offset out of the packet", wire, func(p *packet.Packet, _ []byte) { p.CsumOffset = length }, false},
		{"in the IP header", wire, func(p *packet.Packet, _ []byte) { p.CsumStart = 19 }, false},
		{"at its negative offset", wire, func(p *packet.Packet, _ []byte) { p.CsumOffset = -10 }, false},
		{"negative", wire, func(p *packet.Packet, _ []byte) { p.CsumStart = -20 }, false},
		{"in the IPv6 header", tcp6, func(p *packet.Packet, _ []byte) { p.GSO, p.CsumStart = packet.NoGSO, 39 }, false},

		{"TCP over IPv4", tcp4, nil, true},
		{"TCP over IPv6", tcp6, nil, true},
		{"UDP over IPv4", udp4, nil, true},
		{"UDP over IPv6", udp6, nil, true},
		{"behind an extension header", super(withOptions), nil, true},
		{"one segment only", tcp4, func(p *packet.Packet, _ []byte) { p.SegmentSize = 1000 }, true},
		{"segments larger than the data", tcp4, func(p *packet.Packet, _ []byte) { p.SegmentSize = 65535 }, true},

		{"TCP4 of IPv6", tcp6, func(p *packet.Packet, _ []byte) { p.GSO = packet.TCP4 }, false},
		{"TCP6 of IPv4", tcp4, func(p *packet.Packet, _ []byte) { p.GSO = packet.TCP6 }, false},
		{"UDP of TCP", tcp4, func(p *packet.Packet, _ []byte) { p.GSO = packet.UDP }, false},
		{"UDP of TCP, offset of UDP", tcp4, func(p *packet.Packet, _ []byte) { p.GSO, p.CsumOffset = packet.UDP, 6 }, false},
		{"TCP4 of UDP", udp4, func(p *packet.Packet, _ []byte) { p.GSO, p.CsumOffset = packet.TCP4, 16 }, false},
		{"unknown", tcp4, func(p *packet.Packet, _ []byte) { p.GSO = packet.UDP + 1 }, false},
		{"no segment size", tcp4, func(p *packet.Packet, _ []byte) { p.SegmentSize = 0 }, false},
		{"negative segment size", tcp4, func(p *packet.Packet, _ []byte) { p.SegmentSize = -1 }, false},
		{"whole checksum", tcp4, func(p *packet.Packet, _ []byte) { p.CsumStart = 0 }, false},
		{"checksum elsewhere", tcp4, func(p *packet.Packet, _ []byte) { p.CsumStart = 24 }, false},
		{"checksum at another offset", tcp4, func(p *packet.Packet, _ []byte) { p.CsumOffset = 6 }, false},
		{"more fragments", tcp4, func(_ *packet.Packet, b []byte) { b[6] |= 0x20; finish(b, true) }, false},
		{"TCP header of 16 bytes", tcp4, func(_ *packet.Packet, b []byte) { b[32] = 4 << 4 }, false},
		{"TCP header longer than the packet", func() packet.Packet { return noData.superpacket(1, 1) },
			func(p *packet.Packet, _ []byte) { p.Data()[32] = 15 << 4 }, false},
		{"no data", func() packet.Packet { return noData.superpacket(0, 1) }, nil, false},
		{"no UDP data", func() packet.Packet { f := udpFlow(true); return f.superpacket(0, 1) }, nil, false},
	} {
		p := c.packet()
		if c.change != nil {
			c.change(&p, p.Data())
		}
		if got := p.Check(parsed(t, p.Data())); got != c.want {
			t.Errorf("%s: Check = %v", c.name, got)
		}
	}
}

// Headers that end too early, with all that may follow them missing.
func TestCheckOfShortPackets(t *testing.T) {
	for _, f := range []flow{tcpFlow(false), tcpFlow(true), udpFlow(false), udpFlow(true)} {
		whole := f.superpacket(1, 1)
		ip := whole.CsumStart
		for n := ip; n <= len(whole.Data()); n++ {
			p := whole
			p.Buf = append([]byte(nil), whole.Data()[:n]...)
			p.Start = 0
			if p.Buf[0]>>4 == 4 {
				p.Buf[2], p.Buf[3] = 0, byte(n)
				fixHeaderChecksum(p.Buf)
			} else {
				p.Buf[4], p.Buf[5] = 0, byte(n-40)
			}
			if got, want := p.Check(parsed(t, p.Buf)), n == len(whole.Data()); got != want {
				t.Errorf("the first %d bytes of %d: %v", n, len(whole.Data()), got)
			}
		}
	}
}

// FuzzCheck: what Check accepts can be cut and completed.
func FuzzCheck(f *testing.F) {
	for _, g := range golden.All(f) {
		f.Add(g.Bytes, uint8(0), uint16(0), uint16(20), uint16(16))
	}
	for i, g := range []flow{tcpFlow(false), tcpFlow(true), udpFlow(true)} {
		p := g.superpacket(100, 30)
		f.Add(p.Data(), uint8(i+1), uint16(30), uint16(p.CsumStart), uint16(p.CsumOffset))
	}
	f.Fuzz(func(t *testing.T, raw []byte, gso uint8, size, start, offset uint16) {
		b, ok := repaired(raw)
		if !ok || len(b) > 4000 {
			return
		}
		p := packet.Packet{Buf: b, GSO: packet.GSO(gso), SegmentSize: int(size), CsumStart: int(start), CsumOffset: int(offset)}
		if !p.Check(parsed(t, b)) {
			return
		}
		if p.GSO == packet.NoGSO {
			packet.Complete(&p)
			return
		}
		checkSegments(t, p)
	})
}
