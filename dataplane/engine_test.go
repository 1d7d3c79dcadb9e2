package dataplane_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"go.uber.org/goleak"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type reasonCounts = map[dataplane.Reason]uint64

func TestPacketsReachTheOtherNode(t *testing.T) {
	network := dataplanetest.NewNetwork()
	a, b := newNode(t, network, 1, 2), newNode(t, network, 2, 1)

	const count = 1000
	for i := range uint16(count) {
		there := udpPacket(t, pod(1, 10), pod(2, 20), 0, 28+int(i))
		back := udpPacket(t, pod(2, 20), pod(1, 10), 0, 28+int(i))
		a.device.Send(there)
		b.device.Send(back)
		// In order, and not a byte changed.
		if got := b.device.Receive(t); !bytes.Equal(got, there) {
			t.Fatalf("packet %d arrived as %x, want %x", i, got, there)
		}
		if got := a.device.Receive(t); !bytes.Equal(got, back) {
			t.Fatalf("packet %d came back as %x, want %x", i, got, back)
		}
	}
	for _, n := range []*node{a, b} {
		s := n.settled(t, count, count)
		if s.Egress.Forwarded != count || s.Ingress.Forwarded != count {
			t.Errorf("forwarded %d out and %d in, want %d", s.Egress.Forwarded, s.Ingress.Forwarded, count)
		}
	}
	want := dataplane.PeerStats{TxPackets: count, RxPackets: count}
	want.TxBytes = count*28 + count*(count-1)/2
	want.RxBytes = want.TxBytes
	if diff := cmp.Diff(want, a.Stats().Peers[b.endpoint.String()]); diff != "" {
		t.Errorf("traffic with the peer (-want +got):\n%s", diff)
	}
}

func TestNodeReachesPodByItsUnderlayAddress(t *testing.T) {
	network := dataplanetest.NewNetwork()
	a, b := newNode(t, network, 1, 2), newNode(t, network, 2, 1)
	p := udpPacket(t, a.endpoint.Addr(), pod(2, 20), 0, 100)
	a.device.Send(p)
	if got := b.device.Receive(t); !bytes.Equal(got, p) {
		t.Errorf("arrived as %x", got)
	}
}

func TestEgressDrops(t *testing.T) {
	network := dataplanetest.NewNetwork()
	a := newNode(t, network, 1, 2)
	b := newNode(t, network, 2, 1)

	broken := udpPacket(t, pod(1, 10), pod(2, 20), 0, 100)
	broken[10] ^= 0xff // header checksum
	for _, p := range [][]byte{
		broken,
		broken[:15],
		udpPacket(t, pod(3, 10), pod(2, 20), 0, 100),                               // another node's pod
		udpPacket(t, b.endpoint.Addr(), pod(2, 20), 0, 100),                        // another node
		udpPacket(t, pod(1, 10), pod(1, 11), 0, 100),                               // own block: a loop
		udpPacket(t, pod(1, 10), pod(9, 9), 0, 100),                                // nobody's
		udpPacket(t, pod(1, 10), netip.MustParseAddr("192.0.2.1"), 0, 100),         // outside
		udpPacket(t, pod(1, 10), pod(2, 20), 0, testMTU+1),                         // too big
		udpPacket(t, pod(1, 10), pod(2, 20), 0, testMTU),                           // just fits
		udpPacket(t, pod(1, 10), netip.MustParseAddr("239.1.1.1"), 0, 100),         // multicast
		udpPacket(t, netip.MustParseAddr("10.244.1.0"), pod(2, 20), 0, 100),        // the TUN's own address
		udpPacket(t, netip.MustParseAddr("203.0.113.5"), pod(2, 20), 0, 100),       // foreign
		udpPacket(t, netip.MustParseAddr("255.255.255.255"), pod(2, 20), 0, 100)} { // broadcast
		a.device.Send(p)
	}
	got := a.settled(t, 13, 0)
	want := reasonCounts{dataplane.Malformed: 2, dataplane.Spoofed: 4, dataplane.NotOurs: 1, dataplane.NoRoute: 3, dataplane.TooBig: 1}
	if diff := cmp.Diff(want, drops(got.Egress)); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
	if got.ICMPSent != 3 { // nobody's, outside, too big; never for multicast
		t.Errorf("%d ICMP errors, want 3", got.ICMPSent)
	}
	b.settled(t, 0, 2)
}

