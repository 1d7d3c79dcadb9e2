package packet_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// checkMerge merges a round in both ways. Where the checksums are all partial, packets may be taken
// without anyone having parsed them; repeated is how many were.
func checkMerge(t *testing.T, m *packet.Merger, round []reference.Arrival, tso, uso bool) (repeated int) {
	t.Helper()
	before := make([][]byte, len(round))
	for i, a := range round {
		before[i] = bytes.Clone(a.Packet)
		if a.Partial && m.Repeat(a.Packet) {
			repeated++
			continue
		}
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
	return repeated
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
		repeated := 0
		for seed := range rounds(3000) {
			d := randomDice(seed, 200)
			repeated += checkMerge(t, m, d.round(), on.tso, on.uso)
		}
		if merges := on.tso || on.uso; (repeated > 0) != merges {
			t.Errorf("tso %v, uso %v: %d packets were taken as repetitions", on.tso, on.uso, repeated)
		}
	}
}

// What is taken unread is a packet that parses and differs in nothing that was not looked at: every change of
// a bit of a header that could be taken is found, but for those of an identification without meaning whose checksum is
// right.
func TestMergerRepeatReadsAll(t *testing.T) {
	for _, f := range []flow{tcpFlow(false), tcpFlow(true), udpFlow(false), udpFlow(true)} {
		for _, dontFragment := range []bool{true, false} {
			m := packet.NewMerger(8, true, true)
			if f.flags4 = 0; dontFragment {
				f.flags4 = 0x4000
			}
			if !f.six {
				f.options = make([]byte, 4)
			}
			start := f
			var run [4][]byte
			for i := range run {
				run[i] = f.packet(100, true)
			}
			upTo := func(n int) {
				m.Reset()
				for _, p := range run[:n] {
					m.Add(p, parsed(t, p), true)
				}
			}
			upTo(1)
			if m.Repeat(run[1]) {
				t.Error("the second packet was taken unread")
			}
			upTo(3)
			if !m.Repeat(run[3]) {
				t.Fatal("the fourth packet was not taken")
			}
			for bit := range 8 * (len(run[3]) - 100) {
				p := bytes.Clone(run[3])
				p[bit/8] ^= 1 << (bit % 8)
				if upTo(3); m.Repeat(p) {
					t.Errorf("%x was taken, with bit %d of byte %d changed", p, bit%8, bit/8)
				}
			}
			for _, n := range []int{0, 1, 19, 20, 39, 40, 99, len(run[3]) - 1} {
				if upTo(3); m.Repeat(run[3][:n]) {
					t.Errorf("%d bytes were taken", n)
				}
			}
			if upTo(3); m.Repeat(append(bytes.Clone(run[3]), 0)) {
				t.Error("one byte more was taken")
			}
			other := start
			other.id += 100
			for range 3 {
				other.packet(100, true)
			}
			upTo(3)
			p := other.packet(100, true)
			if taken := m.Repeat(p); !f.six && taken != dontFragment {
				t.Errorf("another identification, Don't Fragment %v: taken %v", dontFragment, taken)
			}
		}
	}
}

// The header checksum that no sender writes, all ones for 0, is not taken unread either.
func TestMergerRepeatLeavesTheOtherZero(t *testing.T) {
	f := udpFlow(false)
	m := packet.NewMerger(4, true, true)
	add := func(p []byte) { m.Add(p, parsed(t, p), true) }
	add(f.packet(100, true))
	add(f.packet(100, true))
	p := f.packet(100, true)
	sum := int(binary.BigEndian.Uint16(p[4:])) + int(binary.BigEndian.Uint16(p[10:]))
	binary.BigEndian.PutUint16(p[4:], uint16(sum%0xffff)) // now the rest adds up to all ones
	p[10], p[11] = 0xff, 0xff
	if m.Repeat(p) {
		t.Error("a checksum of all ones was taken")
	}
	p[10], p[11] = 0, 0
	if parsed(t, p); !m.Repeat(p) {
		t.Error("a checksum of zero was not taken")
	}
}

// A whole checksum is verified by Add: nothing is taken unread where checksums are such, though
// the field be the same.
func TestMergerRepeatVerifiesNothing(t *testing.T) {
	f := udpFlow(true)
	m := packet.NewMerger(4, true, true)
	for i := range 4 {
		f.sent = 0 // the same payload
		p := f.packet(100, false)
		if m.Repeat(p) {
			t.Errorf("packet %d was taken", i)
		}
		m.Add(p, parsed(t, p), false)
	}
	if g := m.Groups(); len(g) != 1 {
		t.Errorf("%d groups", len(g))
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
