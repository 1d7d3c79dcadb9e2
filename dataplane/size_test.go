package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
	"github.com/weft-net/weft/encap"
)

// Packets at the sizes where what becomes of them changes, one at a time.
func TestNarrowWay(t *testing.T) {
	type counts struct{ forwarded, tooBig uint64 }
	const way = 1000
	dont := func(f flow) flow { f.flags4 = 0x4000; return f }
	tcp := flow{src: pod(1, 1), dst: pod(2, 1), protocol: packet.ProtocolTCP, srcPort: 1, dstPort: 2}
	udp := flow{src: pod(1, 1), dst: pod(2, 1), protocol: packet.ProtocolUDP, srcPort: 3, dstPort: 4}
	tcp6, udp6 := tcp, udp
	tcp6.src, tcp6.dst, udp6.src, udp6.dst = pod6(1, 1), pod6(2, 1), pod6(1, 1), pod6(2, 1)
	const syn, ack = 0x02, 0x10
	lone := func(f flow, size int, flags byte) packet.Packet {
		return f.next(size-len(f.next(0, 0).Buf), flags)
	}
	large := func(f flow, payload, size int, flags byte) packet.Packet { return super(f.next(payload, flags), size) }
	wrong := func(p packet.Packet) packet.Packet {
		p = packet.Packet{Buf: reference.Complete(p)}
		p.Buf[len(p.Buf)-1]++
		return p
	}

	for _, c := range []struct {
		name string
		p    packet.Packet
		want counts
	}{
		{"UDP that fits", lone(dont(udp), way, 0), counts{1, 0}},
		{"UDP", lone(dont(udp), way+1, 0), counts{0, 1}},
		{"UDP that may be cut", lone(udp, way+1, 0), counts{2, 0}},
		{"UDP that may be cut in many", lone(udp, 20+10*976, 0), counts{10, 0}},
		{"UDP superpacket that fits", large(dont(udp), 20*972, 972, 0), counts{20, 0}},
		{"UDP superpacket", large(dont(udp), 20*973, 973, 0), counts{0, 20}},
		{"UDP superpacket that may be cut", large(udp, 20*973, 973, 0), counts{40, 0}},
		{"UDP superpacket with a rest that fits", large(udp, 20*973+500, 973, 0), counts{41, 0}},
		{"UDP superpacket in as many as there may be", large(udp, 64*973, 973, 0), counts{128, 0}},
		{"UDP superpacket in too many", large(udp, 64*973+1, 973, 0), counts{0, 65}},
		{"UDP superpacket in fragments of fragments", large(udp, 5000, 2400, 0), counts{7, 0}},
		{"TCP", lone(dont(tcp), way+1, ack), counts{2, 0}},
		{"TCP that may be cut", lone(tcp, way+1, ack), counts{2, 0}},
		{"TCP of a handshake", lone(dont(tcp), way+1, syn), counts{0, 1}},
		{"TCP of a handshake that may be cut", lone(tcp, way+1, syn), counts{2, 0}},
		{"TCP with a wrong checksum", wrong(lone(dont(tcp), way+1, ack)), counts{0, 1}},
		{"TCP with a wrong checksum that may be cut", wrong(lone(tcp, way+1, ack)), counts{2, 0}},
		{"TCP superpacket", large(dont(tcp), 9600, 1400, ack), counts{10, 0}},
		{"TCP superpacket in too many", large(dont(tcp), 60_000, 1400, syn|ack), counts{0, 43}},
		{"TCP superpacket of a handshake that may be cut", large(tcp, 2800, 1400, syn), counts{4, 0}},
		{"IPv6 UDP that fits", lone(udp6, way, 0), counts{1, 0}},
		{"IPv6 UDP", lone(udp6, way+1, 0), counts{1, 0}},
		{"IPv6 UDP of the least MTU", lone(udp6, 1280, 0), counts{1, 0}},
		{"IPv6 UDP of more", lone(udp6, 1281, 0), counts{0, 1}},
		{"IPv6 UDP superpacket", large(udp6, 10*1232-500, 1232, 0), counts{10, 0}},
		{"IPv6 UDP superpacket of more", large(udp6, 10*1233, 1233, 0), counts{0, 10}},
		{"IPv6 TCP", lone(tcp6, way+1, ack), counts{2, 0}},
		{"IPv6 TCP of more", lone(tcp6, 1400, ack), counts{2, 0}},
		{"IPv6 TCP of a handshake", lone(tcp6, 1280, syn), counts{1, 0}},
		{"IPv6 TCP of a handshake of more", lone(tcp6, 1281, syn), counts{0, 1}},
		{"IPv6 TCP superpacket", large(tcp6, 9400, 1400, ack), counts{10, 0}},
		{"IPv6 TCP superpacket of a handshake", large(tcp6, 2440, 1220, syn), counts{2, 0}},
	} {
		for _, codec := range encap.Codecs() {
			for _, rco := range []bool{false, true} {
				f := features{can: offload.All, codec: codec, rco: rco, mtu: way}
				t.Run(fmt.Sprint(c.name, "/", f), func(t *testing.T) {
					x := newDuplex(t, f, features{can: offload.All})
					p := c.p
					p.Buf = append([]byte(nil), p.Buf...)
					x.exchange(t, []packet.Packet{p})
					a := x.nodes[0].Stats()
					if got := (counts{a.Egress.Forwarded, a.Egress.Drops[dataplane.TooBig]}); got != c.want {
						t.Errorf("%+v, want %+v", got, c.want)
					}
					if told := a.ICMPSent == 1; told != (c.want.tooBig > 0) {
						t.Errorf("%d ICMP errors", a.ICMPSent)
					}
				})
			}
		}
	}
}

