package dataplane_test

import (
	"context"
	"fmt"
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

const (
	testMTU = 1460
	testVNI = 7
)

// node is an engine with both its ends in memory.
type node struct {
	*dataplane.Engine
	device   *dataplanetest.Device
	endpoint netip.AddrPort
	features features
	config   dataplane.Config
	lies     bool // the device says that checksums belong anywhere, even over the ports
}

// newNode starts node number i.
func newNode(t testing.TB, network *dataplanetest.Network, i byte, peers ...byte) *node {
	t.Helper()
	n := features{can: offload.All, rco: true}.makeNode(t, network, i, peers...)
	start(t, n)
	return n
}

// start runs n for as long as the test lives.
func start(t testing.TB, n *node) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// features are what nodes may differ in.
type features struct {
	can   offload.Set // which superpackets the device takes
	rco   bool        // whether partial checksums are sent to peers
	codec encap.Codec // in which packets are sent to peers
	six   bool        // whether they are sent over IPv6
	mtu   int         // of the way to peers, bytes; 0 is testMTU
	clamp bool
}

func (f features) String() string {
	return fmt.Sprintf("merge=(%s),rco=%v,%s,six=%v,mtu=%d", f.can, f.rco, f.codec, f.six, f.way())
}

// way is the MTU of the way to peers.
func (f features) way() int {
	if f.mtu == 0 {
		return testMTU
	}
	return f.mtu
}

// makeNode is newNode without the start.
func (f features) makeNode(t testing.TB, network *dataplanetest.Network, i byte, peers ...byte) *node {
	t.Helper()
	n := &node{
		device:   dataplanetest.NewDevice(t),
		endpoint: endpoint(i),
		features: f,
		config: dataplane.Config{
			PodCIDRs:  []netip.Prefix{block(i), block6(i)},
			Addresses: []netip.Addr{block(i).Addr(), block6(i).Addr()},
			Endpoints: []netip.Addr{endpoint(i).Addr(), endpoint6(i).Addr()},
			Station:   station(i),
			MTU:       testMTU,
			ClampMSS:  f.clamp,
		},
	}
	for _, p := range peers {
		n.config.Peers = append(n.config.Peers, f.peer(i, p))
	}
	pairs := []dataplane.Pair{{Queue: n.device, Wire: strict{network.Listen(t, endpoint(i), endpoint6(i)), n}}}
	n.Engine = dataplane.New(pairs, f.can)
	if err := n.Apply(n.config); err != nil {
		t.Fatal(err)
	}
	return n
}

// peer is node p as node i has it.
func (f features) peer(i, p byte) dataplane.Peer {
	return dataplane.Peer{
		ID:        endpoint(p).String(),
		Endpoints: []netip.Addr{endpoint(p).Addr(), endpoint6(p).Addr()},
		PodCIDRs:  []netip.Prefix{block(p), block6(p)},
		To:        f.to(p),
		Tunnel:    encap.Tunnel{Codec: f.codec, VNI: testVNI, Local: station(i).MAC, Remote: station(p).MAC},
		MTU:       f.way(),
		RCO:       f.rco,
	}
}

// to is where packets to node p go.
func (f features) to(p byte) netip.AddrPort {
	to := endpoint(p)
	if f.six {
		to = endpoint6(p)
	}
	if f.codec == encap.VXLAN {
		to = vxlan(to)
	}
	return to
}

// Node i has the underlay addresses 198.51.100.i and 2001:db8:51::i, and the blocks
// 10.244.i.0/24 and fd00:10:244:i::/64.

func endpoint(i byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, i}), 8285)
}

func endpoint6(i byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 5: 0x51, 15: i}), 8285)
}

// vxlan is the port of VXLAN at the same address.
func vxlan(endpoint netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(endpoint.Addr(), dataplanetest.VXLANPort)
}

func station(i byte) encap.Station {
	return encap.Station{VNI: testVNI, MAC: encap.MAC{2, 0, 0, 0, 0, i}}
}

func block(i byte) netip.Prefix { return netip.PrefixFrom(pod(i, 0), 24) }

func block6(i byte) netip.Prefix { return netip.PrefixFrom(pod6(i, 0), 64) }

func pod(node, host byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 244, node, host}) }

func pod6(node, host byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x10, 4: 0x02, 5: 0x44, 7: node, 15: host})
}

// owner is the node whose pod has addr.
func owner(addr netip.Addr) byte {
	if addr.Is4() {
		return addr.As4()[2]
	}
	return addr.As16()[7]
}

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
