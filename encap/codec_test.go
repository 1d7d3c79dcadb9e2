package encap

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane/packet/golden"
)

func TestCodecFacts(t *testing.T) {
	if UDP.String() != "udp" {
		t.Errorf("the codec is called %q", UDP)
	}
	for c := range codecs {
		if c.String() == "" {
			t.Errorf("codec %d has no name", c)
		}
		if c.Overhead() > Headroom {
			t.Errorf("codec %s needs %d bytes of headroom, Headroom is %d", c, c.Overhead(), Headroom)
		}
	}
}

// The golden underlay packet is the golden inner packet in UDP, both ways.
func TestUDPIsGUEVariant1(t *testing.T) {
	inner, outer := golden.Load(t, "ipv4-tcp"), golden.Load(t, "underlay-udp")
	p := gopacket.NewPacket(outer, layers.LayerTypeIPv4, gopacket.Default)
	udp, ok := p.TransportLayer().(*layers.UDP)
	if !ok || udp.DstPort != 8285 {
		t.Fatalf("gopacket reads %v", p)
	}

	buf := append(make([]byte, Headroom), inner...)
	if datagram := buf[UDP.Encap(buf, Headroom):]; !bytes.Equal(datagram, udp.Payload) {
		t.Errorf("Encap makes\n%x, the file says\n%x", datagram, udp.Payload)
	}
	if got, ok := UDP.Decap(udp.Payload); !ok || !bytes.Equal(got, inner) {
		t.Errorf("Decap = %v\n%x, want\n%x", ok, got, inner)
	}
}

// The first two bits decide (draft-ietf-intarea-gue-09 section 2).
func TestUDPDecapByFirstBits(t *testing.T) {
	for first := range 256 {
		datagram := []byte{byte(first), 1, 2, 3}
		inner, ok := UDP.Decap(datagram)
		if want := first>>6 == 1; ok != want || ok && !bytes.Equal(inner, datagram) {
			t.Errorf("Decap(%x) = %x %v, want ok %v", datagram, inner, ok, want)
		}
	}
	if _, ok := UDP.Decap(nil); ok {
		t.Error("Decap accepts an empty datagram")
	}
}

func TestCodecAllocatesNothing(t *testing.T) {
	p := golden.Load(t, "ipv4-tcp")
	buf := append(make([]byte, Headroom), p...)
	for c := range codecs {
		if n := testing.AllocsPerRun(1000, func() { c.Decap(buf[c.Encap(buf, Headroom):]) }); n != 0 {
			t.Errorf("%s: %v allocations", c, n)
		}
	}
}

// FuzzDecap gives every codec any datagram, and any packet there and back.
func FuzzDecap(f *testing.F) {
	for _, g := range golden.All(f) {
		f.Add(g.Bytes, uint8(0))
	}
	f.Add([]byte(nil), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, room uint8) {
		for c := range codecs {
			checkDecap(t, c, b)
			checkThereAndBack(t, c, b, int(room))
		}
	})
}

// checkDecap wants the inner packet to be a part of the datagram that reaches to
// the end of its array: who owns the buffer finds its way back by that.
func checkDecap(t *testing.T, c Codec, b []byte) {
	datagram := append(make([]byte, 0, len(b)+7), b...)
	inner, ok := c.Decap(datagram)
	if !bytes.Equal(datagram, b) {
		t.Errorf("%s: Decap changed\n%x to\n%x", c, b, datagram)
	}
	if !ok {
		return
	}
	if len(inner) == 0 || len(inner) > len(datagram) {
		t.Fatalf("%s: %d bytes of %d", c, len(inner), len(datagram))
	}
	whole, part := datagram[:cap(datagram)], inner[:cap(inner)]
	if &whole[len(whole)-1] != &part[len(part)-1] {
		t.Errorf("%s: Decap(%x) = %x does not reach to the end of the array", c, datagram, inner)
	}
}

func checkThereAndBack(t *testing.T, c Codec, b []byte, room int) {
	if len(b) == 0 {
		return
	}
	p := bytes.Clone(b)
	p[0] = p[0]&0x3f | 0x40 // the first bits of an IPv4 or IPv6 packet
	at := Headroom + room
	buf := append(make([]byte, at), p...)
	start := c.Encap(buf, at)
	if start != at-c.Overhead() {
		t.Errorf("%s: Encap at %d starts at %d, the overhead is %d", c, at, start, c.Overhead())
	}
	inner, ok := c.Decap(buf[start:])
	if !ok || !bytes.Equal(inner, p) {
		t.Errorf("%s: %x comes back as %x, %v", c, p, inner, ok)
	}
}
