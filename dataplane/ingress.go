package dataplane

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/dataplane/arena"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

/* The way in: from the underlay to the TUN.
 *
 * 1. Receive a batch of messages: each one datagram, or several of one sender
 *    that the kernel put together.
 * 2. Find the peer by the outer source address (admit.go, as step 4).
 * 3. Of each datagram take the encapsulation off, by the codec of the port that it
 *    came to. Parse the inner IP header.
 * 4. Check that the inner source is that peer's to use (anti-spoof), that the
 *    inner destination is this node's (no transit, no loops), and the size.
 * 5. Merge the underlay's congestion mark into the inner header.
 * 6. Merge runs of one flow into superpackets, payloads where they lie. What only repeats the
 *    headers before it in a message comes here straight away.
 * 7. Write them to the TUN; enter the batch in the account.
 */

const (
	// receives is how many messages one turn takes, and receiveBuffer the room
	// for each, in bytes: no UDP datagram is larger, and no coalesced run either.
	receives      = 24
	receiveBuffer = 64 << 10

	// mergeRound is how many wire packets are written to the TUN at once, at the
	// most: a turn with more writes several times.
	mergeRound = 1024
)

const _ = uint(receiveBuffer - encap.MaxDatagram)

// ingress is what a worker owns for the way in, for life. The stages borrow from it.
type ingress struct {
	tables    *atomic.Pointer[tables]
	queue     Queue
	wire      Wire
	receivers []receiver
	turns     int
	index     int // of the worker, for its counters

	msgs   []encap.Received
	header packet.Header
	merger *packet.Merger
	merged int // packets that the merger holds

	taps   []Queue // of the segments
	frames head    // of a segment
	began  time.Time
	now    uint32 // seconds

	// The last sender of step 2, and the last packet that passed step 4. Most of its
	// successors are of the same flow, and pass for the same reasons.
	sender struct {
		tables *tables
		addr   netip.Addr
		peer   *peer
	}
	passed struct {
		tables   *tables
		from     *peer
		src, dst netip.Addr
	}

	account Account // of this batch
	ledger  ledger
	batches batches
	lens    lens
}

// receiver is one of the wire's.
type receiver struct {
	codec encap.Codec
	quiet int // turns in a row in which it had nothing
}

// lookAround is how many turns in a row a receiver must have had nothing to be left alone
// while the worker finds no time to sleep, and how many turns it is left alone then: most
// nodes use one codec and one family, and to ask for the others costs a system call each.
// One in use is asked each turn: the ACKs of what goes out come in there.
const lookAround = 8

func (w *ingress) init(e *Engine, index int, p Pair, can offload.Set) {
	*w = ingress{
		tables: &e.tables, queue: p.Queue, wire: p.Wire, index: index,
		msgs:   make([]encap.Received, receives),
		merger: packet.NewMerger(mergeRound, can.Has(offload.TSO), can.Has(offload.USO)),
		lens:   lens{from: &e.taps, index: index},
		frames: head{raw: []packet.Group{{Members: make([][]byte, 1)}}},
		began:  e.began,
	}
	for _, tap := range p.Taps {
		w.taps = append(w.taps, tap.Queue)
	}
	for _, r := range p.Wire.Receivers() {
		w.receivers = append(w.receivers, receiver{codec: r.Codec})
	}
}

func (w *ingress) carve(a *arena.Arena) {
	for i := range w.msgs {
		w.msgs[i].Buf = a.Take(receiveBuffer)
	}
}

// turn takes one batch all the way, or several small ones, from each receiver that
// has something: as many packets as a turn of egress. busy says whether there was one.
func (w *ingress) turn() (busy bool, err error) {
	w.lens.open()
	w.account = Account{}
	t := w.tables.Load()
	w.turns++
	if t.networks != nil {
		w.now = seconds(w.began)
	}
	for i := range w.receivers {
		if w.receivers[i].quiet < lookAround || w.turns%lookAround == 0 {
			some, err := w.drain(t, i)
			busy = busy || some
			if err != nil {
				return busy, err
			}
		}
	}
	if w.account.Received > 0 {
		w.ledger.enter(&w.account)
	}
	return busy, nil
}

