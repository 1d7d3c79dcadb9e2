//go:build netns

package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// Pods leave the pod network under their node's address, unless that is switched off, and
// keep their own within it, however their packets travel. No tunnel is tracked.
func TestMasquerade(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	outside, err := c.Node("outside")
	if err != nil {
		t.Fatal(err)
	}
	if err := outside.EnableIPv6(); err != nil {
		t.Fatal(err)
	}
	for i, flags := range [][]string{{"--mode", "auto"}, {"--mode", "auto"}, {"--mode", "udp"}, {"--mode", "vxlan", "--masquerade=false"}} {
		m := c.members[i]
		if err := m.EnableIPv6(); err != nil {
			t.Fatal(err)
		}
		m.start(append(m.dualStack(), flags...)...)
	}
	c.converged()
	a, bare := c.members[0], c.members[3]
	pods := make(map[*member]*topo.Pod)
	for _, m := range c.members {
		pods[m] = dualPod(t, m.Node, byte(m.number), m.mtu())
	}
	for i, mode := range []string{"direct", "udp", "vxlan"} {
		a.uses(c.members[1+i], mode)
	}

	for _, m := range c.members {
		want4, want6 := m.Addr, m.Addr6
		if m == bare {
			want4, want6 = pods[m].Addr, pods[m].Addr6
		}
		for to, want := range map[netip.Addr]netip.Addr{outside.Addr: want4, outside.Addr6: want6} {
			if got := seenAs(t, pods[m].Namespace, outside.Namespace, to); got != want {
				t.Errorf("%s sees a pod of %s as %s, want %s", to, m, got, want)
			}
		}
	}
	for _, m := range c.members {
		from := pods[m]
		six := netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%d::", m.number))
		for to, want := range map[netip.Addr]netip.Addr{
			m.Addr: from.Addr, m.block().Addr(): from.Addr, m.Addr6: from.Addr6, six: from.Addr6,
		} {
			if got := seenAs(t, from.Namespace, m.Namespace, to); got != want {
				t.Errorf("its node sees a pod of %s at %s as %s, want %s", m, to, got, want)
			}
		}
		if m == a {
			continue
		}
		for _, ends := range [][2]*topo.Pod{{pods[a], from}, {from, pods[a]}, {overIPv6(pods[a]), overIPv6(from)}, {overIPv6(from), overIPv6(pods[a])}} {
			// A transfer checks who it comes from.
			if err := transfer(t, ends[0], ends[1], 1<<20); err != nil {
				t.Error(err)
			}
		}
		if got := seenAs(t, pods[a].Namespace, m.Namespace, m.block().Addr()); got != pods[a].Addr {
			t.Errorf("%s sees a pod of %s at its TUN as %s, want %s", m, a, got, pods[a].Addr)
		}
	}

	tracked := c.command(a.Namespace, "cat", "/proc/net/nf_conntrack")
	if !strings.Contains(tracked, "src="+pods[a].Addr.String()+" dst="+outside.Addr.String()) {
		t.Errorf("what is masqueraded is not tracked, so that the next check says nothing:\n%s", tracked)
	}
	for line := range strings.Lines(tracked) {
		for _, port := range []string{" dport=8285 ", " dport=4789 "} {
			if strings.Contains(line, port) {
				t.Errorf("a tunnel is tracked: %s", line)
			}
		}
	}
	for _, m := range c.members {
		m.stop()
		m.leftNothing()
	}
}

// seenAs sends a datagram from a pod to a host, and returns the address that the host
// sees it come from.
func seenAs(t *testing.T, from, to *topo.Namespace, addr netip.Addr) netip.Addr {
	t.Helper()
	server := listenUDP(t, to)
	defer server.Close()
	conn, err := dial(from, "udp", addr, echoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := server.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("who am I?")); err != nil {
		t.Fatal(err)
	}
	_, source, err := server.ReadFromUDPAddrPort(make([]byte, 10))
	if err != nil {
		t.Fatalf("from %s to %s: %v", from, addr, err)
	}
	return source.Addr().Unmap()
}
