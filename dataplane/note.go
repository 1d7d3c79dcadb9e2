package dataplane

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/encap"
)

const (
	// notes is how many notes wait for their reader.
	notes = 256

	// noteRate is how many notes a second a worker takes from one peer: a search for
	// a path's MTU and the answers to one take some hundred. What is more is somebody
	// who does the peer's name or this node no good, and leaves room for the others.
	noteRate = 500

	// noteLen is the room in a note, in bytes: a probe without its padding, or an ARP
	// request or neighbour solicitation with its Ethernet header.
	noteLen = 128
)

// Note is a datagram of a peer that is no packet: a control message, or a question
// for this node's VTEP. It is a value of its own, so that passing it on allocates nothing.
type Note struct {
	Peer      string         // ID
	From      netip.AddrPort // where it came from; a peer's source port is none to answer to
	Codec     encap.Codec
	Neighbour bool // an Ethernet frame with a question for a VTEP, see encap.Station
	Size      int  // of the whole outer IP packet, in bytes

	buf [noteLen]byte
	n   int
}

// Data is the message, or its first part where it is longer than any that means something.
func (n *Note) Data() []byte { return n.buf[:n.n] }

// Notes is where the workers put what is for the node itself. Nothing waits for its
// reader: what finds no room is lost, and counted in Stats.
func (e *Engine) Notes() <-chan Note { return e.notes }

// notebook is a worker's end of it.
type notebook struct {
	to          chan<- Note
	index       int // of the worker
	taken, lost atomic.Uint64
}

func (b *notebook) put(from *peer, m *encap.Received, codec encap.Codec, kind encap.Kind, inner, datagram []byte) {
	n := Note{
		Peer: from.ID, From: m.Addr, Codec: codec, Neighbour: kind == encap.Neighbour,
		Size: outerLen(m.Addr.Addr()) + len(datagram),
	}
	n.n = copy(n.buf[:], inner)
	b.taken.Add(1)
	if !from.workers[b.index].notes.take(time.Now().Unix()) {
		b.lost.Add(1)
		return
	}
	select {
	case b.to <- n:
	default:
		b.lost.Add(1)
	}
}

// turnAway counts a note of nobody known.
func (b *notebook) turnAway() {
	b.taken.Add(1)
	b.lost.Add(1)
}

// allowance is what one worker still takes from a peer in this second.
type allowance struct {
	second int64
	taken  int64
}

func (a *allowance) take(second int64) (ok bool) {
	if a.second != second {
		a.second, a.taken = second, 0
	}
	a.taken++
	return a.taken <= noteRate
}

// outerLen is the length of an outer IP header without options, and of UDP's.
func outerLen(addr netip.Addr) int {
	if addr.Is4() {
		return 20 + 8
	}
	return 40 + 8
}
