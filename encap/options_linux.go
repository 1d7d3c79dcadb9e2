package encap

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// socketBuffer is asked of the kernel for each direction, in bytes: 8 MiB hold
// some 60 ms of full-size packets at 1 Gb/s, longer than a scheduling hiccup.
const socketBuffer = 8 << 20

// bracedBuffer is for a hand-over: the kernel doubles it, and counts a datagram as the memory
// that it takes, 2304 bytes of a network card's as a rule: 58,000 datagrams, of full size
// 0.7 s at 1 Gb/s, and 1.1 s at 50,000 a second.
const bracedBuffer = 64 << 20

// newSocket makes a UDP socket of addr's family that is not bound yet, and that
// receives nothing until accept.
func newSocket(addr netip.Addr) (fd int, err error) {
	family := unix.AF_INET6
	if addr.Is4() {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
	if err != nil {
		err = os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
	}
	if err = errors.Join(err, setOptions(fd, addr)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// accept lets the socket receive.
func accept(fd int) error {
	return os.NewSyscallError("setsockopt SO_DETACH_FILTER", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0))
}

type option struct {
	level, name, value int
	call               string
}

func setOptions(fd int, addr netip.Addr) error {
	options := []option{
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE, "IP_MTU_DISCOVER"},
		{unix.IPPROTO_IP, unix.IP_RECVTOS, 1, "IP_RECVTOS"},
	}
	if !addr.Is4() {
		options = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "IPV6_V6ONLY"},
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE, "IPV6_MTU_DISCOVER"},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1, "IPV6_RECVTCLASS"},
		}
	}
	for _, o := range options {
		if err := o.set(fd); err != nil {
			return err
		}
	}
	// The forced sizes need CAP_NET_ADMIN; without it the kernel's own limit
	// (net.core.rmem_max, wmem_max) is what there is.
	for _, o := range [][2]option{
		{{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer, ""}, {unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer, "SO_RCVBUF"}},
		{{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer, ""}, {unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer, "SO_SNDBUF"}},
	} {
		if o[0].set(fd) == nil {
			continue
		}
		if err := o[1].set(fd); err != nil {
			return err
		}
	}
	return nil
}

func (o option) set(fd int) error {
	return os.NewSyscallError("setsockopt "+o.call, unix.SetsockoptInt(fd, o.level, o.name, o.value))
}

// What each feature asks of a socket. The segment size is 0, none, since each send
// says its own. Immutable.
var features = map[offload.Feature]struct {
	option
	since string
}{
	offload.GSO: {option{unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0, "UDP_SEGMENT"}, "Linux 4.18"},
	offload.GRO: {option{unix.IPPROTO_UDP, unix.UDP_GRO, 1, "UDP_GRO"}, "Linux 5.0"},
}

// probe switches a feature on. The error is nil where the kernel has it.
func probe(fd int, f offload.Feature) error {
	feature := features[f]
	if err := feature.set(fd); err != nil {
		return fmt.Errorf("this kernel does not have it, %s has: %w", feature.since, err)
	}
	return nil
}

// allowFragments undoes what setOptions says of fragments. In IPv4 routers make them,
// and this node by the link's MTU alone (IP_PMTUDISC_OMIT, include/uapi/linux/in.h). In
// IPv6 this node alone makes them, of no more than the 1280 bytes that every path takes
// (RFC 8200 section 5), of what is larger than mark's route says: IPV6_MTU is about their
// size, not about what is cut (__ip6_finish_output, net/ipv6/ip6_output.c). Path MTUs
// that ICMPv6 brings count, and do no harm: the kernel takes none below 1280.
func allowFragments(fd int, addr netip.Addr, mark uint32) error {
	if addr.Is4() {
		return option{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT, "IP_MTU_DISCOVER"}.set(fd)
	}
	err := errors.Join(
		option{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT, "IPV6_MTU_DISCOVER"}.set(fd),
		option{unix.IPPROTO_IPV6, unix.IPV6_MTU, 1280, "IPV6_MTU"}.set(fd),
	)
	if mark != 0 {
		err = errors.Join(err, option{unix.SOL_SOCKET, unix.SO_MARK, int(mark), "SO_MARK"}.set(fd))
	}
	return err
}

// bind gives the socket its address. A port of 0 is any that is free.
func bind(fd int, addr netip.AddrPort) error {
	return os.NewSyscallError("bind", unix.Bind(fd, socketAddress(addr)))
}

// socketAddress is addr as package unix has it.
func socketAddress(addr netip.AddrPort) unix.Sockaddr {
	if addr.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
}

// boundTo is the address that the socket has.
func boundTo(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port)), nil
	}
	return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
}
