package packet

import (
	"encoding/binary"
	"math/bits"
)

// Checksum is the Internet checksum (RFC 1071) of b, added to partial, which is
// a partial result not yet folded or complemented. Over bytes that contain their
// own checksum it is 0 where that is right.
func Checksum(b []byte, partial uint32) uint16 {
	return ^fold(uint64(partial) + uint64(sum(b)))
}

// ChecksumOK says whether the TCP or UDP checksum of the packet p, with header h,
// is right. It is false where there is none: for other protocols, fragments,
// packets cut short, and UDP's 0, which says that nobody computed one.
func ChecksumOK(p []byte, h *Header) bool {
	field := h.ChecksumField()
	if field == 0 || len(p) < field+2 {
		return false
	}
	if h.Protocol == ProtocolUDP && p[field]|p[field+1] == 0 {
		return false
	}
	segment := p[h.Transport:]
	return fold(pseudoSum(p, h.Protocol)+uint64(len(segment))+uint64(sum(segment))) == 0xffff
}

// Complete computes the checksum that p carries as partial, in place. p is no
// superpacket and has passed [Packet.Check].
func Complete(p *Packet) {
	if p.CsumStart == 0 {
		return
	}
	b := p.Data()[p.CsumStart:]
	putChecksum(b, p.CsumOffset, fold(uint64(sum(b))))
	p.CsumStart, p.CsumOffset = 0, 0
}

// putChecksum writes the complement of sum at b[offset:]. UDP has all ones for 0,
// which means no checksum there (RFC 768). Only UDP, and UDP-Lite with the same
// rule, has the field at that offset.
func putChecksum(b []byte, offset int, sum uint16) {
	c := ^sum
	if c == 0 && offset == udpChecksum {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[offset:], c)
}

// adjustChecksum makes up in the checksum field for a word of what it covers that
// was changed: RFC 1624 equation 3, HC' = ~(~HC + ~m + m'). A wrong checksum stays
// wrong.
func adjustChecksum(field []byte, before, after uint16) {
	checksum := binary.BigEndian.Uint16(field)
	binary.BigEndian.PutUint16(field, ^fold(uint64(^checksum)+uint64(^before)+uint64(after)))
}

// Unfinished says whether the transport checksum of p, whose header is h, was left for
// a device to complete: its field holds the sum of the pseudo header only. A right
// checksum that looks so is told by the rest of the packet, which is summed then.
func Unfinished(p []byte, h *Header) bool {
	field := h.ChecksumField()
	if field == 0 || field+2 > len(p) {
		return false
	}
	pseudo := pseudoSum(p, h.Protocol) + uint64(len(p)-h.Transport)
	if binary.BigEndian.Uint16(p[field:]) != fold(pseudo) {
		return false
	}
	return fold(pseudo+uint64(sum(p[h.Transport:]))) != 0xffff
}

// checksumOffset is where the checksum is in the transport header, or 0.
func checksumOffset(protocol uint8) int {
	switch protocol {
	case ProtocolTCP:
		return tcpChecksum
	case ProtocolUDP:
		return udpChecksum
	}
	return 0
}

// pseudoSum is the sum of the pseudo header (RFC 9293 section 3.1, RFC 8200
// section 8.1) of p without the length. It is below 2^36.
func pseudoSum(p []byte, protocol uint8) uint64 {
	addresses := p[12:minHeader4]
	if p[0]>>4 == 6 {
		addresses = p[8:header6]
	}
	sum := uint64(protocol)
	for ; len(addresses) >= 8; addresses = addresses[8:] {
		sum += uint64(binary.BigEndian.Uint32(addresses)) + uint64(binary.BigEndian.Uint32(addresses[4:]))
	}
	return sum
}

// sum is the one's complement sum of b, as 16-bit words in network order. It is
// the same whichever way round the bytes of the words are taken, but for the
// bytes of the result (RFC 1071 section 2 B), and however long the words are.
func sum(b []byte) uint16 {
	var s, c uint64
	for len(b) >= 64 {
		w := (*[64]byte)(b)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[0:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[8:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[24:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[32:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[40:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[48:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[56:]), c)
		b = b[64:]
	}
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		b = b[8:]
	}
	var rest uint64 // an odd last byte is followed by a zero
	for i, v := range b {
		rest |= uint64(v) << (8 * i)
	}
	s, c = bits.Add64(s, rest, c)
	s += c // cannot wrap again: after a carry s is at most rest, below 2^56
	return bits.ReverseBytes16(fold(s))
}

// fold adds up the four 16-bit words of a sum until none is left over. It gives 0
// for 0 only.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff // below 2^18
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}
