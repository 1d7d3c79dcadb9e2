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
type strict struct{ *dataplanetest.Wire }

func (w strict) Send(msgs []encap.Message) (sent int, err error) {
	for i := range msgs {
		if err := check(&msgs[i]); err != nil {
			panic(fmt.Sprintf("message %d of %d: %v", i, len(msgs), err))
		}
	}
	return w.Wire.Send(msgs)
}

func check(m *encap.Message) error {
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
	}
	for s := range m.Segments {
		datagram := bytes.Join(m.Pieces[s*m.PerSegment:][:m.PerSegment], nil)
		inner, _, ok := encap.UDP.Decap(datagram)
		var h packet.Header
		if !ok || !packet.ParseInto(inner, &h) {
			return fmt.Errorf("datagram %d is %x", s, datagram)
		}
		switch node := h.Dst.As4()[2]; {
		case m.Addr != endpoint(node):
			return fmt.Errorf("datagram %d, for node %d, goes to %s", s, node, m.Addr)
		case m.DSField != h.DSField:
			return fmt.Errorf("datagram %d, of DS field %#x, leaves with %#x", s, h.DSField, m.DSField)
		case !encap.SamePort(m.Flow, h.FlowHash(inner)):
			return fmt.Errorf("datagram %d leaves from another flow's port", s)
		}
	}
	return nil
}

// Packets of one read that go to different peers do, however alike they are.
func TestPeersAreKeptApart(t *testing.T) {
	network := dataplanetest.NewNetwork()
	far := [2]*dataplanetest.Wire{network.Listen(t, endpoint(2)), network.Listen(t, endpoint(3))}
	a := features{offload.All, true}.makeNode(t, network, 1, 2, 3)
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
	x := newDuplex(t, features{offload.All, true}, features{offload.All, true})
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
