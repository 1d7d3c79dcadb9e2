//go:build netns

package main

import (
	"fmt"
	"testing"
)

// A node without weft has the segment by Linux's VXLAN device in its bridge.
func TestSegmentLinux(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	linux := c.linuxNode("linux", 9, false)
	for _, m := range c.members {
		c.bridge(m.Node, officeBridge)
		m.set("segments", fmt.Sprintf("[{name: office, vni: 100, bridge: br0, peers: [%s]}]", linux.Addr))
	}
	c.bridge(linux.Node, officeBridge)
	linux.commands(t,
		"ethtool -K eth0 tx off",
		fmt.Sprintf("ip link add vxlan0 mtu %d type vxlan id %d local %s dstport 4789", segmentMTU, officeVNI, linux.Addr),
		fmt.Sprintf("bridge fdb append 00:00:00:00:00:00 dev vxlan0 dst %s", a.Addr),
		fmt.Sprintf("bridge fdb append 00:00:00:00:00:00 dev vxlan0 dst %s", b.Addr),
		"ip link set vxlan0 master br0 up")
	for _, m := range c.members {
		m.start()
	}
	c.carries()
	v11, v21, v91 := c.vm(a.Node, officeBridge, 11), c.vm(b.Node, officeBridge, 21), c.vm(linux.Node, officeBridge, 91)
	v91.reaches(c, v11, v21)
	v11.reaches(c, v21, v91)

	// What the device sends to both nodes neither of them passes on to the other.
	ears := []*ear{v11.listen(t), v21.listen(t), v91.listen(t)}
	for i, from := range []*vm{v11, v21, v91} {
		mark := fmt.Sprintf("from machine %d", from.number)
		ears[i].send(t, frame(broadcast(), from.mac, []byte(mark), etherLocal))
		ears[i].send(t, frame(broadcast(), from.mac, []byte(mark), etherVLAN, etherLocal))
		for j, e := range ears {
			if i != j {
				e.gets(c, "broadcasts "+mark, 2, containing(mark))
			}
		}
	}
	for _, ends := range [][2]*vm{{v11, v91}, {v21, v91}} {
		here, there := ends[0], ends[1]
		bothWays(t, here.Pod, there.Pod, true)
		bothWays(t, overIPv6(here.Pod), overIPv6(there.Pod), true)
		for _, from := range []*vm{here, there} {
			c.run(from.Namespace, "ip neigh flush dev eth0", "ip -6 neigh flush dev eth0")
		}
		there.reaches(c, here)
	}
	for _, e := range ears {
		if n := e.count(t, containing("from machine ")); n != 4 {
			t.Errorf("%s: %d broadcasts came, want each of 4 once", e.in, n)
		}
	}
}
