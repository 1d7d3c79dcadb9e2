//go:build netns

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/dataplane/offload"
)

// offloadsOff has the kernel do in software what a network card would do for device,
// before a packet gets there: what is captured behind it is what a wire would carry.
func offloadsOff(t *testing.T, in *topo.Namespace, device string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := in.Run(ctx, "ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off"); err != nil {
		t.Fatal(err)
	}
}

// Whatever the kernel or weft segments, merges and leaves uncomputed on the way:
// what arrives has right checksums, inside and outside.
func TestChecksums(t *testing.T) {
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	podA, podB := a.pod(10), b.pod(20)
	for _, m := range c.members {
		offloadsOff(t, m.Namespace, "eth0")
		offloadsOff(t, c.Underlay(), m.String())
	}
	offloadsOff(t, a.Namespace, "p10")
	offloadsOff(t, b.Namespace, "p20")
	exchange := func(t *testing.T, segmented bool) {
		captures := []*capture{captureOn(t, podA.Namespace, "eth0"), captureOn(t, podB.Namespace, "eth0")}
		underlay := []*capture{captureOn(t, a.Namespace, "eth0"), captureOn(t, b.Namespace, "eth0")}
		bothWays(t, podA, podB, segmented)
		for _, c := range captures {
			c.right(t, 2*transferred/overlayMTU, overlayMTU)
		}
		for _, c := range underlay {
			c.right(t, 2*transferred/overlayMTU, overlayMTU+40)
		}
	}
	t.Run("pods send superpackets", func(t *testing.T) { exchange(t, true) })
	offloadsOff(t, podA.Namespace, "eth0")
	offloadsOff(t, podB.Namespace, "eth0")
	t.Run("pods send wire packets", func(t *testing.T) { exchange(t, false) })
}

const (
	overlayMTU  = 1460    // on the topology's underlay
	transferred = 1 << 20 // by TCP in each direction, in bytes; half as much by UDP
)

// bothWays transfers TCP from each pod to the other, and then UDP both ways at once.
func bothWays(t *testing.T, from, to *topo.Pod, segmented bool) {
	t.Helper()
	for _, ends := range [][2]*topo.Pod{{from, to}, {to, from}} {
		if err := transfer(t, ends[0], ends[1], transferred); err != nil {
			t.Fatal(err)
		}
	}
	if err := bounce(t, from, to, transferred/2, segmented); err != nil {
		t.Fatalf("UDP from %s to %s and back: %v", from, to, err)
	}
}

// datagramSize and burst: what a UDP sender has under way at once.
const (
	datagramSize = 500
	burst        = 40
)

// bounce sends so many random bytes by UDP from one pod to the other, which sends
// each datagram back, and checks that they are the same, in the same order. segmented
// has the kernel make the datagrams (UDP_SEGMENT).
func bounce(t *testing.T, from, to *topo.Pod, total int, segmented bool) error {
	t.Helper()
	server := listenUDP(t, to.Namespace)
	defer server.Close()
	conn, err := dial(from.Namespace, "udp", to.Addr, echoPort)
	if err != nil {
		return err
	}
	defer conn.Close()
	if segmented {
		if err := segments(conn.(*net.UDPConn), datagramSize); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(patience)
	if err := errors.Join(server.SetDeadline(deadline), conn.SetDeadline(deadline)); err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error { return echo(server, total/(burst*datagramSize)*burst) })
	group.Go(func() error {
		random := rand.NewChaCha8([32]byte{2})
		data := make([]byte, burst*datagramSize)
		got := make([]byte, 2*datagramSize)
		for range total / len(data) {
			_, _ = random.Read(data) // never fails
			if err := send(conn, data, segmented); err != nil {
				return err
			}
			for want := range slices.Chunk(data, datagramSize) {
				n, err := conn.Read(got)
				if err != nil {
					return err
				}
				if !bytes.Equal(got[:n], want) {
					return fmt.Errorf("%d other bytes came back than were sent", n)
				}
			}
		}
		return nil
	})
	return group.Wait()
}

// send sends data as datagrams: by one call where the socket segments.
func send(conn net.Conn, data []byte, segmented bool) error {
	size := datagramSize
	if segmented {
		size = len(data)
	}
	for d := range slices.Chunk(data, size) {
		if _, err := conn.Write(d); err != nil {
			return err
		}
	}
	return nil
}

// echo sends the next datagrams back to where they came from.
func echo(server *net.UDPConn, datagrams int) error {
	buf := make([]byte, 1<<16)
	for range datagrams {
		n, from, err := server.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if _, err := server.WriteToUDPAddrPort(buf[:n], from); err != nil {
			return err
		}
	}
	return nil
}

// segments makes the kernel cut what is written to c.
func segments(c *net.UDPConn, size int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) })
	return errors.Join(err, failed)
}

