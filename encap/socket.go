package encap

import (
	"errors"
	"net/netip"
)

// Batch is how many datagrams one system call moves at the most: as many as
// wireguard/tun hands over at once, so that one read is one send.
const Batch = 128

// MaxDatagram is the size of a buffer that no UDP datagram overflows, in bytes.
const MaxDatagram = 65535

// Why a datagram was not sent. Each is about that datagram alone.
var (
	ErrTooBig  = errors.New("datagram larger than the underlay takes") // EMSGSIZE
	ErrFull    = errors.New("no room left to send")                    // ENOBUFS, ENOMEM
	ErrRefused = errors.New("the underlay refused the datagram")       // no route, firewall, link down
)

// Message is one datagram on its way to or from the underlay.
type Message struct {
	// Buf is the datagram. Recv fills it from its start, up to its length.
	// The bytes belong to the caller before and after the call.
	Buf []byte

	// N is how much of Buf Recv filled, in bytes. What does not fit is lost;
	// MaxDatagram always fits.
	N int

	// Addr is the far end: the destination for Send, the sender for Recv.
	Addr netip.AddrPort

	// DSField is the DS field of the outer IP header, DSCP and ECN.
	DSField uint8

	// Err is what Send says of this datagram: nil, ErrTooBig, ErrFull or ErrRefused.
	Err error
}
