package packet_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// sizes merges a round and returns how many members each group has: the same whether packets are
// taken unread or not.
func sizes(t *testing.T, m *packet.Merger, round []reference.Arrival) (n []int) {
	t.Helper()
	var both [2][]int
	for i, unread := range []bool{false, true} {
		for _, a := range round {
			if !unread || !a.Partial || !m.Repeat(a.Packet) {
				m.Add(a.Packet, parsed(t, a.Packet), a.Partial)
			}
		}
		for _, g := range m.Groups() {
			both[i] = append(both[i], len(g.Members))
		}
		m.Reset()
	}
	if !slices.Equal(both[0], both[1]) {
		t.Errorf("groups of %v, and with Repeat of %v", both[0], both[1])
	}
	return both[0]
}

// Each rule of merging by itself: four segments, of which the third is changed.
func TestMergerRules(t *testing.T) {
	const ip4, ip6 = 20, 40 // where the transport header is
	put := func(i int, v ...byte) func([]byte) { return func(p []byte) { copy(p[i:], v) } }
	or := func(i int, v byte) func([]byte) { return func(p []byte) { p[i] |= v } }
	f4, f6, u4, u6 := tcpFlow(false), tcpFlow(true), udpFlow(false), udpFlow(true)
	notAtomic := f4
	notAtomic.flags4 = 0
	options := f4
	options.options = []byte{1, 1, 1, 1}
	extended := f6
	extended.options, extended.next = []byte{packet.ProtocolTCP, 0, 5, 2, 0, 0, 1, 0}, 0

	all, alone, ends, none := []int{4}, []int{2, 1, 1}, []int{3, 1}, []int{1, 1, 1, 1}
	for _, c := range []struct {
		name   string
		flow   flow
		change func(p []byte)
		want   []int
	}{
		{"TCP over IPv4", f4, nil, all},
		{"TCP over IPv6", f6, nil, all},
		{"UDP over IPv4", u4, nil, all},
		{"UDP over IPv6", u6, nil, all},
		{"IPv4 options", options, nil, all},
		{"IPv4 option changes", options, put(20, 7), alone},
		{"extension headers", extended, nil, none},
		{"identification with DF", f4, put(4, 0x12, 0x34), all},
		{"identification without DF", notAtomic, nil, all},
		{"another identification without DF", notAtomic, put(4, 0x12, 0x34), alone},
		{"DF goes", f4, put(6, 0), alone},
		{"DF comes", notAtomic, put(6, 0x40), alone},
		{"reserved flag", f4, or(6, 0x80), alone},
		{"more fragments", f4, or(6, 0x20), alone},
		{"fragment offset", f4, put(7, 1), alone},
		{"TTL", f4, put(8, 63), alone},
		{"hop limit", f6, put(7, 63), alone},
		{"DSCP", f4, or(1, 0x20), alone},
		{"CE", f4, or(1, 3), alone},
		{"traffic class", f6, or(1, 0x10), alone},
		{"flow label", f6, put(3, 0), alone},
		{"source", f4, put(15, 8), alone},
		{"destination", f4, put(19, 8), alone},
		{"IPv6 source", f6, put(23, 8), alone},
		{"IPv6 destination", f6, put(39, 8), alone},
		{"source port", f4, put(ip4, 0, 1), alone},
		{"destination port", f6, put(ip6+2, 0, 1), alone},
		{"UDP port", u6, put(ip6+2, 0, 1), alone},
		{"sequence number", f4, put(ip4+4, 1), alone},
		{"acknowledgement", f4, put(ip4+8, 9), alone},
		{"window", f4, put(ip4+14, 9), alone},
		{"urgent pointer", f4, put(ip4+18, 9), alone},
		{"timestamp", f4, put(ip4+27, 9), alone},
		{"option's last byte", f4, put(ip4+31, 9), alone},
		{"AE", f4, or(ip4+12, 1), alone},
		{"reserved bit", f4, or(ip4+12, 8), alone},
		{"data offset", f4, put(ip4+12, 7<<4), alone},
		{"FIN", f4, or(ip4+13, 0x01), ends},
		{"SYN", f4, or(ip4+13, 0x02), alone},
		{"RST", f4, or(ip4+13, 0x04), alone},
		{"PSH", f4, or(ip4+13, 0x08), ends},
		{"no ACK", f4, put(ip4+13, 0), alone},
		{"URG", f4, or(ip4+13, 0x20), alone},
		{"ECE", f4, or(ip4+13, 0x40), alone},
		{"CWR", f4, or(ip4+13, 0x80), alone},
		{"UDP length too short", u4, put(ip4+4, 0, 9), alone},
		{"UDP length too long", u4, put(ip4+4, 1, 9), alone},
	} {
		for _, partial := range []bool{false, true} {
			f := c.flow
			var round []reference.Arrival
			for i := range 4 {
				p := f.packet(50, partial)
				if i == 2 && c.change != nil {
					c.change(p)
					finish(p, partial)
				}
				round = append(round, reference.Arrival{Packet: p, Partial: partial})
			}
			got := sizes(t, packet.NewMerger(4, true, true), round)
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, partial %v: groups of %v, want %v", c.name, partial, got, c.want)
			}
		}
	}
}

