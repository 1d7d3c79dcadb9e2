//go:build netns

package device

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

// fuse ends a test that would wait for ever.
const fuse = 30 * time.Second

// enterNamespace moves the test to a network namespace of its own and returns a
// netlink handle there, which stays there when the test goes on to another. The
// thread stays locked and ends with the test.
func enterNamespace(t *testing.T) *netlink.Handle {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	ns.Close() // the thread keeps it, and so does the handle
	handle, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(handle.Close)
	// Else the kernel speaks first on every new device: router solicitations
	// and multicast reports, which the tests would read.
	for _, key := range []string{"all", "default"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+key+"/disable_ipv6", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	return handle
}

// mustOpen opens weft0 with an address and sets it up, for the length of the test.
func mustOpen(t *testing.T, handle *netlink.Handle, queues int, want offload.Set, k kernel, cidr string) (*TUN, netlink.Link) {
	t.Helper()
	dev, err := tunOf(open(layer3, "weft0", queues, want, k))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	link, err := handle.LinkByName("weft0")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	addr.Flags = unix.IFA_F_NODAD // else it is of no use for a second
	if err := errors.Join(handle.AddrAdd(link, addr), handle.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	return dev, link
}

// kinds are both kinds of queue.
func kinds(t *testing.T, test func(*testing.T, offload.Set)) {
	t.Run("superpackets", func(t *testing.T) { test(t, both) })
	t.Run("portable", func(t *testing.T) { test(t, 0) })
}

// statistics reads the device's counters, in superpackets.
func statistics(t *testing.T, handle *netlink.Handle, link netlink.Link) netlink.LinkStatistics {
	t.Helper()
	link, err := handle.LinkByIndex(link.Attrs().Index)
	if err != nil {
		t.Fatal(err)
	}
	return *link.Attrs().Statistics
}

// waitReadable waits until one of the queues polls as readable and returns it, or
// fails the test.
func waitReadable(t *testing.T, queues ...Queue) Queue {
	t.Helper()
	var fds []unix.PollFd
	for _, q := range queues {
		fds = append(fds, unix.PollFd{Fd: int32(q.FD()), Events: unix.POLLIN})
	}
	end := time.Now().Add(fuse)
	for time.Now().Before(end) {
		_, err := unix.Poll(fds, int(fuse.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		for i := range fds {
			if fds[i].Revents != 0 {
				return queues[i]
			}
		}
	}
	t.Fatal("nothing to read")
	return nil
}

// readOne waits for one packet, and no more, of the queue.
func readOne(t *testing.T, q Queue) packet.Packet {
	t.Helper()
	waitReadable(t, q)
	pkts := make([]packet.Packet, 2)
	n, err := q.Read(make([]byte, 2*MaxRead), pkts)
	if n != 1 || err != nil {
		t.Fatalf("Read = %d %v", n, err)
	}
	return pkts[0]
}

// The far end, which the tests play, and the kernel's, as the golden packets have them.
var (
	peer = netip.MustParseAddrPort("10.244.1.7:40000")
	ours = netip.MustParseAddrPort("10.244.2.9:5353")
)

// kernelSocket is the kernel's end.
func kernelSocket(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(ours))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := errors.Join(conn.SetDeadline(time.Now().Add(fuse)), conn.SetReadBuffer(4<<20)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// receive wants the kernel's socket to hand over the payloads, in order.
func receive(t *testing.T, conn *net.UDPConn, payloads ...[]byte) {
	t.Helper()
	buf := make([]byte, MaxPacket)
	for i, want := range payloads {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil || from != peer || string(buf[:n]) != string(want) {
			t.Fatalf("datagram %d of %d: %d bytes from %s (%v), want %d from %s", i, len(payloads), n, from, err, len(want), peer)
		}
	}
}

// send sends from the kernel's socket to peer.
func send(t *testing.T, conn *net.UDPConn, payload []byte) {
	t.Helper()
	if _, err := conn.WriteToUDPAddrPort(payload, peer); err != nil {
		t.Fatal(err)
	}
}

// setSegment makes the socket send superpackets of datagrams of that many bytes.
func setSegment(t *testing.T, conn syscall.Conn, size int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var optionErr error
	err = raw.Control(func(fd uintptr) { optionErr = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
	if err := errors.Join(err, optionErr); err != nil {
		t.Fatal(err)
	}
}
