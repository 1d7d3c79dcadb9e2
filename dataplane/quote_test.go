package dataplane_test

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// The sender of a superpacket that goes no further is told so once, about its first
// segment: it has never sent anything as large as the whole.
func TestSuperpacketIsQuotedByItsFirstSegment(t *testing.T) {
	const unreachable = layers.ICMPv4TypeDestinationUnreachable
	noRoute := layers.CreateICMPv4TypeCode(unreachable, layers.ICMPv4CodeNet)
	tooBig := layers.CreateICMPv4TypeCode(unreachable, layers.ICMPv4CodeFragmentationNeeded)
	tcp := flow{src: pod(1, 1), protocol: packet.ProtocolTCP, srcPort: 1, dstPort: 2, flags4: 0x4000, seq: 0xfffffff0, options: []byte{1, 1, 1, 0}}
	udp := flow{src: pod(1, 2), protocol: packet.ProtocolUDP, srcPort: 3, dstPort: 4}
	fenced := func(c *dataplane.Config) { c.PodCIDRs = nil }

	for _, c := range []struct {
		name    string
		flow    flow
		to      byte
		size    int
		change  func(*dataplane.Config)
		code    layers.ICMPv4TypeCode
		mtu     uint16
		reason  dataplane.Reason
		dropped uint64
	}{
		{"no route for TCP", tcp, 9, 1000, nil, noRoute, 0, dataplane.NoRoute, 10},
		{"no route for UDP", udp, 9, 100, nil, noRoute, 0, dataplane.NoRoute, 100},
		{"TCP too big", tcp, 2, testMTU - 20 - 24 + 1, nil, tooBig, testMTU, dataplane.TooBig, 8},
		{"UDP too big", udp, 2, 5000, nil, tooBig, testMTU, dataplane.TooBig, 2},
		{"fenced", tcp, 2, 1000, fenced, noRoute, 0, dataplane.Fenced, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			network := dataplanetest.NewNetwork()
			a := features{offload.All, true}.makeNode(t, network, 1, 2)
			x := duplex{nodes: [2]*node{a, features{}.makeNode(t, network, 2, 1)}}
			x.open(t)
			if c.change != nil {
				c.change(&a.config)
				if err := a.Apply(a.config); err != nil {
					t.Fatal(err)
				}
			}
			c.flow.dst = pod(c.to, 1)
			p := super(c.flow.next(10_000, 0x99), c.size) // of TCP with FIN, PSH and CWR
			a.device.SendSuper(p)
			x.run(t)

			s := a.Stats()
			if s.Egress.Drops[c.reason] != c.dropped || s.Egress.Received != c.dropped {
				t.Errorf("account %+v, want %d packets %s", s.Egress, c.dropped, c.reason)
			}
			if n := a.device.Waiting(); n != 1 || s.ICMPSent != 1 {
				t.Fatalf("%d answers, %d counted; want one", n, s.ICMPSent)
			}
			answer := gopacket.NewPacket(a.device.Receive(t), layers.LayerTypeIPv4, gopacket.Default)
			icmp, _ := answer.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
			if icmp == nil || icmp.TypeCode != c.code || icmp.Seq != c.mtu {
				t.Fatalf("answered with %v", answer)
			}
			// The checksum is left out: that of a quoted packet is the sender's own,
			// who has not computed it yet.
			got, want := bytes.Clone(icmp.Payload), reference.Segment(p)[0]
			for _, b := range [][]byte{got, want} {
				copy(b[p.CsumStart+p.CsumOffset:], []byte{0, 0})
			}
			if len(got) < 28+8 || !bytes.HasPrefix(want, got) {
				t.Errorf("quoted\n%x of\n%x", got, want)
			}
		})
	}
}
