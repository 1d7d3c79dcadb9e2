package packet

import "encoding/binary"

const (
	minTCP      = 20 // RFC 9293 section 3.1
	tcpSeq      = 4
	tcpOffset   = 12
	tcpFlags    = 13
	tcpChecksum = 16

	udpHeader   = 8 // RFC 768
	udpLength   = 4
	udpChecksum = 6
)

// The TCP flags in byte 13 of the header (RFC 9293 section 3.1).
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
	urg
	ece
	cwr
)

// Check says whether the metadata of p agrees with its header h, which [ParseInto]
// read: whether a partial checksum has its place within the packet and behind
// the IP header, and whether a superpacket has all that a [Segmenter] needs.
func (p *Packet) Check(h *Header) bool {
	b := p.Data()
	if p.GSO == NoGSO {
		return p.CsumStart == 0 ||
			p.CsumStart >= ipHeader(b) && p.CsumOffset >= 0 && p.CsumStart+p.CsumOffset+2 <= len(b)
	}
	var protocol uint8 = ProtocolTCP
	switch p.GSO {
	case TCP4:
		if b[0]>>4 != 4 {
			return false
		}
	case TCP6:
		if b[0]>>4 != 6 {
			return false
		}
	case UDP:
		protocol = ProtocolUDP
	default:
		return false
	}
	if h.Protocol != protocol || h.Fragment || p.SegmentSize <= 0 ||
		p.CsumStart != h.Transport || p.CsumOffset != checksumOffset(protocol) {
		return false
	}
	n := headerLen(b, h)
	return n > 0 && n < len(b)
}

func ipHeader(b []byte) int {
	if b[0]>>4 == 6 {
		return header6
	}
	return int(b[0]&0x0f) * 4
}

// headerLen is the length of IP and transport header of a TCP or UDP packet, or 0
// where the transport header is not whole.
func headerLen(b []byte, h *Header) int {
	n := h.Transport + udpHeader
	if h.Protocol == ProtocolTCP {
		if len(b) < h.Transport+minTCP {
			return 0
		}
		offset := int(b[h.Transport+tcpOffset]>>4) * 4
		if offset < minTCP {
			return 0
		}
		n = h.Transport + offset
	}
	if n > len(b) {
		return 0
	}
	return n
}

// Segmenter cuts one superpacket after the other into wire packets, without
// touching it: it writes the headers of each segment to where the caller wants
// them and says which part of the superpacket follows. The zero Segmenter is
// ready for Reset. It is not safe for concurrent use.
type Segmenter struct {
	data            []byte
	size, n         int // payload of each segment but the last, bytes; segments
	headers         int // length of IP and transport header
	transport       int
	checksum        int // position of its field
	gso             GSO
	id              uint16
	seq             uint32
	flags           uint8
	header4, pseudo uint64 // sums of what all segments have in common
}

// Reset starts on the superpacket p, whose header is h and which passed
// [Packet.Check]. The Segmenter borrows p's bytes until the next Reset.
func (s *Segmenter) Reset(p *Packet, h *Header) {
	b := p.Data()
	*s = Segmenter{
		data:      b,
		size:      p.SegmentSize,
		headers:   headerLen(b, h),
		transport: h.Transport,
		checksum:  p.CsumStart + p.CsumOffset,
		gso:       p.GSO,
		pseudo:    pseudoSum(b, h.Protocol),
	}
	s.n = s.segments(s.size)
	if b[0]>>4 == 4 {
		s.id = binary.BigEndian.Uint16(b[4:])
		// A right header sums up to all ones, which is a zero: what these three
		// fields lack is the sum of the others.
		fields := uint64(binary.BigEndian.Uint16(b[2:])) + uint64(s.id) + uint64(binary.BigEndian.Uint16(b[10:]))
		s.header4 = 3*0xffff - fields
	}
	if s.gso != UDP {
		s.seq = binary.BigEndian.Uint32(b[s.transport+tcpSeq:])
		s.flags = b[s.transport+tcpFlags]
	}
}

// ResetLone is Reset and Limit for a TCP packet that is no superpacket and larger
// than mtu bytes, p with header h, which passed [Packet.Check]. The identifications
// of IPv4 count up from the packet's own.
//
// ok is false where Limit says so, and where p is not TCP, is a fragment, or has
// a checksum that is wrong: the segments' would be right. Then the Segmenter has
// nothing to cut before the next Reset.
func (s *Segmenter) ResetLone(p *Packet, h *Header, mtu int) (ok bool) {
	b := p.Data()
	if p.GSO != NoGSO || h.Protocol != ProtocolTCP || h.Fragment {
		return false
	}
	n := headerLen(b, h)
	if n == 0 || n == len(b) {
		return false
	}
	super := Packet{Buf: p.Buf, Start: p.Start, GSO: TCP4, SegmentSize: len(b) - n, CsumStart: h.Transport, CsumOffset: tcpChecksum}
	if b[0]>>4 == 6 {
		super.GSO = TCP6
	}
	s.Reset(&super, h)
	return s.Limit(mtu) && checksumRight(p, h)
}

