//go:build netns

package host

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// sendFrame sends an Ethernet frame out of a link.
func sendFrame(t *testing.T, h *Host, name string, frame []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link(t, h, name).Attrs().Index}))
}

var routerAddress = netip.MustParseAddr("fe80::1")

// routerAdvertisement makes routerAddress a default router for half an hour (RFC 4861 section 4.2).
func routerAdvertisement() []byte {
	to := netip.MustParseAddr("ff02::1").AsSlice()
	const lifetime = 1800 // s
	ra := []byte{134, 0, 0, 0, 64, 0, lifetime >> 8, lifetime & 0xff, 0, 0, 0, 0, 0, 0, 0, 0}
	pseudo := slices.Concat(routerAddress.AsSlice(), to, []byte{0, 0, 0, byte(len(ra)), 0, 0, 0, unix.IPPROTO_ICMPV6})
	binary.BigEndian.PutUint16(ra[2:], checksum(pseudo, ra))
	return slices.Concat([]byte{0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd},
		[]byte{0x60, 0, 0, 0, 0, byte(len(ra)), unix.IPPROTO_ICMPV6, 255}, routerAddress.AsSlice(), to, ra)
}

// fragmentationNeeded is what a router at from sends where a UDP packet between the two addresses and ports was
// larger than mtu (RFC 1191).
func fragmentationNeeded(mac []byte, from netip.Addr, src, dst netip.AddrPort, mtu uint16) []byte {
	header := func(protocol byte, payload int, src, dst netip.Addr) []byte {
		h := slices.Concat([]byte{0x45, 0, 0, byte(20 + payload), 0, 0, 0x40, 0, 64, protocol, 0, 0}, src.AsSlice(), dst.AsSlice())
		binary.BigEndian.PutUint16(h[10:], checksum(h))
		return h
	}
	udp := []byte{0, 0, 0, 0, 0, 8, 0, 0}
	binary.BigEndian.PutUint16(udp, src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	icmp := slices.Concat([]byte{3, 4, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, header(unix.IPPROTO_UDP, len(udp), src.Addr(), dst.Addr()), udp)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
	return slices.Concat(mac, []byte{2, 0, 0, 0, 0, 1, 8, 0}, header(unix.IPPROTO_ICMP, len(icmp), from, src.Addr()), icmp)
}

// checksum is the Internet checksum (RFC 1071) of parts that are each of even length.
func checksum(parts ...[]byte) uint16 {
	sum := uint32(0)
	for _, p := range parts {
		for i := 0; i < len(p); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(p[i:]))
		}
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}
