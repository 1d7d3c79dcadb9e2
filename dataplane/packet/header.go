package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

const (
	minHeader4 = 20 // RFC 791 section 3.1
	header6    = 40 // RFC 8200 section 3
)

// The protocols that weft tells apart, by their IANA numbers.
const (
	ProtocolTCP  = 6
	ProtocolUDP  = 17
	NoNextHeader = 59 // RFC 8200 section 4.7: nothing follows
)

// The extension headers of RFC 8200 section 4 that stand in front of a transport
// header. Any other counts as a transport protocol: what follows an
// authentication header must not be changed, and ESP hides it.
const (
	hopByHop           = 0
	routing            = 43
	fragment           = 44
	destinationOptions = 60
)

// Header is what routing, validation and offloads need to know of a packet's headers.
type Header struct {
	Src, Dst netip.Addr
	DSField  uint8 // DSCP in the upper six bits, ECN in the lower two (RFC 2474, RFC 3168)

	// Protocol is that of the transport header, which starts at byte Transport of
	// the packet, behind all extension headers. Where a chain of extension headers
	// ends before the transport header, it is NoNextHeader and Transport the length
	// of the packet: such a chain is the receiver's to judge.
	Protocol  uint8
	Transport int

	// Fragment says that the packet is a part of another one, the first part or an
	// IPv6 fragment of one part included. Protocol is what the fragment's header
	// says, which is the same in all of them; only the first has a transport header.
	Fragment bool
}

// ParseInto reads the headers of b, which must be exactly one packet: a length
// field that says less or more than len(b) is refused, because what lies beyond
// it is either missing or smuggled in. An IPv4 header checksum must be right,
// since the kernel would drop the packet later without telling anyone.
//
// ok is false, and h left alone, for anything that is not a whole IPv4 or IPv6
// packet. An IPv6 jumbogram (RFC 2675) is none either: its payload length says 0.
//
// It fills h in place, because to return the struct takes three times as long.
func ParseInto(b []byte, h *Header) (ok bool) {
	if len(b) < minHeader4 {
		return false
	}
	switch b[0] >> 4 {
	case 4:
		return h.parse4(b)
	case 6:
		return h.parse6(b)
	}
	return false
}

func (h *Header) parse4(b []byte) bool {
	n := int(b[0]&0x0f) * 4
	if n < minHeader4 || n > len(b) || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return false
	}
	if !headerChecksumOK(b[:n]) {
		return false
	}
	h.Src = netip.AddrFrom4([4]byte(b[12:16]))
	h.Dst = netip.AddrFrom4([4]byte(b[16:20]))
	h.DSField = b[1]
	h.Protocol = b[9]
	h.Transport = n
	h.Fragment = binary.BigEndian.Uint16(b[6:])&^(dontFragment|reservedFlag) != 0
	return true
}

// The flags in bytes 6 and 7 of an IPv4 header, and the offset, in units of 8 bytes.
// More Fragments or the offset is not 0 in every fragment.
const (
	reservedFlag   = 0x8000
	dontFragment   = 0x4000
	moreFragments  = 0x2000
	fragmentOffset = 0x1fff
)

// headerChecksumOK sums the header's 20 fixed bytes without a loop.
func headerChecksumOK(b []byte) bool {
	if len(b) > minHeader4 {
		return Checksum(b, 0) == 0
	}
	sum, carry := bits.Add64(binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), 0)
	sum, carry = bits.Add64(sum, uint64(binary.LittleEndian.Uint32(b[16:])), carry)
	return fold(sum+carry) == 0xffff
}

func (h *Header) parse6(b []byte) bool {
	if header6+int(binary.BigEndian.Uint16(b[4:])) != len(b) {
		return false
	}
	h.Src = netip.AddrFrom16([16]byte(b[8:24]))
	h.Dst = netip.AddrFrom16([16]byte(b[24:40]))
	h.DSField = b[0]<<4 | b[1]>>4
	h.Protocol = b[6]
	h.Transport = header6
	h.Fragment = false
	if h.Protocol != ProtocolTCP && h.Protocol != ProtocolUDP {
		h.skipExtensions(b)
	}
	return true
}

// skipExtensions moves Protocol and Transport from the first to behind the last
// extension header.
func (h *Header) skipExtensions(b []byte) {
	for {
		rest := b[h.Transport:]
		var n int
		switch h.Protocol {
		case fragment:
			n = 8
		case hopByHop, routing, destinationOptions:
			if len(rest) >= 2 {
				n = 8 + int(rest[1])*8
			}
		default:
			return
		}
		if n == 0 || n > len(rest) {
			h.Protocol, h.Transport = NoNextHeader, len(b)
			return
		}
		h.Fragment = h.Protocol == fragment
		h.Protocol = rest[0]
		h.Transport += n
		if h.Fragment {
			return // Further headers are a part of what was fragmented.
		}
	}
}

// ChecksumField is the position of the checksum of a TCP or UDP packet, in bytes
// from its start, and 0 for fragments and other protocols.
func (h *Header) ChecksumField() int {
	offset := checksumOffset(h.Protocol)
	if h.Fragment || offset == 0 {
		return 0
	}
	return h.Transport + offset
}
