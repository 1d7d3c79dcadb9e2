package encap

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// Port is a node's end of the underlay: the data ports, one for each codec, where
// each worker has a receive socket of its own for each family of addresses, and the
// sockets that all of them send from. The kernel spreads what arrives over the
// workers' receive sockets by the source port, so that a flow stays with one worker,
// and puts what is no packet in a socket beside them (steer_linux.go), where it does
// not wait behind packets.
//
// The source port of a datagram depends on its flow alone and not on the worker:
// a flow keeps its order, and the underlay's routers and network cards spread flows
// (RFC 7348 section 5).
//
// Every datagram leaves with the Don't Fragment bit set, but for those of a Message
// with Fragment, and path MTUs that the kernel learnt from ICMP are ignored for it,
// since anyone can forge those (IP_PMTUDISC_PROBE, ip(7)). None leaves without an outer
// UDP checksum.
//
// Any goroutine may call the methods of Port; see Socket for its own.
type Port struct {
	addrs   []netip.Addr
	numbers [codecs]uint16 // 0 where the codec's port is not open
	shut    map[Codec]error
	vni     uint32
	sockets []*Socket
	control []*ControlSocket
	out     [sources]int // descriptors to send from, by Message.source

	// Whether a message of several datagrams is one send. It goes off for good
	// where the underlay turns out not to do it.
	gso atomic.Bool

	mu      sync.Mutex // covers what follows, and that no descriptor is used once closed
	on      offload.Set
	refused map[offload.Feature]error
	closed  bool

	overflowed uint64 // once closed
}

// Sockets is one for each worker.
func (p *Port) Sockets() []*Socket { return p.sockets }

// ControlSockets is one for each open codec and family. They stay the same until the
// port is closed.
func (p *Port) ControlSockets() []*ControlSocket { return p.control }

// Addrs is this node's underlay addresses, as ListenConfig had them.
func (p *Port) Addrs() []netip.Addr { return p.addrs }

// Number is the port where datagrams of c arrive, and from which none is sent. It
// is open only where it was asked for; see Closed.
func (p *Port) Number(c Codec) (port uint16, open bool) {
	return p.numbers[c], p.numbers[c] != 0
}

// Closed says of codecs whose port was asked for why it is not open. The map is the
// caller's own.
func (p *Port) Closed() map[Codec]error { return maps.Clone(p.shut) }

// Features is what of the wanted features is on now.
func (p *Port) Features() offload.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.on
}

// Refused says why a feature that was wanted is off. The map is the caller's own.
func (p *Port) Refused() map[offload.Feature]error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.refused)
}

// enable switches f on where it is wanted.
func (p *Port) enable(fd int, f offload.Feature) {
	if !p.on.Has(f) {
		return
	}
	if err := probe(fd, f); err != nil {
		p.refuse(f, err)
	}
}

// refuse switches f off for good. The first reason is the one that is kept.
func (p *Port) refuse(f offload.Feature, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on.Has(f) {
		p.on = p.on.Without(offload.Of(f))
		p.refused[f] = why
	}
}

// Overflows is how many datagrams the kernel has dropped at the receive sockets,
// because a buffer was full, their checksum wrong, or the port not yet open for all
// workers: the counter that SO_RXQ_OVFL attaches to received datagrams, asked for
// on demand (SK_MEMINFO_DROPS), so that it is right also when nothing arrives any more.
// Of a closed port it is how many there were in the end.
func (p *Port) Overflows() (n uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.overflowed, nil
	}
	return p.overflows()
}

func (p *Port) overflows() (n uint64, err error) {
	for _, s := range p.sockets {
		for _, r := range s.receivers {
			info, err := memory(r.FD)
			if err != nil {
				return 0, fmt.Errorf("count drops at the data ports of %s: %w", p.addrs, err)
			}
			n += uint64(info[memoryDrops])
		}
	}
	return n, nil
}

// What the kernel tells of a socket's memory, in bytes but for the drops: include/uapi/linux/sock_diag.h.
const (
	memoryWaiting = 0 // SK_MEMINFO_RMEM_ALLOC
	memoryDrops   = 8 // SK_MEMINFO_DROPS
)

func memory(fd int) (info [9]uint32, err error) {
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return info, os.NewSyscallError("getsockopt SO_MEMINFO", errno)
	}
	return info, nil
}

// Close closes the port. All workers must have ended.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := net.ErrClosed
	if !p.closed {
		p.closed = true
		p.overflowed, err = p.overflows()
		err = errors.Join(err, p.closeAll())
	}
	if err != nil {
		return fmt.Errorf("close the data ports of %s: %w", p.addrs, err)
	}
	return nil
}

// closeCodec closes the receive sockets of one codec.
func (p *Port) closeCodec(c Codec) {
	for _, s := range p.sockets {
		s.receivers = slices.DeleteFunc(s.receivers, func(r Receiver) bool {
			if r.Codec != c {
				return false
			}
			unix.Close(r.FD)
			return true
		})
	}
	p.control = slices.DeleteFunc(p.control, func(s *ControlSocket) bool {
		if s.codec != c {
			return false
		}
		_ = s.close()
		return true
	})
}

// closeAll closes the descriptors there are, and leaves none that could mean
// another file.
func (p *Port) closeAll() error {
	var errs []error
	closeOne := func(fd *int) {
		if *fd >= 0 {
			errs = append(errs, os.NewSyscallError("close", unix.Close(*fd)))
		}
		*fd = -1
	}
	for _, s := range p.sockets {
		for i := range s.receivers {
			closeOne(&s.receivers[i].FD)
		}
		s.full = -1
	}
	for _, c := range p.control {
		errs = append(errs, c.close())
	}
	p.control = nil
	for i := range p.out {
		closeOne(&p.out[i])
	}
	return errors.Join(errs...)
}
