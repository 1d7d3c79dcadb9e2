package encap

import "encoding/binary"

// GUE variant 0 with the one option of Linux, the remote checksum. The layout is
// that of Linux (include/net/gue.h; net/ipv4/fou_core.c, __gue_build_header and
// gue_remcsum) and not that of the drafts, which number the flags differently:
//
//	byte   0     version 0, two bits; control 0, one bit; length of what follows
//	             the first word, in words, five bits: 2
//	byte   1     IP protocol of the inner packet, 4 or 41
//	bytes  2-3   flags: GUE_FLAG_PRIV
//	bytes  4-7   private flags: GUE_PFLAG_REMCSUM
//	bytes  8-9   where the checksum's coverage starts
//	bytes 10-11  where the checksum's field is; both from the end of this header
//
// A control message has the first word alone: version 0, control 1, length 0, then
// the control type, then no flags.
const (
	gueLen        = 12
	gueControlLen = 4
)

// The first word.
const (
	gueIPv4 = 0x02_04_0001 // an IPv4 packet inside (IPPROTO_IPIP)
	gueIPv6 = 0x02_29_0001 // IPPROTO_IPV6

	// A control message of type 255. The draft assigns no number to such a message
	// as weft's, and this one to experiments.
	gueControl = 0x20_ff_0000
)

const gueRemoteChecksum = 0x8000_0000 // the second word

func encapGUE(buf []byte, at int, sum Checksum) (start int) {
	word := uint32(gueIPv4)
	if buf[at]>>4 == 6 {
		word = gueIPv6
	}
	header := buf[at-gueLen : at]
	binary.BigEndian.PutUint32(header, word)
	binary.BigEndian.PutUint32(header[4:], gueRemoteChecksum)
	binary.BigEndian.PutUint16(header[8:], uint16(sum.Start))
	binary.BigEndian.PutUint16(header[10:], uint16(sum.Field))
	return at - gueLen
}

func appendGUEControl(dst []byte) []byte { return binary.BigEndian.AppendUint32(dst, gueControl) }

// decapGUE takes nothing but the two headers that are made here: options that would
// need an answer, and other control messages, are not spoken.
func decapGUE(datagram []byte) (inner []byte, sum Checksum, kind Kind) {
	if len(datagram) >= gueControlLen && binary.BigEndian.Uint32(datagram) == gueControl {
		return datagram[gueControlLen:], Checksum{}, Control
	}
	if len(datagram) <= gueLen {
		return nil, Checksum{}, Malformed
	}
	inner = datagram[gueLen:]
	var word uint32
	switch inner[0] >> 4 {
	case 4:
		word = gueIPv4
	case 6:
		word = gueIPv6
	}
	if word == 0 || binary.BigEndian.Uint32(datagram) != word || binary.BigEndian.Uint32(datagram[4:]) != gueRemoteChecksum {
		return nil, Checksum{}, Malformed
	}
	sum.Start = int(binary.BigEndian.Uint16(datagram[8:]))
	sum.Field = int(binary.BigEndian.Uint16(datagram[10:]))
	if !sum.within(len(inner)) {
		return nil, Checksum{}, Malformed
	}
	return inner, sum, Packet
}
