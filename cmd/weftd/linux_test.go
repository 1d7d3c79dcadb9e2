//go:build netns

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/bench/topo"
)

// linuxNode is a node that does not run weft but has a VXLAN device of the kernel's.
type linuxNode struct {
	*topo.Node
	number byte       // of its block, 10.244.number.0/24 and fd00:10:244:number::/64
	outer  netip.Addr // its own, of the family that the underlay has between it and weft
}

// linuxNode adds one, on an underlay of IPv6 where that is wanted.
func (c *cluster) linuxNode(name string, number byte, ipv6 bool) *linuxNode {
	c.t.Helper()
	node, err := c.Node(name)
	if err != nil {
		c.t.Fatal(err)
	}
	n := &linuxNode{node, number, node.Addr}
	if ipv6 {
		if err := node.EnableIPv6(); err != nil {
			c.t.Fatal(err)
		}
		n.outer = node.Addr6
	}
	return n
}

func (n *linuxNode) mac() string { return fmt.Sprintf("02:00:00:00:00:%02x", n.number) }

// static is n as the configuration of weft has it.
func (n *linuxNode) static() string {
	return fmt.Sprintf("name=%s address=%s podCIDR=10.244.%d.0/24,fd00:10:244:%[3]d::/64 vtepMAC=%s", n, n.outer, n.number, n.mac())
}

// vxlan makes n's device, towards m alone, as flannel does: with fixed entries for m's
// VTEP. One that learns is only told where m is, and has to ask for the rest. The flags
// are further ones of the device.
func (n *linuxNode) vxlan(m *member, vni int, learns bool, flags ...string) {
	m.c.t.Helper()
	status, err := m.client.Status(context.Background())
	if err != nil {
		m.c.t.Fatal(err)
	}
	remote := m.Addr
	if n.outer.Is6() {
		remote = m.Addr6
	}
	device := fmt.Sprintf("ip link add vxlan0 address %s mtu %d type vxlan id %d local %s dstport %d %s",
		n.mac(), status.Tun.MTU, vni, n.outer, status.VXLAN.Port, strings.Join(flags, " "))
	if learns {
		n.commands(m.c.t, fmt.Sprintf("%s learning remote %s", device, remote))
	} else {
		n.commands(m.c.t, device+" nolearning", fmt.Sprintf("bridge fdb append %s dev vxlan0 dst %s", status.VXLAN.VTEPMAC, remote))
	}
	n.commands(m.c.t,
		fmt.Sprintf("ip address add 10.244.%d.0/32 dev vxlan0", n.number),
		fmt.Sprintf("ip address add fd00:10:244:%d::/128 dev vxlan0 nodad", n.number),
		"ip link set vxlan0 up",
		"sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	for i, block := range status.PodCIDRs {
		gateway := status.Tun.Addresses[i]
		if !learns {
			n.commands(m.c.t, fmt.Sprintf("ip neigh add %s lladdr %s dev vxlan0 nud permanent", gateway, status.VXLAN.VTEPMAC))
		}
		n.commands(m.c.t, fmt.Sprintf("ip route add %s via %s dev vxlan0 onlink", block, gateway))
	}
}

// commands runs them in n.
func (n *linuxNode) commands(t *testing.T, commands ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, command := range commands {
		if _, err := n.Run(ctx, strings.Fields(command)...); err != nil {
			t.Fatal(err)
		}
	}
}

// learnt checks that n has found out about m's VTEP by itself.
func (n *linuxNode) learnt(t *testing.T, m *member) {
	t.Helper()
	status, err := m.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"bridge fdb show dev vxlan0", "ip -4 neigh show dev vxlan0", "ip -6 neigh show dev vxlan0"} {
		out, err := n.Run(t.Context(), strings.Fields(command)...)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, status.VXLAN.VTEPMAC) {
			t.Errorf("%s: %s does not say %s:\n%s", n, command, status.VXLAN.VTEPMAC, out)
		}
	}
}