// drain takes what receiver i has, within bounds.
func (w *ingress) drain(t *tables, i int) (some bool, err error) {
	r := &w.receivers[i]
	for taken := 0; taken < readPackets; {
		n, err := w.wire.Recv(i, w.msgs)
		before := taken
		for j := range w.msgs[:n] {
			taken += w.open(t, &w.msgs[j], r.codec)
		}
		w.batches.wire.enter(taken - before)
		some = some || n > 0
		w.deliver() // before their buffers are received into again
		if n < len(w.msgs) || err != nil {
			if r.quiet++; some {
				r.quiet = 0
			}
			return some, err
		}
	}
	r.quiet = 0
	return some, nil
}

// open takes a message apart, and returns how many datagrams it had.
func (w *ingress) open(t *tables, m *encap.Received, codec encap.Codec) (datagrams int) {
	if w.lens.taps != nil {
		w.arrive(t, m, codec)
	}
	from, known := w.peer(t, m.Addr.Addr())
	packets, carried := 0, 0
	segment := m.SegmentSize
	if known && from.Foreign && segment < m.N && w.whole(t, m, codec) {
		segment = m.N
	}
	for rest := m.Buf[:m.N]; ; {
		datagrams++
		size := min(segment, len(rest))
		if s := t.segmentOf(codec, rest[:size]); s != nil {
			w.bridge(s, m, rest[:size])
		} else if !known {
			w.account.Received++
			w.account.drop(UnknownPeer, 1)
			if w.lens.taps != nil {
				w.seeStray(nil, rest[:size], UnknownPeer)
			}
		} else if n := w.accept(t, from, m, rest[:size], codec); n > 0 {
			more := w.repeat(rest, size, n)
			datagrams += more
			packets += 1 + more
			carried += (1 + more) * n
			rest = rest[more*size:]
		}
		if rest = rest[size:]; len(rest) == 0 {
			break
		}
	}
	if packets > 0 {
		counters := &from.workers[w.index]
		counters.rxPackets.Add(uint64(packets))
		counters.rxBytes.Add(uint64(carried))
	}
	return datagrams
}

// whole says whether m is one datagram, though the kernel told a size for several. So
// comes a superpacket of UDP that a VXLAN device sent and no wire cut: the size is that
// of its inner segments (include/linux/udp.h, udp_cmsg_recv). To cut it there would take
// what its sender wrote for datagrams of the peer.
func (w *ingress) whole(t *tables, m *encap.Received, codec encap.Codec) bool {
	p, _, kind := t.local.Station.Decap(codec, m.Buf[:m.N])
	return kind == encap.Packet && packet.ParseInto(p, &w.header)
}

// accept decides about one datagram, and returns the size of its inner packet where
// that goes on.
func (w *ingress) accept(t *tables, from *peer, m *encap.Received, datagram []byte, codec encap.Codec) (size int) {
	p, sum, kind := t.local.Station.Decap(codec, datagram)
	w.account.Received++
	h := &w.header
	if kind != encap.Packet || !packet.ParseInto(p, h) || !plausible(sum, h) {
		w.account.drop(Refusal(kind), 1)
		if w.lens.taps != nil {
			w.seeStray(from, datagram, Refusal(kind))
		}
		return 0
	}
	partial := sum != encap.Checksum{}
	if w.lens.taps != nil {
		w.seeDatagram(from, datagram, p)
	}
	if reason, ok := w.admit(t, from, h); !ok {
		return w.refuse(from, p, partial, reason)
	}
	switch {
	case from.Foreign && !partial && packet.Unfinished(p, h):
		return w.refuse(from, p, partial, Unsegmented)
	case len(p) > t.local.MTU:
		return w.refuse(from, p, partial, TooBig)
	case !packet.MergeECN(p, m.DSField):
		return w.refuse(from, p, partial, Congestion)
	}
	if t.local.ClampMSS {
		packet.ClampMSS(p, h, from.MTU, partial)
	}
	w.aim(0, nil)
	w.merger.Add(p, h, partial)
	w.merged++
	return len(p)
}

// refuse enters that an inner packet goes no further, and returns what accept does of it.
func (w *ingress) refuse(from *peer, p []byte, partial bool, r Reason) (size int) {
	w.account.drop(r, 1)
	if w.lens.taps != nil {
		w.seeRefused(from, p, partial, r)
	}
	return 0
}
