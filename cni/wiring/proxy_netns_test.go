//go:build netns

package wiring

import (
	"net/netip"
	"strings"
	"testing"
)

// addresses are those of the pod, without lengths.
func (a attached) addresses() (all []netip.Addr) {
	for _, p := range a.Addresses {
		all = append(all, p.Addr())
	}
	return all
}

// meets checks that pods reach each other by each family.
func (a attached) meets(t *testing.T, b attached) {
	t.Helper()
	for i := range a.Addresses {
		for _, way := range [][2]attached{{a, b}, {b, a}} {
			c := way[1].listen(way[1].Addresses[i].Addr())
			if err := reach(way[0].namespace, c, 100); err != nil {
				t.Errorf("%v to %v: %v", way[0].Addresses[i], way[1].Addresses[i], err)
			}
			c.Close()
		}
	}
}

// Pods of both wirings in one block reach each other, whichever came first, and the address of one that has gone may be another's.
func TestRoutedAndBridgedPodsOfABlock(t *testing.T) {
	n := newNode(t)
	n.run("ip", "route", "add", "unreachable", "fd24:0:0:1::/64", "metric", "4278198272") // weftd's
	other, _ := n.port("")
	other.Addresses = []netip.Prefix{netip.MustParsePrefix("fd24:0:0:9::5/64")}
	_, err := n.Attach(other)
	must(t, err)
	before := n.pod("")
	bridged := n.pod("cni0")
	after := n.pod("")
	bridged.meets(t, before)
	bridged.meets(t, after)
	before.meets(t, after)
	for _, p := range []attached{before, bridged, after} {
		must(t, n.Check(p.Port))
	}
	if delay := n.run("sysctl", "-n", "net.ipv6.neigh.cni0.proxy_delay"); strings.TrimSpace(delay) != "0" {
		t.Errorf("the node waits for up to %s hundredths of a second before it answers for others", delay)
	}

	if all := n.run("ip", "-6", "neigh", "show", "proxy"); strings.Count(all, "fd24:") != 2 || strings.Contains(all, "fd24:0:0:9:") {
		t.Errorf("the bridge stands for\n%s", all)
	}

	for _, gone := range []attached{before, after} {
		must(t, n.Detach(gone.Device))
		must(t, n.Forget("", gone.addresses()))
		must(t, n.Forget("", gone.addresses()))
	}
	if left := n.run("ip", "-6", "neigh", "show", "proxy"); left != "" {
		t.Errorf("the bridge stands for %s", left)
	}
	heir, pod := n.port("cni0")
	heir.Addresses = after.Addresses
	ends, err := n.Attach(heir)
	must(t, err)
	bridged.meets(t, attached{pod, heir, ends})
}

// A pod on the bridge is not stood for, though a routed one with its address was never undone.
func TestBridgedPodAfterARoutedOneThatWasLost(t *testing.T) {
	n := newNode(t)
	bridged := n.pod("cni0")
	lost := n.pod("")
	n.run("ip", "link", "del", lost.Device)
	heir, _ := n.port("cni0")
	heir.Addresses = lost.Addresses
	_, err := n.Attach(heir)
	must(t, err)
	if left := n.run("ip", "-6", "neigh", "show", "proxy"); left != "" {
		t.Errorf("the bridge stands for %s", left)
	}
	must(t, n.Check(bridged.Port))
}

// A bridge that is not weft's is left as it is.
func TestRoutedPodBesideABridgeOfOthers(t *testing.T) {
	n := newNode(t)
	n.run("ip", "link", "add", "br0", "type", "bridge")
	n.run("ip", "link", "set", "br0", "up")
	n.run("ip", "addr", "add", "fd24:0:0:1::1/64", "dev", "br0", "nodad")
	routed := n.pod("")
	must(t, n.Check(routed.Port))
	if left := n.run("ip", "-6", "neigh", "show", "proxy"); strings.Contains(left, "br0") {
		t.Errorf("it stands for %s", left)
	}
}
