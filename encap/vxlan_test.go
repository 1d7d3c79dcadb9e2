package encap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane/packet/golden"
)

// vxlan is the tunnel of the golden datagrams.
var vxlan = &Tunnel{Codec: VXLAN, VNI: 4242, Local: MAC{2, 0, 0, 0, 0, 1}, Remote: MAC{2, 0, 0, 0, 0, 2}}

// vxlanHeader is what is in front of its frames.
var vxlanHeader = []byte{8, 0, 0, 0, 0, 0x10, 0x92, 0}

// The golden underlay packets are golden inner packets in VXLAN, both ways.
func TestVXLAN(t *testing.T) {
	for _, c := range []struct {
		outer, inner string
		first        gopacket.Decoder
		sum          Checksum
		pseudo       uint16 // what the checksum's field holds where it is not complete
	}{
		{"underlay-vxlan", "ipv4-tcp", layers.LayerTypeIPv4, Checksum{}, 0},
		{"underlay-vxlan-remote-checksum", "ipv4-tcp", layers.LayerTypeIPv4, Checksum{Start: 20, Field: 36}, 0x192e},
		{"underlay-vxlan-remote-checksum-ipv6", "ipv6-udp", layers.LayerTypeIPv6, Checksum{Start: 40, Field: 46}, 0xfee5},
	} {
		want, inner := outer(t, c.outer, c.first, 4789), golden.Load(t, c.inner)
		if c.sum != (Checksum{}) {
			binary.BigEndian.PutUint16(inner[c.sum.Field:], c.pseudo)
		}
		buf := append(make([]byte, Headroom), inner...)
		start := vxlan.Encap(buf, Headroom, c.sum)
		if datagram := buf[start:]; !bytes.Equal(datagram, want) {
			t.Errorf("%s: Encap makes\n%x, the file says\n%x", c.outer, datagram, want)
		}
		if n := Headroom - start; n != vxlan.Len(c.sum) {
			t.Errorf("%s: Encap wrote %d bytes, Len says %d", c.outer, n, vxlan.Len(c.sum))
		}
		if got, sum, kind := station.Decap(VXLAN, want); kind != Packet || sum != c.sum || !bytes.Equal(got, inner) {
			t.Errorf("%s: Decap = %v %v\n%x, want %v\n%x", c.outer, kind, sum, got, c.sum, inner)
		}
	}
}

// gopacket reads the same header.
func TestVXLANHeaderByGopacket(t *testing.T) {
	for _, inner := range []string{"ipv4-tcp", "ipv6-udp"} {
		buf := append(make([]byte, Headroom), golden.Load(t, inner)...)
		p := gopacket.NewPacket(buf[vxlan.Encap(buf, Headroom, Checksum{}):], layers.LayerTypeVXLAN, gopacket.Default)
		header, ok := p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if !ok || !header.ValidIDFlag || header.GBPExtension || header.VNI != vxlan.VNI {
			t.Errorf("gopacket reads %v", p)
		}
		frame, ok := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
		if !ok || MAC(frame.SrcMAC) != vxlan.Local || MAC(frame.DstMAC) != vxlan.Remote || p.NetworkLayer() == nil || p.ErrorLayer() != nil {
			t.Errorf("gopacket reads %v", p)
		}
	}
}

// Only what seven bits can say of an even start, and one bit of TCP or UDP.
func TestVXLANTakes(t *testing.T) {
	for start := 1; start < 400; start++ {
		for distance := range 40 {
			want := start%2 == 0 && start+14 <= 254 && (distance == 6 || distance == 16)
			if sum := (Checksum{start, start + distance}); vxlan.Takes(sum) != want {
				t.Errorf("Takes(%v) = %v", sum, !want)
			}
		}
	}
	if !vxlan.Takes(Checksum{}) {
		t.Error("no checksum at all is not taken")
	}
}

// Each bit of the header that may differ, and what comes of one that may not.
func TestVXLANBits(t *testing.T) {
	good := outer(t, "underlay-vxlan", layers.LayerTypeIPv4, 4789)
	for bit := range vxlanOverhead * 8 {
		want := Packet
		switch {
		case bit == 4:
			want = Malformed // I
		case bit == 10:
			want = Malformed // C, which makes the reserved byte a start within the Ethernet header
		case bit/8 >= 4 && bit/8 < 7:
			want = WrongVNI
		case bit/8 >= 8 && bit/8 < 14:
			want = WrongVTEP
		case bit/8 >= 20:
			want = Malformed
		}
		b := bytes.Clone(good)
		b[bit/8] ^= 0x80 >> (bit % 8)
		if _, _, kind := station.Decap(VXLAN, b); kind != want {
			t.Errorf("bit %d of byte %d: %v, want %v", bit%8, bit/8, kind, want)
		}
	}
	for n := range vxlanOverhead + 1 {
		if _, _, kind := station.Decap(VXLAN, good[:n]); kind != Malformed {
			t.Errorf("%d bytes: %v", n, kind)
		}
	}
}