// What the underlay may fragment joins no send, though its datagram be as short as the
// one before, which has a header that says where its checksum belongs.
func TestFragmentedOutsideGoesAlone(t *testing.T) {
	const way = 1000
	x := newDuplex(t, features{can: offload.All, rco: true, mtu: way}, features{can: offload.All})
	udp := flow{src: pod6(1, 1), dst: pod6(2, 1), protocol: packet.ProtocolUDP, srcPort: 3, dstPort: 4}
	first := udp.next(way-48, 0)
	second := udp.next(way-48+5, 0)
	second = packet.Packet{Buf: reference.Complete(second)}
	x.exchange(t, []packet.Packet{first, second, first})
}

// A packet becomes as many fragments as a superpacket may have segments, and no more.
func TestTooManyFragments(t *testing.T) {
	const way, most = 400, packet.MaxSegments * 376
	x := newDuplex(t, features{mtu: way}, features{})
	udp := flow{src: pod(1, 1), dst: pod(2, 1), protocol: packet.ProtocolUDP, srcPort: 3, dstPort: 4}
	x.exchange(t, []packet.Packet{udp.next(most-8, 0), udp.next(most-8+1, 0)})
	want := dataplane.Account{Received: packet.MaxSegments + 1, Forwarded: packet.MaxSegments}
	want.Drops[dataplane.TooBig] = 1
	if diff := cmp.Diff(want, x.nodes[0].Stats().Egress); diff != "" {
		t.Errorf("account (-want +got):\n%s", diff)
	}
}

// The MSS of a handshake is lowered by whichever node does that, to what its own way
// to the other takes.
func TestClampMSS(t *testing.T) {
	const out, in = 1000, 900 // the ways of the two nodes
	for _, at := range []func(node, host byte) netip.Addr{pod, pod6} {
		for _, c := range []struct {
			sender, receiver bool
			flags            byte
			limit            int
		}{
			{false, false, 0x02, 1 << 16},
			{true, false, 0x02, out},
			{false, true, 0x02, in},
			{true, true, 0x12, in},
			{true, true, 0x10, 1 << 16},
		} {
			for _, codec := range encap.Codecs() {
				for _, rco := range []bool{false, true} {
					f := flow{src: at(1, 1), dst: at(2, 1), protocol: packet.ProtocolTCP, srcPort: 1, dstPort: 2, options: []byte{2, 4, 0x5, 0xb4}}
					x := newDuplex(t, features{codec: codec, rco: rco, mtu: out, clamp: c.sender}, features{mtu: in, clamp: c.receiver})
					partial := f.next(0, c.flags)
					complete := packet.Packet{Buf: reference.Complete(partial)}
					want := reference.ClampMSS(complete.Buf, c.limit, false)
					for _, p := range []packet.Packet{partial, complete} {
						x.nodes[0].device.SendSuper(p)
						x.run(t)
						if diff := cmp.Diff(want, x.nodes[1].device.Receive(t)); diff != "" {
							t.Errorf("%+v, %s, rco=%v, partial=%v (-want +got):\n%s", c, codec, rco, p.CsumStart > 0, diff)
						}
					}
				}
			}
		}
	}
}
