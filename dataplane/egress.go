package dataplane

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/dataplane/arena"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

/* The way out: from the TUN to the underlay.
 *
 * 1. Read packets from the TUN, one behind the other into one small arena, until
 *    it is full or there are none. Most of TCP comes as superpackets.
 * 2. Parse the IP header; check that the source is this node's to use.
 * 3. Look up which node owns the destination.
 * 4. Check the size of the wire packets against what gets to that node, and find
 *    out how what is larger can be cut (size.go).
 * 5. Encapsulate. A superpacket is cut by a list of pieces: for each segment its
 *    headers, made in the header arena, and a slice of the payload where the read
 *    put it. A small packet joins the datagram before it into one send, where
 *    size, peer and source port are the same (message.go).
 * 6. Send the messages; enter the batch in the account (send.go).
 *
 * Beside it all, 3 and 4 tell the sender by ICMP why its
 * packet went no further; those answers go back into the TUN after the batch.
 */

const (
	// readArena bounds what one turn reads, in bytes. It is a part of a core's
	// second-level cache, so that the send finds there what the read has put
	// there: a few superpackets, or some hundred small packets.
	readArena = 256 << 10

	// readPackets bounds it in packets: two sends of small ones.
	readPackets = 2 * encap.MaxSegments

	// maxHeaders is the most that stands in front of a segment's payload, in
	// bytes: the encapsulation, IPv6 with extension headers or IPv4 with options,
	// TCP with options. The kernel makes no superpackets of longer ones.
	maxHeaders = encap.Headroom + 256

	headerArena = 2 * packet.MaxSegments * maxHeaders
	maxPieces   = 2 * (readPackets + 2*packet.MaxSegments)
)

// egress is what a worker owns for the way out, for life. The stages borrow from it.
type egress struct {
	tables *atomic.Pointer[tables]
	queue  Queue
	wire   Wire
	index  int // of the worker, for its counters

	sources []source // queue, and those of the segments' TAPs
	at      int      // index of the one that was read

	// What was read: pkts[next:n] are still to be looked at.
	arena   []byte
	pkts    []packet.Packet
	next, n int
	last    bool // nothing more is to be taken from the kernel

	// The last packet that had a way. Most of its successors are of the same flow.
	routed struct {
		tables   *tables
		src, dst netip.Addr
		owner    *peer
	}

	// What goes out: msgs[sent:] are still to be sent.
	header     packet.Header
	segmenter  packet.Segmenter
	fragmenter packet.Fragmenter
	headers    []byte // header arena, used up to made
	made       int
	pieces     [][]byte
	msgs       []encap.Message
	fates      []fate // beside msgs
	from       int    // where in pieces the last message starts
	turns      int
	short      bool // its last datagram is shorter than the others
	sent       int

	frame   tail     // of a segment
	replies *replies // to its hosts
	began   time.Time
	now     uint32 // seconds

	first    []byte // a superpacket's first segment, to be quoted
	answers  answers
	icmpSent atomic.Uint64
	account  Account // of this batch
	ledger   ledger
	lens     lens
	supers   int // superpackets of this batch
	batches  batches
}

// fate is what the account needs to know of a message.
type fate struct {
	peer  *peer
	bytes int // of the inner packets
}

func (w *egress) init(e *Engine, index, workers int, p Pair) {
	*w = egress{
		tables: &e.tables, queue: p.Queue, wire: p.Wire, index: index,
		pkts:    make([]packet.Packet, readPackets),
		pieces:  make([][]byte, 0, maxPieces),
		msgs:    make([]encap.Message, 0, readPackets+2*packet.MaxSegments),
		fates:   make([]fate, 0, readPackets+2*packet.MaxSegments),
		first:   make([]byte, packet.MaxICMPError+maxHeaders),
		answers: newAnswers(workers),
		lens:    lens{from: &e.taps, index: index},
		sources: []source{{queue: p.Queue}},
		began:   e.began,
	}
	for _, tap := range p.Taps {
		w.sources = append(w.sources, source{queue: tap.Queue})
		w.replies = newReplies()
	}
}

func (w *egress) carve(a *arena.Arena) {
	w.arena = a.Take(readArena)
	w.headers = a.Take(headerArena)
}

