//go:build netns

package encap

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// Of a Message that may be fragmented every datagram arrives whole, in IPv4 packets
// of the link's size without Don't Fragment, or in IPv6 packets of 1280 bytes; and
// no other message may.
func TestFragments(t *testing.T) {
	c := newCable(t)
	for family, protocol := range []uint16{unix.ETH_P_IP, unix.ETH_P_IPV6} {
		for _, want := range offloads {
			a, b := c.pair(family, want)
			var capture int
			c.in(1, func() {
				link, err := netlink.LinkByName("cable")
				if err != nil {
					t.Fatal(err)
				}
				capture = openCapture(t, link, protocol)
			})
			const size = 3000
			r := seeded(14)
			msgs := []Message{messages(r, b, 1, 100, 100, 1), messages(r, b, 3, size, 200, 2), messages(r, b, 1, 100, 100, 1)}
			msgs[1].Fragment = true
			a.sendmmsg = func(fd int, hdrs []mmsghdr) (int, unix.Errno) {
				if slices.ContainsFunc(hdrs, func(h mmsghdr) bool { return segmented(&h) }) {
					t.Errorf("%s, %s: the kernel is asked to cut what may be fragmented", addrOf(a.port), want)
				}
				return sendmmsg(fd, hdrs)
			}
			send(t, a, msgs)
			a.sendmmsg = sendmmsg
			for i, m := range msgs {
				if m.Lost != 0 || m.Err != nil {
					t.Fatalf("%s, %s: message %d: lost %d: %v", addrOf(a.port), want, i, m.Lost, m.Err)
				}
			}
			// They leave from another port, so the order is not that of msgs.
			got := map[int]int{}
			for _, d := range receive(t, b, 5) {
				got[len(d.bytes)]++
			}
			if got[100] != 2 || got[size] != 2 || got[200] != 1 {
				t.Errorf("%s, %s: datagrams of these sizes arrive: %v", addrOf(a.port), want, got)
			}
			checkFragments(t, capture, 2*3)

			msgs[1].Fragment = false
			send(t, a, msgs[1:2])
			if msgs[1].Lost != 2 || !errors.Is(msgs[1].Err, ErrTooBig) {
				t.Errorf("%s, %s: without Fragment: lost %d: %v", addrOf(a.port), want, msgs[1].Lost, msgs[1].Err)
			}
			receive(t, b, 1)
		}
	}
}

// Where the path is narrower than the link, a route for the mark says so, and what
// the link would take leaves in IPv6 packets of 1280 bytes too. Without the route it
// leaves whole.
func TestFragmentsOfANarrowPath(t *testing.T) {
	const mark, table, size = 0x100e, 119, 1330 - 40 - 8
	c := newCable(t)
	a, b := c.markedPair(mark)
	var capture int
	c.in(1, func() {
		link, err := netlink.LinkByName("cable")
		if err != nil {
			t.Fatal(err)
		}
		capture = openCapture(t, link, unix.ETH_P_IPV6)
	})
	sendLargest := func() {
		m := messages(seeded(15), b, 1, size, size, 2)
		m.Fragment = true
		send(t, a, []Message{m})
		compare(t, receive(t, b, 1), []Message{m})
	}
	sendLargest()
	c.in(0, func() {
		rule := netlink.NewRule()
		rule.Family, rule.Mark, rule.Table, rule.Priority = unix.AF_INET6, mark, table, table
		link, err := netlink.LinkByName("cable")
		if err := errors.Join(err, netlink.RuleAdd(rule)); err != nil {
			t.Fatal(err)
		}
		to := net.IPNet{IP: net.ParseIP(cableAddrs[1][1]), Mask: net.CIDRMask(128, 128)}
		err = netlink.RouteAdd(&netlink.Route{Dst: &to, LinkIndex: link.Attrs().Index, Table: table, MTU: 1280, MTULock: true})
		if err != nil {
			t.Fatal(err)
		}
	})
	sendLargest()

	// One of 1330 bytes, whole, and then its two fragments.
	checkWhole(t, capture, 40+8+size)
	checkFragments(t, capture, 2)

	// All else takes what the link does.
	whole := messages(seeded(16), b, 1, cableMTU-40-8, cableMTU-40-8, 2)
	send(t, a, []Message{whole})
	compare(t, receive(t, b, 1), []Message{whole})
	checkWhole(t, capture, cableMTU)
}

// markedPair is a data port at each end, over IPv6, of which the first marks what may
// be fragmented.
func (c *cable) markedPair(mark uint32) (a, b *Socket) {
	c.t.Helper()
	c.in(0, func() {
		config := config(netip.AddrPortFrom(netip.MustParseAddr(cableAddrs[1][0]), 0), 1, offload.All)
		config.FragmentMark = mark
		a = listenAs(c.t, config).Sockets()[0]
	})
	c.in(1, func() { b = listen(c.t, cableAddrs[1][1], 1, offload.All).Sockets()[0] })
	send(c.t, a, []Message{message(b, []byte("first"))})
	receive(c.t, b, 1)
	return a, b
}

// checkWhole wants one UDP datagram next among what was captured, in a packet of size
// bytes.
func checkWhole(t *testing.T, capture, size int) {
	t.Helper()
	buf := make([]byte, 2000)
	for {
		n, _, err := unix.Recvfrom(capture, buf, 0)
		if err != nil {
			t.Fatalf("before a packet of %d bytes: %v", size, err)
		}
		if p := buf[:n]; p[6] == unix.IPPROTO_UDP || p[6] == unix.IPPROTO_FRAGMENT { // others are the neighbours' own
			if p[6] != unix.IPPROTO_UDP || n != size {
				t.Errorf("a packet of %d bytes, protocol %d; want one whole of %d", n, p[6], size)
			}
			return
		}
	}
}

// checkFragments wants so many fragments among what was captured, none larger than
// it may be.
func checkFragments(t *testing.T, capture, want int) {
	t.Helper()
	buf := make([]byte, 2000)
	found := 0
	for found < want {
		n, _, err := unix.Recvfrom(capture, buf, 0)
		if err != nil {
			t.Fatalf("after %d of %d fragments: %v", found, want, err)
		}
		p := buf[:n]
		switch {
		case p[0]>>4 == 4 && (p[6]&0x3f != 0 || p[7] != 0): // More Fragments, or an offset
			if p[6]&0x40 != 0 || n > cableMTU {
				t.Errorf("a fragment of %d bytes, flags %#02x", n, p[6])
			}
			found++
		case p[0]>>4 == 6 && p[6] == unix.IPPROTO_FRAGMENT:
			if n > 1280 {
				t.Errorf("a fragment of %d bytes", n)
			}
			found++
		}
	}
}

// One datagram that is sent by itself is never fragmented.
func TestSendOneTooBig(t *testing.T) {
	c := newCable(t)
	for family := range cableAddrs {
		a, b := c.pair(family, offload.All)
		fits := cableMTU - outerHeaders(a.port.Addrs()[0])
		for _, size := range []int{fits, fits + 1} {
			err := a.port.SendOne(make([]byte, size), addrOf(b.port))
			if errors.Is(err, ErrTooBig) != (size > fits) || (err == nil) != (size <= fits) {
				t.Errorf("%s: %d bytes: %v", addrOf(a.port), size, err)
			}
		}
		receive(t, b, 1)
	}
}
