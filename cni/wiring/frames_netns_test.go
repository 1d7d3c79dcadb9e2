//go:build netns

package wiring

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Frames as a pod with CAP_NET_RAW may send them. Checksums are left out: the guard looks at none.

func octets16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// marked is a frame to a hardware address of its own, by which it is told from all others.
func marked(mark byte, src net.HardwareAddr, etherType uint16, payload ...[]byte) []byte {
	return slices.Concat([]byte{0x02, 0, 0, 0, 0x77, mark}, src, octets16(etherType), slices.Concat(payload...))
}

func ipv4(src netip.Addr) []byte {
	return slices.Concat([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, src.AsSlice(), []byte{198, 51, 100, 1}, make([]byte, 8))
}

func arp(operation uint16, mac net.HardwareAddr, sender netip.Addr) []byte {
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4}, octets16(operation), mac, sender.AsSlice(), make([]byte, 6), []byte{10, 244, 1, 99})
}

func ipv6(src, dst netip.Addr, next byte, payload ...[]byte) []byte {
	body := slices.Concat(payload...)
	return slices.Concat([]byte{0x60, 0, 0, 0}, octets16(uint16(len(body))), []byte{next, 255}, src.AsSlice(), dst.AsSlice(), body)
}

func udp6(src netip.Addr) []byte {
	return ipv6(src, netip.MustParseAddr("2001:db8::1"), unix.IPPROTO_UDP, make([]byte, 8))
}

// icmpv6 is a message about target, where its type has one.
func icmpv6(kind byte, target netip.Addr) []byte {
	return slices.Concat([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice(), make([]byte, 16))
}
