package packet_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
)

var tunAddr = netip.MustParseAddr("10.244.1.0")

// gopacketICMPError is the message that ICMPError shall make, as gopacket
// encodes it.
func gopacketICMPError(tb testing.TB, src netip.Addr, orig []byte, code uint8, mtu int) []byte {
	tb.Helper()
	ip := &layers.IPv4{
		Version: 4, TOS: 6 << 5, Flags: layers.IPv4DontFragment, TTL: 64, Protocol: layers.IPProtocolICMPv4,
		SrcIP: src.AsSlice(), DstIP: bytes.Clone(orig[12:16]),
	}
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, code)}
	if code == layers.ICMPv4CodeFragmentationNeeded {
		icmp.Seq = uint16(mtu) // where RFC 1191 puts it
	}
	quoted := gopacket.Payload(orig[:min(len(orig), 576-20-8)])
	out := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(out, serialiseOptions, ip, icmp, quoted); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func icmpError(src netip.Addr, orig []byte, code uint8, mtu int) []byte {
	buf := bytes.Repeat([]byte{0xaa}, packet.MaxICMPError) // what an earlier message left there
	return buf[:packet.ICMPError(buf, src, orig, code, mtu)]
}

func TestICMPErrorIsWhatGopacketEncodes(t *testing.T) {
	for _, c := range []struct {
		answer, orig string
		code         uint8
		mtu          int
	}{
		{"icmp-net-unreachable", "ipv4-udp", packet.NetUnreachable, 1400}, // no MTU in this message
		{"icmp-fragmentation-needed", "ipv4-dont-fragment", packet.FragmentationNeeded, 580},
	} {
		t.Run(c.answer, func(t *testing.T) {
			orig := golden.Load(t, c.orig)
			got := icmpError(tunAddr, orig, c.code, c.mtu)
			if want := golden.Load(t, c.answer); !bytes.Equal(got, want) {
				t.Errorf("got\n%x, the file says\n%x", got, want)
			}
			if want := gopacketICMPError(t, tunAddr, orig, c.code, c.mtu); !bytes.Equal(got, want) {
				t.Errorf("got\n%x, gopacket encodes\n%x", got, want)
			}
		})
	}
}

// with is p with one byte of its IPv4 header or of what follows it changed.
func with(p []byte, at int, value ...byte) []byte {
	p = bytes.Clone(p)
	copy(p[at:], value)
	fixHeaderChecksum(p)
	return p
}

func TestICMPErrorAnswersWhereItMay(t *testing.T) {
	udp := golden.Load(t, "ipv4-udp")
	echo := golden.Load(t, "ipv4-icmp-echo")
	const icmpType, src, dst = 20, 12, 16
	for _, c := range []struct {
		name string
		orig []byte
		want bool
	}{
		{"UDP", udp, true},
		{"a header alone", golden.Load(t, "ipv4-empty"), true},
		{"options", golden.Load(t, "ipv4-options"), true},
		{"a first fragment", golden.Load(t, "ipv4-fragment-first"), true},
		{"a later fragment", golden.Load(t, "ipv4-fragment-later"), false},
		{"a fragment from byte 8", with(udp, 6, 0, 1), false},
		{"a fragment from byte 32768", with(udp, 6, 0x10, 0), false},
		{"no fragment, all flags set", with(udp, 6, 0xe0, 0), true},

		{"an echo request", echo, true},
		{"an echo reply", with(echo, icmpType, 0), true},
		{"a timestamp request", with(echo, icmpType, 13), true},
		{"an unreachable", golden.Load(t, "icmp-net-unreachable"), false},
		{"a source quench", with(echo, icmpType, 4), false},
		{"a redirect", with(echo, icmpType, 5), false},
		{"a time exceeded", with(echo, icmpType, 11), false},
		{"a parameter problem", with(echo, icmpType, 12), false},
		{"ICMP without a type", with(golden.Load(t, "ipv4-empty"), 9, 1), false},

		{"from 0.0.0.0", with(udp, src, 0, 0, 0, 0), false},
		{"from loopback", with(udp, src, 127, 1, 2, 3), false},
		{"from multicast", with(udp, src, 224, 0, 0, 1), false},
		{"from class E", with(udp, src, 240, 0, 0, 1), false},
		{"from broadcast", with(udp, src, 255, 255, 255, 255), false},
		{"from below multicast", with(udp, src, 223, 255, 255, 255), true},
		{"to multicast", with(udp, dst, 239, 1, 2, 3), false},
		{"to class E", with(udp, dst, 240, 0, 0, 1), false},
		{"to broadcast", with(udp, dst, 255, 255, 255, 255), false},
	} {
		if n := len(icmpError(tunAddr, c.orig, packet.NetUnreachable, 0)); (n > 0) != c.want {
			t.Errorf("%s: an answer of %d bytes, want one: %v", c.name, n, c.want)
		}
	}
	six := golden.Load(t, "ipv6-udp")
	six[6], six[7] = 0, 0 // what would be no fragment in IPv4
	if n := len(icmpError(tunAddr, six, packet.NetUnreachable, 0)); n != 0 {
		t.Errorf("to an IPv6 packet: an answer of %d bytes", n)
	}
	if n := len(icmpError(netip.MustParseAddr("fd00::1"), udp, packet.NetUnreachable, 0)); n != 0 {
		t.Errorf("from an IPv6 address: an answer of %d bytes", n)
	}
}

