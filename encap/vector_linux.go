package encap

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// control holds one control message, the DS field: struct cmsghdr and an int.
type control struct {
	hdr   unix.Cmsghdr
	value [8]byte
}

const controlLen = uint64(unsafe.Sizeof(control{}))

// vector is everything that one batched system call needs, made once and used
// again for every batch: message headers that point at their neighbours here.
type vector struct {
	msgs  [Batch]mmsghdr
	iovs  [Batch]unix.Iovec
	addrs [Batch]sockaddr
	ctls  [Batch]control

	// call runs the system call on the first count messages. It is made once,
	// since a closure for each batch would be an allocation for each batch.
	call  func(fd uintptr) (ready bool)
	count int
	done  int // how many messages the kernel took or gave
	errno unix.Errno
}

func (v *vector) init(trap uintptr) {
	for i := range v.msgs {
		h := &v.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&v.addrs[i]))
		h.Iov = &v.iovs[i]
		h.Iovlen = 1
		h.Control = (*byte)(unsafe.Pointer(&v.ctls[i]))
	}
	v.call = func(fd uintptr) bool {
		n, _, errno := unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&v.msgs)), uintptr(v.count), unix.MSG_DONTWAIT, 0, 0)
		v.errno, v.done = errno, 0
		if errno == 0 {
			v.done = int(n)
		}
		return errno != unix.EAGAIN
	}
}

func (v *vector) pointAt(i int, buf []byte) {
	v.iovs[i].Base = unsafe.SliceData(buf)
	v.iovs[i].SetLen(len(buf))
}

// dsField reads the DS field that IP_RECVTOS or IPV6_RECVTCLASS attached to a
// received message, 0 where there is none. The one is a byte, the other an int.
func (v *vector) dsField(i int) uint8 {
	c := &v.ctls[i]
	if v.msgs[i].hdr.Controllen < uint64(unix.SizeofCmsghdr)+1 {
		return 0
	}
	switch {
	case c.hdr.Level == unix.IPPROTO_IP && c.hdr.Type == unix.IP_TOS:
		return c.value[0]
	case c.hdr.Level == unix.IPPROTO_IPV6 && c.hdr.Type == unix.IPV6_TCLASS:
		return uint8(*(*int32)(unsafe.Pointer(&c.value)))
	}
	return 0
}

func (v *vector) setDSField(i int, ipv4 bool, ds uint8) {
	if ds == 0 { // the socket's default
		v.msgs[i].hdr.Controllen = 0
		return
	}
	c := &v.ctls[i]
	c.hdr.Level, c.hdr.Type = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	if ipv4 {
		c.hdr.Level, c.hdr.Type = unix.IPPROTO_IP, unix.IP_TOS
	}
	c.hdr.SetLen(unix.CmsgLen(4))
	*(*int32)(unsafe.Pointer(&c.value)) = int32(ds)
	v.msgs[i].hdr.Controllen = uint64(unix.CmsgSpace(4))
}

// sockaddr is a struct sockaddr_in or sockaddr_in6.
type sockaddr unix.RawSockaddrInet6

const sizeofSockaddr = uint32(unsafe.Sizeof(sockaddr{}))

// set writes addr and returns the length that the kernel wants to hear.
func (s *sockaddr) set(addr netip.AddrPort) uint32 {
	port := networkOrder(addr.Port())
	if addr.Addr().Is4() {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(s)) = unix.RawSockaddrInet4{
			Family: unix.AF_INET, Port: port, Addr: addr.Addr().As4(),
		}
		return unix.SizeofSockaddrInet4
	}
	*s = sockaddr{Family: unix.AF_INET6, Port: port, Addr: addr.Addr().As16()}
	return unix.SizeofSockaddrInet6
}

func (s *sockaddr) addrPort() netip.AddrPort {
	port := networkOrder(s.Port)
	if s.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(s)).Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(s.Addr), port)
}

// networkOrder is htons(3), and ntohs(3) too.
func networkOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(make([]byte, 0, 2), port))
}
