package reference

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/dataplane/packet"
)

// arp is a packet of RFC 826 for IPv4 over Ethernet.
type arp struct {
	Hardware, Protocol             uint16
	HardwareLength, ProtocolLength uint8
	Operation                      uint16
	SenderMAC                      packet.MAC
	Sender                         [4]byte
	TargetMAC                      packet.MAC
	Target                         [4]byte
}

// discovery is a message of RFC 4861 sections 4.3 and 4.4, and the IPv6 header in front.
type discovery struct {
	VersionClassFlow uint32
	Length           uint16
	Next, HopLimit   uint8
	From, To         [16]byte
	Type, Code       uint8
	Checksum         uint16
	Flags            uint32
	Target           [16]byte
}

// option is one of section 4.6.
type option struct {
	typ  uint8
	data []byte
}

func readARP(frame []byte, e packet.Ethernet) (a arp, ok bool) {
	if e.EtherType != 0x0806 || binary.Read(bytes.NewReader(frame[e.Len:]), binary.BigEndian, &a) != nil {
		return a, false
	}
	return a, a.Hardware == 1 && a.Protocol == 0x0800 && a.HardwareLength == 6 && a.ProtocolLength == 4 &&
		(a.Operation == 1 || a.Operation == 2)
}

func readDiscovery(frame []byte, e packet.Ethernet) (d discovery, options []option, ok bool) {
	p := frame[e.Len:]
	if e.EtherType != 0x86dd || binary.Read(bytes.NewReader(p), binary.BigEndian, &d) != nil {
		return d, nil, false
	}
	if d.VersionClassFlow>>28 != 6 || d.Next != 58 || d.HopLimit != 255 || d.Code != 0 || d.Length < 24 || len(p) < 40+int(d.Length) {
		return d, nil, false
	}
	p = p[:40+int(d.Length)]
	if sum(append(binary.BigEndian.AppendUint16(nil, pseudo(p)), p[40:]...)) != 0xffff {
		return d, nil, false
	}
	for rest := p[64:]; len(rest) > 0; {
		if len(rest) == 1 || rest[1] == 0 || 8*int(rest[1]) > len(rest) {
			return d, nil, false
		}
		n := 8 * int(rest[1])
		options = append(options, option{rest[0], rest[2:n]})
		rest = rest[n:]
	}
	return d, options, true
}

// saysOnly says whether there is one option of that type, which holds mac.
func saysOnly(options []option, typ uint8, mac packet.MAC) bool {
	options = slices.DeleteFunc(slices.Clone(options), func(o option) bool { return o.typ != typ })
	return len(options) == 1 && bytes.Equal(options[0].data, mac[:])
}

// Immutable. What is no host's: RFC 6890, for what can be on a link.
var noHosts = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("ff00::/8"),
}

func isHost(ip netip.Addr) bool {
	return !ip.Is4In6() && !slices.ContainsFunc(noHosts, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// NeighbourClaim is packet.NeighbourClaim.
func NeighbourClaim(frame []byte, e packet.Ethernet) (ip netip.Addr, mac packet.MAC, ok bool) {
	if a, is := readARP(frame, e); is {
		ip = netip.AddrFrom4(a.Sender)
		return ip, a.SenderMAC, a.SenderMAC == e.Src && isHost(ip)
	}
	d, options, is := readDiscovery(frame, e)
	if !is || d.Type != 136 {
		return ip, mac, false
	}
	router, solicited, override := d.Flags>>31 == 1, d.Flags>>30&1 == 1, d.Flags>>29&1 == 1
	if router || !override || solicited && d.To[0] == 0xff || !isHost(netip.AddrFrom16(d.From)) {
		return ip, mac, false
	}
	ip = netip.AddrFrom16(d.Target)
	return ip, e.Src, isHost(ip) && saysOnly(options, 2, e.Src)
}

// NeighbourQuestion is packet.NeighbourQuestion.
func NeighbourQuestion(frame []byte, e packet.Ethernet) (target netip.Addr, ok bool) {
	if e.Dst[0]%2 == 0 {
		return target, false
	}
	if a, is := readARP(frame, e); is {
		from := netip.AddrFrom4(a.Sender)
		target = netip.AddrFrom4(a.Target)
		return target, a.Operation == 1 && a.SenderMAC == e.Src && isHost(from) && isHost(target) && from != target
	}
	d, options, is := readDiscovery(frame, e)
	if !is || d.Type != 135 {
		return target, false
	}
	from := netip.AddrFrom16(d.From)
	target = netip.AddrFrom16(d.Target)
	group := [16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: d.Target[13], 14: d.Target[14], 15: d.Target[15]}
	return target, isHost(from) && isHost(target) && from != target && d.To == group && saysOnly(options, 1, e.Src)
}
