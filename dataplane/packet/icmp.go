package packet

import (
	"encoding/binary"
	"net/netip"
)

// Problem is why a packet goes no further, as far as its sender is told.
type Problem uint8

const (
	NoRoute Problem = iota // nobody has the destination: RFC 1812 section 5.2.7.1, RFC 4443 section 3.1
	TooBig                 // larger than the next hop takes: RFC 1191 section 4, RFC 4443 section 3.2
)

// MaxICMPError is the size of the buffer that [ICMPError] needs, in bytes.
const MaxICMPError = maxICMP6Error

const (
	icmpHeader = 8
	icmpTTL    = 64
)

// ICMPError writes to buf the ICMP or ICMPv6 message that tells the sender of orig of
// the problem, from src, and returns its length. orig is a packet that passed
// [ParseInto], or as much of it as may be quoted. mtu is what the next hop takes, in
// bytes up to 65535, for TooBig only.
//
// n is 0 where src is of the other family, and where RFC 1122 section 3.2.2 and
// RFC 4443 section 2.4 (e) forbid an answer: to an ICMP error or redirect, to or from
// an address that is not one host. It is 0 for a fragment that is not the first too,
// also of IPv6: whether it belongs to an ICMP error cannot be seen.
func ICMPError(buf []byte, src netip.Addr, orig []byte, problem Problem, mtu int) (n int) {
	if orig[0]>>4 == 4 {
		return icmp4Error(buf, src, orig, problem, mtu)
	}
	return icmp6Error(buf, src, orig, problem, mtu)
}

// RFC 792.
const (
	protoICMP4          = 1
	icmpUnreachable     = 3
	netUnreachable      = 0 // codes
	fragmentationNeeded = 4
	// RFC 1812 section 4.3.2.3: as much of the original as fits in 576 bytes.
	maxICMP4Error = 576
	// What Linux and RFC 1812 section 4.3.2.5 give to ICMP errors: precedence 6.
	icmpDSField = 0xc0
	// Only with Don't Fragment need the identification not be unique, and may
	// be 0 (RFC 6864 section 4.1).
	icmpFlags = dontFragment
)

func icmp4Error(buf []byte, src netip.Addr, orig []byte, problem Problem, mtu int) (n int) {
	if !src.Is4() || !answerable4(orig) {
		return 0
	}
	quoted := min(len(orig), maxICMP4Error-minHeader4-icmpHeader)
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
	icmp[0], icmp[1] = icmpUnreachable, netUnreachable
	if problem == TooBig {
		icmp[1] = fragmentationNeeded
		binary.BigEndian.PutUint16(icmp[6:], uint16(mtu))
	}
	copy(icmp[icmpHeader:], orig[:quoted])
	binary.BigEndian.PutUint16(icmp[2:], Checksum(icmp, 0))
	return n
}

func answerable4(orig []byte) bool {
	if binary.BigEndian.Uint16(orig[6:])&fragmentOffset != 0 {
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

// RFC 4443.
const (
	protoICMP6         = 58
	icmp6Unreachable   = 1 // code 0: no route
	icmp6TooBig        = 2
	icmp6Informational = 128 // the first type that is no error: section 2.1
	icmp6Redirect      = 137 // RFC 4861 section 4.5
	// What every link takes (RFC 8200 section 5), and all that an error may use of
	// it: section 2.4 (c).
	minMTU6       = 1280
	maxICMP6Error = minMTU6
)

// icmp6Error leaves traffic class and flow label 0, as Linux does.
func icmp6Error(buf []byte, src netip.Addr, orig []byte, problem Problem, mtu int) (n int) {
	if !src.Is6() || !answerable6(orig) {
		return 0
	}
	quoted := min(len(orig), maxICMP6Error-header6-icmpHeader)
	n = header6 + icmpHeader + quoted
	b := buf[:n]

	clear(b[:header6+icmpHeader])
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(n-header6))
	b[6] = protoICMP6
	b[7] = icmpTTL
	from := src.As16()
	copy(b[8:24], from[:])
	copy(b[24:40], orig[8:24])

	icmp := b[header6:]
	icmp[0] = icmp6Unreachable
	if problem == TooBig {
		icmp[0] = icmp6TooBig
		binary.BigEndian.PutUint32(icmp[4:], uint32(max(mtu, minMTU6)))
	}
	copy(icmp[icmpHeader:], orig[:quoted])
	pseudo := fold(pseudoSum(b, protoICMP6) + uint64(len(icmp)))
	binary.BigEndian.PutUint16(icmp[2:], Checksum(icmp, uint32(pseudo)))
	return n
}

func answerable6(orig []byte) bool {
	if !oneHost(netip.AddrFrom16([16]byte(orig[8:24]))) || !oneHost(netip.AddrFrom16([16]byte(orig[24:40]))) {
		return false
	}
	h := Header{Protocol: orig[6], Transport: header6}
	for h.skipExtensions(orig); h.Fragment; h.skipExtensions(orig) {
		// RFC 8200 section 4.5: 2 bytes into the header, above three bits of flags.
		if binary.BigEndian.Uint16(orig[h.Transport-6:])&^7 != 0 {
			return false
		}
		h.Fragment = false // The first has the other headers too (RFC 7112 section 5).
	}
	if h.Protocol != protoICMP6 {
		return true
	}
	return h.Transport < len(orig) && orig[h.Transport] >= icmp6Informational && orig[h.Transport] != icmp6Redirect
}

func oneHost(a netip.Addr) bool { return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() }
