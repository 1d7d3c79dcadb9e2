//go:build netns

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
)

// Two segments of the same nodes, with the same addresses in both, know nothing of each other, nor does the pod network. A node
// without a segment gets none of it, and what it forges goes nowhere.
func TestSegmentIsolation(t *testing.T) {
	t.Parallel()
	const lab = "{name: lab, vni: 200, bridge: br1}"
	c := segmented(t, 3, office, lab)
	a, b, outside := c.members[0], c.members[1], c.members[2]
	outside.set("segments", "[]")
	for _, m := range []*member{a, b} {
		c.bridge(m.Node, "br1")
	}
	stranger, err := c.Node("stranger")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.members {
		m.start()
	}
	c.joined(a, b)
	c.carries()

	var machines [2][2]*vm // by segment, then node
	var ears [2][2]*ear
	for i, bridge := range []string{officeBridge, "br1"} {
		machines[i] = [2]*vm{c.vm(a.Node, bridge, 11), c.vm(b.Node, bridge, 21)}
		ears[i] = [2]*ear{machines[i][0].listen(t), machines[i][1].listen(t)}
	}
	pods := []*topo.Pod{a.pod(10), b.pod(20)}
	others := []*ear{
		listenTo(t, pods[0].Namespace, "eth0"), listenTo(t, pods[1].Namespace, "eth0"),
		listenTo(t, a.Namespace, "weft0"), listenTo(t, b.Namespace, "weft0"),
		listenTo(t, outside.Namespace, "eth0"), listenTo(t, stranger.Namespace, "eth0"),
	}
	for _, pair := range machines {
		pair[0].reaches(c, pair[1])
		pair[1].reaches(c, pair[0])
	}
	ping(t, pods[0], pods[1])

	// Each frame says where it belongs.
	for i, pair := range machines {
		for j, from := range pair {
			for _, dst := range []net.HardwareAddr{pair[1-j].mac, broadcast(), {2, 0, 0, 0, 9, 9}, {0x33, 0x33, 0, 0, 0, 1}} {
				mark := fmt.Sprintf("segment %d, of %d", i, j)
				ears[i][j].send(t, frame(dst, from.mac, []byte(mark+mark), etherLocal))
				ears[i][j].send(t, frame(dst, from.mac, []byte(mark+mark), etherVLAN, etherLocal))
			}
		}
	}
	for i, pair := range ears {
		for j, e := range pair {
			e.gets(c, "what is its own", 8, containing(fmt.Sprintf("segment %d, of %d", i, 1-j)))
			if n := e.count(t, containing(fmt.Sprintf("segment %d", 1-i))); n > 0 {
				t.Errorf("%s: %d frames of the other segment", e.in, n)
			}
			if n := e.count(t, fromPods); n > 0 {
				t.Errorf("%s: %d packets of pods", e.in, n)
			}
		}
	}
	for _, e := range others {
		if n := e.count(t, containing("segment ")); n > 0 {
			t.Errorf("%s: %d frames of a segment", e.in, n)
		}
	}
	bothWays(t, machines[0][0].Pod, machines[0][1].Pod, true)
	bothWays(t, machines[1][0].Pod, machines[1][1].Pod, true)

	c.forged(t, a, outside.Namespace)
	c.forged(t, a, stranger.Namespace)
	for i := range ears {
		machines[i][1].reaches(c, machines[i][0])
		if n := ears[i][0].count(t, containing("forged")); n > 0 {
			t.Errorf("%s: %d forged frames", ears[i][0].in, n)
		}
	}
	s, err := a.segment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range s.Hosts {
		if h.MAC == forger().String() {
			t.Errorf("%s believes that %s is at %q", a, h.MAC, h.Node)
		}
	}
}

func forger() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 6, 6} }

// forged sends frames of both segments from a namespace that is in neither, and waits until they are dropped.
func (c *cluster) forged(t *testing.T, to *member, from *topo.Namespace) {
	t.Helper()
	const rounds = 20
	conn, err := dial(from, "udp4", to.Addr, 4789)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := to.drops()
	for range rounds {
		for _, vni := range []uint32{officeVNI, 200} {
			for _, dst := range []net.HardwareAddr{broadcast(), {2, 0, 0, 0, 0, 11}} {
				datagram := append(binary.BigEndian.AppendUint32([]byte{0x08, 0, 0, 0}, vni<<8), frame(dst, forger(), []byte("forged, and long enough"), etherLocal)...)
				if _, err := conn.Write(datagram); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	to.dropped(before, "not-member", 4*rounds)
}

// fromPods are packets with the source of a pod.
func fromPods(f []byte) bool {
	return len(f) >= 34 && binary.BigEndian.Uint16(f[12:]) == unix.ETH_P_IP && bytes.Equal(f[26:28], []byte{10, 244})
}
