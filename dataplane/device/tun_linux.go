// Package device is the kernel's end of the pod network: the TUN device that
// pod packets leave the kernel by and come back through. Linux only.
package device

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

const (
	// Headroom is how many free bytes Read leaves in front of each packet, for an
	// encapsulation header. It is a cache line, so that the packet starts at one
	// where the arena does.
	Headroom = 64

	// MaxPacket is the size of the largest packet, in bytes.
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
var ErrMalformed = errors.New("malformed packet from the TUN device")

// Queue is one of a device's queues. The kernel keeps a flow to one queue, in
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
	// changes none. Each member of a group with a Header is longer than that.
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
// Its methods but Close may be called at any time by any goroutine.
type TUN struct {
	name   string
	pairs  []pair
	queues []Queue
	close  func() error
	status atomic.Pointer[status]
}

// status is what is known of the device's features. Immutable.
type status struct {
	on      offload.Set
	refused map[offload.Feature]error
}

// Open creates the TUN device called name, which may hold a %d for the kernel to
// fill in, with that many queues, and tries those of offload.TSO and
// offload.USO that are wanted. Where neither is, the queues go through wireguard/tun,
// and only whole wire packets with complete checksums are read, and must be
// written.
//
// An existing device of that name, whoever holds it, is an error. The trial
// leaves the device with a rx_dropped of up to two.
func Open(name string, queues int, want offload.Set) (*TUN, error) {
	return open(name, queues, want, theKernel)
}

func open(name string, queues int, want offload.Set, k kernel) (*TUN, error) {
	// IFF_TUN_EXCL, because with IFF_MULTI_QUEUE a second process would otherwise
	// silently become another queue of a running one's device.
	given, pairs, err := create(name, queues, unix.IFF_TUN_EXCL)
	if err != nil {
		return nil, err
	}
	return assemble(given, pairs, want, k)
}

// assemble makes a TUN of its pairs, which are the TUN's from then on, or else closed.
func assemble(name string, pairs []pair, want offload.Set, k kernel) (*TUN, error) {
	want &= offload.Of(offload.TSO, offload.USO)
	t := &TUN{name: name, pairs: pairs}
	if want == 0 {
		t.status.Store(&status{})
		if err := t.openPortable(pairs); err != nil {
			return nil, err
		}
		return t, nil
	}
	t.status.Store(k.negotiate(pairs[0], want))
	for _, p := range pairs {
		t.queues = append(t.queues, newSuperqueue(t, p, k))
	}
	t.close = func() error { return closeAll(pairs) }
	return t, nil
}

// Name is the device's name.
func (t *TUN) Name() string { return t.name }

// Features is which of offload.TSO and offload.USO are on: Write makes
// superpackets of such groups. A feature that is lost while the device runs
// does not come back.
func (t *TUN) Features() offload.Set { return t.status.Load().on }

// Refused says of each feature that was wanted and is off why it is. The map is
// the caller's.
func (t *TUN) Refused() map[offload.Feature]error { return maps.Clone(t.status.Load().refused) }

// Queues are the device's queues, one for each worker.
func (t *TUN) Queues() []Queue { return t.queues }

// Close removes the device, unless other descriptors of it are open. It is called after the
// last use of every queue.
func (t *TUN) Close() error {
	if t.close == nil {
		return nil
	}
	return errors.Join(t.persist(false), t.Leave())
}

// Leave closes the descriptors, and leaves the device to whom else has some, or who
// attaches to it later. It is called in place of Close.
func (t *TUN) Leave() error {
	if t.close == nil {
		return nil
	}
	err := t.close()
	t.close = nil
	if err != nil {
		return fmt.Errorf("close TUN device %s: %w", t.name, err)
	}
	return nil
}

// lose switches a feature off for good. The first reason stays.
func (t *TUN) lose(f offload.Feature, why error) {
	for {
		if old := t.status.Load(); t.status.CompareAndSwap(old, old.without(f, why)) {
			return
		}
	}
}

func (s *status) without(f offload.Feature, why error) *status {
	refused := map[offload.Feature]error{f: why}
	maps.Copy(refused, s.refused)
	return &status{on: s.on.Without(offload.Of(f)), refused: refused}
}

// failed is the error of a system call on the device. A device that is gone
// answers EBADFD.
func (t *TUN) failed(attempt string, err error) error {
	if errors.Is(err, unix.EBADFD) {
		err = net.ErrClosed
	}
	return fmt.Errorf("%s TUN device %s: %w", attempt, t.name, err)
}
