//go:build netns

package main

import (
	"bytes"
	"context"
	"maps"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/bench/topo"
)

// Garbage, truncated, spoofed, looping and oversized datagrams hit the data port
// while a transfer runs: the transfer loses nothing, and each of them is counted
// under the right reason.
func TestAbuse(t *testing.T) {
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	stranger, err := c.Node("stranger")
	if err != nil {
		t.Fatal(err)
	}
	from, to := b.pod(20), a.pod(10)
	ping(t, from, to)
	before := c.settled()[a]

	good := innerPacket(t, "10.244.2.99", "10.244.1.10", 100)
	trailing := append(bytes.Clone(good), 0)
	checksum := bytes.Clone(good)
	checksum[10] ^= 1
	attacks := []struct {
		name   string
		from   *topo.Node
		data   []byte
		reason string
	}{
		{"a stranger", stranger, good, "unknown-peer"},
		{"a stranger's garbage", stranger, []byte("\x00\x01\x02"), "unknown-peer"},
		{"nothing", b.Node, nil, "malformed"},
		{"text", b.Node, []byte("GET / HTTP/1.1\r\n\r\n"), "malformed"},
		{"an unknown encapsulation", b.Node, bytes.Repeat([]byte{0}, 64), "malformed"},
		{"truncated", b.Node, good[:len(good)-1], "malformed"},
		{"cut in the header", b.Node, good[:19], "malformed"},
		{"trailing bytes", b.Node, trailing, "malformed"},
		{"header checksum", b.Node, checksum, "malformed"},
		{"our pod's address", b.Node, innerPacket(t, "10.244.1.10", "10.244.1.10", 100), "spoofed"},
		{"a third node's pod", b.Node, innerPacket(t, "10.244.3.1", "10.244.1.10", 100), "spoofed"},
		{"an outside source", b.Node, innerPacket(t, "192.0.2.1", "10.244.1.10", 100), "spoofed"},
		{"loopback source", b.Node, innerPacket(t, "127.0.0.1", "10.244.1.10", 100), "spoofed"},
		{"looping back", b.Node, innerPacket(t, "10.244.2.99", "10.244.2.20", 100), "not-ours"},
		{"transit", b.Node, innerPacket(t, "10.244.2.99", "192.0.2.1", 100), "not-ours"},
		{"multicast", b.Node, innerPacket(t, "10.244.2.99", "239.0.0.1", 100), "not-ours"},
		{"the node's own address", b.Node, innerPacket(t, "10.244.2.99", "198.51.100.1", 100), "not-ours"},
		{"oversized", b.Node, innerPacket(t, "10.244.2.99", "10.244.1.10", 9000), "too-big"},
		{"one byte too many", b.Node, innerPacket(t, "10.244.2.99", "10.244.1.10", 1461), "too-big"},
	}
	const rounds = 200
	want := maps.Clone(before.Ingress.Drops)
	for _, attack := range attacks {
		want[attack.reason] += rounds
	}

	ended := make(chan error, 1)
	go func() { ended <- transfer(t, from, to, 50<<20) }()
	for _, attack := range attacks {
		conn := attacker(t, attack.from, a.Addr)
		for range rounds {
			if _, err := conn.Write(attack.data); err != nil {
				t.Fatalf("%s: %v", attack.name, err)
			}
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	after := c.settled()
	if n := after[a].Kernel.SocketOverflow; n != before.Kernel.SocketOverflow {
		t.Fatalf("%d datagrams overflowed the socket, so that the counts below mean nothing", n)
	}
	if diff := cmp.Diff(want, after[a].Ingress.Drops); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
	if n := after[a].Ingress.Received - after[a].Ingress.Forwarded; n < uint64(rounds*len(attacks)) {
		t.Errorf("only %d datagrams were dropped", n)
	}
	checkCLI(t, a)
}

// attacker is a socket in from that sends to the data port of a node, and takes
// the kernel's help to fragment what is too large for the link.
func attacker(t *testing.T, from *topo.Node, to netip.Addr) net.Conn {
	t.Helper()
	conn, err := dial(from.Namespace, "udp4", to, 8285)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// innerPacket is an IPv4 UDP packet of size bytes to the discard port.
func innerPacket(t *testing.T, src, dst string, size int) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	udp := &layers.UDP{SrcPort: 9, DstPort: 9}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		ip, udp, gopacket.Payload(make([]byte, size-28)))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

// ping waits until one pod reaches the other.
func ping(t *testing.T, from, to *topo.Pod) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := from.Run(ctx, "ping", "-c", "1", "-w", "15", to.Addr.String()); err != nil {
		t.Fatalf("ping from %s to %s: %v\n%s", from, to, err, out)
	}
}
