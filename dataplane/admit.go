package dataplane

import (
	"bytes"
	"net/netip"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

/* Steps 2 and 4 of the way in: who sent a packet, and whether it may pass.
 */

// peer is who has that underlay address.
func (w *ingress) peer(t *tables, addr netip.Addr) (p *peer, known bool) {
	last := &w.sender
	if last.tables == t && last.addr == addr {
		return last.peer, true
	}
	if p, known = t.endpoints[addr]; known {
		last.tables, last.addr, last.peer = t, addr, p
	}
	return p, known
}

// plausible says whether sum, if there is one, is that of the transport header: a
// peer does not get to write into any other place of a packet.
func plausible(sum encap.Checksum, h *packet.Header) bool {
	return sum == encap.Checksum{} || sum.Start == h.Transport && sum.Field == h.ChecksumField()
}

// admit checks the addresses of a packet from a peer.
func (w *ingress) admit(t *tables, from *peer, h *packet.Header) (r Reason, ok bool) {
	last := &w.passed
	if last.tables == t && last.from == from && last.src == h.Src && last.dst == h.Dst {
		return 0, true
	}
	if !t.mayCarry(from, h.Src) {
		return Spoofed, false
	}
	if owner, ok := t.routes.Lookup(h.Dst); !ok || owner != t.self {
		return NotOurs, false
	}
	last.tables, last.from, last.src, last.dst = t, from, h.Src, h.Dst
	return 0, true
}

// repeat decides about the datagrams behind the first one of rest, which was accepted with an inner
// packet of that size: as many are, unread, as are of the same size and have the same headers but for what
// counts up, and so would pass for the same reasons. The congestion mark of step 5 is one for all of a message.
func (w *ingress) repeat(rest []byte, size, inner int) (n int) {
	if w.lens.taps != nil {
		return 0
	}
	shim := rest[:size-inner]
	for next := rest[size:]; len(next) >= size && w.merged < mergeRound; next = next[size:] {
		if !bytes.Equal(next[:len(shim)], shim) || !w.merger.Repeat(next[len(shim):size]) {
			break
		}
		w.merged++
		n++
	}
	w.account.Received += uint64(n)
	return n
}
