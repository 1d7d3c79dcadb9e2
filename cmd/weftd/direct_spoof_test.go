//go:build netns

package main

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
)

// forge sends an IPv4 UDP datagram to the echo port, with whatever source, past the
// routing of a pod or a host that is none of weft's.
func forge(t *testing.T, in *topo.Namespace, src, dst, payload string) {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	udp := &layers.UDP{SrcPort: echoPort, DstPort: echoPort}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, options, ip, udp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	err := in.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, buf.Bytes(), 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(dst).As4()})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// heard collects what comes to a socket up to the datagram that says end.
func heard(t *testing.T, c *net.UDPConn, end string) map[string]int {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	all, buf := make(map[string]int), make([]byte, 100)
	for {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("waiting for %q: %v", end, err)
		}
		if bytes.Equal(buf[:n], []byte(end)) {
			return all
		}
		all[string(buf[:n])]++
	}
}

// Without encapsulation weft sees no packet, and its rules in the kernel keep forged ones
// from leaving a node and from coming in, while others go on.
func TestDirectSpoofed(t *testing.T) {
	c := newCluster(t, 3)
	a, b := c.members[0], c.members[1]
	stranger, err := c.Node("stranger")
	if err != nil {
		t.Fatal(err)
	}
	c.command(stranger.Namespace, "ip", "route", "add", a.block().String(), "via", a.Addr.String())
	c.startDirect()
	here, there := a.pod(10), b.pod(20)
	s := c.stream(here, there)

	const rounds = 100
	for _, side := range []struct {
		from    *topo.Namespace
		to      *topo.Pod
		forged  map[string]string // by what their datagrams say
		genuine string            // passes, in any case
	}{
		{here.Namespace, there, map[string]string{
			"another node's pod":    "10.244.3.30",
			"a pod of the receiver": "10.244.2.99",
			"a pod of nobody":       "10.244.77.1",
			"outside":               "192.0.2.1",
			"the receiver":          b.Addr.String(),
			"the receiver's TUN":    "10.244.2.0",
		}, "10.244.1.11"},
		// Who may send without encapsulation is told by the prefix, not by who sends it.
		{stranger.Namespace, here, map[string]string{
			"a pod of nobody":       "10.244.77.1",
			"a pod of the receiver": "10.244.1.99",
			"the pod itself":        here.Addr.String(),
			"the receiver's TUN":    "10.244.1.0",
		}, there.Addr.String()},
	} {
		conn := listenUDP(t, side.to.Namespace)
		before := a.drops().Kernel.Spoofed
		for range rounds {
			for name, src := range side.forged {
				forge(t, side.from, src, side.to.Addr.String(), name)
			}
		}
		forge(t, side.from, side.genuine, side.to.Addr.String(), "end")
		for name, n := range heard(t, conn, "end") {
			t.Errorf("to %s: %d datagrams arrived that were forged to be from %s", side.to, n, name)
		}
		if n := a.drops().Kernel.Spoofed - before; n != uint64(rounds*len(side.forged)) {
			t.Errorf("to %s: %d forged packets are counted, want %d", side.to, n, rounds*len(side.forged))
		}
		conn.Close()
	}
	s.goesOn("forged packets")
}
