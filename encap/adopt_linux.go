package encap

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// ErrUnfit is what Adopt's error wraps where the descriptors are of other addresses or
// ports, or for another number of workers.
var ErrUnfit = errors.New("descriptors of the data ports that do not fit")

// The names of descriptors: where a worker receives one codec over one family, where
// control messages arrive, and what is sent from.
func receiveName(c Codec, addr netip.Addr, worker int) string {
	return fmt.Sprintf("receive.%s.%s.%d", c, family(addr), worker)
}
func controlName(c Codec, addr netip.Addr) string {
	return fmt.Sprintf("control.%s.%s", c, family(addr))
}
func sendName(addr netip.Addr, i int) string {
	return fmt.Sprintf("send.%s.%d", family(addr), i)
}

func family(addr netip.Addr) string {
	if addr.Is4() {
		return "v4"
	}
	return "v6"
}

// Descriptors are those of the port by the names that Adopt takes. They stay the Port's.
func (p *Port) Descriptors() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	fds := make(map[string]int)
	for i, s := range p.sockets {
		for j, r := range s.receivers {
			fds[receiveName(r.Codec, p.addrs[p.nth(s.receivers[:j], r.Codec)], i)] = r.FD
		}
	}
	for i, s := range p.control {
		before := 0
		for _, other := range p.control[:i] {
			if other.codec == s.codec {
				before++
			}
		}
		fds[controlName(s.codec, p.addrs[before])] = s.descriptor()
	}
	for _, addr := range p.addrs {
		for i := range perFamily {
			fds[sendName(addr, i)] = p.out[sourceIndex(addr, i)]
		}
	}
	return fds
}

// nth is how many of receivers are of c: each codec has one for each address, in order.
func (p *Port) nth(receivers []Receiver, c Codec) (n int) {
	for _, r := range receivers {
		if r.Codec == c {
			n++
		}
	}
	return n
}

// descriptor is the socket's, which Go's poller has too.
func (c *ControlSocket) descriptor() (fd int) {
	_ = c.conn.Control(func(of uintptr) { fd = int(of) }) // it fails once the port is closed
	return fd
}

// Adopt makes a Port of the Descriptors of an earlier one, in this process or another, with
// what has arrived there. They are Adopt's: an error, which wraps ErrUnfit where they are not
// what c says, leaves them closed. A codec that has none among them is opened as Listen does.
func Adopt(c ListenConfig, given map[string]int) (*Port, error) {
	p := newPort(c)
	given = maps.Clone(given)
	err := p.adopt(c, given)
	for _, fd := range given { // what was not taken
		unix.Close(fd)
	}
	if err != nil {
		p.closeAll()
		return nil, err
	}
	p.gso.Store(p.on.Has(offload.GSO))
	return p, nil
}

func (p *Port) adopt(c ListenConfig, given map[string]int) error {
	for codec := range codecs {
		number, wanted := c.Ports[codec]
		if !wanted {
			continue
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(given)), func(name string) bool { return strings.Contains(name, "."+codec.String()+".") }) {
			if err := p.openOrShut(c, codec, number); err != nil {
				return err
			}
			if err := p.acceptCodec(codec); err != nil {
				return err
			}
			continue
		}
		if err := p.adoptCodec(codec, number, given); err != nil {
			return err
		}
	}
	for _, addr := range p.addrs {
		for i := range perFamily {
			if err := p.adoptSend(addr, i, c.FragmentMark, given); err != nil {
				return err
			}
		}
	}
	if len(given) > 0 {
		return fmt.Errorf("%w: %v are too many", ErrUnfit, slices.Sorted(maps.Keys(given)))
	}
	return nil
}

// adoptCodec takes the sockets of one codec. What the kernel does for it is asked for again,
// since this process may want other things than the one before.
func (p *Port) adoptCodec(c Codec, number uint16, given map[string]int) error {
	for _, addr := range p.addrs {
		at := netip.AddrPortFrom(addr, number)
		for i, s := range p.sockets {
			fd, err := takeSocket(given, receiveName(c, addr, i), at)
			if err != nil {
				return err
			}
			s.receivers = append(s.receivers, Receiver{FD: fd, Codec: c})
			if err := p.adoptReceive(fd); err != nil {
				return err
			}
		}
		fd, err := takeSocket(given, controlName(c, addr), at)
		if err != nil {
			return err
		}
		control := &ControlSocket{codec: c, fd: fd}
		p.control = append(p.control, control)
		if err := errors.Join(p.adoptReceive(fd), steer(fd, c, p.vni, addr, len(p.sockets)), control.open()); err != nil {
			return fmt.Errorf("take over the data port of %s: %w", c, err)
		}
	}
	p.numbers[c] = number
	return nil
}

// adoptReceive switches GRO to what is wanted, for datagrams that are still to come.
func (p *Port) adoptReceive(fd int) error {
	p.enable(fd, offload.GRO)
	if p.on.Has(offload.GRO) || p.refused[offload.GRO] != nil {
		return nil
	}
	return option{unix.IPPROTO_UDP, unix.UDP_GRO, 0, "UDP_GRO"}.set(fd)
}

// adoptSend takes a socket to send from, whatever port the kernel gave it.
func (p *Port) adoptSend(addr netip.Addr, i int, mark uint32, given map[string]int) error {
	fd, err := takeSocket(given, sendName(addr, i), netip.AddrPortFrom(addr, 0))
	if err != nil {
		return err
	}
	p.out[sourceIndex(addr, i)] = fd
	if i == fragments {
		return allowFragments(fd, addr, mark)
	}
	p.enable(fd, offload.GSO)
	return nil
}

// takeSocket takes a UDP socket out of given that is bound to at, of which a port of 0 is any.
func takeSocket(given map[string]int, name string, at netip.AddrPort) (fd int, err error) {
	fd, ok := given[name]
	if !ok {
		return -1, fmt.Errorf("%w: %s is not there", ErrUnfit, name)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || kind != unix.IPPROTO_UDP {
		return -1, fmt.Errorf("%w: %s is no UDP socket", ErrUnfit, name)
	}
	bound, err := boundTo(fd)
	if err != nil {
		return -1, fmt.Errorf("%w: %s: %w", ErrUnfit, name, err)
	}
	if bound.Addr() != at.Addr() || at.Port() != 0 && bound.Port() != at.Port() {
		return -1, fmt.Errorf("%w: %s is bound to %s, not to %s", ErrUnfit, name, bound, at)
	}
	delete(given, name)
	return fd, nil
}

// Brace makes room for what arrives while nobody receives: until Relax a receive socket holds
// bracedBuffer in place of socketBuffer. Where the kernel does not allow it, all stays as it is.
func (p *Port) Brace() {
	for _, fd := range p.receiving() {
		setBuffer(fd, bracedBuffer)
	}
}

// Relax undoes Brace where no more waits than would fill half of the usual buffer: what arrives beside more would be
// dropped. done says that it has for all sockets.
func (p *Port) Relax() (done bool) {
	done = true
	for _, fd := range p.receiving() {
		info, err := memory(fd)
		if err == nil && info[memoryWaiting] > socketBuffer {
			done = false
			continue
		}
		setBuffer(fd, socketBuffer)
	}
	return done
}

func (p *Port) receiving() (fds []int) {
	for name, fd := range p.Descriptors() {
		if strings.HasPrefix(name, "receive.") {
			fds = append(fds, fd)
		}
	}
	return fds
}

func setBuffer(fd, size int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) }
