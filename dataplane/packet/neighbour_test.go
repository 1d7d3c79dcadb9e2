package packet_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

var (
	a4, b4 = netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("192.168.1.11")
	a6, b6 = netip.MustParseAddr("fe80::a"), netip.MustParseAddr("fd00::12:345b")
	groupB = netip.MustParseAddr("ff02::1:ff12:345b") // at which b6 is asked for
	tag10  = []byte{0x81, 0, 0xe0, 10}
)

// arpFrame is an ARP packet that gopacket makes, behind VLAN tags.
func arpFrame(tb testing.TB, dst, src packet.MAC, tags []byte, op uint16, sender packet.MAC, from netip.Addr, asked packet.MAC, target netip.Addr) []byte {
	tb.Helper()
	return tagged(serialized(tb, &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeARP}, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: sender[:], SourceProtAddress: from.AsSlice(), DstHwAddress: asked[:], DstProtAddress: target.AsSlice(),
	})[:14+28], tags)
}

// ndFrame is a message of neighbour discovery that gopacket makes, behind VLAN tags.
func ndFrame(tb testing.TB, dst, src packet.MAC, tags []byte, from, to netip.Addr, typ uint8, message gopacket.SerializableLayer) []byte {
	tb.Helper()
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: 255, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		tb.Fatal(err)
	}
	eth := &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeIPv6}
	return tagged(serialized(tb, eth, ip, icmp, message), tags)
}

func serialized(tb testing.TB, l ...gopacket.SerializableLayer) []byte {
	tb.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		tb.Fatal(err)
	}
	return slices.Clone(buf.Bytes())
}

func tagged(frame, tags []byte) []byte { return slices.Concat(frame[:12], tags, frame[12:]) }

func says(typ layers.ICMPv6Opt, mac packet.MAC) layers.ICMPv6Options {
	return layers.ICMPv6Options{{Type: typ, Data: mac[:]}}
}

func nsFrame(tb testing.TB, dst packet.MAC, tags []byte, from, to, target netip.Addr, options layers.ICMPv6Options) []byte {
	tb.Helper()
	return ndFrame(tb, dst, hostA, tags, from, to, 135, &layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice(), Options: options})
}

func naFrame(tb testing.TB, dst packet.MAC, tags []byte, from, to netip.Addr, flags uint8, target netip.Addr, options layers.ICMPv6Options) []byte {
	tb.Helper()
	return ndFrame(tb, dst, hostB, tags, from, to, 136, &layers.ICMPv6NeighborAdvertisement{Flags: flags, TargetAddress: target.AsSlice(), Options: options})
}

// heard is what a frame tells and asks; the zero Addr is nothing.
type heard struct{ claims, asks netip.Addr }

// checkNeighbour reads a frame in both ways, and its answer.
func checkNeighbour(t *testing.T, frame []byte) (h heard) {
	t.Helper()
	e, ok := checkEthernet(t, frame)
	if !ok {
		return h
	}
	before := bytes.Clone(frame)
	ip, mac, claims := packet.NeighbourClaim(frame, &e)
	if wantIP, wantMAC, want := reference.NeighbourClaim(frame, e); claims != want || claims && (ip != wantIP || mac != wantMAC) {
		t.Fatalf("NeighbourClaim(%x) = %v, %v, %v, want %v, %v, %v", frame, ip, mac, claims, wantIP, wantMAC, want)
	}
	if claims {
		h.claims = ip
	}
	target, asks := packet.NeighbourQuestion(frame, &e)
	if want, wantAsks := reference.NeighbourQuestion(frame, e); asks != wantAsks || asks && target != want {
		t.Fatalf("NeighbourQuestion(%x) = %v, %v, want %v, %v", frame, target, asks, want, wantAsks)
	}
	if asks {
		h.asks = target
		checkAnswer(t, frame, &e, target)
	}
	if !bytes.Equal(frame, before) {
		t.Fatalf("%x was changed", before)
	}
	return h
}

// checkAnswer compares the answer with what gopacket makes of it.
func checkAnswer(t *testing.T, frame []byte, e *packet.Ethernet, target netip.Addr) {
	t.Helper()
	tags, p := frame[12:e.Len-2], frame[e.Len:]
	var want []byte
	if target.Is4() {
		want = arpFrame(t, e.Src, hostB, tags, 2, hostB, target, e.Src, netip.AddrFrom4([4]byte(p[14:])))
		want = append(want, make([]byte, 60-len(want))...)
	} else {
		want = naFrame(t, e.Src, tags, target, netip.AddrFrom16([16]byte(p[8:])), 0x60, target, says(layers.ICMPv6OptTargetAddress, hostB))
	}
	got := packet.AppendNeighbourAnswer([]byte("before"), frame, e, target, hostB)
	if !bytes.Equal(got, append([]byte("before"), want...)) {
		t.Fatalf("answer to %x\n%x, want\n%x", frame, got[6:], want)
	}
	if len(got) < 60 || len(got) > 128 {
		t.Fatalf("the answer to %x has %d bytes", frame, len(got))
	}
	if told := checkNeighbour(t, got[6:]); told.claims != target || told.asks.IsValid() {
		t.Fatalf("the answer to %x tells %+v, want %v", frame, told, target)
	}
}

