package reference

import (
	"bytes"
	"encoding/binary"

	"github.com/weft-net/weft/dataplane/packet"
)

// Segment is the wire packets that p stands for, with whole checksums. A packet
// that is no superpacket is one of them. p passed packet.Packet.Check.
func Segment(p packet.Packet) [][]byte {
	if p.GSO == packet.NoGSO {
		return [][]byte{Complete(p)}
	}
	b := p.Data()
	l := Read(b)
	headers := l.Transport + 8
	if l.Protocol == 6 {
		headers = l.Transport + int(b[l.Transport+12]>>4)*4
	}
	var all [][]byte
	for at := headers; at < len(b); at += p.SegmentSize {
		end := min(at+p.SegmentSize, len(b))
		s := append(bytes.Clone(b[:headers]), b[at:end]...)
		number := len(all)
		first, last := number == 0, end == len(b)

		if l.Version == 4 {
			binary.BigEndian.PutUint16(s[2:], uint16(len(s)))
			binary.BigEndian.PutUint16(s[4:], binary.BigEndian.Uint16(b[4:])+uint16(number))
			HeaderChecksum(s)
		} else {
			binary.BigEndian.PutUint16(s[4:], uint16(len(s)-40))
		}
		t := s[l.Transport:]
		if l.Protocol == 17 {
			binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
		} else {
			seq := binary.BigEndian.Uint32(t[4:]) + uint32(at-headers)
			binary.BigEndian.PutUint32(t[4:], seq)
			if !last {
				t[13] &^= 0x01 | 0x08 // FIN, PSH
			}
			if !first {
				t[13] &^= 0x80 // CWR
			}
		}
		Checksum(s, false)
		all = append(all, s)
	}
	return all
}
