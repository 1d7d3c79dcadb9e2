package packet_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// checkLimit cuts the superpacket p, limited to mtu, in both ways.
func checkLimit(t *testing.T, p packet.Packet, mtu int) {
	t.Helper()
	before := bytes.Clone(p.Buf)
	var s packet.Segmenter
	s.Reset(&p, parsed(t, p.Data()))
	want, wantOK := reference.Limit(p, mtu)
	if ok := s.Limit(mtu); ok != wantOK {
		t.Fatalf("Limit(%d) = %v of segments of %d\n%x", mtu, ok, p.SegmentSize, p.Data())
	}
	if !wantOK {
		compareCuts(t, &s, p)
	} else {
		compareCuts(t, &s, want)
		checkLengths(t, &s, mtu)
	}
	if !bytes.Equal(p.Buf, before) {
		t.Errorf("the superpacket was changed from\n%x to\n%x", before, p.Buf)
	}
}

func checkLengths(t *testing.T, s *packet.Segmenter, mtu int) {
	t.Helper()
	for i, b := range wirePackets(s, false) {
		if len(b) > mtu {
			t.Errorf("segment %d: %d bytes, at most %d are wanted", i, len(b), mtu)
		}
	}
}

// checkLone cuts the packet p, which is no superpacket, in both ways.
func checkLone(t *testing.T, p packet.Packet, mtu int) {
	t.Helper()
	before := bytes.Clone(p.Buf)
	var s packet.Segmenter
	h := parsed(t, p.Data())
	want, wantOK := reference.Lone(p, mtu)
	ok := p.Check(h) && s.ResetLone(&p, h, mtu)
	if ok != wantOK {
		t.Fatalf("ResetLone(%+v, %d) = %v", p, mtu, ok)
	}
	if ok {
		compareCuts(t, &s, want)
		checkLengths(t, &s, mtu)
	}
	if !bytes.Equal(p.Buf, before) {
		t.Errorf("the packet was changed from\n%x to\n%x", before, p.Buf)
	}
}

// lone is any packet that is no superpacket, most of them TCP with nothing wrong.
func (d *dice) lone() packet.Packet {
	f, partial := d.flow(), d.roll(2) == 0
	b := f.packet(d.roll(3000), partial)
	l := reference.Read(b)
	p := packet.Packet{Buf: append(make([]byte, 64), b...), Start: 64}
	if partial {
		p.CsumStart, p.CsumOffset = l.Transport, 16
		if l.Protocol == packet.ProtocolUDP {
			p.CsumOffset = 6
		}
	}
	switch b := p.Data(); {
	case d.oneIn(8): // one byte of the transport packet is wrong
		b[l.Transport+d.roll(len(b)-l.Transport)] ^= 1 << d.roll(8)
	case d.oneIn(8):
		p.CsumOffset = d.roll(30)
	case d.oneIn(8) && l.Protocol == packet.ProtocolTCP:
		b[l.Transport+12] |= byte(d.roll(16))
		finish(b, partial)
	case d.oneIn(8) && l.Version == 4:
		b[6] |= 0x20
		finish(b, partial)
	}
	return p
}

func TestLimit(t *testing.T) {
	limited := 0
	for seed := range rounds(2000) {
		d := randomDice(seed, 80)
		p, mtu := d.superpacket(), 30+d.roll(1600)
		checkLimit(t, p, mtu)
		if _, ok := reference.Limit(p, mtu); ok {
			limited++
		}
	}
	if limited < int(rounds(200)) {
		t.Errorf("only %d were limited", limited)
	}
}

func TestResetLone(t *testing.T) {
	cut := 0
	for seed := range rounds(4000) {
		d := randomDice(seed, 80)
		p, mtu := d.lone(), 30+d.roll(1600)
		checkLone(t, p, mtu)
		if _, ok := reference.Lone(p, mtu); ok {
			cut++
		}
	}
	if cut < int(rounds(400)) {
		t.Errorf("only %d were cut", cut)
	}
}

func FuzzLimit(f *testing.F) {
	for seed := range uint64(20) {
		f.Add([]byte(randomDice(seed, 80)), uint16(60*seed))
	}
	f.Fuzz(func(t *testing.T, b []byte, mtu uint16) {
		d := dice(b)
		checkLimit(t, d.superpacket(), int(mtu))
		checkLone(t, d.lone(), int(mtu))
	})
}

// What is cut smaller is what the kernel would have cut at that size, had it been asked.
func TestLimitIsAnotherSegmentSize(t *testing.T) {
	limited := 0
	for _, c := range capture(t) {
		if c.packet.GSO != packet.TCP4 && c.packet.GSO != packet.TCP6 {
			continue
		}
		var s packet.Segmenter
		h := parsed(t, c.packet.Data())
		large := c.packet
		large.SegmentSize = 65000
		s.Reset(&large, h)
		if mtu := s.HeaderLen() + c.packet.SegmentSize; !s.Limit(mtu) {
			t.Errorf("line %d: Limit(%d) = false", c.line, mtu)
			continue
		}
		compareSegments(t, c.line, "a limited Segmenter", wirePackets(&s, false), c.segments)
		limited++
	}
	if limited < 5 {
		t.Errorf("only %d superpackets were limited", limited)
	}
}

