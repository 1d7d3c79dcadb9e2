package packet

import "encoding/binary"

// Fragmenter cuts one IPv4 packet after the other into fragments (RFC 791 section
// 3.2), without touching it: it writes the header of each fragment to where the
// caller wants it and says which part of the packet follows. The zero Fragmenter is
// ready for Reset. It is not safe for concurrent use.
type Fragmenter struct {
	header  []byte // the packet's IP header
	first   []byte // what follows it in the first fragment only, in front of data
	data    []byte
	size, n int // payload of each fragment but the last, a multiple of 8 bytes; fragments
}

// Reset starts on p, whose header is h, for fragments of at most mtu bytes each.
// p may itself be a fragment. Its transport checksum must be complete, since no
// fragment has all that it covers. The Fragmenter borrows p until the next Reset.
//
// ok is false, and nothing changed, where there is no need, for IPv6, with Don't
// Fragment set, where mtu leaves no room for 8 bytes of payload, and for a fragment
// whose end no packet reaches.
func (f *Fragmenter) Reset(p []byte, h *Header, mtu int) (ok bool) {
	return f.reset(p[:h.Transport], nil, p[h.Transport:], mtu)
}

// ResetSegment is Reset for a segment in the two parts that [Segmenter.Put] makes:
// its headers, which Put writes into the first fragment, and the payload. The
// transport header must fit in that fragment.
func (f *Fragmenter) ResetSegment(headers, payload []byte, h *Header, mtu int) (ok bool) {
	return f.reset(headers[:h.Transport], headers[h.Transport:], payload, mtu)
}

func (f *Fragmenter) reset(header, first, data []byte, mtu int) (ok bool) {
	length := len(first) + len(data)
	if len(header)+length <= mtu || header[0]>>4 != 4 {
		return false
	}
	size := (mtu - len(header)) &^ 7
	fields := binary.BigEndian.Uint16(header[6:])
	if size < max(8, len(first)) || fields&dontFragment != 0 || int(fields&fragmentOffset)*8+len(header)+length > maxPacket4 {
		return false
	}
	*f = Fragmenter{header: header, first: first, data: data, size: size, n: (length + size - 1) / size}
	return true
}

// Len is the number of fragments, at least 2.
func (f *Fragmenter) Len() int { return f.n }

// Put writes what stands in front of the payload of fragment i into dst: its IP
// header, of up to 60 bytes, and in the first fragment of a segment the transport
// header. It returns the length of that and the payload that follows it, a part of
// the packet. Fragments may be asked for in any order.
func (f *Fragmenter) Put(dst []byte, i int) (header int, payload []byte) {
	start := max(0, i*f.size-len(f.first))
	end := min((i+1)*f.size-len(f.first), len(f.data))
	payload = f.data[start:end]

	b := dst[:copy(dst, f.header)]
	if i > 0 {
		b = keepCopied(b)
	}
	header = len(b)
	if i == 0 {
		header += copy(dst[len(b):], f.first)
	}
	fields := binary.BigEndian.Uint16(b[6:]) + uint16(i*f.size/8)
	if end < len(f.data) {
		fields |= moreFragments
	}
	binary.BigEndian.PutUint16(b[2:], uint16(header+len(payload)))
	binary.BigEndian.PutUint16(b[6:], fields)
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], Checksum(b, 0))
	return header, payload
}

const (
	maxPacket4 = 65535 // bytes, header included: what the total length can say
	copied     = 0x80  // of an IPv4 option's type: it belongs in every fragment (RFC 791 section 3.1)
)

// keepCopied removes from an IPv4 header the options that belong in the first
// fragment only, and all behind a malformed one.
func keepCopied(b []byte) []byte {
	end, at := minHeader4, minHeader4
	for n := optionLen(b[at:]); n > 0; n = optionLen(b[at:]) {
		if b[at]&copied != 0 {
			end += copy(b[end:], b[at:at+n])
		}
		at += n
	}
	for ; end%4 != 0; end++ {
		b[end] = endOfOptions
	}
	b[0] = 4<<4 | uint8(end/4)
	return b[:end]
}
