package packet

import (
	"encoding/binary"
	"net/netip"
)

// Of an ARP packet for IPv4 over Ethernet (RFC 826): its length, and its first eight
// bytes in a request and in a reply.
const (
	arpLen     = 28
	arpRequest = 0x0001_0800_06_04_0001
	arpReply   = 0x0001_0800_06_04_0002
)

// Of neighbour discovery: RFC 4861 sections 4.3, 4.4 and 4.6.1.
const (
	ndLen        = 24  // of either message without options
	ndHopLimit   = 255 // what comes from further away is forged
	solicitation = 135
	advertising  = 136
	sourceMAC    = 1 // options: link-layer addresses, of
	targetMAC    = 2
	macOption    = 8 // their length

	// Flags of an advertisement.
	isRouter  = 0x80
	solicited = 0x40
	override  = 0x20
)

// minFrame is what an Ethernet frame is padded to, without its checksum.
const minFrame = 60

// NeighbourClaim is what frame, with header e, tells of its sender: that ip is at mac. ok
// is false where it tells nothing that may be repeated to others by
// [AppendNeighbourAnswer]; only what is well-formed and names the frame's own source
// tells anything, and that is
//
//   - an ARP request, reply or announcement; not a probe, whose sender wants to know
//     whether the address is free (RFC 5227 section 2.1.1);
//   - a neighbour advertisement of a host that overrides what others know. Who repeats one
//     of a router as a host's has it removed from the lists of default routers (RFC 4861
//     section 7.2.5), and what does not override is a proxy's, or one of several (section
//     7.2.4). A solicitation does not show which of them it is from (RFC 9047 section 1).
func NeighbourClaim(frame []byte, e *Ethernet) (ip netip.Addr, mac MAC, ok bool) {
	switch e.EtherType {
	case etherTypeARP:
		p, is := readARP(frame[e.Len:], e)
		if !is {
			return netip.Addr{}, MAC{}, false
		}
		ip, ok = netip.AddrFrom4([4]byte(p[14:])), true
	case etherTypeIPv6:
		p, is := readND(frame[e.Len:], advertising)
		if !is {
			return netip.Addr{}, MAC{}, false
		}
		ip, ok = ndTarget(p), ndOverrides(p) && saysMAC(p, targetMAC, e.Src)
	}
	return ip, e.Src, ok && assignable(ip)
}

// NeighbourQuestion is the address that frame, with header e, asks all stations for: by
// an ARP request or a neighbour solicitation. ok is false for all that one node must not
// answer in the name of another: announcements and probes, by which a duplicate address
// is found (RFC 5227 section 2.1, RFC 4862 section 5.4), and what is asked of one
// station, by which is found that it is gone (RFC 4861 section 7.3).
func NeighbourQuestion(frame []byte, e *Ethernet) (target netip.Addr, ok bool) {
	if !e.Dst.Multicast() {
		return netip.Addr{}, false
	}
	var from netip.Addr
	switch e.EtherType {
	case etherTypeARP:
		p, is := readARP(frame[e.Len:], e)
		if !is || binary.BigEndian.Uint64(p) != arpRequest {
			return netip.Addr{}, false
		}
		from, target = netip.AddrFrom4([4]byte(p[14:])), netip.AddrFrom4([4]byte(p[24:]))
	case etherTypeIPv6:
		p, is := readND(frame[e.Len:], solicitation)
		if !is || !saysMAC(p, sourceMAC, e.Src) {
			return netip.Addr{}, false
		}
		target = ndTarget(p)
		var to netip.Addr
		if from, to = addresses6(p); to != solicitedNode(target) {
			return netip.Addr{}, false
		}
	}
	return target, from.IsValid() && from != target && assignable(from) && assignable(target)
}

// AppendNeighbourAnswer appends to dst the frame by which the host at mac would answer
// frame: an ARP reply, or a neighbour advertisement (RFC 4861 section 7.2.4), with the VLAN
// tags of the question. target is what [NeighbourQuestion] said of frame, which has header
// e; dst and frame do not overlap.
func AppendNeighbourAnswer(dst, frame []byte, e *Ethernet, target netip.Addr, mac MAC) []byte {
	dst = append(append(dst, e.Src[:]...), mac[:]...)
	dst = append(dst, frame[len(e.Dst)+len(e.Src):e.Len]...)
	if e.EtherType == etherTypeARP {
		return appendARPReply(dst, frame[e.Len:], target, mac, minFrame-e.Len)
	}
	return appendAdvertisement(dst, frame[e.Len:], target, mac)
}

