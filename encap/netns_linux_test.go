//go:build netns

package encap

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/packet/golden"
)

// enterNamespace moves the test to a network namespace of its own, where there
// is the loopback device alone, with the given MTU. The thread stays locked and
// ends with the test; the namespace ends with the last that is open in it.
func enterNamespace(t *testing.T, mtu int) (lo netlink.Link) {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	ns.Close() // the thread keeps it
	if lo, err = netlink.LinkByName("lo"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.LinkSetMTU(lo, mtu), netlink.LinkSetUp(lo)); err != nil {
		t.Fatal(err)
	}
	return lo
}

func TestTooBigForTheLink(t *testing.T) {
	const mtu = 1500
	enterNamespace(t, mtu)
	for addr, headers := range map[string]int{"127.0.0.1": 20 + 8, "::1": 40 + 8} {
		a, b := listen(t, addr), listen(t, addr)
		msgs := make([]Message, 200)
		for i := range msgs {
			msgs[i] = Message{Buf: make([]byte, mtu-headers), Addr: b.Addr()}
		}
		const tooBig = 100
		msgs[tooBig].Buf = make([]byte, mtu-headers+1)
		send(t, a, msgs)
		for i, m := range msgs {
			if i == tooBig && !errors.Is(m.Err, ErrTooBig) || i != tooBig && m.Err != nil {
				t.Errorf("%s: %d bytes in an MTU of %d: %v", addr, len(m.Buf)+headers, mtu, m.Err)
			}
		}
		receive(t, b, len(msgs)-1, Batch, 2000)
	}
}

// What the kernel believes of a path, for which it takes anyone's ICMP, is not
// what limits a datagram; the device is.
func TestSendIgnoresLearntPathMTU(t *testing.T) {
	lo := enterNamespace(t, 1500)
	for addr, size := range map[string]int{"127.0.0.1": 1500 - 28, "::1": 1500 - 48} {
		a, b := listen(t, addr), listen(t, addr)
		setPathMTU(t, lo, netip.MustParseAddr(addr), 1300)
		msgs := []Message{{Buf: make([]byte, size), Addr: b.Addr()}}
		send(t, a, msgs)
		if msgs[0].Err != nil {
			t.Fatalf("%s: %v", addr, msgs[0].Err)
		}
		receive(t, b, 1, 1, 2000)
	}
}

// setPathMTU gives the kernel's route to one of its own addresses another MTU.
func setPathMTU(t *testing.T, lo netlink.Link, ip netip.Addr, mtu int) {
	t.Helper()
	route := netlink.Route{
		LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
		Dst: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())},
	}
	if err := netlink.RouteDel(&route); err != nil {
		t.Fatal(err)
	}
	route.MTU = mtu
	if err := netlink.RouteAdd(&route); err != nil {
		t.Fatal(err)
	}
}

func TestNoRouteIsRefused(t *testing.T) {
	enterNamespace(t, 1500)
	a, b := listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
	msgs := make([]Message, 3)
	for i := range msgs {
		msgs[i] = Message{Buf: []byte("datagram"), Addr: b.Addr()}
	}
	msgs[1].Addr = netip.MustParseAddrPort("192.0.2.1:8285") // TEST-NET-1
	send(t, a, msgs)
	if msgs[0].Err != nil || !errors.Is(msgs[1].Err, ErrRefused) || msgs[2].Err != nil {
		t.Errorf("before, without and after a route: %v, %v, %v", msgs[0].Err, msgs[1].Err, msgs[2].Err)
	}
	receive(t, b, 2, Batch, 100)
}

