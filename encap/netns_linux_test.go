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

	"github.com/weft-net/weft/dataplane/offload"
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

// Whatever is switched on: the same datagrams, and fewer system calls.
func TestAcrossACable(t *testing.T) {
	c := newCable(t)
	for family := range cableAddrs {
		var plain [][]byte
		for _, want := range offloads {
			a, b := c.pair(family, want)
			msgs := []Message{
				messages(seeded(5), b, 45, cableMTU-48, 17, 2), messages(seeded(6), b, 1, 900, 900, 2),
				messages(seeded(7), b, MaxSegments, 100, 100, 1), messages(seeded(8), b, 2, cableMTU-48, cableMTU-48, 2),
			}
			send(t, a, msgs)
			got := receive(t, b, len(datagramsOf(msgs)))
			compare(t, got, msgs)
			if want == 0 {
				for _, d := range got {
					plain = append(plain, d.bytes)
				}
			}
			together := 0
			for i, d := range got {
				together = max(together, d.with)
				if i < len(plain) && !bytes.Equal(d.bytes, plain[i]) {
					t.Errorf("%s: datagram %d is another than without offloads", want, i)
				}
			}
			if want == offload.All && together != MaxSegments || !want.Has(offload.GRO) && together != 1 {
				t.Errorf("%s, %s: %d datagrams arrive at once", addrOf(a.port), want, together)
			}
			for i, m := range msgs {
				if m.Lost != 0 || m.Err != nil {
					t.Errorf("%s: message %d: lost %d: %v", want, i, m.Lost, m.Err)
				}
			}
		}
	}
}

// Of a message whose segments the link does not take, what is small enough goes.
func TestTooBigForTheLink(t *testing.T) {
	c := newCable(t)
	for family := range cableAddrs {
		for _, want := range offloads {
			a, b := c.pair(family, want)
			fits := cableMTU - outerHeaders(addrOf(a.port).Addr())
			r := seeded(9)
			msgs := make([]Message, 60)
			for i := range msgs {
				msgs[i] = messages(r, b, 1+i%4, fits, 1+i, 1+i%2)
			}
			const some, all, one = 10, 20, 30
			msgs[some] = messages(r, b, 4, fits+1, 100, 2)
			msgs[all] = messages(r, b, 3, fits+1, fits+1, 1)
			msgs[one] = message(b, make([]byte, fits+1))
			send(t, a, msgs)

			lost := map[int]int{some: 3, all: 3, one: 1}
			through := append([]Message(nil), msgs...)
			for i, m := range msgs {
				if m.Lost != lost[i] || (m.Lost > 0) != errors.Is(m.Err, ErrTooBig) {
					t.Errorf("%s, %s: message %d: lost %d: %v, want %d", addrOf(a.port), want, i, m.Lost, m.Err, lost[i])
				}
			}
			rest := datagramsOf(msgs[some : some+1])[3]
			through = append(append(append(append(through[:0:0], msgs[:some]...), message(b, rest)), msgs[some+1:all]...), append(msgs[all+1:one:one], msgs[one+1:]...)...)
			compare(t, receive(t, b, len(datagramsOf(through))), through)
			if on := a.port.Features(); on != b.port.Features() {
				t.Errorf("on is only %s", on)
			}
			again := msgs[some : some+1]
			again[0].Pieces, again[0].SegmentSize = messages(r, b, 4, fits, fits, 2).Pieces, fits
			send(t, a, again)
			got := receive(t, b, 4)
			compare(t, got, again)
			if want == offload.All && got[0].with != 4 {
				t.Errorf("%s: what was split once is split for good", addrOf(a.port))
			}
		}
	}
}

