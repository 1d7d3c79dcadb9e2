package dataplane_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/encap"
)

const testMTU = 1460

// node is an engine with both its ends in memory.
type node struct {
	*dataplane.Engine
	device   *dataplanetest.Device
	endpoint netip.AddrPort
	config   dataplane.Config
}

// newNode starts node number i: endpoint 198.51.100.i, block 10.244.i.0/24.
func newNode(t testing.TB, network *dataplanetest.Network, i byte, peers ...byte) *node {
	t.Helper()
	n := features{offload.All, true}.makeNode(t, network, i, peers...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return n
}

// features are what nodes may differ in.
type features struct {
	can offload.Set // which superpackets the device takes
	rco bool        // whether partial checksums are sent to peers
}

// makeNode is newNode without the start.
func (f features) makeNode(t testing.TB, network *dataplanetest.Network, i byte, peers ...byte) *node {
	t.Helper()
	n := &node{
		device:   dataplanetest.NewDevice(t),
		endpoint: endpoint(i),
		config: dataplane.Config{
			PodCIDRs:  []netip.Prefix{block(i)},
			Address:   block(i).Addr(),
			Endpoints: []netip.Addr{endpoint(i).Addr()},
			MTU:       testMTU,
		},
	}
	for _, p := range peers {
		n.config.Peers = append(n.config.Peers, dataplane.Peer{
			ID: endpoint(p).String(), Endpoint: endpoint(p), PodCIDRs: []netip.Prefix{block(p)}, MTU: testMTU, Codec: encap.UDP, RCO: f.rco,
		})
	}
	pairs := []dataplane.Pair{{Queue: n.device, Wire: strict{network.Listen(t, n.endpoint)}}}
	n.Engine = dataplane.New(pairs, encap.UDP, f.can)
	if err := n.Apply(n.config); err != nil {
		t.Fatal(err)
	}
	return n
}

func endpoint(i byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, i}), 8285)
}

func block(i byte) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, i, 0}), 24) }

func pod(node, host byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 244, node, host}) }

// udpPacket makes an IPv4 UDP packet of size bytes in all.
func udpPacket(t testing.TB, src, dst netip.Addr, tos uint8, size int) []byte {
	t.Helper()
	ip := &layers.IPv4{
		Version: 4, TTL: 64, TOS: tos, Id: 7, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolUDP,
		SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
	}
	udp := &layers.UDP{SrcPort: 4000, DstPort: 5000}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	payload := make(gopacket.Payload, size-28)
	for i := range payload {
		payload[i] = byte(i)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, payload); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(buf.Bytes())
}

// settled waits until both directions of n have received that many packets, and
// checks that every one of them is accounted for.
func (n *node) settled(t testing.TB, egress, ingress uint64) dataplane.Stats {
	t.Helper()
	deadline := time.After(10 * time.Second)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		s := n.Stats()
		adds(t, "egress", s.Egress)
		adds(t, "ingress", s.Ingress)
		if s.Egress.Received == egress && s.Ingress.Received == ingress {
			return s
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("received %d out and %d in, want %d and %d", s.Egress.Received, s.Ingress.Received, egress, ingress)
		}
	}
}

func adds(t testing.TB, direction string, a dataplane.Account) {
	t.Helper()
	sum := a.Forwarded
	for _, n := range a.Drops {
		sum += n
	}
	if sum != a.Received {
		t.Errorf("%s: received %d, but forwarded and dropped %d: %v", direction, a.Received, sum, a)
	}
}

// drops is the non-zero part of a.Drops.
func drops(a dataplane.Account) map[dataplane.Reason]uint64 {
	m := map[dataplane.Reason]uint64{}
	for r, n := range a.Drops {
		if n != 0 {
			m[dataplane.Reason(r)] = n
		}
	}
	return m
}