func TestLimitRules(t *testing.T) {
	f := tcpFlow(false) // headers of 52 bytes
	withFlags := func(flags uint8) flow { f := f; f.flags = flags; return f }
	udp := udpFlow(false)
	udp.sent = 124 // its data are not those of a TCP header with reserved bits
	for _, c := range []struct {
		name               string
		flow               flow
		payload, size, mtu int
		want               bool
		n                  int
	}{
		{"as large as it is", f, 3000, 1000, 1052, true, 3},
		{"a byte less", f, 3000, 1000, 1051, true, 4},
		{"more than it is", f, 3000, 1000, 1500, true, 3},
		{"one byte of payload", f, 100, 50, 53, true, 100},
		{"no payload", f, 100, 50, 52, false, 2},
		{"less than a header", f, 100, 50, 20, false, 2},
		{"MaxSegments", f, 1280, 640, 62, true, 128},
		{"one more", f, 1281, 640, 62, false, 3},
		{"the last segment alone is small enough", f, 1100, 1000, 500, true, 3},
		{"one segment, smaller than the segment size", f, 400, 1000, 500, true, 1},
		{"UDP", udp, 3000, 1000, 1000, false, 3},
		{"UDP that fits", udp, 3000, 1000, 1028, true, 3},
		{"FIN, PSH, CWR, ECE", withFlags(0xd9), 3000, 1000, 500, true, 7},
		{"SYN", withFlags(0x02), 3000, 1000, 500, false, 3},
		{"RST", withFlags(0x14), 3000, 1000, 500, false, 3},
		{"URG", withFlags(0x30), 3000, 1000, 500, false, 3},
	} {
		p := c.flow.superpacket(c.payload, c.size)
		var s packet.Segmenter
		s.Reset(&p, parsed(t, p.Data()))
		if ok := s.Limit(c.mtu); ok != c.want || s.Len() != c.n {
			t.Errorf("%s: %v, %d segments; want %v, %d", c.name, ok, s.Len(), c.want, c.n)
		}
	}
}

func TestResetLoneRules(t *testing.T) {
	f, udp := tcpFlow(false), udpFlow(false)
	extended := tcpFlow(true)
	extended.options, extended.next = []byte{packet.ProtocolTCP, 0, 5, 2, 0, 0, 1, 0}, 0
	wrong := func(p *packet.Packet, b []byte) {
		binary.BigEndian.PutUint16(b[36:], binary.BigEndian.Uint16(b[36:])+1)
	}
	for _, c := range []struct {
		name   string
		flow   flow
		change func(p *packet.Packet, b []byte)
		want   bool
	}{
		{"TCP", f, nil, true},
		{"TCP over IPv6", tcpFlow(true), nil, true},
		{"behind extension headers", extended, nil, true},
		{"UDP", udp, nil, false},
		{"a superpacket", f, func(p *packet.Packet, _ []byte) { p.GSO, p.SegmentSize = packet.TCP4, 100 }, false},
		{"a first fragment", f, func(_ *packet.Packet, b []byte) { b[6] = 0x20; reference.HeaderChecksum(b) }, false},
		{"a wrong checksum", f, wrong, false},
		{"a data offset beyond the packet", f, func(_ *packet.Packet, b []byte) { b[32] = 4 << 4 }, false},
		{"AE", f, func(p *packet.Packet, b []byte) { b[32] |= 1; finish(b, p.CsumStart > 0) }, false},
		{"SYN", f, func(p *packet.Packet, b []byte) { b[33] |= 2; finish(b, p.CsumStart > 0) }, false},
		{"RST", f, func(p *packet.Packet, b []byte) { b[33] |= 4; finish(b, p.CsumStart > 0) }, false},
		{"URG", f, func(p *packet.Packet, b []byte) { b[33] |= 32; finish(b, p.CsumStart > 0) }, false},
		{"FIN", f, func(p *packet.Packet, b []byte) { b[33] |= 1; finish(b, p.CsumStart > 0) }, true},
	} {
		for _, partial := range []bool{false, true} {
			g := c.flow
			p := g.superpacket(1000, 0)
			p.GSO, p.SegmentSize = packet.NoGSO, 0
			if !partial {
				packet.Complete(&p)
			}
			if c.change != nil {
				c.change(&p, p.Data())
			}
			var s packet.Segmenter
			if ok := s.ResetLone(&p, parsed(t, p.Data()), 600); ok != c.want || ok && s.Len() != 2 {
				t.Errorf("%s, partial %v: %v, %d segments", c.name, partial, ok, s.Len())
			}
		}
	}
}

// A packet larger than mtu may be all headers.
func TestResetLoneWithoutPayload(t *testing.T) {
	f := tcpFlow(false)
	p := packet.Packet{Buf: f.packet(0, false)}
	var s packet.Segmenter
	if s.ResetLone(&p, parsed(t, p.Buf), 40) {
		t.Errorf("%d segments", s.Len())
	}
}

func TestLimitAllocatesNothing(t *testing.T) {
	f := tcpFlow(false)
	p, lone := f.superpacket(5000, 1000), f.superpacket(1400, 0)
	lone.GSO, lone.SegmentSize = packet.NoGSO, 0
	h, loneHeader := parsed(t, p.Data()), parsed(t, lone.Data())
	var s packet.Segmenter
	if n := testing.AllocsPerRun(1000, func() {
		s.Reset(&p, h)
		if !s.Limit(500) || !s.ResetLone(&lone, loneHeader, 500) {
			t.Error("not limited")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
