package encap

import (
	"bytes"
	"encoding/binary"
	"fmt"
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

// outer reads a golden underlay packet and returns the datagram in it.
func outer(t *testing.T, name string, first gopacket.Decoder) []byte {
	t.Helper()
	p := gopacket.NewPacket(golden.Load(t, name), first, gopacket.Default)
	udp, ok := p.TransportLayer().(*layers.UDP)
	if !ok || udp.DstPort != 8285 {
		t.Fatalf("gopacket reads %v", p)
	}
	return udp.Payload
}

// The golden underlay packets are golden inner packets in UDP, both ways.
func TestUDPIsGUE(t *testing.T) {
	for _, c := range []struct {
		outer, inner string
		first        gopacket.Decoder
		sum          Checksum
		pseudo       uint16 // what the checksum's field holds where it is not complete
	}{
		{"underlay-udp", "ipv4-tcp", layers.LayerTypeIPv4, Checksum{}, 0},
		{"underlay-udp-remote-checksum", "ipv4-tcp", layers.LayerTypeIPv4, Checksum{Start: 20, Field: 36}, 0x192e},
		{"underlay-udp-remote-checksum-ipv6", "ipv6-udp", layers.LayerTypeIPv6, Checksum{Start: 40, Field: 46}, 0xfee5},
	} {
		want, inner := outer(t, c.outer, c.first), golden.Load(t, c.inner)
		if c.sum != (Checksum{}) {
			binary.BigEndian.PutUint16(inner[c.sum.Field:], c.pseudo)
		}
		buf := append(make([]byte, Headroom), inner...)
		start := UDP.Encap(buf, Headroom, c.sum)
		if datagram := buf[start:]; !bytes.Equal(datagram, want) {
			t.Errorf("%s: Encap makes\n%x, the file says\n%x", c.outer, datagram, want)
		}
		if n := Headroom - start; n != UDP.Len(c.sum) {
			t.Errorf("%s: Encap wrote %d bytes, Len says %d", c.outer, n, UDP.Len(c.sum))
		}
		if got, sum, ok := UDP.Decap(want); !ok || sum != c.sum || !bytes.Equal(got, inner) {
			t.Errorf("%s: Decap = %v %v\n%x, want %v\n%x", c.outer, ok, sum, got, c.sum, inner)
		}
	}
}

// Of the packet Encap has the first byte alone in a header arena.
func TestEncapInFrontOfAHeader(t *testing.T) {
	want := outer(t, "underlay-udp-remote-checksum", layers.LayerTypeIPv4)
	buf := append(make([]byte, gueLen), 0x45)
	if start := UDP.Encap(buf, gueLen, Checksum{Start: 20, Field: 36}); start != 0 || !bytes.Equal(buf, want[:len(buf)]) {
		t.Errorf("Encap = %d, %x, want 0, %x", start, buf, want[:len(buf)])
	}
}

// The first two bits decide (draft-ietf-intarea-gue-09 section 2).
func TestUDPDecapByFirstBits(t *testing.T) {
	for first := range 256 {
		datagram := []byte{byte(first), 1, 2, 3}
		inner, _, ok := UDP.Decap(datagram)
		if want := first>>6 == 1; ok != want || ok && !bytes.Equal(inner, datagram) {
			t.Errorf("Decap(%x) = %x %v, want ok %v", datagram, inner, ok, want)
		}
	}
	if _, _, ok := UDP.Decap(nil); ok {
		t.Error("Decap accepts an empty datagram")
	}
}

// No bit of the header may differ, nor may it be cut, nor reach beyond the packet.
func TestGUERefuses(t *testing.T) {
	for name, first := range map[string]gopacket.Decoder{
		"underlay-udp-remote-checksum":      layers.LayerTypeIPv4,
		"underlay-udp-remote-checksum-ipv6": layers.LayerTypeIPv6,
	} {
		good := outer(t, name, first)
		refused := func(what string, datagram []byte) {
			t.Helper()
			if inner, sum, ok := UDP.Decap(datagram); ok {
				t.Errorf("%s: %s: Decap = %x %v", name, what, inner, sum)
			}
		}
		for bit := range 8 * 8 {
			if bit == 1 {
				continue // variant 1, whatever follows
			}
			bad := bytes.Clone(good)
			bad[bit/8] ^= 0x80 >> (bit % 8)
			refused(fmt.Sprintf("bit %d of byte %d", bit%8, bit/8), bad)
		}
		for bit := range 4 {
			bad := bytes.Clone(good)
			bad[gueLen] ^= 0x80 >> bit
			refused("another IP version", bad)
			clear(bad[:4])
			refused("another IP version and no header", bad)
		}
		for n := range gueLen + 1 {
			refused(fmt.Sprintf("%d bytes", n), good[:n])
		}
		_, sum, _ := UDP.Decap(good)
		for _, bad := range []Checksum{{}, {0, sum.Field}, {sum.Field + 1, sum.Field}, {sum.Start, len(good) - gueLen - 1}, {1, 0xffff}, {0xffff, 0xffff}} {
			datagram := bytes.Clone(good)
			binary.BigEndian.PutUint16(datagram[8:], uint16(bad.Start))
			binary.BigEndian.PutUint16(datagram[10:], uint16(bad.Field))
			refused(fmt.Sprint(bad), datagram)
		}
		for _, fine := range []Checksum{{sum.Field, sum.Field}, {1, 2}, {sum.Start, len(good) - gueLen - 2}} {
			datagram := bytes.Clone(good)
			binary.BigEndian.PutUint16(datagram[8:], uint16(fine.Start))
			binary.BigEndian.PutUint16(datagram[10:], uint16(fine.Field))
			if _, got, ok := UDP.Decap(datagram); !ok || got != fine {
				t.Errorf("%s: Decap = %v %v, want %v", name, got, ok, fine)
			}
		}
	}
}

func TestCodecAllocatesNothing(t *testing.T) {
	p := golden.Load(t, "ipv4-tcp")
	buf := append(make([]byte, Headroom), p...)
	for c := range codecs {
		for _, sum := range []Checksum{{}, {Start: 20, Field: 36}} {
			if n := testing.AllocsPerRun(1000, func() { c.Decap(buf[c.Encap(buf, Headroom, sum):]) }); n != 0 {
				t.Errorf("%s: %v allocations", c, n)
			}
		}
	}
}

// FuzzDecap gives every codec any datagram, and any packet there and back.
func FuzzDecap(f *testing.F) {
	for _, g := range golden.All(f) {
		f.Add(g.Bytes, uint8(0), uint16(0), uint16(0))
		f.Add(g.Bytes, uint8(1), uint16(20), uint16(36))
		f.Add(g.Bytes[min(28, len(g.Bytes)):], uint8(0), uint16(1), uint16(1))
		f.Add(g.Bytes[min(48, len(g.Bytes)):], uint8(0), uint16(1), uint16(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, room uint8, start, field uint16) {
		for c := range codecs {
			checkDecap(t, c, b)
			checkThereAndBack(t, c, b, int(room), Checksum{})
			if start > 0 && start <= field && int(field)+2 <= len(b) {
				checkThereAndBack(t, c, b, int(room), Checksum{int(start), int(field)})
			}
		}
	})
}

// checkDecap wants the inner packet to be the rest of the datagram, and what was
// taken off to be what Encap would write.
func checkDecap(t *testing.T, c Codec, b []byte) {
	datagram := bytes.Clone(b)
	inner, sum, ok := c.Decap(datagram)
	if !bytes.Equal(datagram, b) {
		t.Errorf("%s: Decap changed\n%x to\n%x", c, b, datagram)
	}
	if !ok {
		return
	}
	if len(inner) == 0 || len(inner) != len(b)-c.Len(sum) || &inner[len(inner)-1] != &datagram[len(b)-1] {
		t.Fatalf("%s: Decap(%x) = %x", c, b, inner)
	}
	if sum != (Checksum{}) && (sum.Start < 1 || sum.Field < sum.Start || sum.Field+2 > len(inner)) {
		t.Errorf("%s: Decap(%x) says %v of %d bytes", c, b, sum, len(inner))
	}
	again := append(make([]byte, Headroom), inner...)
	if again = again[c.Encap(again, Headroom, sum):]; !bytes.Equal(again, b) {
		t.Errorf("%s: what comes of\n%x would be sent as\n%x", c, b, again)
	}
}

func checkThereAndBack(t *testing.T, c Codec, b []byte, room int, sum Checksum) {
	if len(b) == 0 {
		return
	}
	p := bytes.Clone(b)
	p[0] = p[0]&0x2f | 0x40 // the version of an IPv4 or IPv6 packet
	at := Headroom + room
	buf := append(make([]byte, at), p...)
	start := c.Encap(buf, at, sum)
	if start != at-c.Len(sum) || start < at-c.Overhead() {
		t.Errorf("%s: Encap at %d starts at %d, the header has %d bytes, %d at the most", c, at, start, c.Len(sum), c.Overhead())
	}
	inner, got, ok := c.Decap(buf[start:])
	if !ok || got != sum || !bytes.Equal(inner, p) {
		t.Errorf("%s: %x with %v comes back as %x with %v, %v", c, p, sum, inner, got, ok)
	}
}
