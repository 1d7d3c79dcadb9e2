package encap

import "encoding/binary"

// A VXLAN datagram (RFC 7348 section 5), with the remote checksum where Linux has
// it (draft-herbert-vxlan-rco; include/net/vxlan.h, VXLAN_HF_RCO):
//
//	byte   0      flags: I, the VNI is valid, 0x08
//	byte   1      reserved, but for C, there is a remote checksum, 0x20
//	bytes  2-3    reserved
//	bytes  4-6    VNI
//	byte   7      reserved; where C is set, the remote checksum: O, the field is where
//	              UDP has it, one bit, and half of where the coverage starts, seven
//	bytes  8-13   VTEP address of the receiver
//	bytes 14-19   VTEP address of the sender
//	bytes 20-21   EtherType
//
// The coverage's start counts from behind the first eight bytes, thus from the
// start of the Ethernet header (drivers/net/vxlan/vxlan_core.c, vxlan_remcsum).
const (
	vxlanLen      = 8
	ethernetLen   = 14
	vxlanOverhead = vxlanLen + ethernetLen
)

const _ = uint(Headroom - vxlanOverhead)

// The first word, and the last byte of the second.
const (
	vxlanVNI            = 0x0800_0000
	vxlanRemoteChecksum = 0x0020_0000

	vxlanChecksumStart = 0x7f
	vxlanChecksumUDP   = 0x80
)

// Where the checksum is in a transport header (RFC 768, RFC 9293 section 3.1).
const (
	udpChecksum = 6
	tcpChecksum = 16
)

// EtherTypes (IEEE 802 Numbers, https://www.iana.org/assignments/ieee-802-numbers).
const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd

	// Of weft's control messages: the first that IEEE 802 leaves to local
	// experiments. A kernel's VXLAN device ignores it.
	etherTypeControl = 0x88b5
)

// vxlanTakes is for a packet behind link bytes of Ethernet header.
func vxlanTakes(sum Checksum, link int) bool {
	if sum == (Checksum{}) {
		return true
	}
	start, field := link+sum.Start, sum.Field-sum.Start
	return start%2 == 0 && start <= vxlanChecksumStart*2 && (field == udpChecksum || field == tcpChecksum)
}

func (t *Tunnel) encapVXLAN(buf []byte, at int, sum Checksum) (start int) {
	etherType := uint16(etherTypeIPv4)
	if buf[at]>>4 == 6 {
		etherType = etherTypeIPv6
	}
	header := (*[vxlanOverhead]byte)(buf[at-vxlanOverhead:])
	putVXLAN((*[vxlanLen]byte)(header[:]), t.VNI, ethernetLen, sum)
	*(*MAC)(header[8:]) = t.Remote
	*(*MAC)(header[14:]) = t.Local
	binary.BigEndian.PutUint16(header[20:], etherType)
	return at - vxlanOverhead
}

// putVXLAN writes the VXLAN header of a frame with link bytes of Ethernet header.
func putVXLAN(header *[vxlanLen]byte, vni uint32, link int, sum Checksum) {
	first, second := uint32(vxlanVNI), vni<<8
	if sum != (Checksum{}) {
		first |= vxlanRemoteChecksum
		second |= uint32(link+sum.Start) / 2
		if sum.Field-sum.Start == udpChecksum {
			second |= vxlanChecksumUDP
		}
	}
	binary.BigEndian.PutUint32(header[0:], first)
	binary.BigEndian.PutUint32(header[4:], second)
}

// appendFrame appends the headers of a frame that is no inner packet's.
func (t *Tunnel) appendFrame(dst []byte, to, from MAC, etherType uint16) []byte {
	dst = binary.BigEndian.AppendUint32(dst, vxlanVNI)
	dst = binary.BigEndian.AppendUint32(dst, t.VNI<<8)
	dst = append(append(dst, to[:]...), from[:]...)
	return binary.BigEndian.AppendUint16(dst, etherType)
}

// decapVXLAN ignores the reserved bits, as RFC 7348 section 5 asks.
func (s *Station) decapVXLAN(datagram []byte) (inner []byte, sum Checksum, kind Kind) {
	if len(datagram) < vxlanOverhead || binary.BigEndian.Uint32(datagram)&vxlanVNI == 0 {
		return nil, Checksum{}, Malformed
	}
	if binary.BigEndian.Uint32(datagram[4:])>>8 != s.VNI {
		return nil, Checksum{}, WrongVNI
	}
	frame := datagram[vxlanLen:]
	inner = frame[ethernetLen:]
	etherType := binary.BigEndian.Uint16(frame[12:])
	switch to := MAC(frame); {
	case etherType == etherTypeARP && (to == s.MAC || to == broadcast),
		etherType == etherTypeIPv6 && (to == s.MAC || to[0] == 0x33 && to[1] == 0x33) && isSolicitation(inner):
		return frame, Checksum{}, Neighbour
	case to != s.MAC:
		return nil, Checksum{}, WrongVTEP
	case etherType == etherTypeControl:
		return inner, Checksum{}, Control
	case etherType == etherTypeIPv4 && len(inner) > 0 && inner[0]>>4 == 4:
		inner = unpad(inner, 2, 0, 20)
	case etherType == etherTypeIPv6 && len(inner) > 0 && inner[0]>>4 == 6:
		inner = unpad(inner, 4, 40, 40)
	default: // a VLAN tag too
		return nil, Checksum{}, Malformed
	}
	if sum = vxlanChecksum(datagram, ethernetLen); sum != (Checksum{}) && !sum.within(len(inner)) {
		return nil, Checksum{}, Malformed
	}
	return inner, sum, Packet
}

// unpad cuts off what a device has put behind a packet to fill the smallest frame
// that Ethernet has, of 60 bytes without its checksum. The packet's length is in the
// two bytes at field, less some bytes that always are there; it has a header of
// header bytes.
func unpad(p []byte, field, less, header int) []byte {
	const smallest = 60
	if ethernetLen+len(p) > smallest || len(p) < header {
		return p
	}
	if n := less + int(binary.BigEndian.Uint16(p[field:])); n >= header && n < len(p) {
		return p[:n]
	}
	return p
}

// vxlanChecksum is what the VXLAN header says of the checksum of a packet behind link bytes of
// Ethernet header.
func vxlanChecksum(datagram []byte, link int) (sum Checksum) {
	if binary.BigEndian.Uint32(datagram)&vxlanRemoteChecksum == 0 {
		return Checksum{}
	}
	sum.Start = int(datagram[7]&vxlanChecksumStart)*2 - link
	sum.Field = sum.Start + tcpChecksum
	if datagram[7]&vxlanChecksumUDP != 0 {
		sum.Field = sum.Start + udpChecksum
	}
	return sum
}
