//go:build netns

package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// The segment of most tests, which joins the bridges br0 of all nodes that have it.
const (
	officeName   = "office"
	officeVNI    = 100
	officeTAP    = "seg-office"
	officeBridge = "br0"
	office       = "{name: office, vni: 100, bridge: br0}"

	// segmentMTU is what the topology's underlay leaves for a segment, less 2 that keep full TCP segments aligned.
	segmentMTU = 1500 - 20 - 8 - 8 - 14 - 4 - 2

	// segmentMTU6 is the same where nodes have IPv6 addresses too.
	segmentMTU6 = 1500 - 40 - 8 - 8 - 14 - 4 - 6
)

// segmented makes count nodes with the bridge br0, configured with these segments, and starts nothing yet.
func segmented(t *testing.T, count int, segments ...string) *cluster {
	t.Helper()
	c := newCluster(t, count)
	for _, m := range c.members {
		c.bridge(m.Node, officeBridge)
		m.set("segments", "["+strings.Join(segments, ", ")+"]")
	}
	return c
}

// sub runs a part of a test on its own.
func (c *cluster) sub(name string, test func(t *testing.T)) {
	whole := c.t
	whole.Run(name, func(t *testing.T) {
		c.t = t
		defer func() { c.t = whole }()
		test(t)
	})
}

// bridge adds one to a node. It speaks no IPv6 itself.
func (c *cluster) bridge(on *topo.Node, name string) {
	c.t.Helper()
	c.run(on.Namespace,
		"ip link add "+name+" type bridge",
		"sysctl -q -w net.ipv6.conf."+name+".disable_ipv6=1",
		"ip link set "+name+" up")
}

// run runs commands in a namespace.
func (c *cluster) run(in *topo.Namespace, commands ...string) {
	c.t.Helper()
	for _, command := range commands {
		c.command(in, strings.Fields(command)...)
	}
}

// vm is a namespace that stands for a machine on a bridge. Its pod has no node: it is for what takes a namespace with addresses.
type vm struct {
	*topo.Pod
	number byte
	mac    net.HardwareAddr
	port   string // of the bridge
}

// vm puts machine NUMBER on a bridge of a node: its eth0 is 02:00:00:00:00:NUMBER, 10.9.0.NUMBER/24 and fd09::NUMBER/64.
// On one node no two have the same number and bridge.
func (c *cluster) vm(on *topo.Node, bridge string, number byte) *vm {
	c.t.Helper()
	v := c.bareVM(on, bridge, number)
	v.Addr, v.Addr6 = netip.AddrFrom4([4]byte{10, 9, 0, number}), netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x09, 15: number})
	c.run(v.Namespace,
		fmt.Sprintf("ip addr add %s/24 dev eth0", v.Addr),
		fmt.Sprintf("ip addr add %s/64 dev eth0 nodad", v.Addr6),
		"ip route add 224.0.0.0/4 dev eth0")
	return v
}

// bareVM is a vm without addresses.
func (c *cluster) bareVM(on *topo.Node, bridge string, number byte) *vm {
	c.t.Helper()
	v := &vm{number: number, mac: net.HardwareAddr{2, 0, 0, 0, 0, number}, port: fmt.Sprintf("%sv%d", bridge, number)}
	in, err := on.Sandbox(v.port)
	if err != nil {
		c.t.Fatal(err)
	}
	v.Pod = &topo.Pod{Namespace: in}
	c.run(on.Namespace,
		fmt.Sprintf("ip link add %s mtu %d type veth peer name eth0 address %s mtu %[2]d netns %[4]s", v.port, segmentMTU, v.mac, in.Name()),
		fmt.Sprintf("ip link set %s master %s up", v.port, bridge))
	c.run(in, "ip link set eth0 up")
	return v
}

// resize gives both ends of v's cable another MTU.
func (c *cluster) resize(on *topo.Node, v *vm, mtu int) {
	c.t.Helper()
	c.run(on.Namespace, fmt.Sprintf("ip link set %s mtu %d", v.port, mtu))
	c.run(v.Namespace, fmt.Sprintf("ip link set eth0 mtu %d", mtu))
}

// move takes v's cable from one node to another, as when a machine is migrated.
func (c *cluster) move(v *vm, from, to *topo.Node) {
	c.t.Helper()
	c.run(from.Namespace, fmt.Sprintf("ip link set %s netns %s", v.port, to.Name()))
	c.run(to.Namespace, fmt.Sprintf("ip link set %s master %s up", v.port, officeBridge))
}

// segment is what m says of office.
func (m *member) segment(ctx context.Context) (control.Segment, error) {
	list, err := m.client.Segments(ctx)
	if err != nil {
		return control.Segment{}, err
	}
	return list.Find(officeName)
}

// joined waits until each of the members is in the segment with all others of them, and with nobody else.
func (c *cluster) joined(members ...*member) {
	c.t.Helper()
	for _, m := range members {
		c.eventually(fmt.Sprintf("%s to have the segment's members", m), func(ctx context.Context) error {
			s, err := m.segment(ctx)
			if err != nil {
				return err
			}
			var names []string
			for _, other := range s.Members {
				names = append(names, other.Node)
			}
			for _, other := range members {
				if m != other && !slices.Contains(names, other.String()) {
					return fmt.Errorf("%s is not among %q", other, names)
				}
			}
			if len(names) != len(members)-1 || s.State != control.StateReady {
				return fmt.Errorf("it is %s %s, with %q", s.State, s.Reason, names)
			}
			return nil
		})
	}
}

// startSegments starts every daemon and waits until all are in the segment.
func (c *cluster) startSegments() {
	c.t.Helper()
	for _, m := range c.members {
		m.start()
	}
	c.joined(c.members...)
}

// hosts waits until m says that v is at a node; "" is nowhere.
func (m *member) hosts(v *vm, where string) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("%s to say that %s is at %q", m, v.mac, where), func(ctx context.Context) error {
		at, err := m.whereabouts(ctx, v)
		if err == nil && at != where {
			err = fmt.Errorf("it is at %q", at)
		}
		return err
	})
}

// whereabouts is the node that m says v is at, "" if it does not know v.
func (m *member) whereabouts(ctx context.Context, v *vm) (string, error) {
	s, err := m.segment(ctx)
	for _, h := range s.Hosts {
		switch {
		case h.MAC != v.mac.String():
		case h.Local:
			return m.String(), err
		default:
			return cmp.Or(h.Node, "a node that is no member"), err
		}
	}
	return "", err
}

// reaches has one machine ping another over both families, until it answers.
func (v *vm) reaches(c *cluster, others ...*vm) {
	c.t.Helper()
	for _, other := range others {
		for _, to := range []*topo.Pod{other.Pod, overIPv6(other.Pod)} {
			c.eventually(fmt.Sprintf("%s to reach %s", v, to.Addr), func(ctx context.Context) error { return pong(ctx, v.Pod, to) })
		}
	}
}

// dropped waits until m has dropped n more packets for a reason.
func (m *member) dropped(before control.Drops, reason string, n uint64) {
	m.c.t.Helper()
	count := func(d control.Drops) uint64 { return d.Egress.Drops[reason] + d.Ingress.Drops[reason] }
	m.c.eventually(fmt.Sprintf("%s to drop %d as %s", m, n, reason), func(context.Context) error {
		if got := count(m.drops()) - count(before); got != n {
			return fmt.Errorf("it dropped %d", got)
		}
		return nil
	})
}