// An ICMP type of an error counts behind the options, and nowhere else.
func TestICMPErrorFindsTheTypeBehindOptions(t *testing.T) {
	p := with(golden.Load(t, "ipv4-options"), 9, 1)
	n := int(p[0]&0x0f) * 4
	for _, c := range []struct {
		at   int
		want bool
	}{{n, false}, {20, true}} {
		q := with(p, n, 8)
		q = with(q, c.at, 3)
		if got := len(icmpError(tunAddr, q, packet.NetUnreachable, 0)) > 0; got != c.want {
			t.Errorf("a 3 at byte %d, header of %d: answered %v, want %v", c.at, n, got, c.want)
		}
	}
}

func TestICMPErrorAllocatesNothing(t *testing.T) {
	orig, buf := golden.Load(t, "ipv4-dont-fragment"), make([]byte, packet.MaxICMPError)
	if n := testing.AllocsPerRun(1000, func() { packet.ICMPError(buf, tunAddr, orig, packet.FragmentationNeeded, 580) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzICMPError(f *testing.F) {
	for _, g := range golden.All(f) {
		f.Add(g.Bytes, uint32(0x0af40100), uint8(packet.NetUnreachable), uint16(0))
		f.Add(g.Bytes, uint32(0x0af40100), uint8(packet.FragmentationNeeded), uint16(580))
	}
	f.Fuzz(func(t *testing.T, raw []byte, from uint32, code uint8, mtu uint16) {
		orig, ok := repaired(raw)
		if !ok {
			return
		}
		src := netip.AddrFrom4([4]byte{byte(from >> 24), byte(from >> 16), byte(from >> 8), byte(from)})
		before := bytes.Clone(orig)
		got := icmpError(src, orig, code, int(mtu))
		if !bytes.Equal(orig, before) {
			t.Fatalf("the original was changed from\n%x to\n%x", before, orig)
		}
		if len(got) == 0 {
			return
		}
		if len(got) > 576 {
			t.Errorf("%d bytes", len(got))
		}
		if h, ok := parse(got); !ok || h.Src != src || h.Dst != netip.AddrFrom4([4]byte(orig[12:16])) {
			t.Errorf("Parse(%x) = %+v %v", got, h, ok)
		}
		if slowChecksum(got[20:], 0) != 0 {
			t.Errorf("wrong ICMP checksum: %x", got)
		}
		if want := gopacketICMPError(t, src, orig, code, int(mtu)); !bytes.Equal(got, want) {
			t.Errorf("got\n%x, gopacket encodes\n%x", got, want)
		}
		if orig[0]>>4 != 4 || forbidden(orig) {
			t.Errorf("an answer to %x", orig)
		}
		if len(icmpError(src, got, code, int(mtu))) != 0 {
			t.Errorf("an answer to the answer %x", got)
		}
	})
}

// forbidden says with gopacket's help whether orig is a later fragment or an
// ICMP error (RFC 1122 section 3.2.2).
func forbidden(orig []byte) bool {
	p := gopacket.NewPacket(orig, layers.LayerTypeIPv4, gopacket.Default)
	if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && ip.FragOffset != 0 {
		return true
	}
	icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !ok {
		return false
	}
	switch icmp.TypeCode.Type() {
	case layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeSourceQuench, layers.ICMPv4TypeRedirect,
		layers.ICMPv4TypeTimeExceeded, layers.ICMPv4TypeParameterProblem:
		return true
	}
	return false
}
