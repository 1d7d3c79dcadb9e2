package encap

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/dataplane/packet/golden"
)

// A tunnel of each codec, and the station at its other end.
var (
	tunnels = [codecs]*Tunnel{UDP: udp, VXLAN: vxlan}
	station = &Station{VNI: vxlan.VNI, MAC: vxlan.Remote}
)

func TestCodecFacts(t *testing.T) {
	if all := Codecs(); !slices.Equal(all, []Codec{UDP, VXLAN}) || UDP.String() != "udp" || VXLAN.String() != "vxlan" {
		t.Errorf("the codecs are %v", all)
	}
	for c := range codecs {
		if same, ok := ParseCodec(c.String()); !ok || same != c {
			t.Errorf("ParseCodec(%q) = %v %v", c, same, ok)
		}
		if c.Overhead() > Headroom {
			t.Errorf("codec %s needs %d bytes of headroom, Headroom is %d", c, c.Overhead(), Headroom)
		}
		if facts[c].key == "" {
			t.Errorf("codec %s: no key to set its port", c)
		}
	}
	for _, name := range []string{"", "UDP", "direct"} {
		if c, ok := ParseCodec(name); ok {
			t.Errorf("ParseCodec(%q) = %v", name, c)
		}
	}
}

// A control message arrives as it was, with zeros up to the size that was asked for.
func TestControl(t *testing.T) {
	for c, to := range tunnels {
		for _, message := range []string{"", "message"} {
			for size := range 100 {
				checkControl(t, Codec(c), to, message, size)
			}
		}
	}
}

func checkControl(t *testing.T, c Codec, to *Tunnel, message string, size int) {
	least := c.ControlOverhead() + len(message)
	b := to.AppendControl([]byte("before"), []byte(message), size)
	if len(b) != 6+max(size, least) || string(b[:6]) != "before" {
		t.Fatalf("%s: AppendControl for %d bytes = %x", c, size, b)
	}
	inner, sum, kind := station.Decap(c, b[6:])
	want := message + strings.Repeat("\x00", max(0, size-least))
	if kind != Control || sum != (Checksum{}) || string(inner) != want {
		t.Errorf("%s: a control message of %d bytes comes back as %x %v %v", c, size, inner, sum, kind)
	}
}

func TestCodecAllocatesNothing(t *testing.T) {
	p := golden.Load(t, "ipv4-tcp")
	buf := append(make([]byte, Headroom), p...)
	for c, to := range tunnels {
		for _, sum := range []Checksum{{}, {Start: 20, Field: 36}} {
			if n := testing.AllocsPerRun(1000, func() {
				if !to.Takes(sum) || Headroom-to.Len(sum) != to.Encap(buf, Headroom, sum) {
					t.Fatal("Len is wrong")
				}
				station.Decap(Codec(c), buf[to.Encap(buf, Headroom, sum):])
			}); n != 0 {
				t.Errorf("%s: %v allocations", Codec(c), n)
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
	for _, to := range tunnels {
		f.Add(to.AppendControl(nil, []byte("message"), 60), uint8(0), uint16(0), uint16(0))
	}
	for _, frame := range frames(f) {
		f.Add(slices.Concat(vxlanHeader, frame), uint8(0), uint16(0), uint16(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, room uint8, start, field uint16) {
		checkVXLAN(t, b)
		for c, to := range tunnels {
			checkDecap(t, Codec(c), b)
			checkThereAndBack(t, to, b, int(room), Checksum{})
			sum := Checksum{int(start), int(field)}
			if sum.within(len(b)) && to.Takes(sum) {
				checkThereAndBack(t, to, b, int(room), sum)
			}
		}
	})
}

// checkDecap wants what is inside to be a part of the datagram, and a packet that
// was taken off to be what Encap would have written, but for what is ignored.
func checkDecap(t *testing.T, c Codec, b []byte) {
	datagram := bytes.Clone(b)
	inner, sum, kind := station.Decap(c, datagram)
	if !bytes.Equal(datagram, b) {
		t.Errorf("%s: Decap changed\n%x to\n%x", c, b, datagram)
	}
	if (inner == nil) != (kind >= Malformed) || kind != Packet && sum != (Checksum{}) {
		t.Errorf("%s: Decap(%x) = %x %v %v", c, b, inner, sum, kind)
	}
	if kind != Packet {
		return
	}
	if sum != (Checksum{}) && !sum.within(len(inner)) || !tunnels[c].Takes(sum) {
		t.Errorf("%s: Decap(%x) says %v of %d bytes", c, b, sum, len(inner))
	}
	again := append(make([]byte, Headroom), inner...)
	again = again[tunnels[c].Encap(again, Headroom, sum):]
	if c == VXLAN { // bits that are reserved, the sender's address, and what pads the frame
		copy(again[:4], datagram[:4])
		copy(again[7:8], datagram[7:8])
		copy(again[14:20], datagram[14:20])
		again = append(again, b[len(again):]...)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("%s: what comes of\n%x would be sent as\n%x", c, b, again)
	}
}

func checkThereAndBack(t *testing.T, to *Tunnel, b []byte, room int, sum Checksum) {
	if len(b) == 0 {
		return
	}
	p := bytes.Clone(b)
	p[0] = p[0]&0x2f | 0x40 // the version of an IPv4 or IPv6 packet
	at := Headroom + room
	buf := append(make([]byte, at), p...)
	start := to.Encap(buf, at, sum)
	if start != at-to.Len(sum) || start < at-to.Codec.Overhead() || !bytes.Equal(buf[at:], p) {
		t.Errorf("%s: Encap at %d starts at %d, the header has %d bytes, %d at the most", to.Codec, at, start, to.Len(sum), to.Codec.Overhead())
	}
	inner, got, kind := station.Decap(to.Codec, buf[start:])
	if to.Codec == VXLAN {
		if isSolicitation(p) && kind == Neighbour {
			return
		}
		if p = slowUnpad(p); sum != (Checksum{}) && !sum.within(len(p)) && kind == Malformed {
			return
		}
	}
	if kind != Packet || got != sum || !bytes.Equal(inner, p) {
		t.Errorf("%s: %x with %v comes back as %x with %v, %v", to.Codec, p, sum, inner, got, kind)
	}
}
