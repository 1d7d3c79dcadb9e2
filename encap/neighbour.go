package encap

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// broadcast is every station's address. Immutable.
var broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Of an ARP packet for IPv4 over Ethernet (RFC 826): its length, and its first
// eight bytes in a request and in a reply.
const (
	arpLen     = 28
	arpRequest = 0x0001_0800_06_04_0001
	arpReply   = 0x0001_0800_06_04_0002
)

// Of neighbour discovery (RFC 4861 sections 4.3, 4.4 and 4.6.1).
const (
	ipv6Len   = 40
	ndLen     = 24 // of either message without options
	nextICMP  = 58
	hopLimit  = 255 // what comes from further away is forged
	typeNS    = 135
	typeNA    = 136
	naFlags   = 0x6000_0000 // solicited, override
	targetMAC = 2           // option: target link-layer address
	optionLen = 8
)

// AppendNeighbour appends to dst the VXLAN datagram to the peer behind to that
// answers a Neighbour frame: an ARP reply (RFC 826), or a neighbour advertisement
// (RFC 4861 section 7.2.4), which say that the address is at this station's MAC. ok
// is false, and nothing is appended, where the frame is not to be answered: it asks
// for none of own, is a probe for a duplicate address, or is malformed.
func (s *Station) AppendNeighbour(dst, frame []byte, own []netip.Addr, to *Tunnel) (datagram []byte, ok bool) {
	if len(frame) < ethernetLen || to.Codec != VXLAN {
		return dst, false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeARP:
		return s.appendARP(dst, frame[ethernetLen:], own, to)
	case etherTypeIPv6:
		return s.appendNA(dst, frame, own, to)
	}
	return dst, false
}

func (s *Station) appendARP(dst, arp []byte, own []netip.Addr, to *Tunnel) (datagram []byte, ok bool) {
	if len(arp) < arpLen || binary.BigEndian.Uint64(arp) != arpRequest {
		return dst, false
	}
	asker, target := MAC(arp[8:]), arp[24:28]
	if !asker.unicast() || !slices.Contains(own, netip.AddrFrom4([4]byte(target))) {
		return dst, false
	}
	dst = to.appendFrame(dst, asker, s.MAC, etherTypeARP)
	dst = binary.BigEndian.AppendUint64(dst, arpReply)
	dst = append(append(dst, s.MAC[:]...), target...)
	return append(dst, arp[8:18]...), true // the asker's two addresses
}

// isSolicitation says whether an IPv6 packet is a neighbour solicitation that comes from
// a VTEP: of what its node forwards for a pod the hop limit is lower by then.
func isSolicitation(p []byte) bool {
	return len(p) > ipv6Len && p[0]>>4 == 6 && p[6] == nextICMP && p[7] == hopLimit && p[ipv6Len] == typeNS
}

func (s *Station) appendNA(dst, frame []byte, own []netip.Addr, to *Tunnel) (datagram []byte, ok bool) {
	asker, p := MAC(frame[6:]), frame[ethernetLen:]
	target, ok := solicited(p)
	if !ok || !asker.unicast() || !slices.Contains(own, target) {
		return dst, false
	}
	dst = to.appendFrame(dst, asker, s.MAC, etherTypeIPv6)
	at := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, 6<<28)
	dst = binary.BigEndian.AppendUint16(dst, ndLen+optionLen)
	dst = append(dst, nextICMP, hopLimit)
	dst = append(append(dst, target.AsSlice()...), p[8:24]...) // to the solicitation's source
	dst = append(dst, typeNA, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, naFlags)
	dst = append(append(dst, target.AsSlice()...), targetMAC, optionLen/8)
	dst = append(dst, s.MAC[:]...)
	binary.BigEndian.PutUint16(dst[at+ipv6Len+2:], ^sumICMPv6(dst[at:]))
	return dst, true
}

// solicited is the address that a neighbour solicitation asks for. ok is false where
// RFC 4861 section 7.1.1 says to discard it, and where it comes from the unspecified
// address, thus from a node that looks for a duplicate of an address it wants (RFC
// 4862 section 5.4.3): the answer would be for all nodes, and a tunnel leads to one.
func solicited(p []byte) (target netip.Addr, ok bool) {
	if !isSolicitation(p) || len(p) < ipv6Len+ndLen {
		return netip.Addr{}, false
	}
	n := ipv6Len + int(binary.BigEndian.Uint16(p[4:]))
	if n < ipv6Len+ndLen || n > len(p) {
		return netip.Addr{}, false
	}
	p = p[:n]
	from, to := netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
	target = netip.AddrFrom16([16]byte(p[ipv6Len+8:]))
	if p[ipv6Len+1] != 0 || from.IsUnspecified() || from.IsMulticast() || target.IsMulticast() ||
		to != target && to != solicitedNode(target) || sumICMPv6(p) != 0xffff {
		return netip.Addr{}, false
	}
	for options := p[ipv6Len+ndLen:]; len(options) > 0; {
		if len(options) < 8 || options[1] == 0 || int(options[1])*8 > len(options) {
			return netip.Addr{}, false
		}
		options = options[int(options[1])*8:]
	}
	return target, true
}

// solicitedNode is the multicast address at which who has addr is asked for it (RFC
// 4291 section 2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	b := addr.As16()
	copy(b[:], []byte{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff})
	return netip.AddrFrom16(b)
}

// sumICMPv6 is the ones' complement sum (RFC 1071) of an ICMPv6 packet without
// extension headers and of its pseudo header (RFC 8200 section 8.1). It is 0xffff
// where the packet's checksum is right.
func sumICMPv6(p []byte) uint16 {
	sum := uint32(len(p)-ipv6Len) + nextICMP
	for p = p[8:]; len(p) > 1; p = p[2:] {
		sum += uint32(binary.BigEndian.Uint16(p))
	}
	if len(p) == 1 {
		sum += uint32(p[0]) << 8
	}
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}
