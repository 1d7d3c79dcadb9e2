package dataplane_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

// strict is a wire that holds the engine to what encap.Message asks for, which the
// kernel would not notice, or not say.
type strict struct {
	*dataplanetest.Wire
	node *node // whose it is
}

func (w strict) Send(msgs []encap.Message) (sent int, err error) {
	for i := range msgs {
		if err := w.node.check(&msgs[i]); err != nil {
			panic(fmt.Sprintf("message %d of %d: %v", i, len(msgs), err))
		}
	}
	return w.Wire.Send(msgs)
}

func (n *node) check(m *encap.Message) error {
	total := 0
	for _, p := range m.Pieces {
		total += len(p)
	}
	switch {
	case m.Segments < 1 || m.Segments > encap.MaxSegments:
		return fmt.Errorf("%d segments", m.Segments)
	case len(m.Pieces) != m.Segments*m.PerSegment:
		return fmt.Errorf("%d pieces for %d segments of %d", len(m.Pieces), m.Segments, m.PerSegment)
	case total > encap.MaxPayload:
		return fmt.Errorf("%d bytes", total)
	case m.Fragment && m.Segments > 1:
		return fmt.Errorf("%d segments that may be fragmented", m.Segments)
	}
	for s := range m.Segments {
		if err := n.checkDatagram(m, bytes.Join(m.Pieces[s*m.PerSegment:][:m.PerSegment], nil)); err != nil {
			return fmt.Errorf("datagram %d: %w", s, err)
		}
	}
	return nil
}

func (n *node) checkDatagram(m *encap.Message, datagram []byte) error {
	to := m.Addr.Addr().As16()
	far := station(to[15])
	inner, _, kind := far.Decap(n.features.codec, datagram)
	var h packet.Header
	if kind != encap.Packet || !packet.ParseInto(inner, &h) {
		return fmt.Errorf("%x", datagram)
	}
	if local := n.config.Station.MAC; n.features.codec == encap.VXLAN && encap.MAC(datagram[14:]) != local {
		return fmt.Errorf("from VTEP %s, want %s", encap.MAC(datagram[14:]), local)
	}
	largest := m.SegmentSize - len(datagram) + len(inner) // of a superpacket, whose last segment goes with the others
	switch {
	case m.Addr != n.features.to(owner(h.Dst)):
		return fmt.Errorf("for node %d, goes to %s", owner(h.Dst), m.Addr)
	case m.DSField != h.DSField:
		return fmt.Errorf("of DS field %#x, leaves with %#x", h.DSField, m.DSField)
	case !m.Fragment && len(inner) > n.features.way():
		return fmt.Errorf("has %d bytes, on a way of %d", len(inner), n.features.way())
	case m.Fragment && (h.Src.Is4() || largest > 1280 || largest <= n.features.way()):
		return fmt.Errorf("of %d bytes at the most, on a way of %d, from %s, may be fragmented", largest, n.features.way(), h.Src)
	case !h.Fragment && !n.lies && !encap.SamePort(m.Flow, h.FlowHash(inner)):
		return fmt.Errorf("leaves from another flow's port") // fragments: TestFragmentsKeepTheirPlace
	}
	return nil
}

// Packets of one read that go to different peers do, however alike they are.
func TestPeersAreKeptApart(t *testing.T) {
	network := dataplanetest.NewNetwork()
	far := [2]*dataplanetest.Wire{network.Listen(t, endpoint(2)), network.Listen(t, endpoint(3))}
	a := features{can: offload.All, rco: true}.makeNode(t, network, 1, 2, 3)
	x := duplex{nodes: [2]*node{a, features{}.makeNode(t, network, 4)}}
	x.open(t)
	const each = 200
	for i := range byte(each) {
		a.device.Send(udpPacket(t, pod(1, i), pod(2, 1), 0, 100))
		a.device.Send(udpPacket(t, pod(1, i), pod(3, 1), 0, 100))
	}
	x.run(t)
	for i, w := range far {
		datagrams := received(t, w)
		if len(datagrams) != each {
			t.Errorf("node %d got %d packets, want %d", 2+i, len(datagrams), each)
		}
	}
}

// As many segments as there can be in one read of the device, and in one turn on the
// other side: more than what a worker has room for at once.
func TestManySegmentsAtOnce(t *testing.T) {
	x := newDuplex(t, features{can: offload.All, rco: true}, features{can: offload.All, rco: true})
	f := flow{src: pod(1, 1), dst: pod(2, 1), protocol: packet.ProtocolTCP, srcPort: 1, dstPort: 2, options: make([]byte, 40)}
	var many []packet.Packet
	for range 60 {
		many = append(many, super(f.next(packet.MaxSegments*20, 0x10), 20))
	}
	x.exchange(t, many)
	if got := x.nodes[1].Stats().Ingress; got != (dataplane.Account{Received: 60 * packet.MaxSegments, Forwarded: 60 * packet.MaxSegments}) {
		t.Errorf("account %+v", got)
	}
}
