// Package reference does slowly what package packet does fast: it builds every
// packet whole, field by field and byte by byte as the RFCs have it, and sums
// every checksum from nothing. It is what tests compare with, and is imported by
// tests only. Nothing is shared with the fast code but the types.
package reference

import (
	"bytes"
	"encoding/binary"

	"github.com/weft-net/weft/dataplane/packet"
)

// Layout is what a packet's headers say, as far as offloads are concerned.
type Layout struct {
	Version   int
	IPHeader  int   // length without extension headers
	Protocol  uint8 // as packet.Header has it
	Transport int
	Fragment  bool
}

// Read reads the layout of p, a whole packet.
func Read(p []byte) Layout {
	if p[0]>>4 == 4 {
		n := int(p[0]&15) * 4
		moreFragments := p[6]&0x20 != 0
		offset := int(p[6]&0x1f)<<8 | int(p[7])
		return Layout{4, n, p[9], n, moreFragments || offset > 0}
	}
	l := Layout{6, 40, p[6], 40, false}
	for {
		rest := p[l.Transport:]
		length := 0
		switch l.Protocol {
		case 0, 43, 60: // RFC 8200 sections 4.3, 4.4, 4.6
			if len(rest) >= 8 {
				length = 8 + 8*int(rest[1])
			}
		case 44: // section 4.5
			length = 8
		default:
			return l
		}
		if length == 0 || length > len(rest) {
			return Layout{6, 40, 59, len(p), false}
		}
		l.Fragment = l.Protocol == 44
		l.Protocol = rest[0]
		l.Transport += length
		if l.Fragment {
			return l
		}
	}
}

// Complete is p with its partial checksum completed.
func Complete(p packet.Packet) []byte {
	b := bytes.Clone(p.Data())
	if p.CsumStart == 0 {
		return b
	}
	field := b[p.CsumStart+p.CsumOffset:]
	// What the field holds is a part of the sum, which stands there to be summed.
	c := ^sum(b[p.CsumStart:])
	if c == 0 && p.CsumOffset == 6 { // RFC 768: all ones for 0
		c = 0xffff
	}
	binary.BigEndian.PutUint16(field, c)
	return b
}

// Checksum gives the TCP or UDP packet b a transport checksum: a whole one, or the
// sum of the pseudo header only.
func Checksum(b []byte, partial bool) {
	l := Read(b)
	start, offset := l.Transport, checksumAt(l.Protocol)
	if offset == 0 {
		panic("reference: neither TCP nor UDP")
	}
	binary.BigEndian.PutUint16(b[start+offset:], pseudo(b))
	if !partial {
		copy(b, Complete(packet.Packet{Buf: b, CsumStart: start, CsumOffset: offset}))
	}
}

// HeaderChecksum gives an IPv4 packet its header checksum.
func HeaderChecksum(b []byte) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^sum(b[:int(b[0]&15)*4]))
}

// pseudo is the sum of the pseudo header: RFC 9293 section 3.1, RFC 8200 section 8.1.
func pseudo(b []byte) uint16 {
	l := Read(b)
	var header []byte
	if l.Version == 4 {
		header = append(header, b[12:20]...)
	} else {
		header = append(header, b[8:40]...)
	}
	header = binary.BigEndian.AppendUint32(header, uint32(len(b)-l.Transport))
	header = append(header, 0, 0, 0, l.Protocol)
	return sum(header)
}

func checksumAt(protocol uint8) int {
	switch protocol {
	case 6:
		return 16
	case 17:
		return 6
	}
	return 0
}

// sum is the one's complement sum of RFC 1071, one word at a time.
func sum(b []byte) uint16 {
	s := 0
	for i, v := range b {
		if i%2 == 0 {
			s += int(v) << 8
		} else {
			s += int(v)
		}
		if s > 0xffff {
			s -= 0xffff // the end-around carry
		}
	}
	return uint16(s)
}
