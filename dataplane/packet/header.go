package packet

import (
	"encoding/binary"
	"net/netip"
)

const (
	minHeader4 = 20 // RFC 791 section 3.1
	header6    = 40 // RFC 8200 section 3
)

// Header is the part of an IP header that routing and validation look at.
type Header struct {
	Src, Dst netip.Addr
	DSField  uint8 // DSCP in the upper six bits, ECN in the lower two (RFC 2474, RFC 3168)
}

// Parse reads the IP header of b, which must be exactly one packet: a length
// field that says less or more than len(b) is refused, because what lies beyond
// it is either missing or smuggled in. An IPv4 header checksum must be right,
// since the kernel would drop the packet later without telling anyone.
//
// ok is false for anything that is not a whole IPv4 or IPv6 packet. An IPv6
// jumbogram (RFC 2675) is none either: its payload length says 0.
func Parse(b []byte) (h Header, ok bool) {
	if len(b) < minHeader4 {
		return Header{}, false
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b)
	case 6:
		return parse6(b)
	}
	return Header{}, false
}

func parse4(b []byte) (h Header, ok bool) {
	n := int(b[0]&0x0f) * 4
	if n < minHeader4 || n > len(b) || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return Header{}, false
	}
	if Checksum(b[:n], 0) != 0 {
		return Header{}, false
	}
	return Header{
		Src:     netip.AddrFrom4([4]byte(b[12:16])),
		Dst:     netip.AddrFrom4([4]byte(b[16:20])),
		DSField: b[1],
	}, true
}

func parse6(b []byte) (h Header, ok bool) {
	if header6+int(binary.BigEndian.Uint16(b[4:])) != len(b) {
		return Header{}, false
	}
	return Header{
		Src:     netip.AddrFrom16([16]byte(b[8:24])),
		Dst:     netip.AddrFrom16([16]byte(b[24:40])),
		DSField: b[0]<<4 | b[1]>>4,
	}, true
}

// Checksum is the Internet checksum (RFC 1071) of b, added to partial, which is
// a partial result not yet folded or complemented. Over bytes that contain their
// own checksum it is 0 where that is right.
func Checksum(b []byte, partial uint32) uint16 {
	sum := uint64(partial)
	for len(b) >= 2 {
		sum += uint64(b[0])<<8 | uint64(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