func TestSenderIsToldByICMP(t *testing.T) {
	network := dataplanetest.NewNetwork()
	a := newNode(t, network, 1, 2)
	for _, c := range []struct {
		name string
		sent []byte
		code uint8
		mtu  uint16
	}{
		{"no route", udpPacket(t, pod(1, 10), pod(9, 9), 0, 100), layers.ICMPv4CodeNet, 0},
		{"too big", udpPacket(t, pod(1, 10), pod(2, 20), 0, testMTU+1), layers.ICMPv4CodeFragmentationNeeded, testMTU},
	} {
		a.device.Send(c.sent)
		answer := gopacket.NewPacket(a.device.Receive(t), layers.LayerTypeIPv4, gopacket.Default)
		ip, _ := answer.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		icmp, _ := answer.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		if ip == nil || icmp == nil {
			t.Fatalf("%s: answered with %v", c.name, answer)
		}
		if src, dst := ip.SrcIP.String(), ip.DstIP.String(); src != "10.244.1.0" || dst != pod(1, 10).String() {
			t.Errorf("%s: answer goes from %s to %s", c.name, src, dst)
		}
		if want := layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, c.code); icmp.TypeCode != want || icmp.Seq != c.mtu {
			t.Errorf("%s: answer is %s with MTU %d, want %s with %d", c.name, icmp.TypeCode, icmp.Seq, want, c.mtu)
		}
		if !bytes.HasPrefix(c.sent, icmp.Payload) || len(icmp.Payload) < 28 {
			t.Errorf("%s: answer does not quote the packet", c.name)
		}
	}
}

// A pod that floods an address that nobody owns gets few answers, and takes none
// of another pod's.
func TestICMPIsLimitedPerSender(t *testing.T) {
	network := dataplanetest.NewNetwork()
	a := newNode(t, network, 1)
	const flood = 3000
	p := udpPacket(t, pod(1, 10), pod(9, 9), 0, 60)
	for range flood {
		a.device.Send(p)
	}
	flooded := a.settled(t, flood, 0)
	if flooded.Egress.Drops[dataplane.NoRoute] != flood {
		t.Errorf("%d dropped for want of a route, want all %d", flooded.Egress.Drops[dataplane.NoRoute], flood)
	}
	if flooded.ICMPSent == 0 || flooded.ICMPSent > flood/2 {
		t.Errorf("%d answers to %d packets", flooded.ICMPSent, flood)
	}
	a.device.Send(udpPacket(t, pod(1, 11), pod(9, 9), 0, 60))
	if after := a.settled(t, flood+1, 0); after.ICMPSent != flooded.ICMPSent+1 {
		t.Errorf("the other pod got no answer")
	}
}

// All senders together get no more answers than the node's limit, however many
// they are: 50 at once, and 1,000 a second.
func TestICMPIsLimitedInAll(t *testing.T) {
	network := dataplanetest.NewNetwork()
	a := newNode(t, network, 1)
	began := time.Now()
	const senders, each = 200, 10
	for host := range byte(senders) {
		p := udpPacket(t, pod(1, host), pod(9, 9), 0, 60)
		for range each {
			a.device.Send(p)
		}
	}
	sent := a.settled(t, senders*each, 0).ICMPSent
	if limit := 51 + uint64(1000*time.Since(began).Seconds()); sent == 0 || sent > limit {
		t.Errorf("%d answers to %d packets of %d senders, at most %d by now", sent, senders*each, senders, limit)
	}
}

