package dataplane

import (
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
 * 6. Send the messages; enter the batch in the account.
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

	switch {
	case count > packet.MaxSegments, p.GSO != packet.NoGSO && w.segmenter.HeaderLen() > maxHeaders-encap.Headroom:
		w.refuse(nil, p, Malformed, count)
		return
	case len(t.local.PodCIDRs) == 0:
		w.refuse(nil, p, Fenced, count)
		w.answers.add(t.address(h.Src), w.quote(p), h.Src, packet.NoRoute, 0)
		return
	case !t.isLocal(h.Src):
		w.refuse(nil, p, Spoofed, count)
		return
	}
	owner, ok := t.routes.Lookup(h.Dst)
	switch {
	case ok && owner == t.self:
		w.refuse(nil, p, NotOurs, count)
		return
	case !ok || !owner.To.IsValid():
		w.refuse(nil, p, NoRoute, count)
		w.answers.add(t.address(h.Src), w.quote(p), h.Src, packet.NoRoute, 0)
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

// send sends what there is room for, and enters in the account what became of it.
func (w *egress) send() error {
	batch := w.msgs[w.sent:]
	if len(batch) == 0 {
		return nil
	}
	sent, err := w.wire.Send(batch)
	datagrams := 0
	for i := range batch[:sent] {
		datagrams += batch[i].Segments
		w.settle(&batch[i], w.fates[w.sent+i])
	}
	w.batches.wire.enter(datagrams)
	w.sent += sent
	return err
}

func (w *egress) settle(m *encap.Message, f fate) {
	if m.Lost > 0 {
		f.bytes = f.bytes * (m.Segments - m.Lost) / m.Segments
		w.account.drop(reasonOf(m.Err), m.Lost)
		if w.lens.taps != nil {
			w.seeLost(f.peer, m)
		}
	}
	arrived := m.Segments - m.Lost
	w.account.Forwarded += uint64(arrived)
	t := &f.peer.workers[w.index]
	t.txPackets.Add(uint64(arrived))
	t.txBytes.Add(uint64(f.bytes))
}

// answer writes the batch's ICMP errors to the TUN, where the kernel delivers
// them as it would those of any router. They are counted apart: no packet that
// was read became one.
func (w *egress) answer() {
	if w.at > 0 {
		if batch := w.replies.take(); len(batch) > 0 {
			_, _ = w.sources[w.at].queue.Write(batch) // who is not answered asks again
		}
		return
	}
	batch := w.answers.take()
	if len(batch) == 0 {
		return
	}
	refused, _ := w.queue.Write(batch) // a sender not told will learn it by time-out
	w.icmpSent.Add(uint64(len(batch) - refused))
}

// stuck says whether the underlay had no room for all that was read.
func (w *egress) stuck() bool { return w.sent < len(w.msgs) }

// abandon accounts for what was read and will not be sent any more.
func (w *egress) abandon() {
	for _, m := range w.msgs[w.sent:] {
		w.account.drop(SocketFull, m.Segments)
	}
	w.sent, w.msgs = 0, w.msgs[:0]
	w.enter()
}

// enter puts the batch in the books.
func (w *egress) enter() {
	w.ledger.enter(&w.account)
	w.account = Account{}
	if w.supers > 0 {
		w.batches.super.Add(uint64(w.supers))
		w.supers = 0
	}
}
