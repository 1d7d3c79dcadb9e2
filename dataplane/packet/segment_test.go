package packet_test

import (
	"bytes"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// checkSegments cuts p in both ways.
func checkSegments(t *testing.T, p packet.Packet) {
	t.Helper()
	before := bytes.Clone(p.Buf)
	h := parsed(t, p.Data())
	if !p.Check(h) {
		t.Fatalf("Check refuses %+v", p)
	}
	var s packet.Segmenter
	s.Reset(&p, h)
	compareCuts(t, &s, p)
	if !bytes.Equal(p.Buf, before) {
		t.Errorf("the superpacket was changed from\n%x to\n%x", before, p.Buf)
	}
}

// compareCuts cuts p, which s was given, in an order that is not the natural one, and
// completes the checksums in both ways.
func compareCuts(t *testing.T, s *packet.Segmenter, p packet.Packet) {
	t.Helper()
	want := reference.Segment(p)
	if s.Len() != len(want) {
		t.Fatalf("Len = %d, want %d", s.Len(), len(want))
	}
	largest := 0
	for k := range want {
		i := k * 7 % len(want)
		if len(want)%7 == 0 {
			i = len(want) - 1 - k
		}
		largest = max(largest, len(want[i]))
		dst := bytes.Repeat([]byte{0xee}, s.HeaderLen()+1)
		payload := s.Put(dst, i)
		if i > 0 && i < len(want)-2 {
			checkStep(t, s, bytes.Clone(dst), i+1)
		}

		b := append(bytes.Clone(dst[:s.HeaderLen()]), payload...)
		partial := packet.Packet{Buf: b, CsumStart: p.CsumStart, CsumOffset: p.CsumOffset}
		if got := reference.Complete(partial); !bytes.Equal(got, want[i]) {
			t.Errorf("segment %d, partial and then completed:\n%x, want\n%x", i, got, want[i])
		}
		if sh := parsed(t, b); !partial.Check(sh) {
			t.Errorf("segment %d: Check refuses it", i)
		}
		packet.Complete(&partial)
		if !bytes.Equal(b, want[i]) || partial.CsumStart != 0 {
			t.Errorf("segment %d, Complete:\n%x, want\n%x", i, b, want[i])
		}
		s.Finish(dst[:s.HeaderLen()], payload)
		if got := append(dst[:s.HeaderLen():s.HeaderLen()], payload...); !bytes.Equal(got, want[i]) {
			t.Errorf("segment %d, Finish:\n%x, want\n%x", i, got, want[i])
		}
		if dst[s.HeaderLen()] != 0xee {
			t.Errorf("segment %d: Put wrote beyond the header", i)
		}
		if !packet.ChecksumOK(want[i], parsed(t, want[i])) {
			t.Errorf("segment %d: ChecksumOK is false", i)
		}
	}
	if s.PacketLen() != largest {
		t.Errorf("PacketLen = %d, the largest segment is %d long", s.PacketLen(), largest)
	}
}

// checkStep makes of the headers of the segment before, in dst, those of segment i.
func checkStep(t *testing.T, s *packet.Segmenter, dst []byte, i int) {
	t.Helper()
	payload := s.Step(dst, i)
	put := bytes.Repeat([]byte{0xee}, s.HeaderLen()+1)
	if want := s.Put(put, i); !bytes.Equal(dst, put) || !bytes.Equal(payload, want) {
		t.Errorf("segment %d, Step:\n%x, Put:\n%x", i, dst, put)
	}
}

func (d *dice) superpacket() packet.Packet {
	f := d.flow()
	if d.oneIn(2) {
		return f.superpacket(1+d.roll(300), 1+d.roll(100))
	}
	return f.superpacket(1+d.roll(65200), 500+d.roll(9000))
}

func TestSegmenter(t *testing.T) {
	for seed := range rounds(2000) {
		d := randomDice(seed, 64)
		checkSegments(t, d.superpacket())
	}
}

func FuzzSegmenter(f *testing.F) {
	for seed := range uint64(20) {
		f.Add([]byte(randomDice(seed, 40)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := dice(b)
		checkSegments(t, d.superpacket())
	})
}

// gopacket, which builds headers and checksums of its own, makes the same segments.
func TestSegmentsAreWhatGopacketEncodes(t *testing.T) {
	for _, f := range []flow{tcpFlow(false), tcpFlow(true), udpFlow(false), udpFlow(true)} {
		f.flags |= 0xc9 // CWR, ECE, PSH, FIN
		for i, s := range cut(t, f.superpacket(2500, 999), false) {
			if want := reserialised(t, s); !bytes.Equal(s, want) {
				t.Errorf("segment %d:\n%x, gopacket encodes\n%x", i, s, want)
			}
		}
	}
}

func TestSegmenterFlags(t *testing.T) {
	f := tcpFlow(false)
	f.flags = 0xff
	for i, want := range []byte{0xf6, 0x76, 0x7f} { // all but PSH and FIN; without CWR; without CWR only
		if got := cut(t, f.superpacket(30, 10), false)[i][33]; got != want {
			t.Errorf("segment %d: flags %#x, want %#x", i, got, want)
		}
	}
}

func TestSegmenterAllocatesNothing(t *testing.T) {
	f := tcpFlow(false)
	p := f.superpacket(5000, 1000)
	h := parsed(t, p.Data())
	var s packet.Segmenter
	dst := make([]byte, 128)
	wire := f.packet(1000, true)
	if n := testing.AllocsPerRun(1000, func() {
		if !p.Check(h) {
			t.Error("Check refuses it")
		}
		h.FlowHash(p.Data())
		s.Reset(&p, h)
		for i := range s.Len() {
			payload := s.Put(dst, i)
			s.Finish(dst[:s.HeaderLen()], payload)
		}
		q := packet.Packet{Buf: wire, CsumStart: 20, CsumOffset: 16}
		packet.Complete(&q)
		packet.ChecksumOK(wire, h)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
