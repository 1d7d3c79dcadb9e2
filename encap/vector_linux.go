package encap

import (
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

// control is the room for the two control messages there may be, of up to 8 bytes
// each: the size of the segments (UDP_SEGMENT, UDP_GRO) and the DS field.
type control [2]struct {
	hdr   unix.Cmsghdr
	value [8]byte
}

const controlLen = uint64(unsafe.Sizeof(control{}))

// vector is the memory of a batched system call, made once and used again for
// every batch: message headers that point at their neighbours here.
type vector struct {
	msgs  [Batch]mmsghdr
	addrs [Batch]sockaddr
	ctls  [Batch]control
}

func (v *vector) init() {
	for i := range v.msgs {
		h := &v.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&v.addrs[i]))
		h.Control = (*byte)(unsafe.Pointer(&v.ctls[i]))
	}
}

// controls reads what the kernel attached to a received message: the size of its
// segments, 0 where there is one only, and the DS field, 0 where there is none.
// IP_TOS is a byte, the others are ints (net/ipv4/ip_sockglue.c, net/ipv4/udp.c).
func (v *vector) controls(i int) (segmentSize int, ds uint8) {
	left := v.msgs[i].hdr.Controllen
	for j := range v.ctls[i] {
		c := &v.ctls[i][j]
		if left <= unix.SizeofCmsghdr {
			break
		}
		left -= min(left, uint64(unsafe.Sizeof(*c)))
		switch {
		case c.hdr.Level == unix.IPPROTO_UDP && c.hdr.Type == unix.UDP_GRO:
			segmentSize = int(*(*int32)(unsafe.Pointer(&c.value)))
		case c.hdr.Level == unix.IPPROTO_IP && c.hdr.Type == unix.IP_TOS:
			ds = c.value[0]
		case c.hdr.Level == unix.IPPROTO_IPV6 && c.hdr.Type == unix.IPV6_TCLASS:
			ds = uint8(*(*int32)(unsafe.Pointer(&c.value)))
		}
	}
	return segmentSize, ds
}

// address sets where message i goes, and as what: segmentSize is 0 where it is one
// datagram, and a DS field of 0 is the socket's default.
func (v *vector) address(i int, to netip.AddrPort, segmentSize int, ds uint8) {
	h := &v.msgs[i].hdr
	h.Namelen = v.addrs[i].set(to)
	n := 0
	if segmentSize != 0 {
		c := &v.ctls[i][n]
		c.hdr.Level, c.hdr.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		c.hdr.SetLen(unix.CmsgLen(2))
		*(*uint16)(unsafe.Pointer(&c.value)) = uint16(segmentSize)
		n++
	}
	if ds != 0 {
		c := &v.ctls[i][n]
		c.hdr.Level, c.hdr.Type = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		if to.Addr().Is4() {
			c.hdr.Level, c.hdr.Type = unix.IPPROTO_IP, unix.IP_TOS
		}
		c.hdr.SetLen(unix.CmsgLen(4))
		*(*int32)(unsafe.Pointer(&c.value)) = int32(ds)
		n++
	}
	h.Controllen = uint64(n) * uint64(unsafe.Sizeof(v.ctls[i][0]))
}
