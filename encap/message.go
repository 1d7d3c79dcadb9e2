package encap

import (
	"errors"
	"net/netip"
)

const (
	// Batch is how many datagrams, or runs of them, one system call moves at the most.
	Batch = 128

	// MaxDatagram is the size of a buffer that no UDP datagram overflows, and no
	// run of datagrams that the kernel put together, in bytes.
	MaxDatagram = 65535

	// MaxSegments is how many datagrams a Message may have: what UDP_SEGMENT takes
	// (UDP_MAX_SEGMENTS of include/linux/udp.h before Linux 6.9).
	MaxSegments = 64
)

// Why a datagram was not sent. Each is about that datagram alone.
var (
	ErrTooBig  = errors.New("datagram larger than the underlay takes") // EMSGSIZE
	ErrFull    = errors.New("no room left to send")                    // ENOBUFS, ENOMEM; EAGAIN of SendOne
	ErrRefused = errors.New("the underlay refused the datagram")       // no route, firewall, link down
)

// Message is one or several datagrams on their way to one destination. It and all
// that it points at belong to the caller, and are borrowed by Send alone.
type Message struct {
	// Pieces are the bytes of the datagrams, in order; PerSegment pieces make one
	// datagram. All together have MaxPayload bytes at the most.
	Pieces     [][]byte
	PerSegment int

	// Segments is how many datagrams there are, from 1 to MaxSegments. Each but the
	// last has SegmentSize bytes; the last may have fewer.
	Segments    int
	SegmentSize int

	Addr    netip.AddrPort // the destination
	DSField uint8          // DSCP and ECN of the outer IP header
	Flow    uint32         // hash of the inner flow, which selects the outer source port

	// Fragment lets the underlay fragment the outer packets, and this node too. It is
	// for what the sender cannot be told to send smaller: IPv6 packets of up to 1280
	// bytes (RFC 8200 section 5), on a path that takes less. Over IPv6, which no router
	// fragments, this node must know so: see ListenConfig.FragmentMark.
	Fragment bool

	// Lost is how many of the datagrams Send did not send, and Err why, of the last
	// of them: nil, ErrTooBig, ErrFull or ErrRefused. Both are meaningful once Send
	// counted the message as sent.
	Lost int
	Err  error

	// Of a message that is to be tried again: how many of its datagrams are done
	// with, and whether the kernel did not take them in one send.
	done  int
	split bool
}

// segment is the pieces of one datagram.
func (m *Message) segment(i int) [][]byte {
	if m.Segments == 1 {
		return m.Pieces
	}
	return m.Pieces[i*m.PerSegment:][:m.PerSegment]
}

// settle enters what became of the next n datagrams, and says whether that is all
// of the message.
func (m *Message) settle(n int, err error) (whole bool) {
	if m.done == 0 {
		m.Lost, m.Err = 0, nil
	}
	m.done += n
	if err != nil {
		m.Lost += n
		m.Err = err
	}
	if m.done < m.Segments {
		return false
	}
	m.done, m.split = 0, false
	return true
}

// Received is one datagram, or several of one sender that the kernel put together.
type Received struct {
	// Buf is where Recv puts the bytes, from its start. It belongs to the caller.
	// What does not fit is lost; MaxDatagram bytes always fit.
	Buf []byte

	// N is how many bytes there are: datagrams of SegmentSize bytes, one behind the
	// other, of which the last may be shorter. SegmentSize is N where there is one,
	// and that may be 0.
	N           int
	SegmentSize int

	Addr    netip.AddrPort // the sender
	DSField uint8          // DSCP and ECN of the outer IP header
}
