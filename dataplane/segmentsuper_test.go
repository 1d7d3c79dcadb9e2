package dataplane_test

import (
	"bytes"
	"testing"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// Superpackets and small packets in frames arrive as the wire frames that they stand for, at one member or at all,
// whoever completes checksums and whatever the TAPs take.
func TestSuperpacketsInFrames(t *testing.T) {
	for _, can := range []offload.Set{offload.All, 0} {
		for _, rco := range []bool{true, false} {
			x := newBridged(t, can, rco)
			groups, frames := 0, 0
			for round := range 40 {
				g, f := x.burst(t, randomDice(uint64(round), 4000))
				groups, frames = groups+g, frames+f
			}
			if can == offload.All && groups > frames/2 || can == 0 && groups != frames {
				t.Errorf("(%s), rco %v: %d frames were written in %d groups", can, rco, frames, groups)
			}
		}
	}
}

// FuzzSegment: whatever a TAP hands over, each frame that is right comes out where it belongs, as the reference cuts it.
func FuzzSegment(f *testing.F) {
	for seed := range uint64(40) {
		f.Add([]byte(randomDice(seed, 60)))
	}
	x := newBridged(f, offload.All, true)
	f.Fuzz(func(t *testing.T, decisions []byte) { x.burst(t, decisions) })
}

// burst has node 1 send some frames, some to all and some to a host of node 2, and compares what comes out.
func (x *bridged) burst(t testing.TB, d dice) (groups, frames int) {
	t.Helper()
	x.taps[1][office].Send(frame(vm(1), vm(2), 50))
	x.run(t)
	take(t, x.taps[0][office])
	take(t, x.taps[2][office])
	before := x.taps[1][office].Groups()
	var want [3][][]byte
	for _, p := range d.packets(12, 1, 2) {
		d.corrupt(&p)
		dst := vm(2)
		if d.oneIn(4) {
			dst = everyone
		}
		link := frame(dst, vm(1), 0)[:12]
		for range d.roll(3) {
			link = append(link, 0x81, 0, 0, 7)
		}
		link = append(link, 8, 0)
		if len(p.Buf) > 0 && p.Buf[0]>>4 == 6 {
			copy(link[len(link)-2:], []byte{0x86, 0xdd})
		}
		wire := x.wire(p)
		if p.CsumStart != 0 {
			p.CsumStart += len(link)
		}
		p.Buf = append(bytes.Clone(link), p.Buf...)
		x.taps[0][office].SendSuper(p)
		for _, w := range wire {
			f := append(bytes.Clone(link), w...)
			want[1] = append(want[1], f)
			if dst == everyone {
				want[2] = append(want[2], f)
			}
		}
	}
	x.run(t)
	groups = x.taps[1][office].Groups() - before
	for i := range want {
		got := take(t, x.taps[i][office])
		if len(got) != len(want[i]) {
			t.Fatalf("node %d gets %d frames, want %d", i+1, len(got), len(want[i]))
		}
		for j := range got {
			if !sameFrame(got[j], want[i][j]) {
				t.Fatalf("node %d gets as frame %d of %d\n%x, want\n%x", i+1, j, len(got), got[j], want[i][j])
			}
		}
	}
	return groups, len(want[1])
}

// sameFrame compares packets as atomic does.
func sameFrame(a, b []byte) bool {
	var e packet.Ethernet
	if !packet.ParseEthernet(a, &e) || len(a) < e.Len+20 || len(b) < e.Len+20 || e.EtherType != 0x0800 {
		return bytes.Equal(a, b)
	}
	var h packet.Header
	if !packet.ParseInto(a[e.Len:], &h) || !packet.ParseInto(b[e.Len:], &h) {
		return bytes.Equal(a, b)
	}
	return bytes.Equal(a[:e.Len], b[:e.Len]) && bytes.Equal(atomic(a[e.Len:]), atomic(b[e.Len:]))
}

// wire are the packets that p stands for, none where it is dropped.
func (x *bridged) wire(p packet.Packet) [][]byte {
	var h packet.Header
	data := p.Data()
	if len(data) == 0 {
		return [][]byte{data}
	}
	if p.CsumStart != 0 && (p.CsumStart < 0 || p.CsumStart+p.CsumOffset+2 > len(data)) {
		return nil
	}
	understood := packet.ParseInto(data, &h) && p.Check(&h)
	switch {
	case p.GSO == packet.NoGSO && p.CsumStart != 0:
		data = reference.Complete(p)
	case p.GSO == packet.NoGSO:
	case !understood:
		return nil
	default:
		all := reference.Segment(p)
		if len(all) > packet.MaxSegments || len(all) > 0 && len(all[0]) > frameMTU {
			return nil
		}
		return all
	}
	if len(data) > frameMTU {
		return nil
	}
	return [][]byte{data}
}
