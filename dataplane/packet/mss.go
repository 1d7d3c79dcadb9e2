package packet

import (
	"encoding/binary"
	"math/bits"
)

const (
	optionMSS    = 2 // RFC 9293 section 3.7.1
	lenOptionMSS = 4
)

// ClampMSS lowers the maximum segment size that the TCP SYN or SYN-ACK p, with header
// h, announces, in place, so that what it will be sent are packets of at most mtu
// bytes: RFC 9293 section 3.7.1, less the fixed headers only. partial says that p's
// checksum is partial, which does not cover the option; any other is corrected, and
// a wrong one stays wrong.
//
// changed is false for any other packet, for fragments, and where the option is
// absent, small enough, or behind a malformed one.
func ClampMSS(p []byte, h *Header, mtu int, partial bool) (changed bool) {
	flags := h.Transport + tcpFlags
	if h.Protocol != ProtocolTCP || len(p) <= flags || p[flags]&syn == 0 || h.Fragment {
		return false
	}
	end := headerLen(p, h)
	limit := mtu - minHeader4 - minTCP
	if p[0]>>4 == 6 {
		limit = mtu - header6 - minTCP
	}
	if end == 0 || limit <= 0 {
		return false
	}
	at := h.Transport + minTCP
	for n := optionLen(p[at:end]); n > 0; n = optionLen(p[at:end]) {
		if p[at] == optionMSS && n == lenOptionMSS && int(binary.BigEndian.Uint16(p[at+2:])) > limit {
			putMSS(p[h.Transport:], at+2-h.Transport, uint16(limit), partial)
			changed = true
		}
		at += n
	}
	return changed
}

// putMSS writes the option's value at byte i of the TCP header t.
func putMSS(t []byte, i int, mss uint16, partial bool) {
	before := binary.BigEndian.Uint16(t[i:])
	binary.BigEndian.PutUint16(t[i:], mss)
	if partial {
		return
	}
	if i%2 == 1 {
		// The value lies across two words: its bytes count with their places
		// exchanged (RFC 1071 section 2 B).
		before, mss = bits.ReverseBytes16(before), bits.ReverseBytes16(mss)
	}
	adjustChecksum(t[tcpChecksum:], before, mss)
}