// appendARPReply appends the reply to asked, and zeros up to size bytes.
func appendARPReply(dst, asked []byte, target netip.Addr, mac MAC, size int) []byte {
	at, ip := len(dst), target.As4()
	dst = binary.BigEndian.AppendUint64(dst, arpReply)
	dst = append(append(dst, mac[:]...), ip[:]...)
	dst = append(dst, asked[8:18]...) // the asker's two addresses
	for len(dst) < at+size {
		dst = append(dst, 0)
	}
	return dst
}

func appendAdvertisement(dst, asked []byte, target netip.Addr, mac MAC) []byte {
	at, ip := len(dst), target.As16()
	dst = append(dst, 6<<4, 0, 0, 0, 0, ndLen+macOption, protoICMP6, ndHopLimit)
	dst = append(append(dst, ip[:]...), asked[8:24]...) // to the asker
	dst = append(dst, advertising, 0, 0, 0, solicited|override, 0, 0, 0)
	dst = append(append(dst, ip[:]...), targetMAC, macOption/8)
	dst = append(dst, mac[:]...)
	p := dst[at:]
	binary.BigEndian.PutUint16(p[header6+2:], ^sumND(p))
	return dst
}

// readARP is the ARP packet b without padding. ok is false where it is none for IPv4 over
// Ethernet, or not about the frame's source.
func readARP(b []byte, e *Ethernet) (p []byte, ok bool) {
	if len(b) < arpLen || MAC(b[8:]) != e.Src {
		return nil, false
	}
	operation := binary.BigEndian.Uint64(b)
	return b[:arpLen], operation == arpRequest || operation == arpReply
}

// readND is the IPv6 packet b without padding. ok is false where it is no message of
// neighbour discovery of that type, or none that passes RFC 4861 sections 7.1.1 and 7.1.2,
// but for addresses and options.
func readND(b []byte, typ uint8) (p []byte, ok bool) {
	if len(b) < header6+ndLen || b[0]>>4 != 6 || b[6] != protoICMP6 || b[7] != ndHopLimit ||
		b[header6] != typ || b[header6+1] != 0 {
		return nil, false
	}
	n := header6 + int(binary.BigEndian.Uint16(b[4:]))
	if n < header6+ndLen || n > len(b) {
		return nil, false
	}
	return b[:n], sumND(b[:n]) == 0xffff
}

// sumND is the ones' complement sum of an ICMPv6 packet without extension headers, and of
// its pseudo header: 0xffff where its checksum is right.
func sumND(p []byte) uint16 {
	icmp := p[header6:]
	return fold(pseudoSum(p, protoICMP6) + uint64(len(icmp)) + uint64(sum(icmp)))
}

// ndOverrides says whether an advertisement is a host's that overrides what others know,
// and from an address and to one as it should be.
func ndOverrides(p []byte) bool {
	flags := p[header6+4]
	from, to := addresses6(p)
	return flags&(isRouter|override) == override && assignable(from) && !(to.IsMulticast() && flags&solicited != 0)
}

func addresses6(p []byte) (from, to netip.Addr) {
	return netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
}

func ndTarget(p []byte) netip.Addr { return netip.AddrFrom16([16]byte(p[header6+8:])) }

// saysMAC says whether the options of the message p are well-formed, and mac is in the
// one of that type, which is there once.
func saysMAC(p []byte, option uint8, mac MAC) bool {
	found := false
	for o := p[header6+ndLen:]; len(o) > 0; {
		if len(o) < 8 || o[1] == 0 || int(o[1])*8 > len(o) {
			return false
		}
		if o[0] == option {
			if found || o[1] != macOption/8 || MAC(o[2:]) != mac {
				return false
			}
			found = true
		}
		o = o[int(o[1])*8:]
	}
	return found
}

// assignable says whether one host can have the address.
func assignable(ip netip.Addr) bool {
	if ip.Is4() {
		first := ip.As4()[0]
		return first != 0 && first < 240 && oneHost(ip) // RFC 1122 section 3.2.1.3
	}
	return oneHost(ip) && !ip.Is4In6()
}

// solicitedNode is the multicast address at which who has addr is asked for it (RFC 4291
// section 2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	b := addr.As16()
	copy(b[:], []byte{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff})
	return netip.AddrFrom16(b)
}
