package dataplane_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

// collect drains tap until it has shown count packets.
func collect(t *testing.T, tap *dataplane.Tap, count int) (all []dataplane.Captured) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		_ = tap.Drain(func(c *dataplane.Captured) error {
			copied := *c
			copied.Data = bytes.Clone(c.Data)
			all = append(all, copied)
			return nil
		})
		if len(all) >= count {
			return all
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("%d packets are shown, want %d", len(all), count)
		}
	}
}

// Both ends show the same packet, inside and outside, and decoders understand it.
func TestTapShowsAPacketOnBothEnds(t *testing.T) {
	for _, f := range []features{
		{can: offload.All}, {can: offload.All, six: true},
		{can: offload.All, codec: encap.VXLAN}, {can: offload.All, codec: encap.VXLAN, six: true},
	} {
		t.Run(f.String(), func(t *testing.T) {
			network := dataplanetest.NewNetwork()
			var taps [2]*dataplane.Tap
			var nodes [2]*node
			for i := range nodes {
				n := f.makeNode(t, network, byte(i+1), byte(2-i))
				tap, err := n.Tap(dataplane.TapConfig{Snaplen: 2000, Ports: map[encap.Codec]uint16{encap.UDP: 8285, encap.VXLAN: dataplanetest.VXLANPort}})
				if err != nil {
					t.Fatal(err)
				}
				start(t, n)
				nodes[i], taps[i] = n, tap
			}
			sent := udpPacket(t, pod(1, 10), pod(2, 20), 0x2e<<2, 500)
			nodes[0].device.Send(sent)
			nodes[1].device.Receive(t)
			for i, direction := range []dataplane.Direction{dataplane.Out, dataplane.In} {
				shown := collect(t, taps[i], 2)
				if len(shown) != 2 {
					t.Fatalf("%d packets are shown, want 2", len(shown))
				}
				for _, c := range shown {
					if c.Direction != direction || c.Dropped || c.Peer != endpoint(byte(2-i)).String() || c.Length != len(c.Data) || time.Since(c.Time) > time.Minute {
						t.Errorf("shown is %+v", c)
					}
					inside := c.Data
					if c.Layer == dataplane.Outer {
						inside = payload(t, c.Data, f)
					}
					if !bytes.Equal(inside, sent) {
						t.Errorf("the inner packet is shown as %x", inside)
					}
				}
				if shown[0].Layer == shown[1].Layer {
					t.Error("one layer is shown twice")
				}
			}
		})
	}
}

// Of a superpacket the receiving end shows each datagram, though it need not read most of them.
func TestTapShowsEachDatagram(t *testing.T) {
	f := features{can: offload.All, rco: true}
	x := newDuplex(t, f, f)
	tap, err := x.nodes[1].Tap(dataplane.TapConfig{Snaplen: 2000})
	if err != nil {
		t.Fatal(err)
	}
	flow := flow{src: pod(1, 1), dst: pod(2, 2), protocol: packet.ProtocolTCP, srcPort: 1, dstPort: 2, flags4: 0x4000}
	const segments = 8
	p := flow.next(segments*1000, 0x10)
	p.GSO, p.SegmentSize = packet.TCP4, 1000
	x.exchange(t, []packet.Packet{p}, nil)
	count := map[dataplane.Layer]int{}
	for _, c := range collect(t, tap, segments+1) {
		count[c.Layer]++
	}
	if count[dataplane.Outer] != segments || count[dataplane.Inner] != 1 {
		t.Errorf("shown are %d outer and %d inner packets, want %d and 1", count[dataplane.Outer], count[dataplane.Inner], segments)
	}
}

