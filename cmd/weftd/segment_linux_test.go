//go:build netns

package main

import (
	"fmt"
	"testing"
)

// Nodes without weft have the segment by Linux's VXLAN device in their bridge, one of them over IPv6.
func TestSegmentLinux(t *testing.T) {
	t.Parallel()
	const mtu = segmentMTU6
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	for _, m := range c.members {
		if err := m.EnableIPv6(); err != nil {
			t.Fatal(err)
		}
	}
	linux4, linux6 := c.linuxNode("linux4", 8, false), c.linuxNode("linux6", 9, true)
	for _, m := range c.members {
		c.bridge(m.Node, officeBridge)
		m.set("segments", fmt.Sprintf("[{name: office, vni: 100, bridge: br0, peers: [%s, \"%s\"]}]", linux4.outer, linux6.outer))
	}
	for _, m := range c.members {
		m.start()
	}
	c.carries()
	v11, v21 := c.vm(a.Node, officeBridge, 11), c.vm(b.Node, officeBridge, 21)
	v81, v91 := c.bridged(linux4, 81, a.Addr.String(), b.Addr.String()), c.bridged(linux6, 91, a.Addr6.String(), b.Addr6.String())
	c.resize(a.Node, v11, mtu)
	c.resize(b.Node, v21, mtu)
	c.resize(linux4.Node, v81, mtu)
	c.resize(linux6.Node, v91, mtu)
	v81.reaches(c, v11, v21)
	v91.reaches(c, v11, v21)
	v11.reaches(c, v21, v81, v91)

	// What a device sends to both nodes neither of them passes on to the other. The devices do not know each other.
	all, ears := []*vm{v11, v21, v81, v91}, []*ear{v11.listen(t), v21.listen(t), v81.listen(t), v91.listen(t)}
	knows := [][]int{{1, 2, 3}, {0, 2, 3}, {0, 1}, {0, 1}}
	for i, from := range all {
		mark := fmt.Sprintf("from machine %d", from.number)
		ears[i].send(t, frame(broadcast(), from.mac, []byte(mark), etherLocal))
		ears[i].send(t, frame(broadcast(), from.mac, []byte(mark), etherVLAN, etherLocal))
		for _, j := range knows[i] {
			ears[j].gets(c, "broadcasts "+mark, 2, containing(mark))
		}
	}
	for _, ends := range [][2]*vm{{v11, v81}, {v21, v91}} {
		here, there := ends[0], ends[1]
		bothWays(t, here.Pod, there.Pod, true)
		bothWays(t, overIPv6(here.Pod), overIPv6(there.Pod), true)
		for _, from := range []*vm{here, there} {
			c.run(from.Namespace, "ip neigh flush dev eth0", "ip -6 neigh flush dev eth0")
		}
		there.reaches(c, here)
	}
	for i, e := range ears {
		if n := e.count(t, containing("from machine ")); n != 2*len(knows[i]) {
			t.Errorf("%s: %d broadcasts came, want each of %d once", e.in, n, 2*len(knows[i]))
		}
	}
}

// bridged puts a VXLAN device that sends what has no place to all these VTEPs, and a machine, on a bridge of n.
func (c *cluster) bridged(n *linuxNode, machine byte, vteps ...string) *vm {
	c.t.Helper()
	c.bridge(n.Node, officeBridge)
	n.commands(c.t,
		"ethtool -K eth0 tx off",
		fmt.Sprintf("ip link add vxlan0 mtu %d type vxlan id %d local %s dstport 4789", segmentMTU6, officeVNI, n.outer),
		"ip link set vxlan0 master br0 up")
	for _, vtep := range vteps {
		n.commands(c.t, "bridge fdb append 00:00:00:00:00:00 dev vxlan0 dst "+vtep)
	}
	return c.vm(n.Node, officeBridge, machine)
}
