package dataplane_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// icmpError is an ICMP or ICMPv6 error message.
type icmpError struct {
	src, dst   netip.Addr
	kind, code byte
	mtu        int
	quote      []byte
}

// What the sender is told (RFC 792, RFC 1191, RFC 4443).
var (
	noRoute4 = icmpError{kind: 3, code: 0}
	tooBig4  = icmpError{kind: 3, code: 4}
	noRoute6 = icmpError{kind: 1, code: 0}
	tooBig6  = icmpError{kind: 2, code: 0}
)

func readError(t *testing.T, p []byte) (e icmpError) {
	t.Helper()
	var h packet.Header
	if !packet.ParseInto(p, &h) || h.Protocol != 1 && h.Protocol != 58 || len(p) < h.Transport+8 {
		t.Fatalf("no ICMP message: %x", p)
	}
	icmp := p[h.Transport:]
	e = icmpError{src: h.Src, dst: h.Dst, kind: icmp[0], code: icmp[1], quote: icmp[8:]}
	if e.mtu = int(binary.BigEndian.Uint16(icmp[6:])); h.Protocol == 58 {
		e.mtu = int(binary.BigEndian.Uint32(icmp[4:]))
	}
	return e
}

// The sender of a superpacket that goes no further is told so once, about its first
// segment: it has never sent anything as large as the whole.
func TestSuperpacketIsQuotedByItsFirstSegment(t *testing.T) {
	tcp := flow{src: pod(1, 1), protocol: packet.ProtocolTCP, srcPort: 1, dstPort: 2, flags4: 0x4000, seq: 0xfffffff0, options: []byte{1, 1, 1, 0}}
	udp := flow{src: pod(1, 2), protocol: packet.ProtocolUDP, srcPort: 3, dstPort: 4, flags4: 0x4000}
	tcp6, udp6 := tcp, udp
	tcp6.src, udp6.src = pod6(1, 1), pod6(1, 2)
	fenced := func(c *dataplane.Config) { c.PodCIDRs = nil }
	noTunnel := func(c *dataplane.Config) { c.Peers[0].To = netip.AddrPort{} }
	const urgent = 0x20 // a TCP header that must not be repeated

	for _, c := range []struct {
		name    string
		flow    flow
		flags   byte
		to      byte
		size    int
		way     int
		change  func(*dataplane.Config)
		answer  icmpError
		mtu     int
		reason  dataplane.Reason
		dropped uint64
	}{
		{"no route for TCP", tcp, 0, 9, 1000, 0, nil, noRoute4, 0, dataplane.NoRoute, 10},
		{"no route for UDP", udp, 0, 9, 100, 0, nil, noRoute4, 0, dataplane.NoRoute, 100},
		{"no route for TCP over IPv6", tcp6, 0, 9, 1000, 0, nil, noRoute6, 0, dataplane.NoRoute, 10},
		{"no route for UDP over IPv6", udp6, 0, 9, 100, 0, nil, noRoute6, 0, dataplane.NoRoute, 100},
		{"a way of the kernel's", tcp, 0, 2, 1000, 0, noTunnel, noRoute4, 0, dataplane.NoRoute, 10},
		{"a way of the kernel's, IPv6", udp6, 0, 2, 1000, 0, noTunnel, noRoute6, 0, dataplane.NoRoute, 10},
		{"TCP too big", tcp, urgent, 2, testMTU - 20 - 24 + 1, 0, nil, tooBig4, testMTU, dataplane.TooBig, 8},
		{"UDP too big", udp, 0, 2, 5000, 0, nil, tooBig4, testMTU, dataplane.TooBig, 2},
		{"UDP too big for a narrow way", udp, 0, 2, 1000, 999, nil, tooBig4, 999, dataplane.TooBig, 10},
		{"TCP over IPv6 too big", tcp6, urgent, 2, testMTU - 40 - 24 + 1, 0, nil, tooBig6, testMTU, dataplane.TooBig, 8},
		{"UDP over IPv6 too big", udp6, 0, 2, 5000, 0, nil, tooBig6, testMTU, dataplane.TooBig, 2},
		{"UDP over IPv6 too big for a narrow way", udp6, 0, 2, 1280 - 48 + 1, 999, nil, tooBig6, 1280, dataplane.TooBig, 9},
		{"fenced", tcp, 0, 2, 1000, 0, fenced, noRoute4, 0, dataplane.Fenced, 10},
		{"fenced, IPv6", tcp6, 0, 2, 1000, 0, fenced, noRoute6, 0, dataplane.Fenced, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newDuplex(t, features{can: offload.All, rco: true, mtu: c.way}, features{})
			a := x.nodes[0]
			if c.change != nil {
				c.change(&a.config)
				if err := a.Apply(a.config); err != nil {
					t.Fatal(err)
				}
			}
			if c.flow.dst = pod(c.to, 1); c.flow.src.Is6() {
				c.flow.dst = pod6(c.to, 1)
			}
			p := super(c.flow.next(10_000, 0x99|c.flags), c.size) // of TCP with FIN, PSH and CWR
			a.device.SendSuper(p)
			x.run(t)

			s := a.Stats()
			if s.Egress.Drops[c.reason] != c.dropped || s.Egress.Received != c.dropped {
				t.Errorf("account %+v, want %d packets %s", s.Egress, c.dropped, c.reason)
			}
			if n := a.device.Waiting(); n != 1 || s.ICMPSent != 1 {
				t.Fatalf("%d answers, %d counted; want one", n, s.ICMPSent)
			}
			e := readError(t, a.device.Receive(t))
			if e.kind != c.answer.kind || e.code != c.answer.code || e.mtu != c.mtu || e.dst != c.flow.src || e.src != a.address(e.dst) {
				t.Fatalf("answered with %+v", e)
			}
			// The checksum is left out: that of a quoted packet is the sender's own,
			// who has not computed it yet.
			got, want := bytes.Clone(e.quote), reference.Segment(p)[0]
			for _, b := range [][]byte{got, want} {
				copy(b[p.CsumStart+p.CsumOffset:], []byte{0, 0})
			}
			if len(got) < 28+8 || !bytes.HasPrefix(want, got) {
				t.Errorf("quoted\n%x of\n%x", got, want)
			}
		})
	}
}

// address is the node's TUN address of the same family as to.
func (n *node) address(to netip.Addr) netip.Addr {
	if to.Is4() {
		return n.config.Addresses[0]
	}
	return n.config.Addresses[1]
}
