package encap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketBuffer is asked of the kernel for each direction, in bytes: 8 MiB hold
// some 60 ms of full-size packets at 1 Gb/s, longer than a scheduling hiccup.
const socketBuffer = 8 << 20

// Socket is the UDP socket of one codec on the underlay. One goroutine may
// receive while another sends; Close may be called from any.
//
// Every datagram leaves with the Don't Fragment bit set, and path MTUs that the
// kernel learnt from ICMP are ignored, since anyone can forge those
// (IP_PMTUDISC_PROBE, ip(7)).
type Socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	rx   vector
	tx   vector
}

// Listen opens a socket on addr, an address of this node and a port.
func Listen(addr netip.AddrPort) (*Socket, error) {
	var optionErr error
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { optionErr = setOptions(int(fd), addr.Addr().Is4()) })
	}}
	network := "udp6"
	if addr.Addr().Is4() {
		network = "udp4"
	}
	conn, err := config.ListenPacket(context.Background(), network, addr.String())
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("open the data port, UDP %s: %w; stop the program that holds it (`ss -lunp sport = :%d`), or set another `dataPort` on all nodes",
			addr, unix.EADDRINUSE, addr.Port())
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return nil, fmt.Errorf("open the data port, UDP %s: %w; set `underlay` to an address of this machine", addr, unix.EADDRNOTAVAIL)
	case err != nil:
		return nil, fmt.Errorf("open the data port: %w", err)
	}
	udp := conn.(*net.UDPConn)
	if optionErr != nil {
		udp.Close()
		return nil, fmt.Errorf("open the data port %s: %w", addr, optionErr)
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		udp.Close()
		return nil, fmt.Errorf("open the data port %s: %w", addr, err)
	}
	s := &Socket{conn: udp, raw: raw}
	s.rx.init(unix.SYS_RECVMMSG)
	s.tx.init(unix.SYS_SENDMMSG)
	return s, nil
}

func setOptions(fd int, ipv4 bool) error {
	type option struct {
		level, name, value int
		call               string
	}
	options := []option{
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE, "IP_MTU_DISCOVER"},
		{unix.IPPROTO_IP, unix.IP_RECVTOS, 1, "IP_RECVTOS"},
	}
	if !ipv4 {
		options = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE, "IPV6_MTU_DISCOVER"},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1, "IPV6_RECVTCLASS"},
		}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set socket option: %w", os.NewSyscallError(o.call, err))
		}
	}
	// The forced sizes need CAP_NET_ADMIN; without it the kernel's own limit
	// (net.core.rmem_max, wmem_max) is what there is.
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], socketBuffer) == nil {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[1], socketBuffer); err != nil {
			return fmt.Errorf("size the socket's buffers: %w", err)
		}
	}
	return nil
}

// Addr is the socket's own address.
func (s *Socket) Addr() netip.AddrPort {
	return s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Recv blocks until there is a datagram and then takes as many as there are, up
// to len(msgs) and Batch. Only the first n messages are meaningful. The error
// wraps net.ErrClosed after Close; any other means the socket is of no more use.
func (s *Socket) Recv(msgs []Message) (n int, err error) {
	v := &s.rx
	v.count = min(len(msgs), Batch)
	for i := range v.count {
		v.pointAt(i, msgs[i].Buf)
		v.msgs[i].hdr.Namelen = sizeofSockaddr
		v.msgs[i].hdr.Controllen = controlLen
	}
	if err := s.raw.Read(v.call); err != nil {
		return 0, fmt.Errorf("receive on the data port: %w", err)
	}
	runtime.KeepAlive(msgs)
	if v.errno != 0 {
		return 0, fmt.Errorf("receive on the data port: %w", os.NewSyscallError("recvmmsg", v.errno))
	}
	for i := range v.done {
		m := &msgs[i]
		m.N = int(v.msgs[i].n)
		m.Addr = v.addrs[i].addrPort()
		m.DSField = v.dsField(i)
	}
	return v.done, nil
}

// Send sends msgs, waiting where the socket's buffer is full, and says of each
// in its Err what became of it. The error wraps net.ErrClosed after Close, and
// then msgs[sent:] were not tried.
//
// A datagram that the queue of the underlay device drops counts as sent: Linux
// tells that only to sockets which listen to ICMP errors too (IP_RECVERR). It
// counts it as SndbufErrors in /proc/net/snmp (net/ipv4/udp.c, udp_send_skb).
func (s *Socket) Send(msgs []Message) (sent int, err error) {
	v := &s.tx
	for sent < len(msgs) {
		part := msgs[sent:min(sent+Batch, len(msgs))]
		v.count = len(part)
		for i := range part {
			v.pointAt(i, part[i].Buf)
			v.msgs[i].hdr.Namelen = v.addrs[i].set(part[i].Addr)
			v.setDSField(i, part[i].Addr.Addr().Is4(), part[i].DSField)
		}
		if err := s.raw.Write(v.call); err != nil {
			return sent, fmt.Errorf("send on the data port: %w", err)
		}
		for i := range v.done {
			part[i].Err = nil
		}
		sent += v.done
		// The kernel stops at the datagram that it refuses and says why only
		// when asked to start with it.
		if v.errno != 0 && v.done == 0 {
			part[0].Err = sendError(v.errno)
			sent++
		}
	}
	runtime.KeepAlive(msgs)
	return sent, nil
}

func sendError(errno unix.Errno) error {
	switch errno {
	case unix.EMSGSIZE:
		return ErrTooBig
	case unix.ENOBUFS, unix.ENOMEM:
		return ErrFull
	}
	return ErrRefused
}

// Overflows is how many datagrams the kernel has dropped at this socket, because
// its buffer was full or their checksum wrong: the counter that SO_RXQ_OVFL
// attaches to received datagrams, asked for on demand (SK_MEMINFO_DROPS), so
// that it is right also when nothing arrives any more.
func (s *Socket) Overflows() (n uint64, err error) {
	const drops = 8 // SK_MEMINFO_DROPS, include/uapi/linux/sock_diag.h
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	var errno unix.Errno
	err = s.raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("getsockopt SO_MEMINFO", errno)
	}
	if err != nil {
		return 0, fmt.Errorf("count drops at the data port: %w", err)
	}
	return uint64(info[drops]), nil
}

// Close closes the socket and ends a Recv or Send that is waiting.
func (s *Socket) Close() error {
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("close the data port: %w", err)
	}
	return nil
}
