package dataplane

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet/reference"
	"github.com/weft-net/weft/encap"
)

// newFrameReplay is a worker with a segment of three members, and a TAP that hands over the packets of what in frames to
// dst; the first member sends such to it.
func newFrameReplay(tb testing.TB, what replayed, dst byte) (*Engine, *worker, *replay) {
	tb.Helper()
	const link, vni = 14, 100
	r := &replay{packet: what.packet(), packets: 20, datagrams: 20, full: -1, receivers: []encap.Receiver{{FD: -1, Codec: encap.VXLAN}}}
	if what.segments > 0 {
		r.packets = 2
	}
	header := []byte{dst, 0xaa, 0, 0, 0, 2, 2, 0xaa, 0, 0, 0, 1, 8, 0}
	framed := slices.Concat(make([]byte, encap.FrameOverhead), header, reference.Complete(r.packet))
	r.datagram = framed[encap.EncapFrame(framed, encap.FrameOverhead, link, vni, encap.Checksum{}):]
	r.packet.Buf = slices.Concat(header, r.packet.Buf)
	r.packet.CsumStart += link

	segment := Segment{VNI: vni, MTU: 1450, Flood: 1 << 40}
	for i := byte(2); i < 5; i++ {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, i}), 4789)
		segment.Members = append(segment.Members, Peer{
			ID: to.String(), Endpoints: []netip.Addr{to.Addr()}, To: to, Tunnel: encap.Tunnel{Codec: encap.VXLAN, VNI: vni}, MTU: 1450, RCO: true,
		})
	}
	r.from = segment.Members[0].To
	e := New([]Pair{{Queue: &replay{full: -1}, Wire: r, Taps: []Tapped{{VNI: vni, Queue: r}}}}, offload.All)
	if err := e.Apply(Config{MTU: 1460, Segments: []Segment{segment}}); err != nil {
		tb.Fatal(err)
	}
	e.Announce(vni, segment.Members[1].ID, [6]byte{2, 0xaa, 0, 0, 0, 2}, nil)
	w := e.workers[0]
	if err := w.open(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.close(); err != nil {
			tb.Error(err)
		}
	})
	return e, w, r
}

// frameTurns are those of frames.
func frameTurns(tb testing.TB) (all []turn) {
	for _, c := range []struct {
		name string
		what replayed
		dst  byte
	}{
		{"egress of frames", replayed{}, 2},
		{"egress of frames with superpackets", replayed{tcp: true, segments: 46, size: 1380}, 2},
		{"egress of frames to all", replayed{}, 3},
		{"egress of superpackets to all", replayed{segments: 40, size: 1380}, 3},
		{"ingress of frames", replayed{in: true}, 2},
	} {
		_, w, _ := newFrameReplay(tb, c.what, c.dst)
		one := turn{c.name, w.egress.turn, w.egress.ledger.received}
		if c.what.in {
			one.do, one.received = w.ingress.turn, w.ingress.ledger.received
		}
		all = append(all, one)
	}
	return all
}

// Copies for which there is no room go with the next turn, to the members that the first went to.
func TestCopiesBeyondTheRoom(t *testing.T) {
	e, w, r := newFrameReplay(t, replayed{segments: 100, size: 500}, 3)
	sent := make(map[netip.AddrPort]int)
	r.send = func(msgs []encap.Message) int {
		for i := range msgs {
			sent[msgs[i].Addr] += msgs[i].Segments
		}
		return len(msgs)
	}
	turns := 0
	for ; w.egress.next < w.egress.n || turns == 0; turns++ {
		if busy, err := w.egress.turn(); err != nil || !busy {
			t.Fatal(busy, err)
		}
		c := e.tables.Load().local
		c.Segments = slices.Clone(c.Segments)
		c.Segments[0].Members = c.Segments[0].Members[:2] // from now on
		if err := e.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	if len(sent) != 3 || turns < 2 {
		t.Fatalf("sent %v in %d turns", sent, turns)
	}
	for to, n := range sent {
		if to.Addr().As4()[3] == 4 && n != 100 || to.Addr().As4()[3] < 4 && n != 200 {
			t.Errorf("%d frames to %s", n, to)
		}
	}
}

// What is read from a TAP leaves in few sends, one to each member where it is for all.
func TestFramesAreBatched(t *testing.T) {
	for _, c := range []struct {
		what              replayed
		dst               byte
		packets, messages int
	}{
		{replayed{}, 2, 20, 1},
		{replayed{}, 3, 60, 60}, // each frame in turn to each member
		{replayed{tcp: true, segments: 46, size: 1380}, 2, 92, 3},
		{replayed{in: true}, 2, receives * 20, 11},
	} {
		_, w, r := newFrameReplay(t, c.what, c.dst)
		turn := w.egress.turn
		if c.what.in {
			turn = w.ingress.turn
		}
		if _, err := turn(); err != nil {
			t.Fatal(err)
		}
		if got := [2]int{r.sent + r.merged, r.sends + r.groups}; got != [2]int{c.packets, c.messages} {
			t.Errorf("%+v: %d frames in %d calls, want %d in %d", c.what, got[0], got[1], c.packets, c.messages)
		}
	}
}