// A checksum must lie behind the Ethernet header, and within the packet.
func TestVXLANChecksumWithin(t *testing.T) {
	good := outer(t, "underlay-vxlan-remote-checksum", layers.LayerTypeIPv4, 4789)
	for last := range 256 {
		start, field := last&0x7f*2-14, 16
		if last >= 128 {
			field = 6
		}
		want, sum := Malformed, Checksum{}
		if start > 0 && start+field+2 <= len(good)-22 {
			want, sum = Packet, Checksum{start, start + field}
		}
		b := bytes.Clone(good)
		b[7] = byte(last)
		if _, got, kind := station.Decap(VXLAN, b); kind != want || got != sum {
			t.Errorf("%#02x: %v %v, want %v %v", last, got, kind, sum, want)
		}
	}
}

func TestVXLANKinds(t *testing.T) {
	p4, p6 := golden.Load(t, "ipv4-tcp"), golden.Load(t, "ipv6-udp")
	ns := frames(t)["ns"][14:]
	na := bytes.Clone(ns)
	na[40] = 136
	group := MAC{0x33, 0x33, 0xff, 0, 0, 2}
	for _, c := range []struct {
		what      string
		to        MAC
		etherType uint16
		payload   []byte
		want      Kind
	}{
		{"IPv4", station.MAC, 0x0800, p4, Packet},
		{"IPv6", station.MAC, 0x86dd, p6, Packet},
		{"IPv4 as IPv6", station.MAC, 0x86dd, p4, Malformed},
		{"IPv6 as IPv4", station.MAC, 0x0800, p6, Malformed},
		{"no IPv4", station.MAC, 0x0800, nil, Malformed},
		{"IPv4 to all", broadcast, 0x0800, p4, WrongVTEP},
		{"IPv6 to a group", group, 0x86dd, p6, WrongVTEP},
		{"IPv4 to another", MAC{2, 0, 0, 0, 0, 3}, 0x0800, p4, WrongVTEP},
		{"ARP", station.MAC, 0x0806, nil, Neighbour},
		{"ARP to all", broadcast, 0x0806, make([]byte, 46), Neighbour},
		{"ARP to another", MAC{2, 0, 0, 0, 0, 3}, 0x0806, make([]byte, 28), WrongVTEP},
		{"ARP to a group", group, 0x0806, make([]byte, 28), WrongVTEP},
		{"solicitation", station.MAC, 0x86dd, ns, Neighbour},
		{"solicitation to a group", group, 0x86dd, ns, Neighbour},
		{"solicitation to all", broadcast, 0x86dd, ns, WrongVTEP},
		{"solicitation to another", MAC{2, 0, 0, 0, 0, 3}, 0x86dd, ns, WrongVTEP},
		{"advertisement", station.MAC, 0x86dd, na, Packet},
		{"advertisement to a group", group, 0x86dd, na, WrongVTEP},
		{"control", station.MAC, 0x88b5, []byte("message"), Control},
		{"control to all", broadcast, 0x88b5, []byte("message"), WrongVTEP},
		{"VLAN tag", station.MAC, 0x8100, slices.Concat([]byte{0, 1, 8, 0}, p4), Malformed},
		{"service tag", station.MAC, 0x88a8, slices.Concat([]byte{0, 1, 8, 0}, p4), Malformed},
		{"LLDP", MAC{1, 0x80, 0xc2, 0, 0, 0x0e}, 0x88cc, []byte("x"), WrongVTEP},
	} {
		frame := slices.Concat(c.to[:], vxlan.Local[:], binary.BigEndian.AppendUint16(nil, c.etherType), c.payload)
		inner, sum, kind := station.Decap(VXLAN, slices.Concat(vxlanHeader, frame))
		want := map[Kind][]byte{Packet: c.payload, Control: c.payload, Neighbour: frame}[c.want]
		if kind != c.want || sum != (Checksum{}) || !bytes.Equal(inner, want) {
			t.Errorf("%s: %x %v %v, want %x %v", c.what, inner, sum, kind, want, c.want)
		}
	}
}

