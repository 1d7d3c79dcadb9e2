package packet

import "encoding/binary"

/* Most packets of bulk traffic have the headers of the one before, but for what counts up. To find
 * that out takes a fraction of what it takes to read them.
 */

// expect makes ready for members like the first one.
func (r *run) expect() {
	for i := range r.constant[:r.headers] {
		r.constant[i] = 0xff
	}
	if r.first[0]>>4 == 4 {
		clear(r.constant[4:6])
		clear(r.constant[10:12])
		r.balance = balance(r.first)
	}
	if r.gso != UDP {
		clear(r.constant[r.transport+tcpSeq:][:4])
	}
}

// repeats is takes for a p that nobody has read: it joins if its headers are the first member's
// but for IPv4's identification, whose change its checksum must make up for, and TCP's sequence number.
// What other members may have beyond that, flags and less payload, is left to takes, and so
// is a payload whose checksum must be verified.
func (r *run) repeats(p []byte) bool {
	if r.count < 2 || r.count >= r.limit || !r.partial || len(p) != len(r.first) || r.total+r.size > maxSuperpacket {
		return false
	}
	if !r.alike(p[:r.headers]) {
		return false
	}
	if p[0]>>4 == 4 {
		fragmentable := p[6]&(dontFragment>>8) == 0
		if balance(p) != r.balance || p[10]&p[11] == 0xff || fragmentable && binary.BigEndian.Uint16(p[4:]) != r.id+1 {
			return false
		}
	}
	if r.gso != UDP {
		if binary.BigEndian.Uint32(p[r.transport+tcpSeq:]) != r.seq {
			return false
		}
		r.seq += uint32(r.size)
	}
	r.count++
	r.id++
	r.total += r.size
	return true
}

// alike compares what is constant of the headers b, of at least 28 bytes. The last word overlaps
// the one before.
func (r *run) alike(b []byte) bool {
	first, constant := r.first[:len(b)], r.constant[:len(b)]
	var differ uint64
	for at := 0; at < len(b); at += 8 {
		at := min(at, len(b)-8)
		differ |= (binary.NativeEndian.Uint64(b[at:]) ^ binary.NativeEndian.Uint64(first[at:])) & binary.NativeEndian.Uint64(constant[at:])
	}
	return differ == 0
}

// balance is the sum of identification and checksum of the IPv4 packet p. Where two headers
// differ in nothing else, both checksums are right or none is if it is the same (RFC 1624).
func balance(p []byte) uint16 {
	return fold(uint64(binary.BigEndian.Uint16(p[4:])) + uint64(binary.BigEndian.Uint16(p[10:])))
}
