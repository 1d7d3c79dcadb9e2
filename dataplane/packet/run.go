package packet

import "encoding/binary"

// run is the group that packets still join.
type run struct {
	first        []byte // its first member
	start        int    // position of that among the members of all groups
	count, limit int    // of members, and the most that there may be; 0 where none may join

	gso       GSO
	transport int // where the transport header starts
	checksum  int // position of its checksum, 0 where there is none
	headers   int // length of IP and transport header
	size      int // payload of each member but the last, bytes
	total     int // length of the superpacket

	id      uint16 // of the last member
	seq     uint32 // of the next member
	flags   uint8  // of the last member
	partial bool

	verified bool   // The first member's checksum is right.
	pseudo   uint64 // Set once it is.

	constant [maxHeader]byte // Set from the second member on: the bits that are the same in all headers.
	balance  uint16          // The same: what identification and checksum of IPv4 add up to.
}

func (r *run) reset(p []byte, h *Header, partial bool) {
	field := h.ChecksumField()
	*r = run{
		first:     p,
		count:     1,
		transport: h.Transport,
		checksum:  field,
		partial:   partial && field > 0 && field+2 <= len(p),
	}
}

// begin lets further members join, if the first one, whose header is h, has nothing
// special about it. One without payload is refused later: none is as short.
func (r *run) begin(h *Header) {
	p := r.first
	if h.Fragment || h.Transport != ipHeader(p) { // no extension headers
		return
	}
	r.headers = headerLen(p, h)
	if r.headers == 0 {
		return
	}
	r.size, r.total = len(p)-r.headers, len(p)
	if p[0]>>4 == 4 {
		// All ones are the other form of a checksum of 0, and no sender's.
		if p[6]&(reservedFlag>>8) != 0 || p[10]&p[11] == 0xff {
			return
		}
		r.id = binary.BigEndian.Uint16(p[4:])
	}
	t := p[r.transport:]
	if h.Protocol == ProtocolUDP {
		r.beginUDP(t)
	} else {
		r.beginTCP(t, p[0]>>4)
	}
}

func (r *run) beginUDP(t []byte) {
	if int(binary.BigEndian.Uint16(t[udpLength:])) == len(t) {
		r.gso, r.limit = UDP, maxUDPMembers
	}
}

func (r *run) beginTCP(t []byte, version uint8) {
	// The lower half of the offset's byte are reserved bits, and AE of RFC 9768.
	if t[tcpFlags]&^(ack|ece) != 0 || t[tcpOffset]&0x0f != 0 {
		return
	}
	r.gso, r.limit = TCP4, maxTCPMembers
	if version == 6 {
		r.gso = TCP6
	}
	r.seq = binary.BigEndian.Uint32(t[tcpSeq:]) + uint32(r.size)
}

// takes lets p join if it is the direct continuation. All members but the last
// are of one size; a shorter one, and TCP's PSH and FIN, end the run.
func (r *run) takes(p []byte, partial bool) bool {
	n := len(p) - r.headers
	if n <= 0 || n > r.size || r.total+n > maxSuperpacket || partial != r.partial {
		return false
	}
	b, first := p[:r.headers], r.first[:r.headers]
	if !r.continuesIP(b, first) {
		return false
	}
	b, first = b[r.transport:], first[r.transport:]
	if r.gso == UDP {
		if !continuesUDP(b, first, len(p)-r.transport) || !r.verify(p) {
			return false
		}
	} else {
		if !r.continuesTCP(b, first) || !r.verify(p) {
			return false
		}
		r.seq += uint32(n)
		r.flags = b[tcpFlags]
	}
	if r.count == 1 {
		r.expect()
	}
	r.count++
	r.id++
	r.total += n
	if n < r.size || r.flags&(fin|psh) != 0 {
		r.limit = 0
	}
	return true
}

