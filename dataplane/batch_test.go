package dataplane

import (
	"testing"

	"github.com/weft-net/weft/encap"
)

// turn is what a worker does for a batch.
type turn struct {
	name     string
	do       func() (bool, error)
	received func() uint64 // wire packets, so far
}

// turns are those of all kinds of packets, by each codec.
func turns(tb testing.TB) (all []turn) {
	for _, codec := range encap.Codecs() {
		for _, c := range []struct {
			name string
			what replayed
		}{
			{"egress", replayed{}},
			{"egress of IPv6", replayed{six: true}},
			{"egress of superpackets", replayed{tcp: true, segments: 46}},
			{"egress of UDP superpackets", replayed{segments: 40}},
			{"egress of IPv6 superpackets", replayed{tcp: true, segments: 46, six: true}},
			{"egress of smaller superpackets", replayed{tcp: true, segments: 46, way: 1000}},
			{"egress of lone segments", replayed{tcp: true, way: 1000}},
			{"egress of fragments", replayed{way: 600}},
			{"egress of fragments of superpackets", replayed{segments: 40, way: 600}},
			{"egress of IPv6 in fragments", replayed{six: true, size: 1280, way: 1200}},
			{"egress of IPv6 superpackets in fragments", replayed{six: true, size: 1232, segments: 20, way: 1200}},
			{"egress of what is too big", replayed{six: true, way: 1000}},
			{"ingress", replayed{in: true}},
			{"ingress of repeated headers", replayed{in: true, rco: true, size: 500}},
			{"ingress of TCP over IPv6", replayed{in: true, six: true, tcp: true}},
		} {
			c.what.codec = codec
			w, _ := newReplay(tb, c.what)
			one := turn{codec.String() + " " + c.name, w.egress.turn, w.egress.ledger.received}
			if c.what.in {
				one.do, one.received = w.ingress.turn, w.ingress.ledger.received
			}
			all = append(all, one)
		}
	}
	return append(all, frameTurns(tb)...)
}

func TestNoAllocationPerPacket(t *testing.T) {
	for _, turn := range turns(t) {
		if n := testing.AllocsPerRun(100, func() {
			if busy, err := turn.do(); err != nil || !busy {
				t.Fatal(busy, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a batch", turn.name, n)
		}
		if turn.received() == 0 {
			t.Errorf("%s: no packets", turn.name)
		}
	}
}

func BenchmarkTurn(b *testing.B) {
	for _, turn := range turns(b) {
		b.Run(turn.name, func(b *testing.B) {
			b.ReportAllocs()
			before := turn.received()
			for b.Loop() {
				if _, err := turn.do(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(turn.received()-before), "ns/packet")
		})
	}
}

// What is read in one turn leaves in few sends, and what is received comes in by
// few writes.
func TestReplayIsForwarded(t *testing.T) {
	for _, c := range []struct {
		what              replayed
		packets, messages int
	}{
		{replayed{}, 100, 3},                                      // 46 to a send
		{replayed{codec: encap.VXLAN}, 100, 3},                    // 46 x 1422
		{replayed{tcp: true, segments: 46}, 138, 4},               // 46 x 1452 bytes are too much for one: 45 and 45 and 45, and 3
		{replayed{tcp: true, segments: 46, way: 740}, 2 * 138, 5}, // 700 bytes of payload each: 64 to a send, and 20
		{replayed{tcp: true, way: 740, size: 1440}, 200, 4},       // the same: 64, 64, 64, 8
		{replayed{way: 720}, 200, 100},                            // fragments of 716 and 704 bytes: the shorter ends the send
		{replayed{way: 720, segments: 10, size: 1372}, 60, 30},
		{replayed{six: true, size: 1280, way: 1200}, 100, 100}, // what the underlay fragments goes alone
		{replayed{six: true, size: 1232, segments: 10, way: 1200}, 30, 30},
		{replayed{in: true}, receives * 20, 11}, // 47 to a write, which 64 KiB hold, and a short rest
		{replayed{in: true, codec: encap.VXLAN}, receives * 20, 11},
		{replayed{in: true, rco: true, size: 1100}, receives * 58, 24}, // 61 to a superpacket, and a rest of each write
		{replayed{in: true, rco: true, size: 1100, six: true, codec: encap.VXLAN}, receives * 58, 23},
	} {
		w, r := newReplay(t, c.what)
		turn := w.egress.turn
		if c.what.in {
			turn = w.ingress.turn
		}
		if _, err := turn(); err != nil {
			t.Fatal(err)
		}
		if got := [2]int{r.sent + r.merged, r.sends + r.groups}; got != [2]int{c.packets, c.messages} {
			t.Errorf("%+v: %d packets in %d calls, want %d in %d", c.what, got[0], got[1], c.packets, c.messages)
		}
		if r.most > mergeRound {
			t.Errorf("%+v: %d packets in one write", c.what, r.most)
		}
	}
}