// checksumRight says whether the checksum of the TCP packet p is right, or will be
// once it is completed.
func checksumRight(p *Packet, h *Header) bool {
	b := p.Data()
	if p.CsumStart == 0 {
		return ChecksumOK(b, h)
	}
	if p.CsumStart != h.Transport || p.CsumOffset != tcpChecksum {
		return false
	}
	field := binary.BigEndian.Uint16(b[h.Transport+tcpChecksum:])
	return fold(pseudoSum(b, ProtocolTCP)+uint64(len(b)-h.Transport)+uint64(^field)) == 0xffff
}

// Limit cuts the superpacket of the last Reset smaller than its sender asked for,
// where that is needed for every wire packet to be at most mtu bytes long.
//
// ok is false, and nothing changed, where it cannot be: for UDP, whose datagrams
// mean something; where mtu leaves no room for payload; where there would be more
// than [MaxSegments]; and where a TCP header must not be repeated, that with SYN,
// RST, URG or a reserved bit (AE of RFC 9768 among them).
func (s *Segmenter) Limit(mtu int) (ok bool) {
	if s.PacketLen() <= mtu {
		return true
	}
	size := mtu - s.headers
	if size <= 0 || !s.divisible() {
		return false
	}
	n := s.segments(size)
	if n > MaxSegments {
		return false
	}
	s.size, s.n = size, n
	return true
}

func (s *Segmenter) divisible() bool {
	return s.gso != UDP && s.flags&(syn|rst|urg) == 0 && s.data[s.transport+tcpOffset]&0x0f == 0
}

// segments is how many there are of so many bytes of payload.
func (s *Segmenter) segments(size int) int { return (len(s.data) - s.headers + size - 1) / size }

// Len is the number of segments, at least 1.
func (s *Segmenter) Len() int { return s.n }

// HeaderLen is the length of the IP and transport header, which is the same for
// all segments, in bytes.
func (s *Segmenter) HeaderLen() int { return s.headers }

// PacketLen is the length of the largest wire packet in bytes, IP header included.
// All but the last have it.
func (s *Segmenter) PacketLen() int { return min(s.headers+s.size, len(s.data)) }

// Put writes the headers of segment i into dst, which has room for HeaderLen
// bytes, and returns the payload that follows them, a part of the superpacket.
// The transport checksum is partial, as in [Packet]. Segments may be asked for in
// any order.
//
// The segments are those that Linux makes (inet_gso_segment of
// net/ipv4/af_inet.c, tcp_gso_segment of net/ipv4/tcp_offload.c,
// __udp_gso_segment of net/ipv4/udp_offload.c).
func (s *Segmenter) Put(dst []byte, i int) (payload []byte) {
	start := s.headers + i*s.size
	payload = s.data[start:min(start+s.size, len(s.data))]

	b := dst[:s.headers]
	copy(b, s.data)
	length := s.headers + len(payload)
	if b[0]>>4 == 4 {
		id := s.id + uint16(i)
		binary.BigEndian.PutUint16(b[2:], uint16(length))
		binary.BigEndian.PutUint16(b[4:], id)
		binary.BigEndian.PutUint16(b[10:], ^fold(s.header4+uint64(length)+uint64(id)))
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(length-header6))
	}

	length -= s.transport
	t := b[s.transport:]
	if s.gso == UDP {
		binary.BigEndian.PutUint16(t[udpLength:], uint16(length))
	} else {
		binary.BigEndian.PutUint32(t[tcpSeq:], s.seq+uint32(i*s.size))
		t[tcpFlags] = s.flagsOf(i)
	}
	binary.BigEndian.PutUint16(b[s.checksum:], fold(s.pseudo+uint64(length)))
	return payload
}

// Step is Put for a dst that holds the headers of segment i-1, and makes of them those of
// segment i. Neither may be the first segment or the last, which have flags, and a length, of their own.
func (s *Segmenter) Step(dst []byte, i int) (payload []byte) {
	if b := dst[:s.headers]; b[0]>>4 == 4 {
		id := s.id + uint16(i)
		binary.BigEndian.PutUint16(b[4:], id)
		binary.BigEndian.PutUint16(b[10:], ^fold(s.header4+uint64(s.headers+s.size)+uint64(id)))
	}
	if s.gso != UDP {
		binary.BigEndian.PutUint32(dst[s.transport+tcpSeq:], s.seq+uint32(i*s.size))
	}
	return s.data[s.headers+i*s.size:][:s.size]
}

// flagsOf leaves out what belongs to one end of the data only: FIN and PSH to the
// last segment, and CWR to the first, since it answers one ECE (RFC 3168 section 6.1.2).
func (s *Segmenter) flagsOf(i int) uint8 {
	flags := s.flags
	if i > 0 {
		flags &^= cwr
	}
	if i < s.n-1 {
		flags &^= fin | psh
	}
	return flags
}

// Finish completes the checksum of a segment in software: header and payload are
// what Put wrote and returned.
func (s *Segmenter) Finish(header, payload []byte) {
	// Transport headers are of even length, so that the two parts just add up.
	t := header[s.transport:s.headers]
	putChecksum(t, s.checksum-s.transport, fold(uint64(sum(t))+uint64(sum(payload))))
}
