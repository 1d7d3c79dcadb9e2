package packet_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
)

var (
	tunAddr  = netip.MustParseAddr("10.244.1.0")
	tunAddr6 = netip.MustParseAddr("fd00:10:244:1::")
)

// gopacketICMPError is the message that ICMPError shall make, as gopacket
// encodes it.
func gopacketICMPError(tb testing.TB, src netip.Addr, orig []byte, problem packet.Problem, mtu int) []byte {
	tb.Helper()
	out := gopacket.NewSerializeBuffer()
	all := gopacketICMP6(src, orig, problem, mtu)
	if orig[0]>>4 == 4 {
		all = gopacketICMP4(src, orig, problem, mtu)
	}
	if err := gopacket.SerializeLayers(out, serialiseOptions, all...); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func gopacketICMP4(src netip.Addr, orig []byte, problem packet.Problem, mtu int) []gopacket.SerializableLayer {
	ip := &layers.IPv4{
		Version: 4, TOS: 6 << 5, Flags: layers.IPv4DontFragment, TTL: 64, Protocol: layers.IPProtocolICMPv4,
		SrcIP: src.AsSlice(), DstIP: bytes.Clone(orig[12:16]),
	}
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeNet)}
	if problem == packet.TooBig {
		icmp.TypeCode = layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded)
		icmp.Seq = uint16(mtu) // where RFC 1191 puts it
	}
	return []gopacket.SerializableLayer{ip, icmp, gopacket.Payload(orig[:min(len(orig), 576-20-8)])}
}

func gopacketICMP6(src netip.Addr, orig []byte, problem packet.Problem, mtu int) []gopacket.SerializableLayer {
	ip := &layers.IPv6{
		Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolICMPv6, SrcIP: src.AsSlice(), DstIP: bytes.Clone(orig[8:24]),
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodeNoRouteToDst)}
	field := make([]byte, 4)
	if problem == packet.TooBig {
		icmp.TypeCode = layers.CreateICMPv6TypeCode(layers.ICMPv6TypePacketTooBig, 0)
		binary.BigEndian.PutUint32(field, uint32(max(mtu, 1280)))
	}
	_ = icmp.SetNetworkLayerForChecksum(ip) // refuses other layers only
	quoted := orig[:min(len(orig), 1280-40-8)]
	return []gopacket.SerializableLayer{ip, icmp, gopacket.Payload(append(field, quoted...))}
}

func icmpError(src netip.Addr, orig []byte, problem packet.Problem, mtu int) []byte {
	buf := bytes.Repeat([]byte{0xaa}, packet.MaxICMPError) // what an earlier message left there
	return buf[:packet.ICMPError(buf, src, orig, problem, mtu)]
}

func TestICMPErrorIsWhatGopacketEncodes(t *testing.T) {
	for _, c := range []struct {
		answer, orig string
		problem      packet.Problem
		mtu          int
	}{
		{"icmp-net-unreachable", "ipv4-udp", packet.NoRoute, 1400}, // no MTU in this message
		{"icmp-fragmentation-needed", "ipv4-dont-fragment", packet.TooBig, 580},
	} {
		t.Run(c.answer, func(t *testing.T) {
			orig := golden.Load(t, c.orig)
			got := icmpError(tunAddr, orig, c.problem, c.mtu)
			if want := golden.Load(t, c.answer); !bytes.Equal(got, want) {
				t.Errorf("got\n%x, the file says\n%x", got, want)
			}
			if want := gopacketICMPError(t, tunAddr, orig, c.problem, c.mtu); !bytes.Equal(got, want) {
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
		if n := len(icmpError(tunAddr, c.orig, packet.NoRoute, 0)); (n > 0) != c.want {
			t.Errorf("%s: an answer of %d bytes, want one: %v", c.name, n, c.want)
		}
	}
}

func TestICMPErrorStaysInTheFamily(t *testing.T) {
	four, six := golden.Load(t, "ipv4-udp"), golden.Load(t, "ipv6-udp")
	for _, c := range []struct {
		src  netip.Addr
		orig []byte
	}{{tunAddr, six}, {tunAddr6, four}, {netip.Addr{}, four}, {netip.Addr{}, six}} {
		if n := len(icmpError(c.src, c.orig, packet.NoRoute, 0)); n != 0 {
			t.Errorf("from %v to %x: an answer of %d bytes", c.src, c.orig, n)
		}
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
		if got := len(icmpError(tunAddr, q, packet.NoRoute, 0)) > 0; got != c.want {
			t.Errorf("a 3 at byte %d, header of %d: answered %v, want %v", c.at, n, got, c.want)
		}
	}
}

func TestICMPErrorAllocatesNothing(t *testing.T) {
	buf := make([]byte, packet.MaxICMPError)
	for name, src := range map[string]netip.Addr{"ipv4-dont-fragment": tunAddr, "ipv6-extension-headers": tunAddr6} {
		orig := golden.Load(t, name)
		if n := testing.AllocsPerRun(1000, func() { packet.ICMPError(buf, src, orig, packet.TooBig, 1400) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func FuzzICMPError(f *testing.F) {
	for _, g := range golden.All(f) {
		f.Add(g.Bytes, []byte{10, 244, 1, 0}, false, uint16(0))
		f.Add(g.Bytes, tunAddr6.AsSlice(), true, uint16(580))
	}
	for _, orig := range originals6() {
		f.Add(orig, tunAddr6.AsSlice(), true, uint16(1400))
	}
	f.Fuzz(func(t *testing.T, raw, from []byte, tooBig bool, mtu uint16) {
		orig, ok := repaired(raw)
		src, isAddr := netip.AddrFromSlice(from)
		if !ok || !isAddr || src.Is4() != (orig[0]>>4 == 4) {
			return
		}
		problem := packet.NoRoute
		if tooBig {
			problem = packet.TooBig
		}
		before := bytes.Clone(orig)
		got := icmpError(src, orig, problem, int(mtu))
		if !bytes.Equal(orig, before) {
			t.Fatalf("the original was changed from\n%x to\n%x", before, orig)
		}
		if src.Is6() && (len(got) > 0) == forbidden6(orig) {
			t.Errorf("to %x: an answer of %d bytes", orig, len(got))
		}
		if len(got) > 0 {
			checkICMPError(t, got, src, orig)
			if want := gopacketICMPError(t, src, orig, problem, int(mtu)); !bytes.Equal(got, want) {
				t.Errorf("got\n%x, gopacket encodes\n%x", got, want)
			}
		}
	})
}

func checkICMPError(t *testing.T, got []byte, src netip.Addr, orig []byte) {
	t.Helper()
	limit := 1280
	if src.Is4() {
		limit = 576
		if slowChecksum(got[20:], 0) != 0 {
			t.Errorf("wrong ICMP checksum: %x", got)
		}
		if forbidden(orig) {
			t.Errorf("an answer to %x", orig)
		}
	}
	if len(got) > limit {
		t.Errorf("%d bytes", len(got))
	}
	if h, ok := parse(got); !ok || h.Src != src || h.Dst != parsed(t, orig).Src {
		t.Errorf("Parse(%x) = %+v %v", got, h, ok)
	}
	if len(icmpError(src, got, packet.NoRoute, 0)) != 0 {
		t.Errorf("an answer to the answer %x", got)
	}
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
