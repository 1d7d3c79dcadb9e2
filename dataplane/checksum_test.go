package dataplane_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
	"github.com/weft-net/weft/encap"
)

// What goes over the underlay is, to a peer that does not do remote checksum
// offload, nothing but whole packets; to one that does, packets with a header that
// says where their checksum belongs, unless that is complete already.
func TestChecksumsOnTheUnderlay(t *testing.T) {
	for _, at := range []func(node, host byte) netip.Addr{pod, pod6} {
		tcp := flow{src: at(1, 1), dst: at(2, 1), protocol: packet.ProtocolTCP, srcPort: 1, dstPort: 2, ds: 0xb8}
		udp := flow{src: at(1, 1), dst: at(2, 1), protocol: packet.ProtocolUDP, srcPort: 3, dstPort: 4, ds: 0x2a}
		sent := []packet.Packet{super(tcp.next(60_000, 0x18), 1392), super(udp.next(20_001, 0), 500), tcp.next(100, 0x10), udp.next(0, 0)}
		complete := udp.next(100, 0)
		complete.Buf = reference.Complete(complete)
		complete.CsumStart, complete.CsumOffset = 0, 0
		sent = append(sent, complete)
		inside := tcp.next(100, 0x10) // of a tunnel of the pods' own
		inside.CsumStart += 32
		sent = append(sent, inside)
		if at(1, 1).Is6() { // behind more than VXLAN's header can say
			udp.between = append([]byte{packet.ProtocolUDP, 25}, make([]byte, 206)...)
			sent = append(sent, udp.next(100, 0))
		}

		for _, rco := range []bool{false, true} {
			for _, codec := range encap.Codecs() {
				for _, six := range []bool{false, true} {
					f := features{can: offload.All, rco: rco, codec: codec, six: six}
					t.Run(fmt.Sprint(sent[0].GSO, f), func(t *testing.T) { f.checkUnderlay(t, sent) })
				}
			}
		}
	}
}

func (f features) checkUnderlay(t *testing.T, sent []packet.Packet) {
	network := dataplanetest.NewNetwork()
	far := network.Listen(t, endpoint(2), endpoint6(2))
	x := duplex{nodes: [2]*node{f.makeNode(t, network, 1, 2), features{}.makeNode(t, network, 3)}}
	x.open(t)
	for _, p := range sent {
		x.nodes[0].device.SendSuper(p)
	}
	x.run(t)

	datagrams := received(t, far)
	stationOf2 := station(2)
	for i, p := range sent {
		l := reference.Read(p.Buf)
		partial := f.rco && p.CsumStart == l.Transport && (f.codec == encap.UDP || 14+p.CsumStart <= 254)
		for _, want := range reference.Segment(p) {
			if len(datagrams) == 0 {
				t.Fatalf("packet %d did not arrive whole", i)
			}
			got := datagrams[0]
			datagrams = datagrams[1:]
			inner, sum, kind := stationOf2.Decap(f.codec, got.Buf)
			if kind != encap.Packet || (sum != encap.Checksum{}) != partial || got.DSField != ds(want) || got.Addr.Addr().Is6() != f.six {
				t.Fatalf("packet %d left from %s as %x with DS field %#x", i, got.Addr, got.Buf, got.DSField)
			}
			if partial {
				inner = reference.Complete(packet.Packet{Buf: inner, CsumStart: sum.Start, CsumOffset: sum.Field - sum.Start})
			}
			if !bytes.Equal(inner, want) {
				t.Fatalf("packet %d left as\n%x, want\n%x", i, inner, want)
			}
		}
	}
	if len(datagrams) > 0 {
		t.Errorf("%d datagrams too many", len(datagrams))
	}
}

// ds is the DS field of p.
func ds(p []byte) uint8 {
	if p[0]>>4 == 6 {
		return p[0]<<4 | p[1]>>4
	}
	return p[1]
}

// super makes p a superpacket.
func super(p packet.Packet, size int) packet.Packet {
	l := reference.Read(p.Buf)
	p.GSO, p.SegmentSize = packet.TCP4, size
	switch {
	case l.Protocol == packet.ProtocolUDP:
		p.GSO = packet.UDP
	case l.Version == 6:
		p.GSO = packet.TCP6
	}
	return p
}

// received takes the datagrams that wait at w, one by one, by receiver.
func received(t *testing.T, w *dataplanetest.Wire) (datagrams []encap.Received) {
	t.Helper()
	for i := range w.Receivers() {
		for {
			m := []encap.Received{{Buf: make([]byte, encap.MaxDatagram)}}
			n, err := w.Recv(i, m)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			for rest := m[0].Buf[:m[0].N]; len(rest) > 0; {
				d := m[0]
				d.Buf = rest[:min(d.SegmentSize, len(rest))]
				rest = rest[len(d.Buf):]
				datagrams = append(datagrams, d)
			}
		}
	}
	return datagrams
}

