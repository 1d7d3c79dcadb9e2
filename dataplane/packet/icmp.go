package packet

import (
	"encoding/binary"
	"net/netip"
)

// The ICMP errors that weft sends: type 3 of RFC 792, by code.
const (
	NetUnreachable      = 0 // no route: RFC 1812 section 5.2.7.1
	FragmentationNeeded = 4 // larger than the next hop takes: RFC 1191 section 4
)

const (
	protoICMP4      = 1
	icmpUnreachable = 3
	icmpHeader      = 8
	// RFC 1812 section 4.3.2.3: as much of the original as fits in 576 bytes.
	maxICMPError = 576
	// What Linux and RFC 1812 section 4.3.2.5 give to ICMP errors: precedence 6.
	icmpDSField = 0xc0
	icmpTTL     = 64
	// Don't Fragment: only then need the identification not be unique, and may
	// be 0 (RFC 6864 section 4.1).
	icmpFlags = 0x4000
)

// MaxICMPError is the size of the buffer that [ICMPError] needs, in bytes.
const MaxICMPError = maxICMPError

// ICMPError writes to buf an ICMP destination unreachable message of the given
// code from src to the sender of orig, an IPv4 packet that passed [ParseInto], and
// returns its length. mtu is the next hop's, for FragmentationNeeded only.
//
// n is 0 where RFC 1122 section 3.2.2 forbids an answer: to an ICMP error, to a
// fragment that is not the first, to or from an address that is not one host.
// It is 0 for IPv6 packets too.
func ICMPError(buf []byte, src netip.Addr, orig []byte, code uint8, mtu int) (n int) {
	if orig[0]>>4 != 4 || !src.Is4() || !answerable(orig) {
		return 0
	}
	quoted := min(len(orig), maxICMPError-minHeader4-icmpHeader)
	n = minHeader4 + icmpHeader + quoted
	b := buf[:n]

	clear(b[:minHeader4+icmpHeader])
	b[0] = 4<<4 | minHeader4/4
	b[1] = icmpDSField
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	binary.BigEndian.PutUint16(b[6:], icmpFlags)
	b[8] = icmpTTL
	b[9] = protoICMP4
	from := src.As4()
	copy(b[12:16], from[:])
	copy(b[16:20], orig[12:16])
	binary.BigEndian.PutUint16(b[10:], Checksum(b[:minHeader4], 0))

	icmp := b[minHeader4:]
	icmp[0], icmp[1] = icmpUnreachable, code
	if code == FragmentationNeeded {
		binary.BigEndian.PutUint16(icmp[6:], uint16(mtu))
	}
	copy(icmp[icmpHeader:], orig[:quoted])
	binary.BigEndian.PutUint16(icmp[2:], Checksum(icmp, 0))
	return n
}

func answerable(orig []byte) bool {
	if binary.BigEndian.Uint16(orig[6:])&0x1fff != 0 { // fragment offset
		return false
	}
	src := netip.AddrFrom4([4]byte(orig[12:16]))
	dst := netip.AddrFrom4([4]byte(orig[16:20]))
	if src.IsUnspecified() || src.IsLoopback() || src.IsMulticast() || src.As4()[0] >= 240 {
		return false
	}
	if dst.IsMulticast() || dst.As4()[0] >= 240 {
		return false
	}
	if orig[9] != protoICMP4 {
		return true
	}
	n := int(orig[0]&0x0f) * 4
	if len(orig) <= n {
		return false
	}
	switch orig[n] {
	case 3, 4, 5, 11, 12: // the errors of RFC 792
		return false
	}
	return true
}
