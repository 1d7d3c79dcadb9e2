package dataplane_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
	"github.com/weft-net/weft/encap"
)

// wrapped is the datagram in which p goes by t.
func wrapped(t encap.Tunnel, p packet.Packet, sum encap.Checksum) []byte {
	buf := append(make([]byte, encap.Headroom), p.Data()...)
	return buf[t.Encap(buf, encap.Headroom, sum):]
}

// Each receiver wakes the worker, and has its codec.
func TestPacketsArriveAtEachReceiver(t *testing.T) {
	network := dataplanetest.NewNetwork()
	b := newNode(t, network, 2, 1)
	way := encap.Tunnel{Codec: encap.VXLAN, VNI: testVNI, Local: station(1).MAC, Remote: station(2).MAC}
	for round := range uint64(20) {
		p := udpPacket(t, pod(1, 10), pod(2, 20), 0, 100+int(round))
		inVXLAN := wrapped(way, packet.Packet{Buf: p}, encap.Checksum{})
		for i, c := range []struct {
			from, to netip.AddrPort
			datagram []byte
		}{
			{endpoint(1), endpoint(2), p},
			{endpoint(1), vxlan(endpoint(2)), inVXLAN},
			{endpoint6(1), endpoint6(2), p},
			{endpoint6(1), vxlan(endpoint6(2)), inVXLAN},
		} {
			network.Inject(c.from, c.to, 0, c.datagram)
			if got := b.device.Receive(t); !bytes.Equal(got, p) {
				t.Fatalf("arrived as %x", got)
			}
			b.settled(t, 0, 4*round+uint64(i)+1)
		}
	}
}

func TestCodecDrops(t *testing.T) {
	network := dataplanetest.NewNetwork()
	b := newNode(t, network, 2, 1)
	good := packet.Packet{Buf: udpPacket(t, pod(1, 10), pod(2, 20), 0, 100)}
	way := encap.Tunnel{Codec: encap.VXLAN, VNI: testVNI, Local: station(1).MAC, Remote: station(2).MAC}
	other, elsewhere, everybody := way, way, way
	other.VNI++
	elsewhere.Remote[5]++
	everybody.Remote = encap.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	change := func(b []byte, at int, v byte) []byte {
		b = bytes.Clone(b)
		b[at] = v
		return b
	}
	framed := wrapped(way, good, encap.Checksum{})
	udp := flow{src: pod(1, 1), dst: pod(2, 1), protocol: packet.ProtocolUDP, srcPort: 3, dstPort: 4}
	tcp := flow{src: pod(1, 1), dst: pod(2, 1), protocol: packet.ProtocolTCP, srcPort: 1, dstPort: 2}
	datagram, segment := udp.next(100, 0), tcp.next(100, 0x10)
	want := reasonCounts{}
	var total uint64
	for _, c := range []struct {
		name string
		to   netip.AddrPort
		data []byte
		why  dataplane.Reason
	}{
		{"another VNI", vxlan(endpoint(2)), wrapped(other, good, encap.Checksum{}), dataplane.WrongVNI},
		{"another VTEP", vxlan(endpoint(2)), wrapped(elsewhere, good, encap.Checksum{}), dataplane.WrongVTEP},
		{"all VTEPs", vxlan(endpoint(2)), wrapped(everybody, good, encap.Checksum{}), dataplane.WrongVTEP},
		{"VXLAN at the UDP port", endpoint(2), framed, dataplane.Malformed},
		{"UDP at the VXLAN port", vxlan(endpoint(2)), good.Buf, dataplane.Malformed},
		{"a control message at the VXLAN port", vxlan(endpoint(2)), new(encap.Tunnel).AppendControl(nil, []byte("hello"), 100), dataplane.Malformed},
		{"a control message of VXLAN at the UDP port", endpoint(2), way.AppendControl(nil, []byte("hello"), 100), dataplane.Malformed},
		{"no VNI", vxlan(endpoint(2)), change(framed, 0, 0), dataplane.Malformed},
		{"an IPv6 frame with IPv4", vxlan(endpoint(2)), change(change(framed, 20, 0x86), 21, 0xdd), dataplane.Malformed},
		{"cut off", vxlan(endpoint(2)), framed[:len(framed)-1], dataplane.Malformed},
		{"nothing", vxlan(endpoint(2)), nil, dataplane.Malformed},
		{"a UDP checksum in TCP", vxlan(endpoint(2)), wrapped(way, segment, encap.Checksum{Start: 20, Field: 26}), dataplane.Malformed},
		{"a TCP checksum in UDP", vxlan(endpoint(2)), wrapped(way, datagram, encap.Checksum{Start: 20, Field: 36}), dataplane.Malformed},
		{"a checksum of the payload", vxlan(endpoint(2)), wrapped(way, datagram, encap.Checksum{Start: 28, Field: 34}), dataplane.Malformed},
		{"a checksum of the header", vxlan(endpoint(2)), wrapped(way, datagram, encap.Checksum{Start: 4, Field: 10}), dataplane.Malformed},
		{"of another's pod", vxlan(endpoint(2)), wrapped(way, packet.Packet{Buf: udpPacket(t, pod(3, 1), pod(2, 1), 0, 100)}, encap.Checksum{}), dataplane.Spoofed},
	} {
		network.Inject(endpoint(1), c.to, 0, c.data)
		want[c.why]++
		total++
		s := b.settled(t, 0, total)
		if diff := cmp.Diff(want, drops(s.Ingress)); diff != "" {
			t.Fatalf("%s: drops (-want +got):\n%s", c.name, diff)
		}
	}
	if n := b.device.Waiting(); n != 0 {
		t.Errorf("%d packets were delivered", n)
	}
}