// What pads a frame is cut off, and nothing else.
func TestVXLANPadding(t *testing.T) {
	p := golden.Load(t, "ipv4-empty")
	datagram := func(n int) []byte {
		buf := slices.Concat(make([]byte, Headroom), p, make([]byte, n))
		return buf[vxlan.Encap(buf, Headroom, Checksum{}):]
	}
	for n := range 80 {
		want := len(p)
		if 14+len(p)+n > 60 {
			want += n
		}
		if inner, _, kind := station.Decap(VXLAN, datagram(n)); kind != Packet || len(inner) != want {
			t.Errorf("%d bytes behind a packet of %d: %v of %d bytes, want %d", n, len(p), kind, len(inner), want)
		}
	}
	for length, want := range map[uint16]int{19: 22, 20: 20, 21: 21, 22: 22, 23: 22, 0: 22} {
		b := datagram(2)
		binary.BigEndian.PutUint16(b[vxlanOverhead+2:], length)
		if inner, _, kind := station.Decap(VXLAN, b); kind != Packet || len(inner) != want {
			t.Errorf("a packet of 22 bytes that says it has %d: %v of %d bytes, want %d", length, kind, len(inner), want)
		}
	}
}

// slowUnpad is the packet in a frame, found by the length that it says it has.
func slowUnpad(p []byte) []byte {
	if len(p) > 46 {
		return p
	}
	says, header := 0, 40
	if p[0]>>4 == 4 {
		header = 20
	}
	if len(p) < header {
		return p
	}
	if p[0]>>4 == 4 {
		says = int(p[2])<<8 + int(p[3])
	} else {
		says = 40 + int(p[4])<<8 + int(p[5])
	}
	if says >= header && says < len(p) {
		return p[:says]
	}
	return p
}

// slowVXLAN is Decap read off RFC 7348.
func slowVXLAN(s *Station, b []byte) (inner []byte, sum Checksum, kind Kind) {
	var h struct {
		Flags, Extension uint8
		_                uint16
		VNI              [3]uint8
		Last             uint8
		To, From         MAC
		EtherType        uint16
	}
	if binary.Read(bytes.NewReader(b), binary.BigEndian, &h) != nil || h.Flags&8 == 0 {
		return nil, Checksum{}, Malformed
	}
	if uint32(h.VNI[0])<<16|uint32(h.VNI[1])<<8|uint32(h.VNI[2]) != s.VNI {
		return nil, Checksum{}, WrongVNI
	}
	p := b[22:]
	all := h.To.String() == "ff:ff:ff:ff:ff:ff"
	ns := h.EtherType == 0x86dd && len(p) >= 41 && p[0]>>4 == 6 && p[6] == 58 && p[40] == 135
	group := fmt.Sprintf("%x", h.To[:2]) == "3333"
	switch {
	case h.EtherType == 0x806 && (all || h.To == s.MAC), ns && (group || h.To == s.MAC):
		return b[8:], Checksum{}, Neighbour
	case h.To != s.MAC:
		return nil, Checksum{}, WrongVTEP
	case h.EtherType == 0x88b5:
		return p, Checksum{}, Control
	case len(p) == 0, h.EtherType == 0, h.EtherType != map[byte]uint16{4: 0x0800, 6: 0x86dd}[p[0]>>4]:
		return nil, Checksum{}, Malformed
	}
	p = slowUnpad(p)
	if h.Extension&0x20 != 0 {
		sum.Start = int(h.Last%128)*2 - 14
		sum.Field = sum.Start + map[bool]int{true: 6, false: 16}[h.Last >= 128]
		if sum.Start <= 0 || sum.Field+2 > len(p) {
			return nil, Checksum{}, Malformed
		}
	}
	return p, sum, Packet
}

// checkVXLAN wants b, and b with a good header in front, to be what they slowly are.
func checkVXLAN(t *testing.T, b []byte) {
	for _, datagram := range [][]byte{b, slices.Concat(vxlanHeader, station.MAC[:], vxlan.Local[:], b), slices.Concat(vxlanHeader, b)} {
		inner, sum, kind := station.Decap(VXLAN, datagram)
		wantInner, wantSum, want := slowVXLAN(station, datagram)
		if !bytes.Equal(inner, wantInner) || sum != wantSum || kind != want {
			t.Errorf("Decap(%x) = %x %v %v, want %x %v %v", datagram, inner, sum, kind, wantInner, wantSum, want)
		}
	}
}
