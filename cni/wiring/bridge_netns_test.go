//go:build netns

package wiring

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// A bridge of others, flannel's say, is good where it has the gateway's address, or none.
func TestBridgeOfOthers(t *testing.T) {
	for _, c := range []struct{ name, addresses, refused string }{
		{"the gateway", "10.244.1.1/24 fd24:0:0:1::1/64", ""},
		{"none", "", ""},
		{"one family", "10.244.1.1/24", ""},
		{"another block", "10.244.7.1/24", "10.244.7.1/24 where this node's block needs 10.244.1.1/24"},
		{"another length", "10.244.1.1/16", "10.244.1.1/16 where this node's block needs 10.244.1.1/24"},
		{"another IPv6 block", "10.244.1.1/24 fd24:0:0:7::1/64", "fd24:0:0:7::1/64 where this node's block needs fd24:0:0:1::1/64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.run("ip", "link", "add", "cni0", "type", "bridge")
			for _, a := range strings.Fields(c.addresses) {
				n.run("ip", "addr", "add", a, "dev", "cni0")
			}
			p, pod := n.port("cni0")
			ends, err := n.Attach(p)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), "ip link delete cni0") {
					t.Errorf("Attach: %v, want %q and what to do", err, c.refused)
				}
				return
			}
			must(t, err)
			must(t, n.Check(p))
			if mac := n.link("cni0").Attrs().HardwareAddr; !slices.Equal(mac, ends.Bridge) {
				t.Errorf("Attach says the bridge has %v, and it has %v", ends.Bridge, mac)
			}
			for _, a := range p.Addresses {
				must(t, reach(n.namespace, (&attached{pod, p, ends}).listen(a.Addr()), 100))
			}
			n.removesBridges()
			n.link("cni0")
		})
	}
}

func TestBridgeIsNoBridge(t *testing.T) {
	n := newNode(t)
	n.run("ip", "link", "add", "cni0", "type", "veth", "peer", "name", "cni1")
	p, _ := n.port("cni0")
	if _, err := n.Attach(p); err == nil || !strings.Contains(err.Error(), "there is a veth of this name") {
		t.Errorf("Attach: %v", err)
	}
}

// When the node's block changes, pods with addresses of the former one go on.
func TestBridgeOfTwoBlocks(t *testing.T) {
	n := newNode(t)
	a := n.pod("cni0")
	p, pod := n.port("cni0")
	p.Addresses = []netip.Prefix{netip.MustParsePrefix("10.244.9.5/24")}
	_, err := n.Attach(p)
	must(t, err)
	b := attached{pod, p, Ends{}}
	must(t, reach(a.namespace, b.listen(p.Addresses[0].Addr()), 100))
	must(t, n.Check(a.Port))
	must(t, n.Check(p))

	overlapping, _ := n.port("cni0")
	overlapping.Addresses = []netip.Prefix{netip.MustParsePrefix("10.244.9.7/25")}
	if _, err := n.Attach(overlapping); err == nil || !strings.Contains(err.Error(), "10.244.9.1/24 where this node's block needs 10.244.9.1/25") {
		t.Errorf("Attach with a block of another length: %v", err)
	}
}

func TestHairpin(t *testing.T) {
	n := newNode(t)
	a := n.pod("cni0")
	c := a.listen(a.Addresses[0].Addr())
	n.run("nft", "table ip nat { chain pre { type nat hook prerouting priority -100; ip daddr 10.96.0.1 dnat to 10.244.1.2; }; chain post { type nat hook postrouting priority 100; ip saddr 10.244.1.2 ip daddr 10.244.1.2 masquerade; }; }")
	err := reachAt(a.namespace, c, netip.MustParseAddr("10.96.0.1"), 100)
	must(t, err)
}

func (n *node) removesBridges(want ...string) {
	n.t.Helper()
	if got, err := n.RemoveBridges(); err != nil || !slices.Equal(got, want) {
		n.t.Errorf("RemoveBridges = %q, %v; want %q", got, err, want)
	}
}

func TestRemoveBridges(t *testing.T) {
	n := newNode(t)
	before := n.dump()
	a := n.pod("cni0")
	n.removesBridges()
	n.link("cni0") // which has a port
	must(t, n.Detach(a.Device))
	n.removesBridges("cni0")
	if diff := difference(before, n.dump()); diff != "" {
		t.Errorf("there is a difference:\n%s", diff)
	}
}
