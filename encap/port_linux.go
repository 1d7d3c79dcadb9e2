package encap

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// sourcePorts is how many source ports datagrams leave from. Eight suffice to use
// all of a bundle of a few links and of a card's receive queues, and flows that
// share one still share a send.
const sourcePorts = 8

// firstSourcePort is the first of them. They are the same after a restart, so that
// flows keep their order across it: the far side chooses a worker by ports. They lie above
// those that Linux gives out by itself (ip_local_port_range, to 60999).
const firstSourcePort = 61440

// SamePort says whether datagrams of two flows leave from one source port, so that
// they may share a Message.
func SamePort(a, b uint32) bool { return a%sourcePorts == b%sourcePorts }

// Port is a node's end of the underlay for one codec: the data port, where each
// worker has a receive socket of its own, and the sockets that all of them send
// from. The kernel spreads what arrives over the receive sockets by addresses and
// ports (SO_REUSEPORT, socket(7)), so that a flow stays with one worker.
//
// The source port of a datagram depends on its flow alone and not on the worker:
// a flow keeps its order, and the underlay's routers and network cards spread flows
// (RFC 7348 section 5).
//
// Every datagram leaves with the Don't Fragment bit set, and path MTUs that the
// kernel learnt from ICMP are ignored, since anyone can forge those
// (IP_PMTUDISC_PROBE, ip(7)). None leaves without an outer UDP checksum.
//
// Any goroutine may call the methods of Port; see Socket for its own.
type Port struct {
	addr    netip.AddrPort
	sockets []*Socket
	out     [sourcePorts]int // descriptors to send from

	// Whether a message of several datagrams is one send. It goes off for good
	// where the underlay turns out not to do it.
	gso atomic.Bool

	mu      sync.Mutex // covers what follows, and that no descriptor is used once closed
	on      offload.Set
	refused map[offload.Feature]error
	closed  bool
}

// Listen opens the data port on addr, an address of this node and a port, for
// workers workers, 1 or more. Of the features wanted it tries offload.GSO and
// offload.GRO; that one is refused is no error.
func Listen(addr netip.AddrPort, workers int, want offload.Set) (*Port, error) {
	p := &Port{addr: addr, refused: map[offload.Feature]error{}}
	for i := range p.out {
		p.out[i] = -1
	}
	for f := range features {
		if want.Has(f) {
			p.on |= offload.Of(f)
		}
	}
	err := p.open(workers)
	if err == nil {
		p.gso.Store(p.on.Has(offload.GSO))
		return p, nil
	}
	p.closeAll()
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("open the data port, UDP %s: %w; stop the program that holds it (`ss -lunp sport = :%d`), or set another `dataPort` on all nodes",
			addr, unix.EADDRINUSE, addr.Port())
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return nil, fmt.Errorf("open the data port, UDP %s: %w; set `underlay` to an address of this machine", addr, unix.EADDRNOTAVAIL)
	}
	return nil, fmt.Errorf("open the data port, UDP %s: %w", addr, err)
}

func (p *Port) open(workers int) error {
	for range workers {
		if err := p.openReceive(); err != nil {
			return err
		}
	}
	for i := range p.out {
		if err := p.openSend(i); err != nil {
			return err
		}
	}
	// Only now, since each socket more changes which flow goes to which: what
	// arrived before would be overtaken by what follows it.
	for _, s := range p.sockets {
		if err := accept(s.fd); err != nil {
			return err
		}
	}
	return nil
}

// openReceive opens the receive socket of the next worker. The first is bound
// alone, so that a port which another program holds is an error, and lets the
// others join afterwards.
func (p *Port) openReceive() error {
	fd, err := newSocket(p.addr.Addr())
	if err != nil {
		return err
	}
	first := len(p.sockets) == 0
	p.sockets = append(p.sockets, newWorkerSocket(p, fd))
	p.enable(fd, offload.GRO)
	share := option{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT"}
	if !first {
		return errors.Join(share.set(fd), bind(fd, p.addr))
	}
	if err := bind(fd, p.addr); err != nil {
		return err
	}
	if p.addr, err = boundTo(fd); err != nil {
		return err
	}
	return share.set(fd)
}

// openSend opens the socket of source port i: firstSourcePort + i, or where another
// program has that, the kernel's choice. It never receives.
func (p *Port) openSend(i int) (err error) {
	if p.out[i], err = newSocket(p.addr.Addr()); err != nil {
		return err
	}
	p.enable(p.out[i], offload.GSO)
	err = bind(p.out[i], netip.AddrPortFrom(p.addr.Addr(), uint16(firstSourcePort+i)))
	if errors.Is(err, unix.EADDRINUSE) {
		err = bind(p.out[i], netip.AddrPortFrom(p.addr.Addr(), 0))
	}
	return err
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

// Sockets is one for each worker.
func (p *Port) Sockets() []*Socket { return p.sockets }

// Addr is the data port, from which nothing is sent.
func (p *Port) Addr() netip.AddrPort { return p.addr }

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

// Overflows is how many datagrams the kernel has dropped at the receive sockets,
// because a buffer was full, their checksum wrong, or the port not yet open for all
// workers: the counter that SO_RXQ_OVFL attaches to received datagrams, asked for
// on demand (SK_MEMINFO_DROPS), so that it is right also when nothing arrives any more.
func (p *Port) Overflows() (n uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, fmt.Errorf("count drops at the data port %s: %w", p.addr, net.ErrClosed)
	}
	for _, s := range p.sockets {
		const drops = 8 // SK_MEMINFO_DROPS, include/uapi/linux/sock_diag.h
		var info [9]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return 0, fmt.Errorf("count drops at the data port %s: %w", p.addr, os.NewSyscallError("getsockopt SO_MEMINFO", errno))
		}
		n += uint64(info[drops])
	}
	return n, nil
}

// Close closes the port. All workers must have ended.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := net.ErrClosed
	if !p.closed {
		p.closed = true
		err = p.closeAll()
	}
	if err != nil {
		return fmt.Errorf("close the data port %s: %w", p.addr, err)
	}
	return nil
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
		closeOne(&s.fd)
		s.full = -1
	}
	for i := range p.out {
		closeOne(&p.out[i])
	}
	return errors.Join(errs...)
}
