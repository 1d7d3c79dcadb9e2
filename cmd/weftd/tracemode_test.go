//go:build netns

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// traced drops what a trace sends, and nothing else of weft's.
const traced = "udp dport 33434 drop"

// filter puts a rule into the chain of a hook, in a table of its own.
func (c *cluster) filter(in *topo.Namespace, family, hook, rule string) {
	c.t.Helper()
	c.command(in, "nft", fmt.Sprintf("add table %[1]s trace; add chain %[1]s trace c { type filter hook %[2]s priority 0; }; add rule %[1]s trace c %[3]s", family, hook, rule))
}

// unfilter takes the rules of filter away.
func (c *cluster) unfilter(in *topo.Namespace, family string) {
	c.t.Helper()
	c.command(in, "nft", "delete table "+family+" trace")
}

// endsAt follows a packet until it is said to end on that node at that step.
func (m *member) endsAt(source, destination, node, what string) (s control.TraceStep) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("a packet from %s to %s to end on %s, at %s", source, destination, node, what), func(ctx context.Context) error {
		t, err := m.client.Trace(ctx, source, destination)
		if err != nil {
			return err
		}
		if s = failing(t); s.Node != node || s.What != what {
			return fmt.Errorf("%s %s: %+v", t.Arrives, t.Verdict, t.Steps)
		}
		return nil
	})
	return s
}

// A packet of either family is followed by the way that it takes, and where a firewall of the far host, the network
// between them or nobody takes it, that is said.
func TestTraceByEachMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"vxlan", "direct"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 2)
			n1, n2 := c.members[0], c.members[1]
			for _, m := range c.members {
				if err := m.EnableIPv6(); err != nil {
					t.Fatal(err)
				}
				m.start(append(m.dualStack(), "--mode", mode)...)
			}
			c.carries()
			from, to := dualPod(t, n1.Node, 1, n1.mtu()), dualPod(t, n2.Node, 2, n2.mtu())

			six := n1.trace(from.Addr6.String(), to.Addr6.String(), control.TraceOK)
			if six.Mode != mode || six.Destination.Node != "n2" {
				t.Errorf("%+v", six)
			}
			four := n1.trace(from.Addr.String(), to.Addr.String(), control.TraceOK)
			sent, received := four.Steps[len(four.Steps)-3], four.Steps[len(four.Steps)-2]
			if direct := mode == "direct"; four.Mode != mode || strings.Contains(sent.Detail, "directly to 198.51.100.2 by eth0") != direct || received.Node != "n2" || received.Outcome != control.TraceOK {
				t.Errorf("%+v", four)
			}

			c.filter(n2.Namespace, "inet", "forward", traced)
			n1.endsAt(from.Addr.String(), to.Addr.String(), "n2", "forwarding on the receiving node")
			c.unfilter(n2.Namespace, "inet")
			if mode == "direct" {
				n1.endsAt(from.Addr.String(), "10.244.2.99", "n2", "route on the receiving node")
				c.filter(c.Underlay(), "netdev", `ingress device "n1"`, traced)
				n1.endsAt(from.Addr.String(), to.Addr.String(), "n2", "underlay")
				return
			}
			c.filter(n2.Namespace, "inet", "forward", strings.Replace(traced, "drop", "reject", 1))
			if s := n1.endsAt(from.Addr6.String(), to.Addr6.String(), "n2", "forwarding on the receiving node"); !strings.Contains(s.Detail, "ICMP error") {
				t.Errorf("behind a firewall that rejects: %+v", s)
			}
		})
	}
}

// A packet to a node that does not run weft is followed as far as it can be, and what answers has got it.
func TestTraceToStaticPeer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	a := c.members[0]
	n := c.linuxNode("linux", 9, false)
	a.start(append(a.dualStack(), "--mode", "vxlan", "--join", "", "--static-peers", n.static())...)
	a.ready()
	n.vxlan(a, 1, false)
	n.commands(t, "ethtool -K eth0 tx off")
	from, to := dualPod(t, a.Node, 1, a.mtu()), dualPod(t, n.Node, n.number, a.mtu())
	a.trace(from.Addr.String(), to.Addr.String(), control.TraceOK)
	a.trace(from.Addr6.String(), to.Addr6.String(), control.TraceOK)

	c.filter(n.Namespace, "inet", "forward", traced)
	lost := a.trace(from.Addr.String(), to.Addr.String(), control.TraceUnknown)
	if last := lost.Steps[len(lost.Steps)-1]; !strings.Contains(last.Detail, "cannot be asked") || !strings.Contains(lost.Verdict, "leaves for linux") {
		t.Errorf("%+v", lost)
	}
}