func TestIngressDrops(t *testing.T) {
	network := dataplanetest.NewNetwork()
	b := newNode(t, network, 2, 1, 3)
	good := udpPacket(t, pod(1, 10), pod(2, 20), 0, 100)
	mutated := func(change func(p []byte)) []byte {
		p := bytes.Clone(good)
		change(p)
		return p
	}
	sums := func(p []byte, delta int) {
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)+delta))
		binary.BigEndian.PutUint16(p[10:], 0)
		binary.BigEndian.PutUint16(p[10:], slowChecksum(p[:20]))
	}
	stranger := netip.MustParseAddrPort("198.51.100.77:8285")
	for _, d := range []struct {
		from netip.AddrPort
		ds   uint8
		data []byte
	}{
		{stranger, 0, good},
		{endpoint(1), 0, nil},
		{endpoint(1), 0, []byte{0x00, 0x01, 0x02}}, // GUE variant 0, not spoken
		{endpoint(1), 0, []byte{0xff}},
		{endpoint(1), 0, good[:60]},                                                           // truncated
		{endpoint(1), 0, append(bytes.Clone(good), 0)},                                        // trailing byte
		{endpoint(1), 0, mutated(func(p []byte) { p[0] = 0x55 })},                             // version 5
		{endpoint(1), 0, mutated(func(p []byte) { p[0] = 0x44 })},                             // IHL 4
		{endpoint(1), 0, mutated(func(p []byte) { p[8]-- })},                                  // header checksum
		{endpoint(1), 0, mutated(func(p []byte) { sums(p, 1) })},                              // total length
		{endpoint(1), 0, udpPacket(t, pod(3, 10), pod(2, 20), 0, 100)},                        // another peer's pod
		{endpoint(1), 0, udpPacket(t, pod(2, 10), pod(2, 20), 0, 100)},                        // our own pod
		{endpoint(1), 0, udpPacket(t, endpoint(3).Addr(), pod(2, 20), 0, 100)},                // another peer
		{endpoint(1), 0, udpPacket(t, pod(1, 10), pod(3, 20), 0, 100)},                        // transit
		{endpoint(1), 0, udpPacket(t, pod(1, 10), pod(1, 20), 0, 100)},                        // back to the sender
		{endpoint(1), 0, udpPacket(t, pod(1, 10), endpoint(2).Addr(), 0, 100)},                // the node itself
		{endpoint(1), 0, udpPacket(t, pod(1, 10), pod(2, 20), 0, testMTU+1)},                  // too big
		{endpoint(1), 3, good},                                                                // congestion, Not-ECT
		{endpoint(1), 0, good},                                                                // fine
		{netip.AddrPortFrom(endpoint(1).Addr(), 50000), 0, good},                              // fine: ports carry entropy
		{endpoint(1), 0, udpPacket(t, endpoint(1).Addr(), pod(2, 20), 0, 100)},                // fine: the peer itself
		{endpoint(1), 3, udpPacket(t, pod(1, 10), pod(2, 20), 2, 100)},                        // fine: ECT(0), marked
		{endpoint(3), 0, udpPacket(t, pod(3, 10), netip.MustParseAddr("10.244.2.0"), 0, 100)}, // fine: our TUN
		{endpoint(3), 0, udpPacket(t, pod(3, 10), pod(2, 20), 0, testMTU)},                    // fine: just fits
	} {
		network.Inject(d.from, b.endpoint, d.ds, d.data)
	}
	got := b.settled(t, 0, 24)
	want := reasonCounts{
		dataplane.UnknownPeer: 1, dataplane.Malformed: 9, dataplane.Spoofed: 3, dataplane.NotOurs: 3,
		dataplane.TooBig: 1, dataplane.Congestion: 1,
	}
	if diff := cmp.Diff(want, drops(got.Ingress)); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
	for range 3 {
		if p := b.device.Receive(t); p[1] != 0 {
			t.Errorf("an unmarked packet arrived with DS field %#x", p[1])
		}
	}
	if marked := b.device.Receive(t); marked[1] != 3 || slowChecksum(marked[:20]) != 0 {
		t.Errorf("the congestion mark did not arrive: %x", marked[:20])
	}
	b.device.Receive(t)
	b.device.Receive(t)
	if n := b.device.Waiting(); n != 0 {
		t.Errorf("%d packets delivered that should not have been", n)
	}
}

