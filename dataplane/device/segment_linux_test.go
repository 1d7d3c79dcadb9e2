//go:build netns

package device

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/packet"
)

// datagram is a whole packet from peer to the kernel's socket.
func datagram(t testing.TB, payload []byte) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: peer.Addr().AsSlice(), DstIP: ours.Addr().AsSlice()}
	header := &layers.UDP{SrcPort: layers.UDPPort(peer.Port()), DstPort: layers.UDPPort(ours.Port())}
	if err := header.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	out := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		ip, header, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// single is a group of one packet, complete.
func single(p []byte) packet.Group { return packet.Group{Members: [][]byte{p}} }

// singles is n packets of one flow and equal size, each in a group of its own.
func singles(t testing.TB, n int) (groups []packet.Group, payloads [][]byte) {
	t.Helper()
	for i := range n {
		payload := fmt.Appendf(nil, "datagram %3d", i)
		groups, payloads = append(groups, single(datagram(t, payload))), append(payloads, payload)
	}
	return groups, payloads
}

// super is n datagrams of size bytes from peer to the kernel's socket as one
// superpacket.
func super(t testing.TB, n, size int) (g packet.Group, payloads [][]byte) {
	t.Helper()
	var all []byte
	for i := range n {
		payload := slices.Repeat([]byte{byte(i + 1)}, size)
		payloads, all = append(payloads, payload), append(all, payload...)
	}
	p := datagram(t, all)
	finish(p, 20, unix.IPPROTO_UDP, 6)
	return group(packet.Packet{Buf: p, GSO: packet.UDP, SegmentSize: size, CsumStart: 20, CsumOffset: 6}), payloads
}

// group segments a superpacket, slowly, into whole packets with partial checksums.
func group(p packet.Packet) packet.Group {
	whole := p.Data()
	if p.GSO == packet.NoGSO {
		return packet.Group{Members: [][]byte{whole}, CsumStart: p.CsumStart, CsumOffset: p.CsumOffset, Partial: p.CsumStart != 0}
	}
	transport := p.CsumStart
	protocol, n := unix.IPPROTO_UDP, transport+8
	if p.GSO != packet.UDP {
		protocol, n = unix.IPPROTO_TCP, transport+int(whole[transport+12]>>4)*4
	}
	g := packet.Group{Header: whole[:n], GSO: p.GSO, SegmentSize: p.SegmentSize, CsumStart: p.CsumStart, CsumOffset: p.CsumOffset, Partial: true}
	for payload := range slices.Chunk(whole[n:], p.SegmentSize) {
		m := append(slices.Clone(whole[:n]), payload...)
		if protocol == unix.IPPROTO_TCP {
			flags, sequence := &m[transport+13], m[transport+4:]
			if i := len(g.Members); i > 0 {
				*flags &^= 0x80 // CWR
				binary.BigEndian.PutUint32(sequence, binary.BigEndian.Uint32(sequence)+uint32(i*p.SegmentSize))
			}
			if (len(g.Members)+1)*p.SegmentSize < len(whole)-n {
				*flags &^= 0x09 // PSH, FIN
			}
		} else {
			binary.BigEndian.PutUint16(m[transport+4:], uint16(len(m)-transport))
		}
		if m[0]>>4 == 4 {
			binary.BigEndian.PutUint16(m[4:], binary.BigEndian.Uint16(m[4:])+uint16(len(g.Members)))
		}
		finish(m, transport, uint32(protocol), p.CsumOffset)
		g.Members = append(g.Members, m)
	}
	return g
}

// finish sets p's lengths and IP checksum and makes the transport checksum partial.
func finish(p []byte, transport int, protocol uint32, offset int) {
	var addresses []byte
	if p[0]>>4 == 4 {
		addresses = p[12:20]
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		binary.BigEndian.PutUint16(p[10:], 0)
		binary.BigEndian.PutUint16(p[10:], packet.Checksum(p[:transport], 0))
	} else {
		addresses = p[8:40]
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	}
	binary.BigEndian.PutUint16(p[transport+offset:], ^packet.Checksum(addresses, protocol+uint32(len(p)-transport)))
}