// What the kernel believes of a path, for which it takes anyone's ICMP, is not
// what limits a datagram; the device is.
func TestSendIgnoresLearntPathMTU(t *testing.T) {
	lo := enterNamespace(t, 1500)
	for _, addr := range loopbacks {
		a, b := pair(t, addr, offload.All)
		ip := netip.MustParseAddr(addr)
		setPathMTU(t, lo, ip, 1300)
		size := 1500 - outerHeaders(ip)
		msgs := []Message{messages(seeded(0), b, 1, size, size, 1), messages(seeded(0), b, 10, size, size, 1)}
		send(t, a, msgs)
		for _, m := range msgs {
			if m.Err != nil {
				t.Fatalf("%s: %d datagrams: %v", addr, m.Segments, m.Err)
			}
		}
		compare(t, receive(t, b, 11), msgs)
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
	a, b := pair(t, "127.0.0.1", offload.All)
	msgs := []Message{message(b, []byte("before")), messages(seeded(0), b, 3, 100, 100, 1), message(b, []byte("after"))}
	msgs[1].Addr = netip.MustParseAddrPort("192.0.2.1:8285") // TEST-NET-1
	send(t, a, msgs)
	if msgs[0].Err != nil || msgs[1].Lost != 3 || !errors.Is(msgs[1].Err, ErrRefused) || msgs[2].Err != nil {
		t.Errorf("before, without and after a route: %v, %v, %v", msgs[0].Err, msgs[1].Err, msgs[2].Err)
	}
	compare(t, receive(t, b, 2), []Message{msgs[0], msgs[2]})
}

// What leaves the socket is the golden packet of the underlay, but for what the
// kernel chooses: identification, source port, checksums, and here the addresses.
func TestOnTheWire(t *testing.T) {
	lo := enterNamespace(t, 1500)
	capture := openCapture(t, lo, unix.ETH_P_IP)
	p := listenAs(t, config(netip.MustParseAddrPort("127.0.0.1:8285"), 1, offload.All))
	m := message(p.Sockets()[0], golden.Load(t, "ipv4-tcp"))
	m.DSField = 2
	send(t, p.Sockets()[0], []Message{m})

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
	if gotUDP.DstPort != wantUDP.DstPort || gotUDP.Checksum == 0 || !bytes.Equal(gotUDP.Payload, wantUDP.Payload) {
		t.Errorf("gopacket reads\n%v, want\n%v", gotUDP, wantUDP)
	}
}

// openCapture opens a packet socket that sees every packet of a protocol on link.
func openCapture(t *testing.T, link netlink.Link, etherType uint16) (fd int) {
	t.Helper()
	protocol := networkOrder(etherType)
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

// A device slower than the socket is given datagrams leaves Send short, and Full
// says when to go on; nothing is lost or overtaken. All on one CPU: the loopback device has a backlog for each, and what a
// sender and the timer of its queueing discipline give to two of them arrives in any order.
func TestSlowDevice(t *testing.T) {
	lo := enterNamespace(t, 1500)
	var allowed, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if allowed.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil { // of this thread alone, which ends with the test
		t.Fatal(err)
	}
	slow := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       10e6,      // bytes a second
		Buffer:     10e6 / 64, // 10 ms of that, in ticks of 64 ns: more than the largest packet
		Limit:      100 << 20, // bytes, more than a socket has room for: the device drops nothing
	}
	if err := netlink.QdiscAdd(slow); err != nil {
		t.Fatal(err)
	}
	for _, want := range []offload.Set{0, offload.All} {
		a, b := pair(t, "127.0.0.1", want)
		if err := unix.SetsockoptInt(a.port.out[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 300<<10); err != nil {
			t.Fatal(err)
		}
		r := seeded(10)
		var msgs []Message
		for range 60 {
			msgs = append(msgs, messages(r, b, 40, 1400, 1000, 2))
		}
		n, err := a.Send(msgs)
		if n == 0 || n == len(msgs) || err != nil || a.Full() != a.port.out[0] {
			t.Errorf("%s: Send = %d %v of %d, Full = %d", want, n, err, len(msgs), a.Full())
		}
		send(t, a, msgs[n:])
		compare(t, receive(t, b, len(datagramsOf(msgs))), msgs)
		if a.Full() != -1 {
			t.Errorf("%s: Full = %d after all was sent", want, a.Full())
		}
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
	a, b := pair(t, "127.0.0.1", offload.All)
	msgs := []Message{messages(seeded(0), b, 3, 100, 100, 1)}
	send(t, a, msgs)
	compare(t, receive(t, b, 3), msgs)
}
