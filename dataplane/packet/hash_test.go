package packet_test

import (
	"encoding/binary"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
)

func TestFlowHashIsOneForAFlow(t *testing.T) {
	for seed := range uint64(200) {
		d := randomDice(seed, 64)
		p := d.superpacket()
		want := parsed(t, p.Data()).FlowHash(p.Data())
		for i, s := range cut(t, p, false) {
			if got := parsed(t, s).FlowHash(s); got != want {
				t.Errorf("segment %d: %#x, of the superpacket: %#x", i, got, want)
			}
		}
	}
}

// What tells flows apart, and what does not.
func TestFlowHashLooksAt(t *testing.T) {
	for _, six := range []bool{false, true} {
		f := tcpFlow(six)
		p := f.packet(10, false)
		h := parsed(t, p)
		want := h.FlowHash(p)
		addresses := p[12:20]
		if six {
			addresses = p[8:40]
		}
		for i := range addresses {
			addresses[i] ^= 1
			if h.FlowHash(p) == want {
				t.Errorf("IPv6 %v: not at byte %d of the addresses", six, i)
			}
			addresses[i] ^= 1
		}
		for i := range p[h.Transport:] {
			p[h.Transport+i] ^= 1
			if (h.FlowHash(p) != want) != (i < 4) {
				t.Errorf("IPv6 %v: byte %d of the TCP header: looked at %v", six, i, i >= 4)
			}
			p[h.Transport+i] ^= 1
		}
		other := *h
		other.Protocol = packet.ProtocolUDP
		if other.FlowHash(p) == want {
			t.Errorf("IPv6 %v: not at the protocol", six)
		}
	}
}

func TestFlowHashLooksAtPortsWhereThereAreSome(t *testing.T) {
	f := tcpFlow(false)
	p := f.packet(0, false)
	const sctp, dccp, udpLite, icmp, gre = 132, 33, 136, 1, 47
	for protocol, has := range map[uint8]bool{packet.ProtocolTCP: true, packet.ProtocolUDP: true, sctp: true, dccp: true, udpLite: true, icmp: false, gre: false} {
		for _, c := range []struct {
			name     string
			fragment bool
			length   int
			want     bool
		}{{"whole", false, len(p), has}, {"fragment", true, len(p), false}, {"just the ports", false, 24, has}, {"cut short", false, 23, false}} {
			h := packet.Header{Protocol: protocol, Transport: 20, Fragment: c.fragment}
			q := p[:c.length:c.length]
			before := h.FlowHash(q)
			q[21] ^= 1
			if got := h.FlowHash(q) != before; got != c.want {
				t.Errorf("protocol %d, %s: looks at ports %v", protocol, c.name, got)
			}
		}
	}
}

// Neighbouring addresses and ports, as in a cluster, spread evenly by the lowest
// and by the highest bits.
func TestFlowHashSpreads(t *testing.T) {
	const buckets, each = 16, 256
	for _, name := range []string{"ipv4-tcp", "ipv6-tcp"} {
		p := golden.Load(t, name)
		h := parsed(t, p)
		var low, high [buckets]int
		last := h.Transport - 1 // byte of the destination address
		for i := range buckets * each {
			if name == "ipv4-tcp" {
				last = 19
			}
			p[last] = byte(i / 64)
			binary.BigEndian.PutUint16(p[h.Transport:], 32768+2*uint16(i%64))
			hash := h.FlowHash(p)
			low[hash%buckets]++
			high[hash>>28]++
		}
		for i := range buckets {
			// The standard deviation is 16.
			if low[i] < each-80 || low[i] > each+80 || high[i] < each-80 || high[i] > each+80 {
				t.Errorf("%s: by the lowest bits %v, by the highest %v", name, low, high)
				break
			}
		}
	}
}
