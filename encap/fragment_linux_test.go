//go:build netns

package encap

import (
	"errors"
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
