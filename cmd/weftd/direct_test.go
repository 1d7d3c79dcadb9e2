//go:build netns

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// allPods are the addresses that a network which knows the nodes' alone may drop.
// Immutable.
var allPods = netip.MustParsePrefix("10.244.0.0/16")

// wire is how many packets have left a node for the underlay, whether or not that
// carried them any further.
type wire struct{ bare, probes, tunnelled uint64 }

// watchWires counts from the first call on, for members on the bridge.
func (c *cluster) watchWires(members ...*member) {
	c.t.Helper()
	var table strings.Builder
	table.WriteString("table netdev watch {\n")
	for _, m := range members {
		// Before the chains of topo, which drop.
		fmt.Fprintf(&table, `counter bare_%[1]s {}
			counter probes_%[1]s {}
			counter tunnelled_%[1]s {}
			chain from_%[1]s { type filter hook ingress device %[1]q priority -10;
				ip saddr %[2]s udp dport 8285 counter name probes_%[1]s return
				ip saddr %[2]s counter name bare_%[1]s return
				udp dport { 8285, 4789 } counter name tunnelled_%[1]s
			}
			`, m, allPods)
	}
	c.command(c.Underlay(), "nft", table.String()+"}")
}

// wire reads the counts of m.
func (m *member) wire() wire {
	m.c.t.Helper()
	out := m.c.command(m.c.Underlay(), "nft", "-j", "list", "counters", "table", "netdev", "watch")
	var list struct {
		Nftables []struct {
			Counter struct {
				Name    string
				Packets uint64
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		m.c.t.Fatal(err)
	}
	packets := make(map[string]uint64)
	for _, entry := range list.Nftables {
		packets[entry.Counter.Name] = entry.Counter.Packets
	}
	name := "_" + m.String()
	return wire{packets["bare"+name], packets["probes"+name], packets["tunnelled"+name]}
}

// command runs args in a namespace, and returns what they print.
func (c *cluster) command(in *topo.Namespace, args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := in.Run(ctx, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// dropAddresses has the network drop pods' addresses at the members, or none.
func (c *cluster) dropAddresses(members []*member, prefixes ...netip.Prefix) {
	c.t.Helper()
	for _, m := range members {
		if err := m.DropAddresses(prefixes...); err != nil {
			c.t.Fatal(err)
		}
	}
}

// change waits until all of members send to one another by mode, and says how long that
// and the stream took.
func (c *cluster) change(what string, members []*member, mode string, s *stream) {
	c.t.Helper()
	begin := time.Now()
	for _, m := range members {
		for _, other := range members {
			if m != other {
				m.uses(other, mode)
			}
		}
	}
	took := time.Since(begin)
	c.t.Logf("%s: by %s after %s", what, mode, took.Round(time.Millisecond))
	s.goesOn(what)
	if mode != "direct" && took > 2*promised {
		c.t.Errorf("%s: by %s after %s, want %s", what, mode, took, promised)
	}
}

// promised is within when packets take another way than one that has ceased to work. The
// tests allow twice that, for a machine that is busy with others.
const promised = 5 * time.Second

// why checks that m says part of why it sends to other as it does.
func (m *member) why(other *member, part string) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("%s to say of %s why", m, other), func(ctx context.Context) error {
		p, err := m.peer(ctx, other)
		if err == nil && !strings.Contains(p.Why, part) {
			err = fmt.Errorf("it says %q, want %q", p.Why, part)
		}
		return err
	})
}

// Nodes on one link send without encapsulation once that is proven, and for as long as
// it works. To others they use the tunnel. A connection sees none of it.
func TestDirect(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	near, a, b := c.members, c.members[0], c.members[1]
	node, _, err := c.Remote("far")
	if err != nil {
		t.Fatal(err)
	}
	far := c.addMember(node, 3)
	c.watchWires(near...)
	c.dropAddresses(near, allPods)
	for _, m := range c.members {
		// The packets of a conversation may come in by an interface other than the
		// one that its answers go out by.
		c.command(m.Namespace, "sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=1")
		m.start("--mode", "auto")
	}
	c.converged()
	podA, podB, podFar := a.pod(10), b.pod(20), far.pod(30)
	a.uses(b, "udp")
	b.uses(a, "udp")
	s := c.stream(podA, podB)
	c.change("pods' addresses are dropped from the start", near, "udp", s)
	a.why(b, "probes to 10.244.2.0 get lost")
	if err := transfer(t, podA, podB, 1<<20); err != nil {
		t.Error(err)
	}
	for _, m := range near {
		if w := m.wire(); w.bare > 0 || w.probes == 0 || w.tunnelled == 0 {
			t.Errorf("%s sent %+v before a way without encapsulation was proven", m, w)
		}
	}

	c.dropAddresses(near)
	c.change("pods' addresses pass", near, "direct", s)
	a.why(b, "on-link")
	c.allBare(podA, podB)
	for _, m := range near {
		m.uses(far, "udp")
		m.why(far, "not on-link")
	}
	for _, ends := range [][2]*topo.Pod{{podA, podFar}, {podFar, podB}} {
		if err := transfer(t, ends[0], ends[1], 1<<20); err != nil {
			t.Error(err)
		}
	}

	// Where only b finds that it does not work, packets go directly the one way, and by
	// the tunnel the other. A probe's second byte is 1 in a question.
	oneway := `table netdev oneway { chain c { type filter hook ingress device %q priority 0; ip saddr %s %s drop; }; }`
	c.command(c.Underlay(), "nft", fmt.Sprintf(oneway, b, allPods, "udp dport 8285 @th,72,8 1"))
	b.uses(a, "udp")
	a.uses(b, "direct")
	s.goesOn("directly one way only")
	for _, ends := range [][2]*topo.Pod{{podA, podB}, {podB, podA}} {
		if err := transfer(t, ends[0], ends[1], 1<<20); err != nil {
			t.Errorf("directly one way only: %v", err)
		}
	}
	c.command(c.Underlay(), "nft", "delete table netdev oneway")

	c.dropAddresses(near, allPods)
	c.change("pods' addresses are dropped again", near, "udp", s)
	c.dropAddresses(near)
	c.change("and pass again", near, "direct", s)

	// What proves a way are answers, so where one direction fails both do without.
	c.command(c.Underlay(), "nft", fmt.Sprintf(oneway, a, allPods, ""))
	c.change("pods' addresses are dropped one way", near, "udp", s)
}

// allBare checks that what the first two members' pods send each other passes no worker.
func (c *cluster) allBare(podA, podB *topo.Pod) {
	c.t.Helper()
	a, b := c.members[0], c.members[1]
	for _, ends := range [][2]*member{{a, b}, {b, a}} {
		route := c.command(ends[0].Namespace, "ip", "route", "show", "proto", "119", ends[1].block().String())
		if want := fmt.Sprintf("via %s dev eth0", ends[1].Addr); !strings.Contains(route, want) {
			c.t.Errorf("%s has the route %q to %s, want one %s", ends[0], route, ends[1], want)
		}
	}
	traffic := func() (packets uint64) {
		for _, ends := range [][2]*member{{a, b}, {b, a}} {
			p, err := ends[0].peer(context.Background(), ends[1])
			if err != nil {
				c.t.Fatal(err)
			}
			packets += p.Tx.Packets + p.Rx.Packets
		}
		return packets
	}
	packets, before := traffic(), a.wire()
	if err := transfer(c.t, podA, podB, 10<<20); err != nil {
		c.t.Error(err)
	}
	if n := traffic(); n != packets {
		c.t.Errorf("%d packets between direct peers passed the workers", n-packets)
	}
	if sent := a.wire().bare - before.bare; sent < 10<<20>>16 {
		c.t.Errorf("%s sent %d packets without encapsulation, of 10 MiB in superpackets of up to 64 KiB", a, sent)
	}
}

// Nobody sends directly to a node that does not take it, and in mode direct not in any
// other way.
func TestDirectRefused(t *testing.T) {
	c := newCluster(t, 2)
	a, tunnels := c.members[0], c.members[1]
	node, _, err := c.Remote("far")
	if err != nil {
		t.Fatal(err)
	}
	far := c.addMember(node, 3)
	c.watchWires(a, tunnels)
	a.start("--mode", "direct")
	tunnels.start("--mode", "udp")
	far.start("--mode", "auto")
	c.converged()
	pods := map[*member]*topo.Pod{a: a.pod(10), tunnels: tunnels.pod(20), far: far.pod(30)}
	for other, why := range map[*member]string{tunnels: "it takes no packets without encapsulation", far: "not on-link"} {
		a.why(other, why)
		a.why(other, "mode is direct, and nothing is encapsulated")
		if p, err := a.peer(t.Context(), other); err != nil || p.Mode != "" || p.DataPath != control.DataUnknown {
			t.Errorf("%s sends to %s by %q, data path %s (%v)", a, other, p.Mode, p.DataPath, err)
		}
		unreachable(t, c, pods[a], pods[other])
	}
	far.uses(tunnels, "udp")
	if err := transfer(t, pods[tunnels], pods[far], 1<<20); err != nil {
		t.Error(err)
	}
	for _, m := range []*member{a, tunnels} {
		if w := m.wire(); w.bare+w.probes > 0 {
			t.Errorf("%s sent %+v, and has nobody to send to without encapsulation", m, w)
		}
	}
}

// block is the prefix that m's pods are in.
func (m *member) block() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(m.number), 0}), 24)
}
