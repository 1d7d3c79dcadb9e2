package packet

import "encoding/binary"

// The ECN codepoints of RFC 3168 section 5, the lower two bits of the DS field.
const (
	ecnMask = 0b11
	notECT  = 0b00
	ect1    = 0b01
	ect0    = 0b10
	ce      = 0b11
)

// MergeECN applies the congestion marks that a packet's outer header collected
// on the underlay, outer being that header's DS field, to the inner packet p in
// place: RFC 6040 section 4.2, figure 4. p must have passed [ParseInto].
//
// ok is false for the one combination that must be dropped: the underlay marked
// congestion, but the inner sender does not know ECN, so that only a loss tells it.
func MergeECN(p []byte, outer uint8) (ok bool) {
	inner := dsField(p) & ecnMask
	switch outer & ecnMask {
	case ce:
		if inner == notECT {
			return false
		}
		setECN(p, ce)
	case ect1:
		if inner == ect0 {
			setECN(p, ect1)
		}
	}
	return true
}

func dsField(p []byte) uint8 {
	if p[0]>>4 == 4 {
		return p[1]
	}
	return p[0]<<4 | p[1]>>4
}

func setECN(p []byte, codepoint uint8) {
	if p[0]>>4 == 6 {
		p[1] = p[1]&^(ecnMask<<4) | codepoint<<4
		return
	}
	before := binary.BigEndian.Uint16(p)
	p[1] = p[1]&^ecnMask | codepoint
	adjustChecksum(p[10:], before, binary.BigEndian.Uint16(p))
}