// A peer that asks for a checksum anywhere but in the transport header's own field
// is refused, before anything is written.
func TestRemoteChecksumAbuse(t *testing.T) {
	const ours = 0x02_04_0001_8000_0000 // the first two words of encap/gue.go, for IPv4
	udp := flow{src: pod(1, 1), dst: pod(2, 1), protocol: packet.ProtocolUDP, srcPort: 3, dstPort: 4}
	tcp := flow{src: pod(1, 1), dst: pod(2, 1), protocol: packet.ProtocolTCP, srcPort: 1, dstPort: 2}
	datagram, segment := udp.next(100, 0).Buf, tcp.next(100, 0x10).Buf
	change := func(p []byte, at int, v byte) []byte {
		p = bytes.Clone(p)
		p[at] = v
		reference.HeaderChecksum(p)
		return p
	}
	options := append([]byte{0x46}, segment[1:20]...)
	options = append(append(options, 1, 1, 1, 0), segment[20:]...)
	options = change(change(options, 3, segment[3]+4), 0, 0x46)

	cut := change(datagram[:27], 3, 27)

	network := dataplanetest.NewNetwork()
	b := newNode(t, network, 2, 1)
	cases := []struct {
		name         string
		words        uint64
		start, field int
		inner        []byte
		right        bool
	}{
		{"UDP", ours, 20, 26, datagram, true},
		{"TCP", ours, 20, 36, segment, true},
		{"TCP behind IP options", ours, 24, 40, options, true},
		{"a UDP field in TCP", ours, 20, 26, segment, false},
		{"a TCP field in UDP", ours, 20, 36, datagram, false},
		{"the payload", ours, 20, 60, segment, false},
		{"the end of the payload", ours, 20, len(segment) - 2, segment, false},
		{"a field that is cut off", ours, 20, 26, cut, false},
		{"beyond the packet", ours, 20, len(segment) - 1, segment, false},
		{"far beyond the packet", ours, 20, 0xfffe, segment, false},
		{"a destination address", ours, 16, 18, segment, false},
		{"a field in front of its start", ours, 36, 20, segment, false},
		{"no start", ours, 0, 36, segment, false},
		{"from the first byte", ours, 1, 36, segment, false},
		{"from within the header", ours, 22, 36, segment, false},
		{"from the field", ours, 36, 36, segment, false},
		{"where the header were without options", ours, 20, 36, options, false},
		{"where another header is longer", ours, 24, 40, segment, false},
		{"of a fragment", ours, 20, 36, change(segment, 6, 0x20), false},
		{"of a later fragment", ours, 20, 36, change(segment, 7, 8), false},
		{"of ICMP", ours, 20, 22, change(segment, 9, 1), false},
		{"of SCTP", ours, 20, 28, change(segment, 9, 132), false},
		{"of UDP-Lite", ours, 20, 26, change(datagram, 9, 136), false},
		{"a control message", ours | 1<<61, 20, 36, segment, false},
		{"another length", ours ^ 1<<56, 20, 36, segment, false},
		{"IPv6 in front of IPv4", ours ^ 0x2d<<48, 20, 36, segment, false},
		{"another flag", ours | 1<<33, 20, 36, segment, false},
		{"another private flag", ours | 1, 20, 36, segment, false},
		{"no private flag", ours &^ 0xffff_ffff, 20, 36, segment, false},
		{"nothing inside", ours, 20, 36, nil, false},
		{"one header in another", ours, 20, 36, gue(ours, 20, 36, segment), false},
	}
	malformed := uint64(0)
	for i, c := range cases {
		network.Inject(endpoint(1), b.endpoint, 0, gue(c.words, c.start, c.field, c.inner))
		if !c.right {
			malformed++
		}
		s := b.settled(t, 0, uint64(i+1))
		if diff := cmp.Diff(malformed, s.Ingress.Drops[dataplane.Malformed]); diff != "" {
			t.Fatalf("%s: malformed (-want +got):\n%s", c.name, diff)
		}
		switch n := b.device.Waiting(); {
		case c.right && n == 1:
			p := packet.Packet{Buf: c.inner, CsumStart: c.start, CsumOffset: c.field - c.start}
			if got, want := b.device.Receive(t), reference.Complete(p); !bytes.Equal(got, want) {
				t.Errorf("%s: arrived as\n%x, want\n%x", c.name, got, want)
			}
		case c.right || n > 0:
			t.Fatalf("%s: %d packets were written", c.name, n)
		}
	}
}

// gue is a datagram of GUE variant 0 with these first eight bytes.
func gue(words uint64, start, field int, inner []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, words)
	b = binary.BigEndian.AppendUint16(b, uint16(start))
	b = binary.BigEndian.AppendUint16(b, uint16(field))
	return append(b, inner...)
}