func TestMergerSizes(t *testing.T) {
	for _, c := range []struct{ sizes, want []int }{
		{[]int{10, 10, 10}, []int{3}},
		{[]int{10, 10, 9, 10}, []int{3, 1}},
		{[]int{10, 10, 9, 9}, []int{3, 1}},
		{[]int{10, 11, 11}, []int{1, 2}},
		{[]int{10, 10, 0, 10, 10}, []int{2, 1, 2}},
		{[]int{0, 0, 0}, []int{1, 1, 1}},
		{[]int{1, 1, 1}, []int{3}},
	} {
		for _, f := range []flow{tcpFlow(false), tcpFlow(true), udpFlow(false), udpFlow(true)} {
			var round []reference.Arrival
			for _, n := range c.sizes {
				round = append(round, reference.Arrival{Packet: f.packet(n, true), Partial: true})
			}
			if got := sizes(t, packet.NewMerger(8, true, true), round); !slices.Equal(got, c.want) {
				t.Errorf("GSO %d, payloads of %v: groups of %v, want %v", f.gso, c.sizes, got, c.want)
			}
		}
	}
}

// The limits: 64 datagrams, what one writev takes, and what a total length says.
func TestMergerLimits(t *testing.T) {
	tcp4, tcp6, udp4 := tcpFlow(false), tcpFlow(true), udpFlow(false)
	for _, c := range []struct {
		name    string
		flow    flow
		size, n int
		last    int // payload of one more
		want    []int
	}{
		{"datagrams", udp4, 10, 129, 10, []int{64, 64, 2}},
		{"parts of a writev", tcp4, 10, 1030, 10, []int{1022, 9}},
		{"total length", tcp4, 8000, 8, 65535 - 52 - 64000, []int{9}},
		{"total length, all alike", tcp4, 8000, 9, 8000, []int{8, 2}},
		{"total length and one", tcp4, 8000, 8, 65535 - 52 - 64000 + 1, []int{8, 1}},
		{"IPv6, total length", tcp6, 8000, 8, 65535 - 72 - 64000, []int{9}},
		{"IPv6, total length and one", tcp6, 8000, 8, 65535 - 72 - 64000 + 1, []int{8, 1}},
	} {
		var round []reference.Arrival
		for range c.n {
			round = append(round, reference.Arrival{Packet: c.flow.packet(c.size, true), Partial: true})
		}
		round = append(round, reference.Arrival{Packet: c.flow.packet(c.last, true), Partial: true})
		if got := sizes(t, packet.NewMerger(len(round), true, true), round); !slices.Equal(got, c.want) {
			t.Errorf("%s: groups of %v, want %v", c.name, got, c.want)
		}
	}
}

// A packet that arrived damaged goes on as it is, and nothing else with it.
func TestMergerPassesWrongChecksumsOn(t *testing.T) {
	for _, f := range []flow{tcpFlow(false), udpFlow(true)} {
		for _, partial := range []bool{false, true} {
			for bad, want := range [][]int{{1, 3}, {1, 1, 2}, {2, 1, 1}, {3, 1}} {
				g := f
				var round []reference.Arrival
				for i := range 4 {
					p := g.packet(20, partial)
					if i == bad {
						l := reference.Read(p)
						field := p[l.Transport+16:]
						if l.Protocol == packet.ProtocolUDP {
							field = p[l.Transport+6:]
						}
						binary.BigEndian.PutUint16(field, binary.BigEndian.Uint16(field)+1)
					}
					round = append(round, reference.Arrival{Packet: p, Partial: partial})
				}
				if got := sizes(t, packet.NewMerger(4, true, true), round); !slices.Equal(got, want) {
					t.Errorf("GSO %d, partial %v, packet %d of 4 damaged: groups of %v, want %v", f.gso, partial, bad, got, want)
				}
			}
		}
	}
}

