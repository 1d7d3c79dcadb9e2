// Package device is the kernel's end of the pod network and of layer-2 segments: the TUN
// device that pod packets leave the kernel by and come back through, and a TAP device for
// each segment's frames. Linux only.
package device

import (
	"errors"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

const (
	// Headroom is how many free bytes Read leaves in front of each packet, for an
	// encapsulation header. It is a cache line, so that the packet starts at one
	// where the arena does.
	Headroom = 64

	// MaxPacket is the size of the largest IP packet, in bytes.
	MaxPacket = 65535

	// MaxRead is how many bytes of the arena Read takes for a packet whose size it
	// does not know yet. The byte more than the largest packet has shows that one
	// was cut off.
	MaxRead = Headroom + MaxPacket + 1
)

const (
	_ = uint(Headroom - virtioLen)  // the virtio-net header is read into the headroom
	_ = uint(-(MaxRead % Headroom)) // so that an arena of n*MaxRead takes n superpackets
)

// ErrMalformed is what Read returns when the kernel handed over something that
// is no whole packet. That is gone, and the device goes on.
var ErrMalformed = errors.New("malformed packet from the device")

// Queue is one of a device's queues. What it calls a packet is a frame of a TAP, Ethernet
// header first, and MaxRead is MaxReadTAP there. The kernel keeps a flow to one queue, in
// order. A Queue is used by one goroutine at a time; different queues of a
// device may be used at once. None of its methods waits.
type Queue interface {
	// FD is the descriptor that polls as readable when Read has something.
	FD() int

	// Read takes packets from the kernel and puts them into arena one behind the
	// other, each behind Headroom bytes and at a multiple of Headroom from the
	// arena's start, until there are no more, or len(pkts) were read, or less than
	// MaxRead bytes of the arena are left. pkts[:n] then says what they are and
	// where; the bytes are the caller's. With n == 0 and no error there was
	// nothing. An arena of less than MaxRead bytes and empty pkts get nothing.
	//
	// What the virtio-net header says is passed on as it is and not compared with
	// the packet behind it.
	//
	// pkts[:n] are good beside an error too. The error wraps net.ErrClosed when the
	// device was deleted, and ErrMalformed where one read was lost and the next may
	// follow. Any other error means that the device is of no more use.
	Read(arena []byte, pkts []packet.Packet) (n int, err error)

	// Pending is how many packets were taken from the kernel that no Read has
	// handed over yet.
	Pending() int

	// Write hands the groups to the kernel, which delivers or forwards them, one
	// superpacket for each group. It borrows their bytes until it returns and
	// changes none. Each member of a group with a Header is longer than that, and the
	// Link of each group for a TAP has 14 bytes, and 4 for each of at most two VLAN tags.
	//
	// refused is how many wire packets the kernel did not take, and err why not the
	// first of them; it wraps net.ErrClosed when the device was deleted. The others
	// were taken. A superpacket that the kernel finds invalid is written again
	// as wire packets.
	Write(groups []packet.Group) (refused int, err error)
}

// TUN is a TUN device, opened with IFF_VNET_HDR and IFF_MULTI_QUEUE, neither of
// which the kernel lets a device gain later. It goes away when it is closed, and unless
// Persist was called, when the process ends.
//
// Its methods but Close and Leave may be called at any time by any goroutine.
type TUN struct{ *tuntap }

// Open creates the TUN device called name, which may hold a %d for the kernel to
// fill in, with that many queues, and tries those of offload.TSO and
// offload.USO that are wanted. Where neither is, the queues go through wireguard/tun,
// and only whole wire packets with complete checksums are read, and must be
// written.
//
// An existing device of that name, whoever holds it, is an error. The trial
// leaves the device with a rx_dropped of up to two.
func Open(name string, queues int, want offload.Set) (*TUN, error) {
	return tunOf(open(layer3, name, queues, want, theKernel))
}

// Adopt makes a TUN of the Descriptors of an earlier one, in this process or another, with
// what the kernel has queued there. They are Adopt's: an error, which wraps ErrUnfit where the
// device is not called name or has not so many queues, leaves them closed and the device as
// it is. Whoever had them before must have ceased to read, and keeps to Leave.
func Adopt(given map[string]int, name string, queues int, want offload.Set) (*TUN, error) {
	return tunOf(adopt(layer3, given, name, queues, want))
}

// Reopen takes over the device called name, which a process that ended has left (Persist),
// and which no process has open: else it would become another queue of that one's.
func Reopen(name string, queues int, want offload.Set) (*TUN, error) {
	return tunOf(reopen(layer3, name, queues, want))
}

func tunOf(t *tuntap, err error) (*TUN, error) {
	if err != nil {
		return nil, err
	}
	return &TUN{t}, nil
}
