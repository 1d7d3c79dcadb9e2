package encap

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// ListenConfig is what a Port is to be.
type ListenConfig struct {
	// Addrs are this node's underlay addresses: an IPv4 address, an IPv6 address, or
	// one of each.
	Addrs []netip.Addr

	// Ports are the port numbers of the codecs to open, which differ. They are the
	// same for both families; 0 lets the kernel choose.
	Ports map[Codec]uint16

	// VNI is the VXLAN network whose control messages go to Port.ControlSockets.
	VNI uint32

	// Need is the one of them without whose port there is no start. Another whose
	// port is taken is left out, which Port.Closed tells.
	Need Codec

	// FragmentMark is the SO_MARK (socket(7)) of what leaves over IPv6 as a Message with
	// Fragment, so that a routing table of its own can say what each path takes: by
	// what a route says Linux cuts IPv6 (ip6_skb_dst_mtu, include/net/ip6_route.h), and
	// where none does by the link's MTU. It is 0 for none; others need CAP_NET_ADMIN.
	FragmentMark uint32

	Workers int         // 1 or more
	Want    offload.Set // of which offload.GSO and offload.GRO are tried; that one is refused is no error
}

// Listen opens the data ports. An error says what to do about it, in one line.
func Listen(c ListenConfig) (*Port, error) {
	p := newPort(c)
	if err := p.open(c); err != nil {
		p.closeAll()
		return nil, err
	}
	p.gso.Store(p.on.Has(offload.GSO))
	return p, nil
}

// newPort is a Port without sockets.
func newPort(c ListenConfig) *Port {
	p := &Port{addrs: slices.Clone(c.Addrs), vni: c.VNI, shut: map[Codec]error{}, refused: map[offload.Feature]error{}}
	for f := range features {
		if c.Want.Has(f) {
			p.on |= offload.Of(f)
		}
	}
	for range c.Workers {
		p.sockets = append(p.sockets, newWorkerSocket(p))
	}
	for i := range p.out {
		p.out[i] = noFamily
	}
	return p
}

func (p *Port) open(c ListenConfig) error {
	for codec := range codecs {
		number, wanted := c.Ports[codec]
		if !wanted {
			continue
		}
		if err := p.openOrShut(c, codec, number); err != nil {
			return err
		}
	}
	for _, addr := range p.addrs {
		for i := range perFamily {
			if err := p.openSend(addr, i, c.FragmentMark); err != nil {
				return fmt.Errorf("open a socket to send from, UDP %s: %w", addr, err)
			}
		}
	}
	for codec := range codecs {
		if err := p.acceptCodec(codec); err != nil {
			return err
		}
	}
	return nil
}

// openOrShut opens the port of one codec, which may be taken where it is not the one needed.
func (p *Port) openOrShut(c ListenConfig, codec Codec, number uint16) error {
	err := p.openCodec(codec, number)
	if err != nil && codec != c.Need && errors.Is(err, unix.EADDRINUSE) {
		p.shut[codec] = err
		return nil
	}
	return err
}

// acceptCodec lets the sockets of one codec receive. All of them must be open, since each
// socket more changes which flow goes to which: what arrived before would be overtaken by
// what follows it.
func (p *Port) acceptCodec(c Codec) error {
	for _, s := range p.sockets {
		for _, r := range s.receivers {
			if r.Codec != c {
				continue
			}
			if err := accept(r.FD); err != nil {
				return fmt.Errorf("open the data port of %s: %w", c, err)
			}
		}
	}
	for _, s := range p.control {
		if s.codec != c {
			continue
		}
		if err := accept(s.fd); err != nil {
			return fmt.Errorf("open the data port of %s: %w", c, err)
		}
		if err := s.open(); err != nil {
			return err
		}
	}
	return nil
}