// payload takes an outer packet from node 1 to node 2 apart.
func payload(t *testing.T, outer []byte, f features) []byte {
	t.Helper()
	first, src, dst := gopacket.Decoder(layers.LayerTypeIPv4), endpoint(1).Addr(), f.to(2)
	if f.six {
		first, src = layers.LayerTypeIPv6, endpoint6(1).Addr()
	}
	p := gopacket.NewPacket(outer, first, gopacket.Default)
	from, to := p.NetworkLayer().NetworkFlow().Endpoints()
	udp, ok := p.TransportLayer().(*layers.UDP)
	if !ok || p.Metadata().Truncated {
		t.Fatalf("no whole UDP: %v", p)
	}
	if from.String() != src.String() || netip.AddrPortFrom(netip.MustParseAddr(to.String()), uint16(udp.DstPort)) != dst {
		t.Errorf("it goes from %s to %s port %d", from, to, udp.DstPort)
	}
	class := uint8(0)
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		class = ip.TOS
		sum := ip.Checksum
		buf := gopacket.NewSerializeBuffer()
		if err := ip.SerializeTo(buf, gopacket.SerializeOptions{ComputeChecksums: true}); err != nil || ip.Checksum != sum {
			t.Errorf("its checksum is %x, want %x (%v)", sum, ip.Checksum, err)
		}
	case *layers.IPv6:
		class = ip.TrafficClass
	}
	if class != 0x2e<<2 {
		t.Errorf("its DS field is %x", class)
	}
	if f.codec == encap.VXLAN {
		return p.Layer(layers.LayerTypeVXLAN).LayerPayload()[14:]
	}
	return udp.Payload
}

// A packet that is refused is shown once as that, and says whose it was.
func TestTapShowsWhyPacketsAreDropped(t *testing.T) {
	network := dataplanetest.NewNetwork()
	a := newNode(t, network, 1, 2)
	tap, err := a.Tap(dataplane.TapConfig{Filter: dataplane.Filter{Dropped: true}, Snaplen: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	stranger := netip.MustParseAddrPort("203.0.113.9:4000")
	for _, d := range []struct {
		from   netip.AddrPort
		inner  []byte
		reason dataplane.Reason
		layer  dataplane.Layer
		peer   string
	}{
		{endpoint(2), udpPacket(t, pod(3, 1), pod(1, 10), 0, 100), dataplane.Spoofed, dataplane.Inner, endpoint(2).String()},
		{endpoint(2), udpPacket(t, pod(2, 1), pod(3, 10), 0, 100), dataplane.NotOurs, dataplane.Inner, endpoint(2).String()},
		{endpoint(2), udpPacket(t, pod(2, 1), pod(1, 10), 0, testMTU+1), dataplane.TooBig, dataplane.Inner, endpoint(2).String()},
		{endpoint(2), []byte("no packet"), dataplane.Malformed, dataplane.Outer, endpoint(2).String()},
		{stranger, udpPacket(t, pod(2, 1), pod(1, 10), 0, 100), dataplane.UnknownPeer, dataplane.Outer, ""},
	} {
		network.Inject(d.from, endpoint(1), 0, d.inner)
		shown := collect(t, tap, 1)
		if c := shown[0]; len(shown) != 1 || c.Reason != d.reason || c.Layer != d.layer || c.Peer != d.peer || c.Direction != dataplane.In || c.Segments != 1 {
			t.Errorf("%s: shown are %+v", d.reason, shown)
		}
	}
	for _, d := range []struct {
		inner  []byte
		reason dataplane.Reason
		peer   string
	}{
		{udpPacket(t, pod(3, 1), pod(2, 10), 0, 100), dataplane.Spoofed, ""},
		{udpPacket(t, pod(1, 10), pod(9, 9), 0, 100), dataplane.NoRoute, ""},
		{udpPacket(t, pod(1, 10), pod(2, 20), 0, testMTU+1), dataplane.TooBig, endpoint(2).String()},
	} {
		a.device.Send(d.inner)
		shown := collect(t, tap, 1)
		if c := shown[0]; len(shown) != 1 || c.Reason != d.reason || c.Layer != dataplane.Inner || c.Peer != d.peer || c.Direction != dataplane.Out || !bytes.Equal(c.Data, d.inner[:100]) || c.Length != len(d.inner) {
			t.Errorf("%s: shown are %+v", d.reason, shown)
		}
	}
}