// A superpacket is one packet at both TUNs, of UDP and of TCP.
func TestSuperpacketsStayWhole(t *testing.T) {
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	from, to := a.pod(10), b.pod(20)
	server := listenUDP(t, to.Namespace)
	conn, err := dial(from.Namespace, "udp4", to.Addr, echoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline := time.Now().Add(patience)
	if err := errors.Join(segments(conn.(*net.UDPConn), datagramSize), server.SetDeadline(deadline)); err != nil {
		t.Fatal(err)
	}

	before, out, in := c.settled(), a.tunTx(), b.tunRx()
	data := make([]byte, burst*datagramSize)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	if _, err := conn.Write(data); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2*datagramSize)
	for i, want := range slices.Collect(slices.Chunk(data, datagramSize)) {
		n, err := server.Read(got)
		if err != nil {
			t.Fatalf("after %d of %d datagrams: %v", i, burst, err)
		}
		if !bytes.Equal(got[:n], want) {
			t.Errorf("datagram %d arrived as %x, want %x", i, got[:n], want)
		}
	}
	after := c.settled()
	sent, received := after[a].Egress.Forwarded-before[a].Egress.Forwarded, after[b].Ingress.Forwarded-before[b].Ingress.Forwarded
	if sent != burst || received != burst {
		t.Errorf("%d datagrams went out and %d came in, want %d", sent, received, burst)
	}
	if out, in := a.tunTx()-out, b.tunRx()-in; out != 1 || in != 1 {
		t.Errorf("the UDP superpacket was %d packets at the one TUN and %d at the other", out, in)
	}

	before, out, in = after, a.tunTx(), b.tunRx()
	if err := transfer(t, from, to, 20<<20); err != nil {
		t.Fatal(err)
	}
	after = c.settled()
	sent, received = after[a].Egress.Forwarded-before[a].Egress.Forwarded, after[b].Ingress.Forwarded-before[b].Ingress.Forwarded
	out, in = a.tunTx()-out, b.tunRx()-in
	if t.Logf("TCP: %d wire packets, %d packets at the one TUN and %d at the other", sent, out, in); sent < 8*out || received < 8*in {
		t.Errorf("%d wire packets of TCP were read by %d reads; %d written by %d writes", sent, out, received, in)
	}
}

// tunTx and tunRx are how many packets, superpackets as one, the TUN handed over and took.
func (m *member) tunTx() uint64 { tx, _ := m.tunPackets(); return tx }
func (m *member) tunRx() uint64 { _, rx := m.tunPackets(); return rx }

func (m *member) tunPackets() (tx, rx uint64) {
	m.c.t.Helper()
	link, err := m.Handle().LinkByName("weft0")
	if err != nil {
		m.c.t.Fatal(err)
	}
	s := link.Attrs().Statistics
	return s.TxPackets, s.RxPackets
}

// Nodes that do without one thing or the other work with all others, and say so.
func TestMixedOffloads(t *testing.T) {
	all := offload.All.String()
	without := func(fs ...string) string {
		on := slices.DeleteFunc(strings.Fields(all), func(f string) bool { return slices.Contains(fs, f) })
		return strings.Join(on, " ")
	}
	const excepted = "excepted (--offload-except)"
	kinds := []struct {
		flags []string
		on    string
		off   map[string]string
	}{
		{[]string{"--offload", "on"}, all, nil},
		{[]string{"--offload-except", "rco"}, without("rco"), map[string]string{"rco": excepted}},
		{nil, all, nil},
		{[]string{"--offload", "off"}, "", off(all, "offload is off (--offload)")},
		{[]string{"--offload-except", "tso"}, without("tso"), map[string]string{"tso": excepted}},
		{[]string{"--offload-except", "uso"}, without("uso"), map[string]string{"uso": excepted}},
		{[]string{"--offload-except", "gso"}, without("gso"), map[string]string{"gso": excepted}},
		{[]string{"--offload-except", "gro"}, without("gro"), map[string]string{"gro": excepted}},
		{[]string{"--offload-except", "tso,uso"}, "gso gro", map[string]string{"tso": excepted, "uso": excepted, "rco": "takes tso or uso"}},
	}
	c := newCluster(t, len(kinds))
	for i, m := range c.members {
		m.start(kinds[i].flags...)
	}
	c.carries()

	var pods []*topo.Pod
	var captures, underlay []*capture
	for i, m := range c.members {
		if on, off := offloads(t, m); on != kinds[i].on || !maps.Equal(off, kinds[i].off) {
			t.Errorf("%s with %v has %q on and off %v, want %q and %v", m, kinds[i].flags, on, off, kinds[i].on, kinds[i].off)
		}
		p := m.pod(10)
		offloadsOff(t, m.Namespace, "p10")
		pods = append(pods, p)
		captures = append(captures, captureOn(t, p.Namespace, "eth0"))
		underlay = append(underlay, captureOn(t, m.Namespace, "eth0"))
	}
	// Nodes that start late are strangers to some for a moment, whose probes count as such.
	before := c.settled()
	// Each with the next, and the first, which does all, with each.
	for i := range pods {
		bothWays(t, pods[i], pods[(i+1)%len(pods)], true)
		if i > 1 && i < len(pods)-1 {
			bothWays(t, pods[0], pods[i], true)
		}
	}
	for i, m := range c.members {
		captures[i].right(t, 4*transferred/overlayMTU, overlayMTU)
		partial := 0
		underlay[i].each(t, func(p []byte) {
			if p[9] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(p[22:]) == 8285 && p[28]>>5 == 0 { // GUE variant 0, and no control message
				partial++
			}
		})
		if rco := slices.Contains(strings.Fields(kinds[i].on), "rco"); rco != (partial > 0) {
			t.Errorf("%s with %v on received %d datagrams with a remote checksum", m, kinds[i].on, partial)
		}
	}
	for m, d := range c.settled() {
		for _, way := range [][2]control.Direction{{before[m].Egress, d.Egress}, {before[m].Ingress, d.Ingress}} {
			if way[1].Received-way[0].Received != way[1].Forwarded-way[0].Forwarded {
				t.Errorf("%s dropped packets: before %+v, after %+v", m, way[0], way[1])
			}
		}
	}
}

func off(features, why string) map[string]string {
	m := map[string]string{}
	for f := range strings.FieldsSeq(features) {
		m[f] = why
	}
	return m
}

// offloads asks the shipped CLI what is on, and why the rest is off.
func offloads(t *testing.T, m *member) (on string, off map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "../../bin/weft", "--socket", m.socket, "status", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var s control.Status
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("weft status --json printed %q: %v", out, err)
	}
	return strings.Join(s.Offload.On, " "), s.Offload.Off
}