// openCodec opens the port of one codec, for all workers and addresses, or else
// leaves nothing behind. A number that the kernel chose for the first address may
// be taken at the second, and then another is tried.
func (p *Port) openCodec(c Codec, number uint16) (err error) {
	const tries = 16
	for range tries {
		if err = p.tryCodec(c, number); err == nil {
			return nil
		}
		p.closeCodec(c)
		if number != 0 || !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return err
}

func (p *Port) tryCodec(c Codec, number uint16) error {
	for _, addr := range p.addrs {
		for i, s := range p.sockets {
			bound, err := p.openReceive(s, c, netip.AddrPortFrom(addr, number), i == 0)
			if err != nil {
				return listenError(c, netip.AddrPortFrom(addr, number), err)
			}
			number = bound
		}
		if err := p.openControl(c, netip.AddrPortFrom(addr, number)); err != nil {
			return listenError(c, netip.AddrPortFrom(addr, number), err)
		}
	}
	p.numbers[c] = number
	return nil
}

// openReceive opens a receive socket of one worker, and returns its port.
func (p *Port) openReceive(s *Socket, c Codec, addr netip.AddrPort, first bool) (number uint16, err error) {
	fd, err := newSocket(addr.Addr())
	if err != nil {
		return 0, err
	}
	s.receivers = append(s.receivers, Receiver{FD: fd, Codec: c})
	return p.bindReceive(fd, c, addr, first)
}

// openControl opens the control socket of an address, and has the kernel steer by it. It
// joins the workers' last, so that its index is their number.
func (p *Port) openControl(c Codec, addr netip.AddrPort) error {
	fd, err := newSocket(addr.Addr())
	if err != nil {
		return err
	}
	p.control = append(p.control, &ControlSocket{codec: c, fd: fd})
	if _, err := p.bindReceive(fd, c, addr, false); err != nil {
		return err
	}
	return steer(fd, c, p.vni, addr.Addr(), len(p.sockets))
}

// bindReceive binds a receive socket. The first at an address is bound alone, so that a
// port which another program holds is an error, and lets the others join afterwards. All
// of them do GRO or none: which one it is for the kernel asks without a look at the datagram.
func (p *Port) bindReceive(fd int, c Codec, addr netip.AddrPort, first bool) (number uint16, err error) {
	p.enable(fd, offload.GRO)
	if c == VXLAN && !addr.Addr().Is4() {
		// RFC 7348 section 5: a checksum of zero must be accepted, which IPv6 has for
		// tunnels only (RFC 6935).
		if err := (option{unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_RX, 1, "UDP_NO_CHECK6_RX"}).set(fd); err != nil {
			return 0, err
		}
	}
	share := option{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT"}
	if !first {
		return addr.Port(), errors.Join(share.set(fd), bind(fd, addr))
	}
	if err := bind(fd, addr); err != nil {
		return 0, err
	}
	if addr, err = boundTo(fd); err != nil {
		return 0, err
	}
	return addr.Port(), share.set(fd)
}

// openSend opens the socket of source port i: firstSourcePort + i, or where another
// program has that, the kernel's choice. It never receives.
func (p *Port) openSend(addr netip.Addr, i int, mark uint32) error {
	fd, err := newSocket(addr)
	if err != nil {
		return err
	}
	p.out[sourceIndex(addr, i)] = fd
	if i == fragments {
		err = allowFragments(fd, addr, mark)
	} else {
		p.enable(fd, offload.GSO)
	}
	if err != nil {
		return err
	}
	err = bind(fd, netip.AddrPortFrom(addr, uint16(firstSourcePort+i)))
	if errors.Is(err, unix.EADDRINUSE) {
		err = bind(fd, netip.AddrPortFrom(addr, 0))
	}
	return err
}

func listenError(c Codec, addr netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("open the data port of %s, UDP %s: %w; stop the program (`ss -lunp sport = :%d`)%s that holds it, or set another `%s` on all nodes",
			c, addr, unix.EADDRINUSE, addr.Port(), facts[c].holder, facts[c].key)
	case errors.Is(err, unix.EADDRNOTAVAIL) && addr.Addr().Is4():
		return fmt.Errorf("open the data port of %s, UDP %s: %w; set `underlay` to an address of this machine", c, addr, unix.EADDRNOTAVAIL)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("open the data port of %s, UDP %s: %w; set `underlay` to an address of this machine, "+
			"or wait until the kernel has made sure that it is no duplicate (`ip -6 address show tentative`)", c, addr, unix.EADDRNOTAVAIL)
	}
	return fmt.Errorf("open the data port of %s, UDP %s: %w", c, addr, err)
}