// What may differ between the IP headers of two members, as masks over words in
// network order.
const (
	lengthID4 = 0x0000_ffff_ffff_0000 // of bytes 0 to 7
	checksum4 = 0x0000_ffff_0000_0000 // of bytes 8 to 15
	length6   = 0x0000_0000_ffff_0000 // of bytes 0 to 7
	endOfFlow = (fin | psh) << 16     // of bytes 8 to 15 of a TCP header
)

// continuesIP compares the headers b and first. That they are of packets that
// passed ParseInto makes up for the fields left out.
func (r *run) continuesIP(b, first []byte) bool {
	if first[0]>>4 == 6 {
		return (word(b, 0)^word(first, 0))&^length6 == 0 &&
			word(b, 8) == word(first, 8) && word(b, 16) == word(first, 16) &&
			word(b, 24) == word(first, 24) && word(b, 32) == word(first, 32)
	}
	return (word(b, 0)^word(first, 0))&^lengthID4 == 0 &&
		(word(b, 8)^word(first, 8))&^checksum4 == 0 &&
		sameWords(b[16:r.transport], first[16:r.transport]) &&
		(b[6]&(dontFragment>>8) != 0 || binary.BigEndian.Uint16(b[4:]) == r.id+1) &&
		b[10]&b[11] != 0xff
}

func continuesUDP(b, first []byte, length int) bool {
	return binary.BigEndian.Uint32(b) == binary.BigEndian.Uint32(first) &&
		int(binary.BigEndian.Uint16(b[udpLength:])) == length
}

// continuesTCP compares the whole headers but for sequence number, the flags that
// the last member may have, and checksum.
func (r *run) continuesTCP(b, first []byte) bool {
	return binary.BigEndian.Uint32(b[tcpSeq:]) == r.seq &&
		binary.BigEndian.Uint32(b) == binary.BigEndian.Uint32(first) &&
		(word(b, 8)^word(first, 8))&^endOfFlow == 0 &&
		binary.BigEndian.Uint16(b[18:]) == binary.BigEndian.Uint16(first[18:]) &&
		sameWords(b[minTCP:], first[minTCP:])
}

func word(b []byte, at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }

// sameWords is bytes.Equal for a few words of 32 bits.
func sameWords(a, b []byte) bool {
	for len(a) >= 8 && len(b) >= 8 {
		if word(a, 0) != word(b, 0) {
			return false
		}
		a, b = a[8:], b[8:]
	}
	return len(a) < 4 || len(b) < 4 || binary.BigEndian.Uint32(a) == binary.BigEndian.Uint32(b)
}

// verify says whether the checksums of p and of those before it are what
// segmentation would make again. The first member's is not looked at before
// there is a second.
func (r *run) verify(p []byte) bool {
	if !r.verified {
		protocol := uint8(ProtocolTCP)
		if r.gso == UDP {
			protocol = ProtocolUDP
		}
		r.pseudo = pseudoSum(r.first, protocol)
		if !r.checksumOK(r.first) {
			return false
		}
		r.verified = true
	}
	return r.checksumOK(p)
}

func (r *run) checksumOK(p []byte) bool {
	t := p[r.transport:]
	pseudo := r.pseudo + uint64(len(t))
	field := binary.BigEndian.Uint16(p[r.checksum:])
	if r.partial {
		return field == fold(pseudo)
	}
	// Of the two forms of 0 a sender uses one: UDP all ones, TCP the plain one.
	var never uint16 = 0xffff
	if r.gso == UDP {
		never = 0
	}
	return field != never && fold(pseudo+uint64(sum(t))) == 0xffff
}

// patch makes of the first member's headers those of the whole.
func (r *run) patch(b []byte) {
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(r.total))
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], Checksum(b[:r.transport], 0))
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(r.total-header6))
	}
	length := r.total - r.transport
	if r.gso == UDP {
		binary.BigEndian.PutUint16(b[r.transport+udpLength:], uint16(length))
	} else {
		b[r.transport+tcpFlags] = r.flags
	}
	binary.BigEndian.PutUint16(b[r.checksum:], fold(r.pseudo+uint64(length)))
}
