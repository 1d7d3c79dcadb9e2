//go:build netns

package encap

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

const cableMTU = 1500

// outerHeaders is what is in front of a datagram, in bytes.
func outerHeaders(ip netip.Addr) int {
	if ip.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// cable is a veth pair between two namespaces of the test's own, with an IPv4 and
// an IPv6 address at each end. The test is in neither.
type cable struct {
	t    *testing.T
	ends [2]netns.NsHandle
}

// Immutable. By family and end.
var cableAddrs = [2][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}}

func newCable(t *testing.T) *cable {
	t.Helper()
	enterNamespace(t, 65536)
	c := &cable{t: t}
	for i := range c.ends {
		ns, err := netns.New() // and enters it
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		c.ends[i] = ns
	}
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "cable"}
	veth.Name, veth.MTU, veth.PeerNamespace = "cable", cableMTU, netlink.NsFd(c.ends[0])
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	for i := range c.ends {
		c.in(i, func() {
			link, err := netlink.LinkByName("cable")
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range cableAddrs {
				addr, err := netlink.ParseAddr(family[i] + "/64")
				if netip.MustParseAddr(family[i]).Is4() {
					addr, err = netlink.ParseAddr(family[i] + "/24")
				}
				if err != nil {
					t.Fatal(err)
				}
				addr.Flags = unix.IFA_F_NODAD
				if err := netlink.AddrAdd(link, addr); err != nil {
					t.Fatal(err)
				}
			}
			if err := netlink.LinkSetUp(link); err != nil {
				t.Fatal(err)
			}
		})
	}
	return c
}

// in runs f in the namespace of an end.
func (c *cable) in(end int, f func()) {
	c.t.Helper()
	if err := netns.Set(c.ends[end]); err != nil {
		c.t.Fatal(err)
	}
	f()
}

// pair is a data port at each end, after the first datagram: what is sent
// while the neighbour is not known yet waits in a short queue.
func (c *cable) pair(family int, want offload.Set) (a, b *Socket) {
	c.t.Helper()
	c.in(0, func() { a = listen(c.t, cableAddrs[family][0], 1, want).Sockets()[0] })
	c.in(1, func() { b = listen(c.t, cableAddrs[family][1], 1, want).Sockets()[0] })
	send(c.t, a, []Message{message(b, []byte("first"))})
	receive(c.t, b, 1)
	return a, b
}