// turn takes one batch all the way. busy says whether there was one.
func (w *egress) turn() (busy bool, err error) {
	w.lens.open()
	if w.next == w.n && w.sent == len(w.msgs) {
		if busy, err = w.read(); err != nil || !busy {
			return busy, err
		}
	}
	if w.sent == len(w.msgs) {
		w.decide()
	}
	before := w.sent
	if err := w.send(); err != nil {
		return false, err
	}
	w.answer()
	if w.sent == len(w.msgs) {
		w.enter()
	}
	return w.sent > before || w.sent == len(w.msgs), nil
}

// decide makes messages of what was read, as far as there is room for them.
func (w *egress) decide() {
	w.made, w.sent = 0, 0
	w.pieces, w.msgs, w.fates = w.pieces[:0], w.msgs[:0], w.fates[:0]
	t := w.tables.Load()
	if w.at > 0 {
		w.decideFrames(t)
		return
	}
	w.frame.link = nil
	for w.next < w.n && w.room() {
		w.forward(t, &w.pkts[w.next])
		w.next++
	}
}

// room says whether the largest superpacket fits in what is left.
func (w *egress) room() bool {
	return len(w.headers)-w.made >= packet.MaxSegments*maxHeaders &&
		cap(w.pieces)-len(w.pieces) >= 2*packet.MaxSegments &&
		cap(w.msgs)-len(w.msgs) >= packet.MaxSegments
}

// forward decides about p and queues it to its peer.
func (w *egress) forward(t *tables, p *packet.Packet) {
	data, h := p.Data(), &w.header
	if !packet.ParseInto(data, h) || !p.Check(h) {
		w.account.Received++
		w.account.drop(Malformed, 1)
		if w.lens.taps != nil {
			w.seeMalformed(p)
		}
		return
	}
	count, largest := 1, len(data)
	if p.GSO != packet.NoGSO {
		w.supers++
		w.segmenter.Reset(p, h)
		count, largest = w.segmenter.Len(), w.segmenter.PacketLen()
	}

	if count > packet.MaxSegments || p.GSO != packet.NoGSO && w.segmenter.HeaderLen() > maxHeaders-encap.Headroom {
		w.refuse(nil, p, Malformed, count)
		return
	}
	owner, reason, ok := w.route(t, h)
	if !ok {
		w.refuse(nil, p, reason, count)
		if reason == Fenced || reason == NoRoute {
			w.answers.add(t.address(h.Src), w.quote(p), h.Src, packet.NoRoute, 0)
		}
		return
	}
	if t.local.ClampMSS {
		packet.ClampMSS(data, h, owner.MTU, p.CsumStart != 0)
	}
	if largest > owner.MTU {
		w.fit(t, owner, p, count, largest)
		return
	}
	w.encapsulate(owner, p, false)
}

// route is steps 2 and 3.
func (w *egress) route(t *tables, h *packet.Header) (owner *peer, r Reason, ok bool) {
	last := &w.routed
	if last.tables == t && last.src == h.Src && last.dst == h.Dst {
		return last.owner, 0, true
	}
	switch {
	case len(t.local.PodCIDRs) == 0:
		return nil, Fenced, false
	case !t.isLocal(h.Src):
		return nil, Spoofed, false
	}
	owner, ok = t.routes.Lookup(h.Dst)
	switch {
	case ok && owner == t.self:
		return nil, NotOurs, false
	case !ok || !owner.To.IsValid():
		return nil, NoRoute, false
	}
	last.tables, last.src, last.dst, last.owner = t, h.Src, h.Dst, owner
	return owner, 0, true
}

// refuse enters that p, which is count wire packets and where that is known for owner, goes no further.
func (w *egress) refuse(owner *peer, p *packet.Packet, r Reason, count int) {
	w.account.Received += uint64(count)
	w.account.drop(r, count)
	if w.lens.taps != nil {
		w.seeRefused(owner, p, r, count)
	}
}

// quote is the wire packet that an ICMP error about p quotes: of a superpacket, its
// first segment, as far as it may be quoted.
func (w *egress) quote(p *packet.Packet) []byte {
	if p.GSO == packet.NoGSO {
		return p.Data()
	}
	n := w.segmenter.HeaderLen()
	payload := w.segmenter.Put(w.first, 0)
	n += copy(w.first[n:], payload)
	return w.first[:n]
}
