package encap

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// MaxPayload is how many bytes a Message may have. With IPv6, UDP, Ethernet and VLAN
// headers it still is less than a device's gso_max_size of 64 KiB, from which on
// the kernel cuts in software what the device could (net/core/dev.c, gso_features_check).
const MaxPayload = 65535 - 40 - 8 - 14 - 4

// pieces is how many pieces one system call takes: 16 full messages, 1 MiB, whose
// segments are in two pieces each.
const pieces = 16 * MaxSegments * 2

// Full is the descriptor to poll for room to write after a short Send, and -1 after
// any other.
func (s *Socket) Full() int { return s.full }

// Send sends msgs, and says of each of the first sent in its Lost and Err what
// became of it. Where sent is less than len(msgs) without an error, the kernel has
// no room: go on with msgs[sent:], as they are, once Full is writable. Of the first
// of these some datagrams may be sent already, which Send knows. An error means
// that the socket is of no more use.
//
// A datagram that the queue of the underlay device drops counts as sent: Linux
// tells that only to sockets which listen to ICMP errors too (IP_RECVERR). It
// counts it as SndbufErrors in /proc/net/snmp (net/ipv4/udp.c, udp_send_skb).
func (s *Socket) Send(msgs []Message) (sent int, err error) {
	s.full = -1
	for sent < len(msgs) {
		m := &msgs[sent]
		fd := s.port.out[m.source()]
		if fd == noFamily {
			m.settle(m.Segments-m.done, ErrRefused)
			sent++
			continue
		}
		s.load(msgs[sent:])
		n, errno := s.sendmmsg(fd, s.tx.msgs[:s.tx.loaded])
		for i := range n {
			if msgs[sent].settle(s.tx.segments[i], nil) {
				sent++
			}
		}
		// The kernel stops at the message that it refuses and says why only when
		// asked to start with it.
		if n > 0 {
			continue
		}
		switch errno {
		case unix.EAGAIN:
			s.full = fd
			return sent, nil
		case unix.EBADF:
			return sent, fmt.Errorf("send from %s: %w", s.port.addrs, callError("sendmmsg", errno))
		}
		first := s.tx.segments[0]
		if first > 1 && s.split(m, errno) {
			continue
		}
		if m.settle(first, sendError(errno)) {
			sent++
		}
	}
	runtime.KeepAlive(msgs)
	return sent, nil
}

// load prepares a system call for as many of msgs as leave from the first one's
// socket, one after the other, and find room.
func (s *Socket) load(msgs []Message) {
	s.tx.loaded, s.tx.used = 0, 0
	gso, source := s.port.gso.Load(), msgs[0].source()
	for i := range msgs {
		m := &msgs[i]
		if m.source() != source {
			return
		}
		if gso && m.Segments > 1 && !m.split && !m.Fragment {
			if !s.put(m, m.Pieces, m.Segments) {
				return
			}
			continue
		}
		for j := m.done; j < m.Segments; j++ {
			if !s.put(m, m.segment(j), 1) {
				return
			}
		}
	}
}

// put adds a message header for some segments of m. The first always has room.
func (s *Socket) put(m *Message, from [][]byte, segments int) (ok bool) {
	v := &s.tx
	if v.loaded == len(v.msgs) || v.loaded > 0 && len(from) > len(v.iovs)-v.used {
		return false
	}
	iovs := v.iovs[v.used:][:len(from)]
	for i, piece := range from {
		iovs[i].Base = unsafe.SliceData(piece)
		iovs[i].SetLen(len(piece))
	}
	h := &v.msgs[v.loaded].hdr
	h.Iov, h.Iovlen = unsafe.SliceData(iovs), uint64(len(iovs))
	size := 0
	if segments > 1 {
		size = m.SegmentSize
	}
	v.address(v.loaded, m.Addr, size, m.DSField)
	v.segments[v.loaded] = segments
	v.used += len(from)
	v.loaded++
	return true
}

// split says whether m, which the kernel did not take in one send, may yet be sent
// datagram by datagram, and marks it so.
//
// EIO means that the kernel cannot segment what goes out there: to Linux 6.10 the
// device must compute checksums, and no IPsec policy may apply. EMSGSIZE, and EINVAL
// in older kernels, is about the segments' size, of which some may be smaller
// (net/ipv4/udp.c, udp_send_skb).
func (s *Socket) split(m *Message, errno unix.Errno) bool {
	switch errno {
	case unix.EIO:
		s.port.gso.Store(false)
		s.port.refuse(offload.GSO, fmt.Errorf("the underlay cannot segment datagrams: "+
			"either its device has checksums off (`ethtool -K DEV tx on`; Linux 6.11 does not mind) or an IPsec policy applies: %w", callError("sendmmsg", errno)))
	case unix.EMSGSIZE, unix.EINVAL:
	default:
		return false
	}
	m.split = true
	return true
}

// SendOne sends one datagram that belongs to no flow, such as a control message. It
// is never fragmented. Any goroutine may call it, also while workers send. Where the
// datagram was not sent, the error is ErrTooBig, ErrFull, ErrRefused or net.ErrClosed.
func (p *Port) SendOne(datagram []byte, to netip.AddrPort) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	switch fd := p.out[sourceIndex(to.Addr(), controls)]; {
	case p.closed:
		err = net.ErrClosed
	case fd == noFamily:
		err = ErrRefused
	default:
		errno, failed := unix.Sendto(fd, datagram, unix.MSG_DONTWAIT, socketAddress(to)).(unix.Errno)
		if !failed {
			return nil
		}
		err = sendError(errno)
	}
	return fmt.Errorf("send %d bytes to %s: %w", len(datagram), to, err)
}

func sendmmsg(fd int, msgs []mmsghdr) (n int, errno unix.Errno) {
	r, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(msgs))),
		uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

func sendError(errno unix.Errno) error {
	switch errno {
	case unix.EMSGSIZE:
		return ErrTooBig
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return ErrFull
	}
	return ErrRefused
}