// What no packet of a flow may have.
func TestMergerLeavesAlone(t *testing.T) {
	f4, u4 := tcpFlow(false), udpFlow(false)
	for _, c := range []struct {
		name   string
		flow   flow
		change func(p []byte)
	}{
		{"reserved flag", f4, func(p []byte) { p[6] |= 0x80 }},
		{"more fragments", f4, func(p []byte) { p[6] |= 0x20 }},
		{"fragment offset", u4, func(p []byte) { p[7] = 1 }},
		{"AE", f4, func(p []byte) { p[32] |= 1 }},
		{"SYN", f4, func(p []byte) { p[33] |= 0x02 }},
		{"RST", f4, func(p []byte) { p[33] |= 0x04 }},
		{"PSH", f4, func(p []byte) { p[33] |= 0x08 }},
		{"URG", f4, func(p []byte) { p[33] |= 0x20 }},
		{"CWR", f4, func(p []byte) { p[33] |= 0x80 }},
		{"data offset below 20 bytes", f4, func(p []byte) { p[32] = 4 << 4 }},
		{"data offset beyond the packet", f4, func(p []byte) { p[32] = 15 << 4 }},
		{"UDP length", u4, func(p []byte) { p[25]++ }},
		{"another protocol", f4, func(p []byte) { p[9] = 253 }},
	} {
		f := c.flow
		var round []reference.Arrival
		for range 3 {
			p := f.packet(20, false)
			c.change(p)
			finish(p, false)
			round = append(round, reference.Arrival{Packet: p})
		}
		if got := sizes(t, packet.NewMerger(3, true, true), round); !slices.Equal(got, []int{1, 1, 1}) {
			t.Errorf("%s: groups of %v", c.name, got)
		}
	}
}

// A whole checksum and a partial one make no group, even where both are the same.
func TestMergerKeepsPartialApart(t *testing.T) {
	f := tcpFlow(false)
	var round []reference.Arrival
	for i := range 4 {
		round = append(round, reference.Arrival{Packet: f.packet(20, true), Partial: i < 2})
	}
	if got := sizes(t, packet.NewMerger(4, true, true), round); !slices.Equal(got, []int{2, 1, 1}) {
		t.Errorf("groups of %v", got)
	}
}

// Where a field has two forms of the same value, merging would lose which. UDP's 0
// is more than that: no checksum, and so none that the kernel could complete.
func TestMergerLeavesTheOtherZero(t *testing.T) {
	tcp := func(f *flow, other bool) []byte {
		p := f.packet(2, false)
		n := len(p) - 2
		p[n], p[n+1] = 0, 0
		finish(p, false)
		copy(p[n:], p[36:38])
		p[36], p[37] = 0, 0
		if other {
			p[36], p[37] = 0xff, 0xff
		}
		return p
	}
	udp := func(f *flow, other bool) []byte {
		p := udpWithSumOfOnes(t, false)
		if other {
			p[26], p[27] = 0, 0
		}
		return p
	}
	header := func(f *flow, other bool) []byte {
		p := f.packet(2, false)
		p[4], p[5] = 0, 0
		reference.HeaderChecksum(p)
		copy(p[4:], p[10:12])
		p[10], p[11] = 0, 0
		if other {
			p[10], p[11] = 0xff, 0xff
		}
		return p
	}
	for name, make := range map[string]func(f *flow, other bool) []byte{"TCP": tcp, "UDP": udp, "IPv4": header} {
		for _, c := range []struct {
			first, second bool
			want          []int
		}{{false, false, []int{2}}, {false, true, []int{1, 1}}, {true, false, []int{1, 1}}} {
			f := tcpFlow(false)
			round := []reference.Arrival{{Packet: make(&f, c.first)}, {Packet: make(&f, c.second)}}
			if got := sizes(t, packet.NewMerger(2, true, true), round); !slices.Equal(got, c.want) {
				t.Errorf("%s, the other zero in the first: %v, in the second: %v: groups of %v", name, c.first, c.second, got)
			}
		}
	}
}
