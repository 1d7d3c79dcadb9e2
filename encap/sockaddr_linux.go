package encap

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