// A kernel's VXLAN hands over unfinished checksums where no wire is between. From a
// peer that runs weft none is looked at.
func TestUnfinishedChecksums(t *testing.T) {
	for _, at := range []func(node, host byte) netip.Addr{pod, pod6} {
		udp := flow{src: at(1, 1), dst: at(2, 1), protocol: packet.ProtocolUDP, srcPort: 3, dstPort: 4, flags4: 0x4000}
		tcp := flow{src: at(1, 1), dst: at(2, 1), protocol: packet.ProtocolTCP, srcPort: 1, dstPort: 2, flags4: 0x4000}
		for _, f := range []flow{udp, tcp} {
			unfinished := f.next(100, 0x10)
			finished := packet.Packet{Buf: reference.Complete(unfinished)}
			way := encap.Tunnel{Codec: encap.VXLAN, VNI: testVNI, Local: station(1).MAC, Remote: station(2).MAC}
			remote := encap.Checksum{Start: unfinished.CsumStart, Field: unfinished.CsumStart + unfinished.CsumOffset}
			for _, c := range []struct {
				name    string
				data    []byte
				foreign bool
				dropped uint64
			}{
				{"finished", wrapped(way, finished, encap.Checksum{}), true, 0},
				{"unfinished", wrapped(way, unfinished, encap.Checksum{}), true, 1},
				{"unfinished, and said so", wrapped(way, unfinished, remote), true, 0},
				{"finished, and it looks unfinished", wrapped(way, packet.Packet{Buf: ambiguous(f)}, encap.Checksum{}), true, 0},
				{"unfinished of a weft node", wrapped(way, unfinished, encap.Checksum{}), false, 0},
			} {
				x := newDuplex(t, features{}, features{})
				b := x.nodes[1]
				b.config.Peers[0].Foreign = c.foreign
				if err := b.Apply(b.config); err != nil {
					t.Fatal(err)
				}
				x.network.Inject(endpoint(1), vxlan(endpoint(2)), 0, c.data)
				x.run(t)
				s := b.Stats().Ingress
				if s.Received != 1 || s.Drops[dataplane.Unsegmented] != c.dropped || s.Forwarded != 1-c.dropped {
					t.Errorf("%s, protocol %d: %+v", c.name, f.protocol, s)
				}
			}
		}
	}
}

// ambiguous is a packet whose checksum is right, and the sum of the pseudo header too:
// all the rest sums up to what complements it.
func ambiguous(f flow) []byte {
	p := f.next(100, 0x10)
	l := reference.Read(p.Buf)
	at := len(p.Buf) - 2
	for v := range 1 << 16 {
		p.Buf[at], p.Buf[at+1] = byte(v>>8), byte(v)
		if c := reference.Complete(p); bytes.Equal(c[l.Transport:at], p.Buf[l.Transport:at]) {
			return c
		}
	}
	panic("there is always one")
}
