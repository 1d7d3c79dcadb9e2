package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

// kernel is the system calls in which kernels differ.
type kernel struct {
	setOffload func(fd, flags int) error // TUNSETOFFLOAD
	writev     func(fd int, pieces []unix.Iovec) unix.Errno
}

// Immutable.
var theKernel = kernel{
	setOffload: func(fd, flags int) error { return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, flags) },
	writev:     writev,
}

// negotiate tries on a device that is down what of want the kernel can do.
func (k kernel) negotiate(l layer, p pair, want offload.Set) *status {
	s := &status{}
	csum := k.setOffload(p.in, unix.TUN_F_CSUM)
	flags := unix.TUN_F_CSUM
	for _, f := range []struct {
		feature offload.Feature
		flags   int
		gso     packet.GSO
		missing string
	}{
		{offload.TSO, unix.TUN_F_TSO4 | unix.TUN_F_TSO6, packet.TCP4, "the kernel's TUN has no TCP segmentation (TUNSETOFFLOAD: %w)"},
		{offload.USO, unix.TUN_F_USO4 | unix.TUN_F_USO6, packet.UDP, "the kernel's TUN has no UDP segmentation (TUNSETOFFLOAD: %w); Linux 6.2 has it"},
	} {
		if !want.Has(f.feature) {
			continue
		}
		err := csum
		if err == nil {
			err = k.setOffload(p.in, flags|f.flags)
		}
		if err != nil {
			s = s.without(f.feature, fmt.Errorf(f.missing, err))
			continue
		}
		flags |= f.flags
		if k.refuses(l, p.out, f.gso) {
			s = s.without(f.feature, errSuperpackets(l))
			continue
		}
		s = &status{on: s.on | offload.Of(f.feature), refused: s.refused}
	}
	return s
}

// errSuperpackets is why a feature is off. Superpackets that the kernel hands over stay
// superpackets all the same.
func errSuperpackets(l layer) error {
	return fmt.Errorf("the kernel refuses superpackets that are written to the %s (%w), as Linux 6.1 and 6.6.44 do; packets are written one by one", l, unix.EINVAL)
}

// refuses writes a superpacket to the device, which is down. The kernel looks at the
// virtio-net header first and only then whether the device is up (tun_get_user,
// drivers/net/tun.c): EINVAL means that it refuses superpackets, EIO that
// it would have taken this one.
//
// Should the device be up already, the packet is one between two addresses that
// are for documentation only (RFC 5737), and of a TAP in a frame that every bridge drops.
func (k kernel) refuses(l layer, fd int, gso packet.GSO) bool {
	v, p := trial(gso)
	if l == layer2 {
		p = append(trialLink(), p...)
		v.headerLen += len(trialLink())
		v.csumStart += len(trialLink())
	}
	var h [virtioLen]byte
	v.encode(&h)
	return errors.Is(k.writev(fd, []unix.Iovec{piece(h[:]), piece(p)}), unix.EINVAL)
}

// trialLink is the Ethernet header of a trial. Its destination is that of PAUSE frames, which
// no bridge forwards or learns from (IEEE 802.1Q table 8-1; br_handle_frame,
// net/bridge/br_input.c).
func trialLink() []byte {
	return []byte{0x01, 0x80, 0xc2, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x01, 0x08, 0x00}
}

// trial is a superpacket of two segments.
func trial(gso packet.GSO) (v virtio, p []byte) {
	const (
		ipLen   = 20
		segment = 536 // RFC 9293 section 3.7.1
	)
	v = virtio{gso: gso, segmentSize: segment, csumStart: ipLen, csumOffset: 16, headerLen: ipLen + 20}
	protocol := uint32(unix.IPPROTO_TCP)
	if gso == packet.UDP {
		protocol = unix.IPPROTO_UDP
		v.csumOffset, v.headerLen = 6, ipLen+8
	}
	p = make([]byte, v.headerLen+2*segment)
	ip, transport := p[:ipLen], p[ipLen:]

	ip[0] = 0x45 // version and header length
	binary.BigEndian.PutUint16(ip[2:], uint16(len(p)))
	ip[8], ip[9] = 1, byte(protocol) // of a TTL that no router forwards
	copy(ip[12:], []byte{192, 0, 2, 1})
	copy(ip[16:], []byte{198, 51, 100, 1})
	binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip, 0))

	binary.BigEndian.PutUint16(transport[0:], 9) // discard (RFC 863), both ports
	binary.BigEndian.PutUint16(transport[2:], 9)
	if gso == packet.UDP {
		binary.BigEndian.PutUint16(transport[4:], uint16(len(transport)))
	} else {
		transport[12], transport[13] = 5<<4, 1<<4 // header length; ACK
	}
	pseudo := packet.Checksum(ip[12:20], protocol+uint32(len(transport)))
	binary.BigEndian.PutUint16(transport[v.csumOffset:], ^pseudo)
	return v, p
}

// read reads one packet, and answers EAGAIN where there is none. It is a raw
// system call, since it never waits: the Go scheduler need not know of it.
func read(fd int, buf []byte) (n int, errno unix.Errno) {
	got, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
	runtime.KeepAlive(buf)
	return int(got), errno
}

// writev writes one packet. Its system call is as raw as read's. The kernel takes
// all of a packet or nothing.
func writev(fd int, pieces []unix.Iovec) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(pieces))), uintptr(len(pieces)))
	runtime.KeepAlive(pieces) // and with them what they point at
	return errno
}

// readable says whether a read of fd would find something, or an error, rather than wait.
func readable(fd int) (bool, error) {
	ready := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Ppoll(ready[:], &unix.Timespec{}, nil)
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}

// asClosed makes net.ErrClosed of an error on fd, a queue of a device that was deleted. A read through an
// os.File does not always say so: the Go runtime may have marked the descriptor as "not
// pollable" and read no more.
func asClosed(fd int, err error) error {
	var req unix.Ifreq
	if errors.Is(unix.IoctlIfreq(fd, unix.TUNGETIFF, &req), unix.EBADFD) {
		return net.ErrClosed
	}
	return err
}

func piece(b []byte) (v unix.Iovec) {
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
	return v
}
