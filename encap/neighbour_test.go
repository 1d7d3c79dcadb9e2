package encap

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

var (
	asker  = MAC{2, 0, 0, 0, 0, 1}
	asks4  = netip.MustParseAddr("10.244.1.0")
	asks6  = netip.MustParseAddr("fe80::ff:fe00:1")
	asked4 = netip.MustParseAddr("10.244.2.0")
	asked6 = netip.MustParseAddr("fd00:10:244:2::")
	own    = []netip.Addr{asked4, asked6}
)

func serialize(tb testing.TB, l ...gopacket.SerializableLayer) []byte {
	tb.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		tb.Fatal(err)
	}
	return slices.Clone(buf.Bytes())
}

// arp is an ARP packet in its frame, from the asker or to it.
func arp(tb testing.TB, to MAC, op uint16, source, target MAC, from, of netip.Addr) []byte {
	tb.Helper()
	return serialize(tb, &layers.Ethernet{SrcMAC: source[:], DstMAC: to[:], EthernetType: layers.EthernetTypeARP}, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: source[:], SourceProtAddress: from.AsSlice(), DstHwAddress: target[:], DstProtAddress: of.AsSlice(),
	})[:14+28]
}

// nd is a message of neighbour discovery in its frame.
func nd(tb testing.TB, source, to MAC, from, dst netip.Addr, typ uint8, message gopacket.SerializableLayer) []byte {
	tb.Helper()
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: 255, SrcIP: from.AsSlice(), DstIP: dst.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		tb.Fatal(err)
	}
	return serialize(tb, &layers.Ethernet{SrcMAC: source[:], DstMAC: to[:], EthernetType: layers.EthernetTypeIPv6}, ip, icmp, message)
}

func solicitation(tb testing.TB, to MAC, from, dst, target netip.Addr) []byte {
	tb.Helper()
	return nd(tb, asker, to, from, dst, 135, &layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice(), Options: layers.ICMPv6Options{
		{Type: layers.ICMPv6OptSourceAddress, Data: asker[:]},
	}})
}

// frames are those that are answered.
func frames(tb testing.TB) map[string][]byte {
	tb.Helper()
	group := netip.MustParseAddr("ff02::1:ff00:0")
	return map[string][]byte{
		"arp":         arp(tb, broadcast, 1, asker, MAC{}, asks4, asked4),
		"arp-probe":   arp(tb, station.MAC, 1, asker, station.MAC, asks4, asked4),
		"ns":          solicitation(tb, MAC{0x33, 0x33, 0xff, 0, 0, 0}, asks6, group, asked6),
		"ns-probe":    solicitation(tb, station.MAC, asks6, asked6, asked6),
		"ns-optional": nd(tb, asker, station.MAC, asks6, asked6, 135, &layers.ICMPv6NeighborSolicitation{TargetAddress: asked6.AsSlice()}),
	}
}

// The answers are what gopacket would make of them.
func TestNeighbourIsAnswered(t *testing.T) {
	reply := arp(t, asker, 2, station.MAC, asker, asked4, asks4)
	advertisement := nd(t, station.MAC, asker, asked6, asks6, 136, &layers.ICMPv6NeighborAdvertisement{
		Flags: 0x60, TargetAddress: asked6.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: station.MAC[:]}},
	})
	back := &Tunnel{Codec: VXLAN, VNI: 0xabcdef, Local: station.MAC, Remote: asker}
	header := []byte{8, 0, 0, 0, 0xab, 0xcd, 0xef, 0}
	for name, frame := range frames(t) {
		want := reply
		if name[0] == 'n' {
			want = advertisement
		}
		for _, padding := range []int{0, 18} {
			before := slices.Concat(frame, make([]byte, padding))
			got, ok := station.AppendNeighbour([]byte("before"), before, own, back)
			if !ok || !bytes.Equal(got, slices.Concat([]byte("before"), header, want)) {
				t.Errorf("%s: %v\n%x, want\n%x", name, ok, got, slices.Concat([]byte("before"), header, want))
			}
		}
	}
}

