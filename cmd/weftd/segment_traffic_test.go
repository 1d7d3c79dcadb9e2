//go:build netns

package main

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/bench/topo"
)

// Machines on the bridges of three nodes have one Ethernet between them. One of the nodes carries frames one by one.
func TestSegment(t *testing.T) {
	t.Parallel()
	c := segmented(t, 3, office)
	c.members[2].set("offload", "off")
	c.startSegments()
	c.carries()
	before := c.settled()
	a, b, far := c.members[0], c.members[1], c.members[2]
	v11, v12 := c.vm(a.Node, officeBridge, 11), c.vm(a.Node, officeBridge, 12)
	v21, v31 := c.vm(b.Node, officeBridge, 21), c.vm(far.Node, officeBridge, 31)

	for _, m := range c.members {
		for _, device := range []string{officeTAP, officeBridge} {
			if out := c.command(m.Namespace, "ip", "link", "show", device); !strings.Contains(out, fmt.Sprintf(" mtu %d ", segmentMTU)) {
				t.Errorf("%s: want an MTU of %d: %s", m, segmentMTU, out)
			}
		}
	}
	v11.reaches(c, v12, v21, v31)
	v21.reaches(c, v31)
	for _, m := range c.members {
		m.hosts(v11, a.String())
		m.hosts(v21, b.String())
		m.hosts(v31, far.String())
	}
	c.sub("what is known is answered locally", func(t *testing.T) { c.answered(t, a, v11, v12, v21) })
	c.sub("DHCP", func(t *testing.T) { c.leases(t, v11, far) })
	c.sub("multicast", func(t *testing.T) { c.multicast(t, v11, v12, v21, v31) })
	c.sub("frames", func(t *testing.T) { c.crafted(t, v11, v21) })
	c.sub("checksums", func(t *testing.T) { c.segmentChecksums(t, v12, v21) })
	c.sub("without offloads", func(t *testing.T) {
		offloadsOff(t, far.Namespace, v31.port)
		machines := []*capture{captureOn(t, v11.Namespace, "eth0"), captureOn(t, v31.Namespace, "eth0")}
		offloadsOff(t, a.Namespace, v11.port)
		bothWays(t, v11.Pod, v31.Pod, true)
		bothWays(t, overIPv6(v11.Pod), overIPv6(v31.Pod), true)
		for _, capture := range machines {
			capture.right(t, 2*transferred/segmentMTU, segmentMTU)
		}
	})
	said, err := far.weft("segments", officeName)
	for _, what := range []string{officeName, a.String(), v11.mac.String(), v11.Addr.String()} {
		if err != nil || !strings.Contains(said, what) {
			t.Errorf("weft segments %s does not say %s: %v\n%s", officeName, what, err, said)
		}
	}
	for m, after := range c.settled() {
		for _, drops := range [][2]map[string]uint64{{before[m].Egress.Drops, after.Egress.Drops}, {before[m].Ingress.Drops, after.Ingress.Drops}} {
			if diff := cmp.Diff(drops[0], drops[1]); diff != "" {
				t.Errorf("%s drops (-before +after):\n%s", m, diff)
			}
		}
	}
}

// answered checks that questions for what m has heard of do not get to the machine that they are about.
func (c *cluster) answered(t *testing.T, m *member, first, second, about *vm) {
	before, err := m.segment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there := about.listen(t)
	for _, v := range []*vm{first, second} {
		c.run(v.Namespace, "ip neigh flush dev eth0", "ip -6 neigh flush dev eth0")
		v.reaches(c, about)
		for _, target := range []netip.Addr{about.Addr, about.Addr6} {
			if n := there.count(t, asking(v.mac, target)); n > 0 {
				t.Errorf("%d questions of %s for %s got to it", n, v, target)
			}
		}
	}
	after, err := m.segment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Answered - before.Answered; n < 4 {
		t.Errorf("%s answered %d questions, want 4", m, n)
	}
	// A machine that looks for its own address must not be told by anybody else (RFC 5227, RFC 4862 section 5.4.3).
	probe := frame(broadcast(), second.mac, append(append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, second.mac...),
		append(append(make([]byte, 4+6), about.Addr.AsSlice()...), make([]byte, 18)...)...), etherARP)
	second.listen(t).send(t, probe)
	there.gets(c, "an ARP probe", 1, sameFrame(probe))
}