// What leaves the socket is the golden packet of the underlay, but for what the
// kernel chooses: identification, checksums, and here the addresses.
func TestOnTheWire(t *testing.T) {
	lo := enterNamespace(t, 1500)
	capture := openCapture(t, lo)
	a, err := Listen(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 8285))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	send(t, a, []Message{{Buf: golden.Load(t, "ipv4-tcp"), Addr: a.Addr(), DSField: 2}})

	buf := make([]byte, 2000)
	n, _, err := unix.Recvfrom(capture, buf, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := gopacket.NewPacket(buf[:n], layers.LayerTypeIPv4, gopacket.Default)
	want := gopacket.NewPacket(golden.Load(t, "underlay-udp"), layers.LayerTypeIPv4, gopacket.Default)
	gotIP, wantIP := got.NetworkLayer().(*layers.IPv4), want.NetworkLayer().(*layers.IPv4)
	if gotIP.Flags != layers.IPv4DontFragment || gotIP.Flags != wantIP.Flags {
		t.Errorf("flags %s, want DF", gotIP.Flags)
	}
	if gotIP.TOS != wantIP.TOS || gotIP.TTL != wantIP.TTL || gotIP.Length != wantIP.Length {
		t.Errorf("DS field %#02x, TTL %d, length %d, want %#02x, %d, %d",
			gotIP.TOS, gotIP.TTL, gotIP.Length, wantIP.TOS, wantIP.TTL, wantIP.Length)
	}
	gotUDP, wantUDP := got.TransportLayer().(*layers.UDP), want.TransportLayer().(*layers.UDP)
	if gotUDP.SrcPort != wantUDP.SrcPort || gotUDP.DstPort != wantUDP.DstPort || !bytes.Equal(gotUDP.Payload, wantUDP.Payload) {
		t.Errorf("gopacket reads\n%v, want\n%v", gotUDP, wantUDP)
	}
}

// openCapture opens a packet socket that sees every IPv4 packet on link.
func openCapture(t *testing.T, link netlink.Link) (fd int) {
	t.Helper()
	protocol := networkOrder(unix.ETH_P_IP)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	limit := unix.NsecToTimeval(fuse.Nanoseconds())
	if err := errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Attrs().Index}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
	); err != nil {
		t.Fatal(err)
	}
	return fd
}

// A device slower than the socket is given datagrams leaves Send waiting for room.
func TestCloseEndsSend(t *testing.T) {
	lo := enterNamespace(t, 1500)
	slow := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       1e6,       // bytes a second
		Buffer:     2e6 / 64,  // 2 ms of that, in ticks of 64 ns: the largest packet
		Limit:      100 << 20, // bytes, more than a socket has room for: the device drops nothing
	}
	if err := netlink.QdiscAdd(slow); err != nil {
		t.Fatal(err)
	}
	// What waits in the queue keeps the closed socket, and that the namespace;
	// and the ICMP errors to it fill up the ICMP socket that all namespaces of
	// the machine share. Without this, for as long as the queue takes to drain.
	defer func() {
		if err := netlink.QdiscDel(slow); err != nil {
			t.Error(err)
		}
	}()
	s := listen(t, "127.0.0.1")
	msgs := make([]Message, 20000)
	for i := range msgs {
		msgs[i] = Message{Buf: make([]byte, 1400), Addr: s.Addr()}
	}
	type result struct {
		sent int
		err  error
	}
	ended := make(chan result)
	go func() {
		sent, err := s.Send(msgs)
		ended <- result{sent, err}
	}()
	waitAsleep(t, "encap.(*Socket).Send")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	r := <-ended
	if r.sent == 0 || r.sent >= len(msgs) || !errors.Is(r.err, net.ErrClosed) {
		t.Errorf("the waiting Send ends with %d of %d, %v", r.sent, len(msgs), r.err)
	}
}

// Without CAP_NET_ADMIN the buffers are what the kernel grants to anyone.
func TestListenWithoutCapability(t *testing.T) {
	enterNamespace(t, 1500)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil { // of this thread alone, which ends with the test
		t.Fatal(err)
	}
	a, b := listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
	send(t, a, []Message{{Buf: []byte("datagram"), Addr: b.Addr()}})
	receive(t, b, 1, 1, 100)
}