func TestNeighbourIsNotAnswered(t *testing.T) {
	none := netip.IPv6Unspecified()
	group, other := netip.MustParseAddr("ff02::1:ff00:0"), netip.MustParseAddr("fd00:10:244:3::")
	good := frames(t)
	changed := func(name string, at int, to ...byte) []byte {
		b := bytes.Clone(good[name])
		copy(b[at:], to)
		return b
	}
	for what, frame := range map[string][]byte{
		"another IPv4 address":                 arp(t, broadcast, 1, asker, MAC{}, asks4, netip.MustParseAddr("10.244.3.0")),
		"an ARP reply":                         arp(t, station.MAC, 2, asker, station.MAC, asks4, asked4),
		"ARP from a group address":             arp(t, broadcast, 1, MAC{3, 0, 0, 0, 0, 1}, MAC{}, asks4, asked4),
		"ARP of another link":                  changed("arp", 14, 0, 6),
		"ARP of another protocol":              changed("arp", 16, 0x86, 0xdd),
		"another IPv6 address":                 solicitation(t, station.MAC, asks6, group, other),
		"a probe for a duplicate":              nd(t, asker, station.MAC, none, group, 135, &layers.ICMPv6NeighborSolicitation{TargetAddress: asked6.AsSlice()}),
		"a source that is a group":             solicitation(t, station.MAC, group, group, asked6),
		"a destination that is no one's":       solicitation(t, station.MAC, asks6, netip.MustParseAddr("ff02::1"), asked6),
		"a hop limit of 254":                   changed("ns", 14+7, 254),
		"a wrong checksum":                     changed("ns", 14+43, good["ns"][14+43]^1),
		"another target than was summed":       changed("ns", 14+40+4, 1),
		"a payload length beyond the end":      changed("ns", 14+5, 33),
		"a payload length without the target":  changed("ns", 14+5, 23),
		"an asker that is a group":             changed("ns", 6, 3),
		"an advertisement":                     nd(t, asker, station.MAC, asks6, asked6, 136, &layers.ICMPv6NeighborAdvertisement{TargetAddress: asked6.AsSlice()}),
		"an option of no length":               withOption(t, 1, 0, 0, 0, 0, 0, 0, 0),
		"an option beyond the end":             withOption(t, 1, 2, 0, 0, 0, 0, 0, 0),
		"an option that is cut":                withOption(t, 1, 1, 0, 0),
		"a VLAN tag":                           changed("ns", 12, 0x81, 0),
		"nothing":                              nil,
		"a code that is none":                  withCode(t, good["ns"]),
		"an Ethernet header alone, of ARP":     good["arp"][:14],
		"an Ethernet header alone, of IPv6":    good["ns"][:14],
		"an ARP packet that is cut":            good["arp"][:14+27],
		"a solicitation that is cut":           good["ns"][:14+63],
		"a solicitation with its option cut":   good["ns"][:14+71],
		"IPv6 with another protocol inside it": changed("ns", 14+6, 17),
	} {
		if got, ok := station.AppendNeighbour([]byte("before"), frame, own, vxlan); ok || string(got) != "before" {
			t.Errorf("%s is answered with %x", what, got)
		}
	}
	if got, ok := station.AppendNeighbour(nil, good["arp"], own, udp); ok || got != nil {
		t.Errorf("over plain UDP the answer is %x", got)
	}
}

// withOption is a solicitation with an option of these bytes and a right checksum.
func withOption(t *testing.T, option ...byte) []byte {
	t.Helper()
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: 255, SrcIP: asks6.AsSlice(), DstIP: asked6.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	body := slices.Concat(make([]byte, 4), asked6.AsSlice(), option)
	return serialize(t, &layers.Ethernet{SrcMAC: asker[:], DstMAC: station.MAC[:], EthernetType: layers.EthernetTypeIPv6}, ip, icmp, gopacket.Payload(body))
}

// withCode is the same solicitation with an ICMP code of 1 and a right checksum.
func withCode(t *testing.T, frame []byte) []byte {
	t.Helper()
	b := bytes.Clone(frame)
	b[14+41] = 1
	b[14+42], b[14+43] = 0, 0
	binary.BigEndian.PutUint16(b[14+42:], ^sumICMPv6(b[14:]))
	if sumICMPv6(b[14:]) != 0xffff {
		t.Fatal("the checksum is wrong")
	}
	return b
}

// The sum of any packet is what gopacket makes of it.
func TestSumICMPv6(t *testing.T) {
	r := seeded(11)
	for n := range 300 {
		body := make([]byte, n)
		r.Read(body)
		frame := nd(t, asker, station.MAC, asks6, asked6, 200, gopacket.Payload(body))
		if sum := sumICMPv6(frame[14:][:44+n]); sum != 0xffff { // gopacket pads the frame
			t.Errorf("%d bytes: %#04x", n, sum)
		}
	}
}

// FuzzNeighbour gives AppendNeighbour any frame. What it answers must have asked for
// an own address, and the answer must read as one to the asker.
func FuzzNeighbour(f *testing.F) {
	for _, frame := range frames(f) {
		f.Add(frame)
		f.Add(frame[:len(frame)-8])
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := bytes.Clone(frame)
		datagram, ok := station.AppendNeighbour(nil, frame, own, vxlan)
		if !bytes.Equal(frame, before) {
			t.Error("the frame has changed")
		}
		if !ok {
			return
		}
		p := gopacket.NewPacket(datagram, layers.LayerTypeVXLAN, gopacket.Default)
		if err := p.ErrorLayer(); err != nil {
			t.Fatal(err)
		}
		question := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		if reply, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
			request := question.Layer(layers.LayerTypeARP).(*layers.ARP)
			if reply.Operation != 2 || MAC(reply.SourceHwAddress) != station.MAC || !bytes.Equal(reply.DstHwAddress, request.SourceHwAddress) ||
				!bytes.Equal(reply.SourceProtAddress, asked4.AsSlice()) || !bytes.Equal(reply.DstProtAddress, request.SourceProtAddress) {
				t.Errorf("%v is answered with %v", question, p)
			}
			return
		}
		ip := question.NetworkLayer().(*layers.IPv6)
		answer, advertisement := p.NetworkLayer().(*layers.IPv6), p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		if !ip.SrcIP.Equal(answer.DstIP) || ip.SrcIP.IsUnspecified() || !advertisement.TargetAddress.Equal(net.IP(asked6.AsSlice())) || advertisement.Flags != 0x60 {
			t.Errorf("%v is answered with %v", question, p)
		}
	})
}
