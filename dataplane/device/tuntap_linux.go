package device

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// layer is what a device's packets begin with, as TUNSETIFF has it.
type layer uint16

const (
	layer3 layer = unix.IFF_TUN // an IP header
	layer2 layer = unix.IFF_TAP // an Ethernet header
)

func (l layer) String() string {
	if l == layer2 {
		return "TAP"
	}
	return "TUN"
}

// maxRead is as of the device's queues.
func (l layer) maxRead() int {
	if l == layer2 {
		return MaxReadTAP
	}
	return MaxRead
}

// header is IFF_VNET_HDR where the device is to have virtio-net headers: wireguard/tun
// takes them off, and songgao/water knows none.
func (l layer) header(want offload.Set) uint16 {
	if l == layer2 && want&segmentation == 0 {
		return 0
	}
	return unix.IFF_VNET_HDR
}

// segmentation is those features that are a device's.
const segmentation = offload.Set(1<<offload.TSO | 1<<offload.USO)

// tuntap is what TUN and TAP have in common. Its methods but Close and Leave may be called
// at any time by any goroutine.
type tuntap struct {
	layer  layer
	name   string
	header bool // whether a virtio-net header stands in front of each packet
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

// open makes a device. With IFF_MULTI_QUEUE and without IFF_TUN_EXCL a second process would
// silently become another queue of a running one's.
func open(l layer, name string, queues int, want offload.Set, k kernel) (*tuntap, error) {
	given, pairs, err := l.create(name, queues, unix.IFF_TUN_EXCL, want)
	if err != nil {
		return nil, err
	}
	return assemble(l, given, pairs, want, k)
}

// reopen takes over a device that nobody has open, and which stays for whom comes after.
func reopen(l layer, name string, queues int, want offload.Set) (*tuntap, error) {
	given, pairs, err := l.create(name, queues, unix.IFF_PERSIST, want)
	if err != nil {
		return nil, err
	}
	return assemble(l, given, pairs, want, theKernel)
}

// create makes the pairs by what will use them.
func (l layer) create(name string, queues int, flags uint16, want offload.Set) (given string, pairs []pair, err error) {
	if l.header(want) == 0 {
		return create(attachByWater, name, queues, flags)
	}
	return create(l.attach, name, queues, flags&^unix.IFF_PERSIST|unix.IFF_VNET_HDR)
}

// assemble makes a device of its pairs, which are the device's from then on, or else closed.
func assemble(l layer, name string, pairs []pair, want offload.Set, k kernel) (*tuntap, error) {
	want &= segmentation
	t := &tuntap{layer: l, name: name, header: l.header(want) != 0, pairs: pairs}
	if want == 0 {
		t.status.Store(&status{})
		openPortable := t.openPortable
		if l == layer2 {
			openPortable = t.openWater
		}
		if err := openPortable(pairs); err != nil {
			return nil, err
		}
		return t, nil
	}
	t.status.Store(k.negotiate(l, pairs[0], want))
	for _, p := range pairs {
		t.queues = append(t.queues, newSuperqueue(t, p, k))
	}
	t.close = func() error { return closeAll(pairs) }
	return t, nil
}

// Name is the device's name.
func (t *tuntap) Name() string { return t.name }

// Features is which of offload.TSO and offload.USO are on: Write makes
// superpackets of such groups. A feature that is lost while the device runs
// does not come back.
func (t *tuntap) Features() offload.Set { return t.status.Load().on }

// Refused says of each feature that was wanted and is off why it is. The map is
// the caller's.
func (t *tuntap) Refused() map[offload.Feature]error { return maps.Clone(t.status.Load().refused) }

// Queues are the device's queues, one for each worker.
func (t *tuntap) Queues() []Queue { return t.queues }

// Close removes the device, unless other descriptors of it are open. It is called after the
// last use of every queue.
func (t *tuntap) Close() error {
	if t.close == nil {
		return nil
	}
	return errors.Join(t.persist(false), t.Leave())
}

// Leave closes the descriptors, and leaves the device to whom else has some, or who
// attaches to it later. It is called in place of Close.
func (t *tuntap) Leave() error {
	if t.close == nil {
		return nil
	}
	err := t.close()
	t.close = nil
	if err != nil {
		return fmt.Errorf("close %s device %s: %w", t.layer, t.name, err)
	}
	return nil
}

// lose switches a feature off for good. The first reason stays.
func (t *tuntap) lose(f offload.Feature, why error) {
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
func (t *tuntap) failed(attempt string, err error) error {
	if errors.Is(err, unix.EBADFD) {
		err = net.ErrClosed
	}
	return fmt.Errorf("%s %s device %s: %w", attempt, t.layer, t.name, err)
}
