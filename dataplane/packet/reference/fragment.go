package reference

import (
	"bytes"
	"encoding/binary"
)

// Fragment is the fragments of at most mtu bytes that p becomes: RFC 791 section 3.2,
// all of the length of the first but for the last. It is none where p is not to be
// fragmented.
func Fragment(p []byte, mtu int) (all [][]byte) {
	l := Read(p)
	if l.Version != 4 || len(p) <= mtu || p[6]&0x40 != 0 || mtu < l.IPHeader+8 {
		return nil
	}
	offset, more := offsetOf(p)
	if offset+len(p) > 65535 {
		return nil
	}
	size := (mtu - l.IPHeader) / 8 * 8
	for at := l.IPHeader; at < len(p); at += size {
		end := min(at+size, len(p))
		header := bytes.Clone(p[:l.IPHeader])
		if at > l.IPHeader {
			header = append(header[:20], copiedOptions(p[20:l.IPHeader])...)
			header[0] = 0x40 | byte(len(header)/4)
		}
		b := append(header, p[at:end]...)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		putOffset(b, offset+at-l.IPHeader, more || end < len(p))
		HeaderChecksum(b)
		all = append(all, b)
	}
	return all
}

// offsetOf reads where in the whole a fragment's payload starts, in bytes, and
// whether more follows it.
func offsetOf(p []byte) (offset int, more bool) {
	return (int(p[6]&0x1f)<<8 | int(p[7])) * 8, p[6]&0x20 != 0
}

func putOffset(p []byte, offset int, more bool) {
	p[6] = p[6]&0xc0 | byte(offset/8>>8)
	p[7] = byte(offset / 8)
	if more {
		p[6] |= 0x20
	}
}

// copiedOptions is the options that belong in every fragment, padded.
func copiedOptions(options []byte) (kept []byte) {
	for len(options) > 0 && options[0] != 0 {
		n := 1
		if options[0] != 1 {
			if len(options) == 1 || options[1] < 2 || int(options[1]) > len(options) {
				break
			}
			n = int(options[1])
		}
		if options[0] >= 128 {
			kept = append(kept, options[:n]...)
		}
		options = options[n:]
	}
	for len(kept)%4 > 0 {
		kept = append(kept, 0)
	}
	return kept
}

// Reassemble is the packet that the fragments, in whatever order, are of. ok is
// false where they leave gaps, overlap, or are of different packets.
func Reassemble(fragments [][]byte) (p []byte, ok bool) {
	next, left := -1, len(fragments)
	for i, f := range fragments {
		if at, _ := offsetOf(f); i == 0 || at < next {
			next = at
		}
	}
	start := next
	for ; left > 0; left-- {
		found := false
		for _, f := range fragments {
			at, more := offsetOf(f)
			if at != next {
				continue
			}
			if found || len(p) > 0 && !bytes.Equal(identity(f), identity(p)) {
				return nil, false
			}
			found = true
			header := Read(f).IPHeader
			if len(p) == 0 {
				p = bytes.Clone(f[:header])
			}
			p = append(p, f[header:]...)
			putOffset(p, start, more)
			if left > 1 && (!more || (len(f)-header)%8 > 0) {
				return nil, false
			}
		}
		if !found {
			return nil, false
		}
		next = start + len(p) - Read(p).IPHeader
	}
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	HeaderChecksum(p)
	return p, true
}

// identity is what all fragments of a packet have in common: DS field,
// identification, flags, TTL, protocol, addresses.
func identity(p []byte) []byte {
	return bytes.Join([][]byte{p[1:2], p[4:6], {p[6] & 0xc0}, p[8:10], p[12:20]}, nil)
}