// neighbourFrames are frames by what they are, and what is heard in them.
func neighbourFrames(tb testing.TB) map[string]struct {
	frame []byte
	want  heard
} {
	tb.Helper()
	type c = struct {
		frame []byte
		want  heard
	}
	none, everyone := netip.IPv6Unspecified(), netip.MustParseAddr("ff02::1")
	group := packet.MAC{0x33, 0x33, 0xff, 0x12, 0x34, 0x5b}
	source, target := says(layers.ICMPv6OptSourceAddress, hostA), says(layers.ICMPv6OptTargetAddress, hostB)
	qinq := append([]byte{0x88, 0xa8, 0, 7}, tag10...)
	zero4 := netip.IPv4Unspecified()
	ns := func(dst packet.MAC, from, to, of netip.Addr, options layers.ICMPv6Options) []byte {
		return nsFrame(tb, dst, nil, from, to, of, options)
	}
	na := func(to netip.Addr, flags uint8, of netip.Addr, options layers.ICMPv6Options) []byte {
		return naFrame(tb, hostA, nil, b6, to, flags, of, options)
	}
	request := func(dst, sender packet.MAC, from, of netip.Addr) []byte {
		return arpFrame(tb, dst, hostA, nil, 1, sender, from, packet.MAC{}, of)
	}
	good := request(broadcast, hostA, a4, b4)
	changed := func(at int, to ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], to)
		return b
	}
	return map[string]c{
		"request":                      {good, heard{a4, b4}},
		"request with padding":         {append(bytes.Clone(good), make([]byte, 18)...), heard{a4, b4}},
		"request in a VLAN":            {tagged(good, tag10), heard{a4, b4}},
		"request in a VLAN in another": {tagged(good, qinq), heard{a4, b4}},
		"request to one host":          {request(hostB, hostA, a4, b4), heard{a4, netip.Addr{}}},
		"reply":                        {arpFrame(tb, hostA, hostB, nil, 2, hostB, b4, hostA, a4), heard{b4, netip.Addr{}}},
		"announcement":                 {request(broadcast, hostA, a4, a4), heard{a4, netip.Addr{}}},
		"announcement by a reply":      {arpFrame(tb, broadcast, hostB, nil, 2, hostB, b4, broadcast, b4), heard{b4, netip.Addr{}}},
		"probe":                        {request(broadcast, hostA, zero4, b4), heard{}},
		"of another sender":            {request(broadcast, hostB, a4, b4), heard{}},
		"from a group":                 {request(broadcast, hostA, netip.MustParseAddr("224.0.0.1"), b4), heard{}},
		"from all":                     {request(broadcast, hostA, netip.MustParseAddr("255.255.255.255"), b4), heard{}},
		"from itself":                  {request(broadcast, hostA, netip.MustParseAddr("127.0.0.1"), b4), heard{}},
		"for all":                      {request(broadcast, hostA, a4, netip.MustParseAddr("255.255.255.255")), heard{a4, netip.Addr{}}},
		"of another link":              {changed(14, 0, 6), heard{}},
		"of another protocol":          {changed(16, 0x86, 0xdd), heard{}},
		"of longer addresses":          {changed(18, 8), heard{}},
		"reverse":                      {changed(20, 0, 3), heard{}},
		"cut short":                    {good[:41], heard{}},
		"not ARP":                      {changed(12, 8, 0), heard{}},

		"solicitation":                   {ns(group, a6, groupB, b6, source), heard{asks: b6}},
		"solicitation in a VLAN":         {nsFrame(tb, group, tag10, a6, groupB, b6, source), heard{asks: b6}},
		"solicitation in two":            {nsFrame(tb, group, qinq, a6, groupB, b6, source), heard{asks: b6}},
		"solicitation with a nonce":      {ns(group, a6, groupB, b6, append(layers.ICMPv6Options{{Type: 14, Data: make([]byte, 6)}}, source...)), heard{asks: b6}},
		"solicitation of one":            {ns(hostB, a6, b6, b6, source), heard{}},
		"of one, to a group of stations": {ns(group, a6, b6, b6, source), heard{}},
		"duplicate address detection":    {ns(group, none, groupB, b6, nil), heard{}},
		"solicitation of itself":         {ns(group, b6, groupB, b6, source), heard{}},
		"without an address":             {ns(group, a6, groupB, b6, nil), heard{}},
		"with another's address":         {ns(group, a6, groupB, b6, says(layers.ICMPv6OptSourceAddress, hostB)), heard{}},
		"with two addresses":             {ns(group, a6, groupB, b6, append(source, source...)), heard{}},
		"with a long address":            {ns(group, a6, groupB, b6, layers.ICMPv6Options{{Type: 1, Data: append(hostA[:], make([]byte, 8)...)}}), heard{}},
		"to another group":               {ns(group, a6, everyone, b6, source), heard{}},
		"from a group of hosts":          {ns(group, everyone, groupB, b6, source), heard{}},
		"of a group":                     {ns(group, a6, everyone, everyone, source), heard{}},

		"advertisement":                  {na(a6, 0x60, b6, target), heard{claims: b6}},
		"advertisement in a VLAN":        {naFrame(tb, hostA, tag10, b6, a6, 0x60, b6, target), heard{claims: b6}},
		"to everyone":                    {na(everyone, 0x20, b6, target), heard{claims: b6}},
		"to everyone, as if asked":       {na(everyone, 0x60, b6, target), heard{}},
		"of a router":                    {na(a6, 0xe0, b6, target), heard{}},
		"of one of several":              {na(a6, 0x40, b6, target), heard{}},
		"advertised without an address":  {na(a6, 0x60, b6, nil), heard{}},
		"advertised for another station": {na(a6, 0x60, b6, says(layers.ICMPv6OptTargetAddress, hostA)), heard{}},
		"advertised as a source":         {na(a6, 0x60, b6, says(layers.ICMPv6OptSourceAddress, hostB)), heard{}},
		"advertised for a group":         {na(a6, 0x60, everyone, target), heard{}},
		"advertised for a mapped one":    {na(a6, 0x60, netip.MustParseAddr("::ffff:10.0.0.1"), target), heard{}},
		"advertised by nobody":           {naFrame(tb, hostA, nil, none, a6, 0x60, b6, target), heard{}},
	}
}

