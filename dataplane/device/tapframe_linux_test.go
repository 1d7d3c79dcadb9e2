//go:build netns

package device

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

// tapLinks are Ethernet headers of IPv4 frames, with none, one and two tags, between a virtual machine's
// address and one of elsewhere.
func tapLinks(from, to string) (links [][]byte) {
	for _, tags := range []string{"", "\x81\x00\x60\x07", "\x88\xa8\x20\x01\x81\x00\x00\x07"} {
		links = append(links, []byte(to+from+tags+"\x08\x00"))
	}
	return links
}

const (
	vmMAC        = "\x02\x00\x00\x00\x00\x01"
	elsewhereMAC = "\x02\x00\x00\x00\x00\x09"
)

// Every frame goes through both ways as it is, byte for byte, by both kinds of queue.
func TestTAPCarriesFrames(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		s := newSite(t, 1, 1, want)
		w, q := s.wire(t), s.tap.Queues()[0]
		exchange := func(link, rest []byte) {
			t.Helper()
			frame := slices.Concat(link, rest)
			if refused, err := q.Write([]packet.Group{{Link: link, Members: [][]byte{rest}}}); refused != 0 || err != nil {
				t.Fatalf("Write of %x = %d %v", frame, refused, err)
			}
			w.receive(t, frame)
			back := slices.Concat(frame[6:12], frame[:6], frame[12:])
			if frame[0]&1 != 0 {
				copy(back, frame[:6])
				copy(back[6:], vmMAC)
			}
			w.send(t, back)
			p := readTAP(t, q)
			if !bytes.Equal(p.Data(), back) || p.Start != Headroom || p.GSO != packet.NoGSO || p.CsumStart != 0 {
				t.Errorf("Read says %d %d %d of\n%x, want\n%x", p.Start, p.GSO, p.CsumStart, p.Data(), back)
			}
		}
		for _, link := range tapLinks(elsewhereMAC, vmMAC) {
			exchange(link, datagram(t, []byte("hello")))
			exchange(link, datagram(t, bytes.Repeat([]byte{0xa5}, 1472-len(link)+14)))
			arp := slices.Clone(link)
			binary.BigEndian.PutUint16(arp[len(arp)-2:], unix.ETH_P_ARP)
			exchange(arp, bytes.Repeat([]byte{1}, 46))
			other := slices.Clone(link)
			binary.BigEndian.PutUint16(other[len(other)-2:], 0x88b5)
			exchange(other, []byte{0, 1}) // with a tag the kernel wants as much (skb_vlan_untag)
		}
		exchange([]byte("\xff\xff\xff\xff\xff\xff"+elsewhereMAC+"\x88\xb5"), []byte("to all"))
		exchange([]byte("\x01\x00\x5e\x01\x01\x01"+elsewhereMAC+"\x08\x00"), datagram(t, []byte("to some")))
		exchange([]byte(vmMAC+elsewhereMAC+"\x00\x09"), []byte("\xaa\xaa\x03\x00\x00\x0c\x20\x00\x02")) // a length: LLC and SNAP
		if err := s.tap.Inject(marker("injected")); err != nil {
			t.Fatal(err)
		}
		w.receive(t, marker("injected"))
	})
}

// superFrame is a superpacket with payload bytes in segments of size, as a virtual machine sends it.
func superFrame(t *testing.T, link []byte, gso packet.GSO, payload, size int) packet.Packet {
	t.Helper()
	data := make([]byte, payload)
	for i := range data {
		data[i] = byte(i / size)
	}
	var ip gopacket.NetworkLayer
	protocol := layers.IPProtocolTCP
	if gso == packet.UDP {
		protocol = layers.IPProtocolUDP
	}
	first := gopacket.SerializableLayer(nil)
	transport, offset := 20, 16
	if gso == packet.TCP6 {
		h := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: bytes.Repeat([]byte{0xfd}, 16), DstIP: bytes.Repeat([]byte{0xfc}, 16)}
		ip, first, transport = h, h, 40
	} else {
		h := &layers.IPv4{Version: 4, TTL: 64, Id: 65530, Protocol: protocol, SrcIP: peer.Addr().AsSlice(), DstIP: ours.Addr().AsSlice()}
		ip, first = h, h
	}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 5201, Seq: 1<<32 - 1000, Ack: 7, ACK: true, PSH: true, Window: 500}
	udp := &layers.UDP{SrcPort: 40000, DstPort: 5201}
	second := gopacket.SerializableLayer(tcp)
	if gso == packet.UDP {
		second, offset = udp, 6
	}
	out := gopacket.NewSerializeBuffer()
	_, _ = tcp.SetNetworkLayerForChecksum(ip), udp.SetNetworkLayerForChecksum(ip)
	if err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true}, first, second, gopacket.Payload(data)); err != nil {
		t.Fatal(err)
	}
	p := out.Bytes()
	finish(p, transport, uint32(protocol), offset)
	return packet.Packet{Buf: slices.Concat(link, p), GSO: gso, SegmentSize: size, CsumStart: len(link) + transport, CsumOffset: offset}
}