func slowChecksum(b []byte) uint16 {
	sum := 0
	for i := 0; i < len(b); i += 2 {
		sum += int(b[i])*256 + int(b[i+1])
		if sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(0xffff - sum)
}

func TestDeviceRefusalIsCounted(t *testing.T) {
	network := dataplanetest.NewNetwork()
	b := newNode(t, network, 2, 1)
	b.device.Refuse(errors.New("link is down"))
	p := udpPacket(t, pod(1, 10), pod(2, 20), 0, 100)
	for range 10 {
		network.Inject(endpoint(1), b.endpoint, 0, p)
	}
	got := b.settled(t, 0, 10)
	if diff := cmp.Diff(reasonCounts{dataplane.DeviceRefused: 10}, drops(got.Ingress)); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
}

func TestApplyFollowsTheConfiguration(t *testing.T) {
	network := dataplanetest.NewNetwork()
	a, b := newNode(t, network, 1, 2), newNode(t, network, 2, 1)
	p := udpPacket(t, pod(1, 10), pod(2, 20), 0, 100)
	a.device.Send(p)
	b.device.Receive(t)

	if err := a.Apply(a.config); err != nil {
		t.Fatal(err)
	}
	if tx := a.Stats().Peers[b.endpoint.String()].TxPackets; tx != 1 {
		t.Errorf("the same configuration again left the peer's counter at %d, want 1", tx)
	}
	withdrawn := a.config
	withdrawn.Peers = nil
	if err := a.Apply(withdrawn); err != nil {
		t.Fatal(err)
	}
	a.device.Send(p)
	if s := a.settled(t, 2, 0); s.Egress.Drops[dataplane.NoRoute] != 1 {
		t.Errorf("a withdrawn peer's packet was not dropped for want of a route: %v", drops(s.Egress))
	}
	if err := a.Apply(a.config); err != nil {
		t.Fatal(err)
	}
	a.device.Send(p)
	b.device.Receive(t)
	a.settled(t, 3, 0)
	if tx := a.Stats().Peers[b.endpoint.String()].TxPackets; tx != 2 {
		t.Errorf("a peer that was away and is back has its counter at %d, want 2", tx)
	}
}

// A node that lost its block sends nothing, and its pods are told.
func TestFencedNode(t *testing.T) {
	network := dataplanetest.NewNetwork()
	a, b := newNode(t, network, 1, 2), newNode(t, network, 2, 1)
	fenced := a.config
	fenced.PodCIDRs = nil
	if err := a.Apply(fenced); err != nil {
		t.Fatal(err)
	}
	a.device.Send(udpPacket(t, pod(1, 10), pod(2, 20), 0, 100))
	b.device.Send(udpPacket(t, pod(2, 20), pod(1, 10), 0, 100))
	got := a.settled(t, 1, 1)
	if got.Egress.Drops[dataplane.Fenced] != 1 || got.Ingress.Drops[dataplane.NotOurs] != 1 || got.ICMPSent != 1 {
		t.Errorf("out %v, in %v, %d ICMP errors", drops(got.Egress), drops(got.Ingress), got.ICMPSent)
	}
}

func TestApplyRefusesTwoOwners(t *testing.T) {
	network := dataplanetest.NewNetwork()
	a := newNode(t, network, 1, 2)
	for name, change := range map[string]func(p *dataplane.Peer){
		"peer's block":    func(p *dataplane.Peer) { p.PodCIDRs = []netip.Prefix{block(2)} },
		"own block":       func(p *dataplane.Peer) { p.PodCIDRs = []netip.Prefix{block(1)} },
		"peer's endpoint": func(p *dataplane.Peer) { p.Endpoints = []netip.Addr{endpoint(2).Addr()} },
	} {
		c := a.config
		other := dataplane.Peer{ID: "other", Endpoints: []netip.Addr{endpoint(5).Addr()}, To: endpoint(5), PodCIDRs: []netip.Prefix{block(5)}, MTU: testMTU}
		change(&other)
		c.Peers = append(c.Peers[:1:1], other)
		if err := a.Apply(c); err == nil {
			t.Errorf("%s: given to two nodes without an error", name)
		}
	}
	// The refused ones changed nothing.
	a.device.Send(udpPacket(t, pod(1, 10), pod(2, 20), 0, 100))
	if s := a.settled(t, 1, 0); s.Egress.Forwarded != 1 {
		t.Errorf("the engine no longer forwards: %v", drops(s.Egress))
	}
}

func TestRunReportsADeviceThatIsGone(t *testing.T) {
	device := dataplanetest.NewDevice(t)
	pairs := []dataplane.Pair{{Queue: device, Wire: dataplanetest.NewNetwork().Listen(t, endpoint(1))}}
	e := dataplane.New(pairs, 0)
	device.Vanish()
	if err := e.Run(context.Background()); err == nil {
		t.Error("Run returned nil though nobody asked it to stop")
	}
}
