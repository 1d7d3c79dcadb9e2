//go:build netns

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
)

// weft and Linux's VXLAN devices carry each other's pods, over either family and with
// either inside, whether a device was told of weft's VTEP or has to find it.
func TestKernelVXLAN(t *testing.T) {
	c := newCluster(t, 1)
	a := c.members[0]
	if err := a.EnableIPv6(); err != nil {
		t.Fatal(err)
	}
	kinds := []struct {
		name         string
		ipv6, learns bool
	}{
		{"fixed4", false, false}, {"learns4", false, true}, {"fixed6", true, false}, {"learns6", true, true},
	}
	var nodes []*linuxNode
	var statics []string
	for i, kind := range kinds {
		n := c.linuxNode(kind.name, byte(11+i), kind.ipv6)
		nodes, statics = append(nodes, n), append(statics, n.static())
	}
	a.start(append(a.dualStack(), "--mode", "vxlan", "--join", "", "--static-peers", strings.Join(statics, ","))...)
	a.ready()
	mtu := a.mtu()
	here := dualPod(t, a.Node, byte(a.number), mtu)
	var there []*topo.Pod
	for i, kind := range kinds {
		nodes[i].vxlan(a, 1, kind.learns)
		nodes[i].commands(t, "ethtool -K eth0 tx off")
		there = append(there, dualPod(t, nodes[i].Node, nodes[i].number, mtu))
	}
	for i, kind := range kinds {
		t.Run(kind.name+"/pods send superpackets", func(t *testing.T) { converse(t, here, there[i], mtu) })
	}
	c.converseAtOnce(here, there, 5201)
	for _, p := range append(there, here) {
		offloadsOff(t, p.Namespace, "eth0")
	}
	for i, kind := range kinds {
		t.Run(kind.name+"/pods send wire packets", func(t *testing.T) { converse(t, here, there[i], mtu) })
		if kind.learns {
			nodes[i].learnt(t, a)
		}
	}
	c.converseAtOnce(here, there, 5301)
	d := c.settled()[a]
	// A device that learns sends multicast of its own to everybody, and a TUN with IPv6 too,
	// also before its node has a block.
	delete(d.Ingress.Drops, "wrong-vtep")
	delete(d.Egress.Drops, "spoofed")
	delete(d.Egress.Drops, "fenced")
	for _, drops := range []map[string]uint64{d.Ingress.Drops, d.Egress.Drops} {
		for reason, n := range drops {
			if n > 0 {
				t.Errorf("%d packets were dropped as %s", n, reason)
			}
		}
	}
}

// converse has two pods talk in all ways there are, on a path that takes packets of mtu
// bytes.
func converse(t *testing.T, here, there *topo.Pod, mtu int) {
	t.Helper()
	for _, ends := range [][2]*topo.Pod{{here, there}, {overIPv6(here), overIPv6(there)}} {
		from, to := ends[0], ends[1]
		headers := 20 + 8
		if from.Addr.Is6() {
			headers = 40 + 8
		}
		sizes := []int{1, 2, 100, mtu - headers - 1, mtu - headers, 2 * mtu, 1}
		for _, ends := range [][2]*topo.Pod{{from, to}, {to, from}} {
			if err := exchange(t, ends[0], ends[1], sizes); err != nil {
				t.Fatalf("UDP from %s to %s and back: %v", ends[0].Addr, ends[1].Addr, err)
			}
		}
		bothWays(t, from, to, true)
	}
}

// converseAtOnce has one pod transfer to and from all others at the same time. Port is iperf3's first.
func (c *cluster) converseAtOnce(here *topo.Pod, there []*topo.Pod, port int) {
	c.t.Helper()
	var transfers []streams
	for i, p := range there {
		transfers = append(transfers, c.startStreams(p, here, port+i, 2*time.Second, "-P", "2", "-b", "0", "-i", "0.5"))
	}
	for i := range transfers {
		transfers[i].finish(c.t, 1)
	}
}

