//go:build netns

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// families is two nodes on an underlay of one family or of both, and their pods of both.
// A node has two blocks of IPv4.
type families struct {
	*cluster
	ipv4, ipv6 bool // of the underlay
	seed       string
	pods       [2]*topo.Pod
	second     *topo.Pod // in the other IPv4 block of the second node
}

// Pods of both families reach one another in every mode, on underlays of either family
// and of both, and nodes reach pods.
func TestFamilies(t *testing.T) {
	for _, underlay := range []struct {
		name       string
		ipv4, ipv6 bool
	}{
		{"IPv4", true, false}, {"IPv6", false, true}, {"both", true, true},
	} {
		t.Run(underlay.name, func(t *testing.T) {
			t.Parallel()
			f := &families{cluster: newCluster(t, 2), ipv4: underlay.ipv4, ipv6: underlay.ipv6}
			f.address(t)
			for _, mode := range []string{"udp", "vxlan", "auto"} {
				f.restart(t, mode)
				t.Run(mode, func(t *testing.T) {
					f.expectWay(t, mode)
					f.exchangeAll(t, mode == "auto" && f.ipv6)
				})
			}
		})
	}
}

// address gives the nodes the underlay's families.
func (f *families) address(t *testing.T) {
	t.Helper()
	for _, m := range f.members {
		if f.ipv6 {
			if err := m.EnableIPv6(); err != nil {
				t.Fatal(err)
			}
		}
		if !f.ipv4 {
			if _, err := m.Run(t.Context(), "ip", "-4", "address", "flush", "dev", "eth0"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if f.seed = f.members[0].Addr.String(); !f.ipv4 {
		f.seed = f.members[0].seed6()
	}
}

// seed6 is m for others to join by IPv6.
func (m *member) seed6() string { return fmt.Sprintf("[%s]", m.Addr6) }

// restart has both daemons run in another mode, and makes the pods at the first time.
func (f *families) restart(t *testing.T, mode string) {
	t.Helper()
	for _, m := range f.members {
		if m.daemon != nil {
			m.stop()
		}
		m.start("--mode", mode, "--join", f.seed, "--pod-network", "10.244.0.0/16,fd00:10:244::/48",
			"--pod-cidr", fmt.Sprintf("10.244.%d.0/24,10.244.%d.0/24,fd00:10:244:%[1]d::/64", m.number, 100+m.number))
	}
	f.converged()
	if f.second != nil {
		return
	}
	for i, m := range f.members {
		f.pods[i] = dualPod(t, m.Node, byte(m.number), m.mtu())
	}
	b := f.members[1]
	var err error
	if f.second, err = b.Pod("p11", netip.MustParseAddr("10.244.102.11")); err == nil {
		err = f.second.SetMTU(b.mtu())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// expectWay waits until packets go as they shall: in mode auto without encapsulation,
// IPv4 over IPv6 next hops where there are no others. IPv6 has to be encapsulated where
// there are only IPv4 ones.
func (f *families) expectWay(t *testing.T, mode string) {
	t.Helper()
	a, b := f.members[0], f.members[1]
	want, endpoint, hop := mode, b.Addr, b.Addr.String()
	if !f.ipv4 {
		endpoint, hop = b.Addr6, "inet6 "+b.Addr6.String()
	}
	if mode == "auto" {
		if want = "direct"; !f.ipv6 {
			want = "udp"
		}
	}
	a.uses(b, want)
	b.uses(a, want)
	p, err := a.peer(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if p.Endpoint.Addr() != endpoint {
		t.Errorf("the endpoint in use is %s, want %s", p.Endpoint, endpoint)
	}
	if mode != "auto" {
		return
	}
	if !f.ipv6 {
		if want := "no endpoint of it is of a family"; !strings.Contains(p.Why, want) {
			t.Errorf("IPv6 pods on IPv4 nodes: why is %q, want %q in it", p.Why, want)
		}
		return
	}
	for addr, via := range map[netip.Addr]string{f.pods[1].Addr: hop, f.second.Addr: hop, f.pods[1].Addr6: b.Addr6.String()} {
		f.eventually("the route to "+addr.String(), func(ctx context.Context) error { // just behind the choice
			out, err := a.Run(ctx, "ip", "route", "get", addr.String())
			if want := " via " + via + " dev eth0"; err != nil || !strings.Contains(out, want) {
				return fmt.Errorf("%q, %w, want %q in it", out, err, want)
			}
			return nil
		})
	}
}

// exchangeAll has pods and nodes talk in all ways there are. direct says that the engines
// are to see nothing of it.
func (f *families) exchangeAll(t *testing.T, direct bool) {
	t.Helper()
	before := f.settled()
	mtu := f.members[0].mtu()
	here, there := f.pods[0], f.pods[1]
	for _, ends := range [][2]*topo.Pod{{here, there}, {overIPv6(here), overIPv6(there)}, {here, f.second}} {
		headers := headers4
		if ends[0].Addr.Is6() {
			headers = headers6
		}
		sizes := []int{1, 100, mtu - headers - 1, mtu - headers, 2 * mtu}
		for _, ends := range [][2]*topo.Pod{ends, {ends[1], ends[0]}} {
			if err := exchange(t, ends[0], ends[1], sizes); err != nil {
				t.Errorf("UDP from %s to %s and back: %v", ends[0].Addr, ends[1].Addr, err)
			}
		}
		bothWays(t, ends[0], ends[1], true)
		for i, to := range []*topo.Pod{ends[1], ends[0]} {
			ping(t, &topo.Pod{Namespace: f.members[i].Namespace}, to)
		}
	}
	for m, after := range f.settled() {
		if n := after.Egress.Forwarded - before[m].Egress.Forwarded; direct != (n == 0) {
			t.Errorf("%s: weft encapsulated %d packets", m, n)
		}
	}
}

// Where IPv4 ceases to get through, the peer is reached by IPv6 within seconds, and by
// IPv4 when that works again. Connections of pods go on.
func TestOtherFamily(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	for _, m := range c.members {
		if err := m.EnableIPv6(); err != nil {
			t.Fatal(err)
		}
	}
	for i, mode := range []string{"udp", "vxlan"} {
		m := c.members[i]
		m.start(append(m.dualStack(), "--mode", mode, "--gossip-addr", m.Addr6.String(), "--join", a.seed6())...)
	}
	c.converged()
	modes := map[*member]string{a: "vxlan", b: "udp"} // each takes what the other asks for
	a.uses(b, modes[a])
	b.uses(a, modes[b])
	s := c.stream(dualPod(t, a.Node, 1, a.mtu()), dualPod(t, b.Node, 2, b.mtu()))

	ways := func(what string, addr func(*member) netip.Addr, why string) {
		t.Helper()
		began := time.Now()
		for _, ends := range [][2]*member{{a, b}, {b, a}} {
			c.within(recovery+returnAfter, what, func(ctx context.Context) error {
				p, err := ends[0].peer(ctx, ends[1])
				if err == nil && (p.Mode != modes[ends[0]] || p.Endpoint.Addr() != addr(ends[1]) || p.DataPath != "works" || !strings.Contains(p.Why, why)) {
					err = fmt.Errorf("%s sends %s to %s, data path %s, since %s", ends[0], p.Mode, p.Endpoint, p.DataPath, p.Why)
				}
				return err
			})
		}
		t.Logf("%s: after %s", what, time.Since(began).Round(10*time.Millisecond))
		s.goesOn(what)
	}
	four, six := func(m *member) netip.Addr { return m.Addr }, func(m *member) netip.Addr { return m.Addr6 }
	ways("both families", four, "the peer asks for")
	if err := a.DropAddresses(netip.MustParsePrefix("198.51.100.0/24")); err != nil {
		t.Fatal(err)
	}
	ways("IPv4 is blocked", six, "does not work")
	if err := a.DropAddresses(); err != nil {
		t.Fatal(err)
	}
	ways("IPv4 works again", four, "the peer asks for")
}
