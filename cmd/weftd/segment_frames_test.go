//go:build netns

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
)

// ear hears the frames that come in by a device, and sends others out of it.
type ear struct {
	in    *topo.Namespace
	fd    int
	heard [][]byte // as they were on the wire, VLAN tags included
}

// listenTo begins with what comes next.
func listenTo(t *testing.T, in *topo.Namespace, device string) *ear {
	t.Helper()
	e := &ear{in: in}
	link, err := in.Handle().LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	err = in.Do(func() (err error) {
		const room = 64 << 20
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		// Bound only then to a protocol, so that it gets nothing from other interfaces.
		e.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room),
			unix.SetsockoptInt(e.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
			unix.SetsockoptInt(e.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(e.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(e.fd) })
	return e
}

// listen is of v's own device.
func (v *vm) listen(t *testing.T) *ear {
	t.Helper()
	return listenTo(t, v.Namespace, "eth0")
}

// send sends a frame, tags and all.
func (e *ear) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := unix.Write(e.fd, frame); err != nil {
		t.Fatalf("%s: send a frame of %d bytes: %v", e.in, len(frame), err)
	}
}

// count is how many of the frames heard so far are such ones.
func (e *ear) count(t *testing.T, such func(frame []byte) bool) (n int) {
	t.Helper()
	e.take(t)
	for _, frame := range e.heard {
		if such(frame) {
			n++
		}
	}
	return n
}

// gets waits for n such frames.
func (e *ear) gets(c *cluster, what string, n int, such func(frame []byte) bool) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%s to get %s", e.in, what), func(context.Context) error {
		if got := e.count(c.t, such); got < n {
			return fmt.Errorf("%d of %d came", got, n)
		}
		return nil
	})
}

// take takes what the socket has.
func (e *ear) take(t *testing.T) {
	t.Helper()
	buf, oob := make([]byte, 1<<17), make([]byte, 256)
	for {
		n, oobn, _, _, err := unix.Recvmsg(e.fd, buf, oob, 0)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e.heard = append(e.heard, retag(t, buf[:n], oob[:oobn]))
	}
	stats, err := unix.GetsockoptTpacketStats(e.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Drops > 0 {
		t.Errorf("%s: %d of %d frames were not heard", e.in, stats.Drops, stats.Packets)
	}
}

// retag puts the outer tag back, which the kernel keeps beside the frame (skb_vlan_untag, net/core/skbuff.c).
func retag(t *testing.T, frame, oob []byte) []byte {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	frame = bytes.Clone(frame)
	for _, message := range messages {
		if message.Header.Level != unix.SOL_PACKET || message.Header.Type != unix.PACKET_AUXDATA {
			continue
		}
		aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&message.Data[0]))
		if aux.Status&unix.TP_STATUS_VLAN_VALID != 0 {
			tag := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, aux.Vlan_tpid), aux.Vlan_tci)
			frame = append(frame[:12:12], append(tag, frame[12:]...)...)
		}
	}
	return frame
}

// EtherTypes beside those of TestVXLANAbuse (IEEE 802 Numbers).
const (
	etherIPv6    = 0x86dd
	etherService = 0x88a8 // the outer tag of 802.1ad
	etherLocal   = 0x88b6 // Local Experimental Ethertype 2
)

// broadcast is every station.
func broadcast() net.HardwareAddr { return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// frame is one with these tags, and what says who sends it.
func frame(dst, src net.HardwareAddr, payload []byte, etherTypes ...uint16) []byte {
	f := append(append([]byte{}, dst...), src...)
	for i, etherType := range etherTypes {
		f = binary.BigEndian.AppendUint16(f, etherType)
		if i < len(etherTypes)-1 {
			f = binary.BigEndian.AppendUint16(f, uint16(0x6000|(42+i))) // priority 3, VLAN 42 and on
		}
	}
	return append(f, payload...)
}

// sameFrame are frames that are this one to the byte.
func sameFrame(want []byte) func([]byte) bool {
	return func(f []byte) bool { return bytes.Equal(f, want) }
}

// containing are frames with mark in them.
func containing(mark string) func([]byte) bool {
	return func(f []byte) bool { return bytes.Contains(f, []byte(mark)) }
}

// asking are broadcast ARP requests and multicast neighbour solicitations of a machine for an address.
func asking(from net.HardwareAddr, target netip.Addr) func([]byte) bool {
	return func(f []byte) bool {
		if len(f) < 42 || !bytes.Equal(f[6:12], from) || f[0]&1 == 0 {
			return false
		}
		switch binary.BigEndian.Uint16(f[12:]) {
		case etherARP:
			return f[21] == 1 && bytes.Equal(f[38:42], target.AsSlice())
		case etherIPv6:
			const solicitation = 135 // RFC 4861 section 4.3
			return len(f) >= 78 && f[20] == unix.IPPROTO_ICMPV6 && f[54] == solicitation && bytes.Equal(f[62:78], target.AsSlice())
		}
		return false
	}
}

// announcement is the gratuitous ARP by which a machine tells where it is (RFC 5944 section 4.6).
func (v *vm) announcement() []byte {
	ip := v.Addr.AsSlice()
	arp := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, v.mac...)
	arp = append(append(arp, ip...), broadcast()...)
	return frame(broadcast(), v.mac, append(append(arp, ip...), make([]byte, 18)...), etherARP)
}