// leases has a machine on another node get its address from a DHCP server.
func (c *cluster) leases(t *testing.T, server *vm, on *member) {
	file := func(name, text string) string {
		path := filepath.Join(c.Dir(), name)
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	leases := file("leases", "")
	config := file("udhcpd.conf", fmt.Sprintf("interface eth0\nstart 10.9.0.100\nend 10.9.0.101\nlease_file %s\npidfile %s.pid\noption subnet 255.255.255.0\n", leases, leases))
	script := file("bound", "#!/bin/sh\n[ \"$1\" != bound ] || ip addr add $ip/24 dev $interface\n")
	if _, err := server.Start("busybox", "udhcpd", "-f", config); err != nil {
		t.Fatal(err)
	}
	client := c.bareVM(on.Node, officeBridge, 32)
	c.command(client.Namespace, "busybox", "udhcpc", "-f", "-q", "-n", "-t", "15", "-T", "1", "-i", "eth0", "-s", script)
	client.Addr = netip.MustParseAddr("10.9.0.100")
	if out := c.command(client.Namespace, "ip", "-4", "addr", "show", "dev", "eth0"); !strings.Contains(out, "10.9.0.10") {
		t.Fatalf("the client has no lease: %s", out)
	}
	if err := exchange(t, &topo.Pod{Namespace: client.Namespace}, server.Pod, []int{1, 1000}); err != nil {
		t.Errorf("with the leased address: %v", err)
	}
}

// multicast checks that all others in a group get each datagram once.
func (c *cluster) multicast(t *testing.T, from *vm, to ...*vm) {
	const datagrams = 20
	for network, group := range map[string]string{"udp4": "239.1.1.1", "udp6": "ff02::1234"} {
		addr := net.UDPAddr{IP: net.ParseIP(group), Port: echoPort}
		var receivers []*net.UDPConn
		for _, v := range to {
			listen(t, v.Namespace, func() error {
				eth0, err := net.InterfaceByName("eth0")
				if err != nil {
					return err
				}
				conn, err := net.ListenMulticastUDP(network, eth0, &addr)
				receivers = append(receivers, conn)
				return err
			})
			defer receivers[len(receivers)-1].Close()
		}
		var conn *net.UDPConn
		err := from.Do(func() (err error) {
			eth0, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			towards := addr
			if network == "udp6" {
				towards.Zone = strconv.Itoa(eth0.Index) // by name it might be that of another namespace
			}
			conn, err = net.DialUDP(network, nil, &towards)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		want := make(map[string]int)
		for i := range datagrams {
			want[strconv.Itoa(i)] = 1
			fmt.Fprint(conn, i)
		}
		fmt.Fprint(conn, "end")
		for i, receiver := range receivers {
			if got := heard(t, receiver, "end"); !maps.Equal(got, want) {
				t.Errorf("%s to %s: of %d datagrams came %v", group, to[i], datagrams, got)
			}
		}
	}
}

// crafted sends frames that no kernel here would make, and checks that they arrive as they were.
func (c *cluster) crafted(t *testing.T, from, to *vm) {
	for _, m := range c.members {
		// Where iptables see what bridges carry (br_netfilter), the kernel drops IP packets that are none.
		c.run(m.Namespace, "sysctl -q -e -w net.bridge.bridge-nf-call-iptables=0")
	}
	for _, ends := range [][2]*vm{{from, to}, {to, from}} {
		src, dst := ends[0], ends[1]
		sender, receiver := src.listen(t), dst.listen(t)
		frames := map[string][]byte{
			"no IP":                        frame(dst.mac, src.mac, sized(46), etherLocal),
			"the largest":                  frame(dst.mac, src.mac, sized(segmentMTU), etherLocal),
			"the least":                    frame(dst.mac, src.mac, nil, etherLocal),
			"a VLAN tag":                   frame(dst.mac, src.mac, sized(100), etherVLAN, etherLocal),
			"a VLAN tag, the largest":      frame(dst.mac, src.mac, sized(segmentMTU), etherVLAN, etherLocal),
			"a VLAN tag with IPv4":         frame(dst.mac, src.mac, innerPacket(t, src.Addr.String(), dst.Addr.String(), 200), etherVLAN, etherIPv4),
			"two tags of 802.1ad":          frame(dst.mac, src.mac, sized(100), etherService, etherVLAN, etherLocal),
			"two tags, the largest":        frame(dst.mac, src.mac, sized(segmentMTU-4), etherVLAN, etherVLAN, etherLocal),
			"two tags of 802.1Q with IPv4": frame(dst.mac, src.mac, innerPacket(t, src.Addr.String(), dst.Addr.String(), 200), etherVLAN, etherVLAN, etherIPv4),
			"IPv4 cut short":               frame(dst.mac, src.mac, innerPacket(t, src.Addr.String(), dst.Addr.String(), 200)[:30], etherIPv4),
			"IPv4 that is none":            frame(dst.mac, src.mac, sized(60), etherIPv4),
			"IPv4 and padding":             frame(dst.mac, src.mac, append(innerPacket(t, src.Addr.String(), dst.Addr.String(), 30), make([]byte, 16)...), etherIPv4),
			"to all":                       frame(broadcast(), src.mac, sized(64), etherLocal),
			"to all, with a tag":           frame(broadcast(), src.mac, sized(64), etherVLAN, etherLocal),
			"to a group":                   frame(net.HardwareAddr{0x01, 0x80, 0xc2, 0x55, 0, 1}, src.mac, sized(64), etherLocal),
			"to nobody that is known":      frame(net.HardwareAddr{2, 0, 0, 0, 9, 9}, src.mac, sized(64), etherLocal),
		}
		for _, f := range frames {
			sender.send(t, f)
		}
		for name, f := range frames {
			receiver.gets(c, name, 1, sameFrame(f))
		}
	}
}

// sized are so many bytes, all unlike their neighbours.
func sized(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i*7 + n)
	}
	return data
}

// segmentChecksums transfers over TCP and UDP in superpackets and without, and checks all that the machines and the underlay
// get.
func (c *cluster) segmentChecksums(t *testing.T, from, to *vm) {
	a, b := c.members[0], c.members[1]
	for _, m := range []*member{a, b} {
		offloadsOff(t, m.Namespace, "eth0")
		offloadsOff(t, c.Underlay(), m.String())
	}
	offloadsOff(t, a.Namespace, from.port)
	offloadsOff(t, b.Namespace, to.port)
	carry := func(t *testing.T) {
		machines := []*capture{captureOn(t, from.Namespace, "eth0"), captureOn(t, to.Namespace, "eth0")}
		underlay := []*capture{captureOn(t, a.Namespace, "eth0"), captureOn(t, b.Namespace, "eth0")}
		bothWays(t, from.Pod, to.Pod, true)
		bothWays(t, overIPv6(from.Pod), overIPv6(to.Pod), true)
		for _, capture := range machines {
			capture.right(t, 2*transferred/segmentMTU, segmentMTU)
		}
		for _, capture := range underlay {
			capture.right(t, 4*transferred/segmentMTU, 1500)
		}
	}
	c.sub("machines send superpackets", func(t *testing.T) {
		before, read := a.drops().Egress.Forwarded, c.tapTx(a)
		carry(t)
		sent, read := a.drops().Egress.Forwarded-before, c.tapTx(a)-read
		if t.Logf("%d wire packets of %d reads", sent, read); sent < 2*read { // ACKs are reads too
			t.Errorf("%d wire packets were read by %d reads", sent, read)
		}
	})
	offloadsOff(t, from.Namespace, "eth0")
	offloadsOff(t, to.Namespace, "eth0")
	c.sub("machines send wire packets", carry)
}

// tapTx is how many frames, superpackets as one, m's TAP has handed over.
func (c *cluster) tapTx(m *member) uint64 {
	c.t.Helper()
	tap, err := m.Handle().LinkByName(officeTAP)
	if err != nil {
		c.t.Fatal(err)
	}
	return tap.Attrs().Statistics.TxPackets
}
