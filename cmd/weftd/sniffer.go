package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// drainLimit bounds what drain shows at once, as a bridge or a bond shows each packet several times.
const drainLimit = 64

// sniffer sees the packets with one marker at all devices of this host, those that the kernel carries past weftd among
// them (packet(7)). While there is one the kernel shows its filter each packet of the host, for which it clones those
// that leave (dev_queue_xmit_nit, net/core/dev.c). Its owner closes it; one goroutine at a time may use it.
type sniffer struct {
	socket int
	buf    [markedBytes]byte
}

// sniffed is a packet at a device. One that passes several, such as a bridge and its port, is seen at each.
type sniffed struct {
	marked
	device string // "" for one that is gone
	out    bool   // it leaves by the device; else it came in by it
}

// openSniffer sees what bears the marker of probes with this payload from here on. The error of a process without
// CAP_NET_RAW is EPERM.
func openSniffer(payload []byte) (*sniffer, error) {
	// It has no protocol, and takes no packets, until its filter is there.
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w: let weftd have CAP_NET_RAW and the address family AF_PACKET", os.NewSyscallError("socket", err))
	}
	s := &sniffer{socket: socket}
	if err := s.listen(markerFilter(payload)); err != nil {
		s.close()
		return nil, fmt.Errorf("look for a probe at all devices: %w", err)
	}
	return s, nil
}

func (s *sniffer) listen(program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assemble the filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := unix.SetsockoptSockFprog(s.socket, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
	}
	// sll_protocol is big endian.
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	return os.NewSyscallError("bind", unix.Bind(s.socket, &unix.SockaddrLinklayer{Protocol: all}))
}

func (s *sniffer) close() { _ = unix.Close(s.socket) }

// drain shows what has been seen since the last call. What show gets is its own.
func (s *sniffer) drain(show func(sniffed)) {
	for range drainLimit {
		n, from, err := unix.Recvfrom(s.socket, s.buf[:], 0)
		link, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok { // EAGAIN, where there is no more
			return
		}
		m, ok := parseMarked(s.buf[:n])
		if !ok {
			continue
		}
		seen := sniffed{marked: m, out: link.Pkttype == unix.PACKET_OUTGOING}
		if device, err := net.InterfaceByIndex(link.Ifindex); err == nil {
			seen.device = device.Name
		}
		show(seen)
	}
}
