package packet_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// checkMerge merges a round in both ways.
func checkMerge(t *testing.T, m *packet.Merger, round []reference.Arrival, tso, uso bool) {
	t.Helper()
	before := make([][]byte, len(round))
	for i, a := range round {
		before[i] = bytes.Clone(a.Packet)
		m.Add(a.Packet, parsed(t, a.Packet), a.Partial)
	}
	got := m.Groups()
	want := reference.Merge(round, tso, uso)
	if !slices.EqualFunc(got, want, equalGroups) {
		for i, a := range round {
			t.Logf("%2d: %v %x", i, a.Partial, a.Packet)
		}
		t.Fatalf("groups (-want +got):\n%s", cmp.Diff(want, got))
	}
	i := 0
	for _, g := range got {
		for _, p := range g.Members {
			if &p[0] != &round[i].Packet[0] || !bytes.Equal(p, before[i]) {
				t.Fatalf("member %d is a copy, or was changed", i)
			}
			i++
		}
	}
	m.Reset()
}

func equalGroups(a, b packet.Group) bool {
	return slices.EqualFunc(a.Members, b.Members, bytes.Equal) && bytes.Equal(a.Header, b.Header) && (a.Header == nil) == (b.Header == nil) &&
		a.GSO == b.GSO && a.SegmentSize == b.SegmentSize && a.CsumStart == b.CsumStart && a.CsumOffset == b.CsumOffset &&
		a.Partial == b.Partial
}

// round is some packets of a flow or two, with much that ends a group.
func (d *dice) round() []reference.Arrival {
	var round []reference.Arrival
	flows := []flow{d.flow(), d.flow()}
	partial := d.roll(2) == 0
	size := 1 + d.roll(40)
	at := 0
	for range 2 + d.roll(20) {
		f := &flows[at]
		n := size
		switch d.roll(24) {
		case 23:
			at = 1 - at
		case 22:
			f.flags |= 0x08
		case 21:
			f.flags |= 0x01
		case 20:
			n = d.roll(size + 3)
		case 19:
			f.flags = uint8(d.roll(256))
		case 18:
			f.id = uint16(d.roll(65536))
		case 17:
			partial = !partial
		case 16:
			f.flags4 ^= 0x4000
		}
		p := f.packet(n, partial)
		if d.oneIn(8) {
			d.spoil(p, partial)
		}
		f.flags &^= 0x09
		if _, ok := parse(p); ok {
			round = append(round, reference.Arrival{Packet: p, Partial: partial})
		}
	}
	return round
}

// spoil changes one bit, and mostly makes the checksums fit again.
func (d *dice) spoil(p []byte, partial bool) {
	bit := d.roll(8 * min(len(p), 100))
	p[bit/8] ^= 1 << (bit % 8)
	if _, ok := repaired(p); !ok || p[0]>>4 != 4 && p[0]>>4 != 6 || p[0]>>4 == 4 && p[0]&15 < 5 {
		return
	}
	switch d.roll(4) {
	case 0, 1:
		finish(p, partial)
	case 2:
		if p[0]>>4 == 4 {
			reference.HeaderChecksum(p)
		}
	}
}

func TestMerger(t *testing.T) {
	for _, on := range []struct{ tso, uso bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		m := packet.NewMerger(32, on.tso, on.uso)
		for seed := range rounds(3000) {
			d := randomDice(seed, 200)
			checkMerge(t, m, d.round(), on.tso, on.uso)
		}
	}
}

// What a Merger is told of a checksum that is not there is not passed on.
func TestMergerKeepsPartialToItsProtocols(t *testing.T) {
	for _, c := range []struct {
		protocol uint8
		length   int
		want     int // CsumOffset
	}{{packet.ProtocolTCP, 18, 16}, {packet.ProtocolTCP, 17, 0}, {packet.ProtocolUDP, 8, 6}, {packet.ProtocolUDP, 7, 0}, {1, 30, 0}} {
		f := tcpFlow(false)
		p := f.header()[:20+c.length]
		p[9] = c.protocol
		p[3] = byte(len(p))
		reference.HeaderChecksum(p)
		m := packet.NewMerger(1, true, true)
		m.Add(p, parsed(t, p), true)
		g := m.Groups()[0]
		start := 20
		if c.want == 0 {
			start = 0
		}
		if g.CsumOffset != c.want || g.CsumStart != start || g.Partial != (c.want > 0) {
			t.Errorf("protocol %d, %d bytes: %+v", c.protocol, c.length, g)
		}
	}
}

// Groups ends the run; what is added afterwards is another one.
func TestMergerGroupsTwice(t *testing.T) {
	f := tcpFlow(false)
	m := packet.NewMerger(8, true, true)
	add := func(n int) {
		for range n {
			p := f.packet(10, true)
			m.Add(p, parsed(t, p), true)
		}
	}
	add(2)
	m.Groups()
	if got := len(m.Groups()); got != 1 {
		t.Errorf("%d groups, want 1", got)
	}
	add(3)
	if g := m.Groups(); len(g) != 2 || len(g[0].Members) != 2 || len(g[1].Members) != 3 {
		t.Errorf("%+v, want groups of 2 and 3", g)
	}
	m.Reset()
	add(1)
	if g := m.Groups(); len(g) != 1 || len(g[0].Members) != 1 {
		t.Errorf("after Reset: %+v, want one packet", g)
	}
}

// Pairs, so that there are as many headers as there can be, of the greatest length,
// and a fresh Merger each time, since the first round is one like any other.
func TestMergerAllocatesNothing(t *testing.T) {
	const packets, runs = 40, 100
	var flows [2]flow
	for i := range flows {
		flows[i] = tcpFlow(false)
		flows[i].options, flows[i].tcpOptions = make([]byte, 40), make([]byte, 40)
		flows[i].src += uint16(i)
	}
	var wire [packets][]byte
	var headers [packets]packet.Header
	for i := range wire {
		wire[i] = flows[i/2%2].packet(100, false)
		headers[i] = *parsed(t, wire[i])
	}
	var mergers []*packet.Merger
	for range runs + 1 {
		mergers = append(mergers, packet.NewMerger(packets, true, true))
	}
	if n := testing.AllocsPerRun(runs, func() {
		m := mergers[0]
		mergers = mergers[1:]
		for i, p := range wire {
			m.Add(p, &headers[i], false)
		}
		if n := len(m.Groups()); n != packets/2 {
			t.Errorf("%d groups", n)
		}
		m.Reset()
		for i, p := range wire[1:] { // single ones at both ends
			m.Add(p, &headers[1+i], false)
		}
		m.Groups()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzMerger(f *testing.F) {
	for seed := range uint64(20) {
		f.Add([]byte(randomDice(seed, 100)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := dice(b)
		checkMerge(t, packet.NewMerger(32, true, true), d.round(), true, true)
	})
}
