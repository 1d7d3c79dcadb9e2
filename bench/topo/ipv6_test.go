//go:build netns && linux

package topo

import (
	"net/netip"
	"strings"
	"testing"
)

func enableIPv6(t *testing.T, nodes ...*Node) {
	t.Helper()
	for _, node := range nodes {
		if err := node.EnableIPv6(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNodeIPv6(t *testing.T) {
	topology := newTopology(t)
	a, b, old := addNode(t, topology, "a"), addNode(t, topology, "b"), addNode(t, topology, "old")
	enableIPv6(t, a, b)
	if want := netip.MustParseAddr("2001:db8:77::2"); b.Addr6 != want || old.Addr6.IsValid() {
		t.Errorf("addresses %s and %s, want %s and none", b.Addr6, old.Addr6, want)
	}
	mustReach(t, a.Namespace, b.Addr6)
	mustReach(t, b.Namespace, a.Addr)
	if route := mustRun(t, a.Namespace, "ip", "-6", "route", "show", "default"); !strings.HasPrefix(route, "default via 2001:db8:77::fe dev eth0") {
		t.Errorf("default route of a node: %q", route)
	}
	if addrs := mustRun(t, old.Namespace, "ip", "-6", "addr", "show", "scope", "global"); addrs != "" {
		t.Errorf("a node that nobody gave IPv6 has %s", addrs)
	}
	for _, addr := range strings.Split(mustRun(t, a.Namespace, "ip", "-6", "-o", "addr"), "\n") {
		if strings.Contains(addr, "tentative") {
			t.Errorf("an address that is not ready: %s", addr)
		}
	}
}

func TestPodIPv6(t *testing.T) {
	topology := newTopology(t)
	a, b := addNode(t, topology, "a"), addNode(t, topology, "b")
	enableIPv6(t, a, b)
	p, q, far := addPod(t, a, "p", "10.244.1.10"), addPod(t, a, "q", "10.244.1.11"), addPod(t, b, "p", "10.244.2.10")
	for pod, addr := range map[*Pod]string{p: "fd00:10:244:1::10", q: "fd00:10:244:1::11", far: "fd00:10:244:2::10"} {
		if err := pod.AddIPv6(netip.MustParseAddr(addr)); err != nil {
			t.Fatal(err)
		}
		if pod.Addr6.String() != addr {
			t.Errorf("Addr6 = %s, want %s", pod.Addr6, addr)
		}
	}
	mustReach(t, a.Namespace, p.Addr6)
	mustReach(t, p.Namespace, a.Addr6)
	mustReach(t, p.Namespace, a.Addr)
	mustNotReach(t, p.Namespace, q.Addr6)
	for _, node := range []*Node{a, b} {
		mustRun(t, node.Namespace, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	}
	mustReach(t, p.Namespace, q.Addr6)

	// A node asks for another one's MAC on a pod's behalf.
	mustRun(t, a.Namespace, "ip", "route", "add", "fd00:10:244:2::/64", "via", b.Addr6.String())
	mustRun(t, b.Namespace, "ip", "route", "add", "fd00:10:244:1::/64", "via", a.Addr6.String())
	mustReach(t, p.Namespace, far.Addr6)

	if err := q.AddIPv6(netip.MustParseAddr("10.244.1.12")); err == nil {
		t.Error("AddIPv6 of an IPv4 address gave no error")
	}
}