// frames are the wire frames that a group stands for.
func frames(g packet.Group) (wire [][]byte) {
	for _, m := range g.Members {
		wire = append(wire, slices.Concat(g.Link, complete(packet.Packet{Buf: m, CsumStart: g.CsumStart, CsumOffset: g.CsumOffset})))
	}
	return wire
}

// A superpacket goes in as one, and what the virtual machine gets is each segment with its own
// headers and a right checksum. The same holds where members go one by one.
func TestTAPSuperpackets(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		s := newSite(t, 1, 1, want)
		w, q := s.wire(t), s.tap.Queues()[0]
		for _, c := range []struct {
			gso           packet.GSO
			payload, size int
		}{
			{packet.TCP4, 4000, 1400},
			{packet.TCP4, MaxPacket - 40, 1400}, // the largest
			{packet.TCP6, MaxPacket - 60, 1400},
			{packet.UDP, 40*1000 + 7, 1000},
			{packet.TCP4, 100, 1400}, // no superpacket
			{packet.UDP, 100, 1400},
		} {
			for _, link := range tapLinks(elsewhereMAC, vmMAC) {
				if c.gso == packet.TCP6 {
					binary.BigEndian.PutUint16(link[len(link)-2:], unix.ETH_P_IPV6)
				}
				p := superFrame(t, link, c.gso, c.payload, c.size)
				if c.payload <= c.size {
					p.GSO, p.SegmentSize = packet.NoGSO, 0
				}
				g := frameGroup(p, len(link))
				before := statistics(t, s.node, s.link).RxPackets
				if refused, err := q.Write([]packet.Group{g}); refused != 0 || err != nil {
					t.Fatalf("Write = %d %v", refused, err)
				}
				w.receive(t, frames(g)...)
				n := int(statistics(t, s.node, s.link).RxPackets - before)
				if expect := map[bool]int{true: 1, false: len(g.Members)}[want != 0]; n != expect {
					t.Errorf("kind %d with a link of %d bytes: %d frames went in as %d", c.gso, len(link), len(g.Members), n)
				}
			}
		}
		if s.tap.Features() != want {
			t.Errorf("lost %v", s.tap.Refused())
		}
	})
}

// What a virtual machine sends comes as the superpacket that it is.
func TestTAPSuperpacketFromAVirtualMachine(t *testing.T) {
	s := newSite(t, 1, 1, both)
	s.address(t, "10.244.2.9/16")
	s.knows(t, peer.Addr().AsSlice(), []byte(elsewhereMAC))
	conn := kernelSocket(t)
	setSegment(t, conn, 1000)
	payload := []byte(strings.Repeat("0123456789", 4000))
	send(t, conn, payload)
	p := readTAP(t, s.tap.Queues()[0])
	if p.GSO != packet.UDP || p.SegmentSize != 1000 || p.CsumStart != 34 || p.CsumOffset != 6 || !bytes.Equal(p.Data()[42:], payload) {
		t.Fatalf("Read says %d %d %d %d of %d bytes", p.GSO, p.SegmentSize, p.CsumStart, p.CsumOffset, len(p.Data()))
	}
	g := untagged(p)
	if string(g.Link) != elsewhereMAC+vmMAC+"\x08\x00" || len(g.Members) != 40 {
		t.Errorf("a link %x in front of %d members", g.Link, len(g.Members))
	}
	for i, m := range g.Members {
		checkDatagram(t, complete(packet.Packet{Buf: m, CsumStart: 20, CsumOffset: 6}), payload[i*1000:(i+1)*1000])
	}
}

// Two virtual machines talk TCP over two TAPs and nothing but Read and Write between them.
func TestTCPBetweenTwoVirtualMachines(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		want       offload.Set
	}{
		{"IPv4", "10.244.1.7/16", "10.244.2.9/16", both},
		{"IPv6", "fd00:244::1/64", "fd00:244::2/64", both},
		{"water", "10.244.1.7/16", "10.244.2.9/16", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newSite(t, 1, 1, c.want)
			allowIPv6On(t, "eth0")
			a.address(t, c.a)
			listener := listenTCP(t, c.a)
			b := newSite(t, 2, 1, c.want)
			allowIPv6On(t, "eth0")
			b.address(t, c.b)
			fromA, fromB := converse(t, listener, a.tap.Queues()[0], b.tap.Queues()[0], untagged)
			if a.tap.Features() != c.want || b.tap.Features() != c.want {
				t.Errorf("what was wanted is lost: %v %v", a.tap.Refused(), b.tap.Refused())
			}
			for _, way := range []struct {
				carried
				in uint64
			}{{fromA, statistics(t, b.node, b.link).RxPackets}, {fromB, statistics(t, a.node, a.link).RxPackets}} {
				t.Logf("%d frames read that stand for %d, the largest of %d bytes, written as %d", way.reads, way.members, way.largest, way.in)
				if int(way.in) != way.reads || (way.largest > 32<<10) != (c.want != 0) {
					t.Errorf("the largest has %d bytes, and %d were written as %d", way.largest, way.reads, way.in)
				}
			}
		})
	}
}