// exchange sends a datagram of each size from one pod to the other, which sends it
// back, and checks that it is the same.
func exchange(t *testing.T, from, to *topo.Pod, sizes []int) error {
	t.Helper()
	server := listenUDP(t, to.Namespace)
	defer server.Close()
	conn, err := dial(from.Namespace, "udp", to.Addr, echoPort)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline := time.Now().Add(patience)
	if err := errors.Join(server.SetDeadline(deadline), conn.SetDeadline(deadline)); err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error { return echo(server, len(sizes)) })
	random, got := rand.NewChaCha8([32]byte{3}), make([]byte, 1<<16)
	for _, size := range sizes {
		data := make([]byte, size)
		_, _ = random.Read(data) // never fails
		if _, err := conn.Write(data); err != nil {
			return fmt.Errorf("%d bytes: %w", size, err)
		}
		n, err := conn.Read(got)
		if err != nil {
			return fmt.Errorf("%d bytes: %w", size, err)
		}
		if !bytes.Equal(got[:n], data) {
			return fmt.Errorf("of %d bytes %d others came back", size, n)
		}
	}
	return group.Wait()
}

// A device may leave checksums to weft, which never asked for that, and does not where
// it does without offloads: they are right when they get to the pod, either way. Weft
// leaves it none, since a device that was not told to take them drops the packet.
func TestKernelRemoteChecksum(t *testing.T) {
	for _, offload := range []string{"auto", "off"} {
		t.Run("offload "+offload, func(t *testing.T) {
			c := newCluster(t, 1)
			a := c.members[0]
			n := c.linuxNode("linux", 9, false)
			a.start(append(a.dualStack(), "--offload", offload, "--join", "", "--static-peers", n.static())...)
			a.ready()
			n.vxlan(a, 1, false, "udpcsum", "remcsumtx")
			n.commands(t, "ethtool -K eth0 tx off")
			here, there := dualPod(t, a.Node, byte(a.number), a.mtu()), dualPod(t, n.Node, n.number, a.mtu())
			underlay := captureOn(t, a.Namespace, "eth0")
			bothWays(t, here, there, true)
			bothWays(t, overIPv6(here), overIPv6(there), true)
			remote := 0
			underlay.each(t, func(p []byte) {
				if p[9] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(p[22:]) == 4789 && p[29]&0x20 != 0 {
					remote++
				}
			})
			if remote == 0 {
				t.Error("the kernel has left no checksum to weft")
			}
		})
	}
}

// Where checksum offload is left on between a VXLAN device and a wire that is none,
// weft gets what the network card would have had to finish. It takes none of that and
// says what to do; nobody else's packets suffer.
func TestUnsegmented(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	n := c.linuxNode("linux", 9, false)
	a.start(append(a.dualStack(), "--mode", "vxlan", "--static-peers", n.static())...)
	b.start(append(b.dualStack(), "--mode", "vxlan")...)
	c.converged()
	n.vxlan(a, 1, false)
	here, other := a.pod(10), b.pod(20)
	there, err := n.Pod("p10", netip.MustParseAddr("10.244.9.10"))
	if err != nil {
		t.Fatal(err)
	}
	ping(t, there, here) // the kernel always finishes ICMP
	want := maps.Clone(c.settled()[a].Ingress.Drops)

	conn, err := dial(there.Namespace, "udp", here.Addr, echoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := segments(conn.(*net.UDPConn), datagramSize); err != nil {
		t.Fatal(err)
	}
	const rounds = 100
	ended := make(chan error, 1)
	go func() { ended <- transfer(t, other, here, 20<<20) }()
	for _, size := range []int{100, burst * datagramSize} {
		for range rounds {
			if _, err := conn.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	want["unsegmented"] += 2 * rounds
	if diff := cmp.Diff(want, c.settled()[a].Ingress.Drops); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
	out, _ := exec.CommandContext(t.Context(), "../../bin/weft", "--socket", a.socket, "doctor").Output()
	if cure := "ethtool -K DEV tx off"; !strings.Contains(string(out), cure) {
		t.Errorf("weft doctor does not say %q:\n%s", cure, out)
	}
	n.commands(t, "ethtool -K eth0 tx off")
	if err := transfer(t, there, here, 1<<20); err != nil {
		t.Errorf("after what weft doctor says: %v", err)
	}
}