func TestNeighbour(t *testing.T) {
	for name, c := range neighbourFrames(t) {
		if got := checkNeighbour(t, c.frame); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// Of each good message every field is checked.
func TestNeighbourIsMalformed(t *testing.T) {
	good := neighbourFrames(t)
	for _, name := range []string{"solicitation", "advertisement"} {
		frame := good[name].frame
		for _, c := range []struct {
			what string
			at   int
			to   byte
		}{
			{"another version", 14, 0x40}, {"a hop limit of 254", 14 + 7, 254}, {"another protocol", 14 + 6, 17}, {"code 1", 14 + 41, 1},
			{"a wrong checksum", 14 + 43, frame[14+43] ^ 1}, {"another target than was summed", 14 + 50, 1}, {"redirection", 14 + 40, 137},
			{"a length beyond the end", 14 + 5, 33}, {"a length without the option", 14 + 5, 25}, {"a length without the target", 14 + 5, 23},
			{"an option of length 0", 14 + 65, 0}, {"an option beyond the end", 14 + 65, 2},
		} {
			b := bytes.Clone(frame)
			b[c.at] = c.to
			repair := !slices.Contains([]string{"a wrong checksum", "another target than was summed"}, c.what)
			if repair {
				sumDiscovery(b)
			}
			if got := checkNeighbour(t, b); got != (heard{}) {
				t.Errorf("%s with %s: %+v", name, c.what, got)
			}
		}
		for n := range len(frame) {
			if got := checkNeighbour(t, frame[:n]); got != (heard{}) {
				t.Errorf("%s of %d bytes: %+v", name, n, got)
			}
		}
	}
}

// sumDiscovery gives the IPv6 packet in frame, if it is one of ICMPv6, its checksum.
func sumDiscovery(frame []byte) {
	e, ok := reference.Ethernet(frame)
	if !ok || e.EtherType != 0x86dd || len(frame) < e.Len+44 {
		return
	}
	p := frame[e.Len:]
	if n := 40 + int(binary.BigEndian.Uint16(p[4:])); n >= 44 && n < len(p) {
		p = p[:n]
	}
	p[42], p[43] = 0, 0
	pseudo := slices.Concat(p[8:40], binary.BigEndian.AppendUint32(nil, uint32(len(p)-40)), []byte{0, 0, 0, 58})
	binary.BigEndian.PutUint16(p[42:], packet.Checksum(slices.Concat(pseudo, p[40:]), 0))
}

func TestNeighbourAllocatesNothing(t *testing.T) {
	var buf [128]byte
	var e packet.Ethernet
	for _, name := range []string{"request in a VLAN", "solicitation in two", "reply", "advertisement"} {
		frame := neighbourFrames(t)[name].frame
		if n := testing.AllocsPerRun(1000, func() {
			packet.ParseEthernet(frame, &e)
			packet.NeighbourClaim(frame, &e)
			if target, ok := packet.NeighbourQuestion(frame, &e); ok {
				packet.AppendNeighbourAnswer(buf[:0], frame, &e, target, hostB)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func FuzzNeighbour(f *testing.F) {
	for _, c := range neighbourFrames(f) {
		f.Add(c.frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		checkNeighbour(t, frame)
		frame = bytes.Clone(frame)
		sumDiscovery(frame)
		checkNeighbour(t, frame)
	})
}
