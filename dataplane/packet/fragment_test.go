package packet_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// checkFragments fragments p in both ways, in an order that is not the natural one,
// and puts it together again.
func checkFragments(t *testing.T, p []byte, mtu int) (fragments [][]byte) {
	t.Helper()
	before := bytes.Clone(p)
	var f packet.Fragmenter
	want := reference.Fragment(p, mtu)
	if ok := f.Reset(p, parsed(t, p), mtu); ok != (want != nil) {
		t.Fatalf("Reset = %v for %d bytes of %x", ok, mtu, p)
	}
	if want == nil {
		return nil
	}
	if f.Len() != len(want) || len(want) < 2 {
		t.Fatalf("Len = %d, want %d", f.Len(), len(want))
	}
	for i := f.Len() - 1; i >= 0; i-- {
		dst := bytes.Repeat([]byte{0xee}, 61)
		n, payload := f.Put(dst, i)
		b := append(bytes.Clone(dst[:n]), payload...)
		if !bytes.Equal(b, want[i]) {
			t.Errorf("fragment %d:\n%x, want\n%x", i, b, want[i])
		}
		if dst[60] != 0xee {
			t.Errorf("fragment %d: Put wrote beyond the header", i)
		}
		if h := parsed(t, b); len(b) > mtu || !h.Fragment {
			t.Errorf("fragment %d: %d bytes, at most %d are wanted; a fragment: %v", i, len(b), mtu, h.Fragment)
		}
		fragments = append(fragments, b)
	}
	checkTwoParts(t, p, mtu, want)
	if !bytes.Equal(p, before) {
		t.Errorf("the packet was changed from\n%x to\n%x", before, p)
	}
	if again, ok := reference.Reassemble(fragments); !ok || !bytes.Equal(again, p) {
		t.Errorf("together again: %v\n%x, want\n%x", ok, again, p)
	}
	return fragments
}

// checkTwoParts gives p as a segment is given, its headers apart, where they fit in the
// first of the fragments that are wanted.
func checkTwoParts(t *testing.T, p []byte, mtu int, want [][]byte) {
	t.Helper()
	h := parsed(t, p)
	headers := bytes.Clone(p[:min(h.Transport+8, len(p))])
	var f packet.Fragmenter
	if !f.ResetSegment(headers, p[len(headers):], h, mtu) || f.Len() != len(want) {
		t.Fatalf("in two parts: %d fragments, want %d", f.Len(), len(want))
	}
	for i := range want {
		dst := bytes.Repeat([]byte{0xee}, 69)
		n, payload := f.Put(dst, i)
		if b := append(dst[:n:n], payload...); !bytes.Equal(b, want[i]) {
			t.Errorf("in two parts, fragment %d:\n%x, want\n%x", i, b, want[i])
		}
		if dst[68] != 0xee {
			t.Errorf("in two parts, fragment %d: Put wrote beyond the headers", i)
		}
	}
}

// checkTwice fragments the fragments too, as the next node would.
func checkTwice(t *testing.T, p []byte, first, second int) {
	t.Helper()
	var all [][]byte
	for _, f := range checkFragments(t, p, first) {
		if again := checkFragments(t, f, second); again != nil {
			all = append(all, again...)
		} else {
			all = append(all, f)
		}
	}
	if all == nil {
		return
	}
	if again, ok := reference.Reassemble(all); !ok || !bytes.Equal(again, p) {
		t.Errorf("together again after the second time: %v\n%x, want\n%x", ok, again, p)
	}
}

// fragmentable is any IPv4 packet, most of them with Don't Fragment clear.
func (d *dice) fragmentable() []byte {
	f := d.flow()
	if !d.oneIn(8) {
		f.six, f.flags4 = false, 0
	}
	if !f.six && d.oneIn(3) {
		f.options = nil
		for range 1 + d.roll(10) {
			f.options = append(f.options, byte(d.roll(256)), byte(d.roll(12)), byte(d.roll(256)), byte(d.roll(4)))
		}
	}
	if f.six && len(f.options)%8 > 0 {
		f.options, f.next = nil, packet.ProtocolTCP
	}
	if d.oneIn(4) {
		f.flags4 |= uint16(d.roll(4)) << 13 // MF, DF
	}
	if d.oneIn(4) {
		f.flags4 |= uint16(d.roll(0x2000))
	}
	return f.packet(d.roll(4000), false)
}

func TestFragmenter(t *testing.T) {
	for seed := range uint64(3000) {
		d := randomDice(seed, 160)
		checkTwice(t, d.fragmentable(), 20+d.roll(3000), 20+d.roll(1500))
	}
}

func FuzzFragmenter(f *testing.F) {
	for _, g := range golden.All(f) {
		f.Add(g.Bytes, uint16(40), uint16(32))
	}
	for seed := range uint64(20) {
		d := randomDice(seed, 160)
		f.Add(d.fragmentable(), uint16(576), uint16(68))
	}
	f.Fuzz(func(t *testing.T, raw []byte, first, second uint16) {
		if p, ok := repaired(raw); ok && len(raw) < 2000 {
			checkTwice(t, p, int(first), int(second))
		}
	})
}

func TestFragmenterRules(t *testing.T) {
	udp := udpFlow(false)
	udp.flags4 = 0
	p := udp.packet(1000, false) // 1028 bytes
	fields := func(v uint16) []byte {
		b := bytes.Clone(p)
		binary.BigEndian.PutUint16(b[6:], v)
		reference.HeaderChecksum(b)
		return b
	}
	six := udpFlow(true)
	for _, c := range []struct {
		name string
		p    []byte
		mtu  int
		n    int // 0: not at all
	}{
		{"half", p, 600, 2},
		{"a byte too much", p, 1027, 2},
		{"no need", p, 1028, 0},
		{"8 bytes at a time", p, 28, 126},
		{"up to 15 bytes at a time", p, 35, 126},
		{"less than 8 bytes", p, 27, 0},
		{"less than a header", p, 10, 0},
		{"Don't Fragment", fields(0x4000), 600, 0},
		{"IPv6", six.packet(1000, false), 600, 0},
		{"a first fragment", fields(0x2000), 600, 2},
		{"a middle fragment", fields(0x2000 | 100), 600, 2},
		{"a last fragment", fields(100), 600, 2},
		{"up to the last byte of all", fields((65535 - 1028) / 8), 600, 2},
		{"beyond the last byte", fields((65535-1028)/8 + 1), 600, 0},
	} {
		if got := len(checkFragments(t, c.p, c.mtu)); got != c.n {
			t.Errorf("%s: %d fragments, want %d", c.name, got, c.n)
		}
	}
}

// What the header of a later fragment has of the packet's options.
func TestFragmenterOptions(t *testing.T) {
	for name, c := range map[string]struct{ options, want []byte }{
		"router alert, to be copied":      {[]byte{148, 4, 0, 0}, []byte{148, 4, 0, 0}},
		"timestamp, not to be copied":     {[]byte{68, 8, 5, 0, 0, 0, 0, 0}, nil},
		"no operation":                    {[]byte{1, 1, 1, 1}, nil},
		"one of each":                     {[]byte{68, 4, 5, 0, 1, 148, 4, 0, 0, 1, 7, 3, 4, 131, 3, 4}, []byte{148, 4, 0, 0, 131, 3, 4, 0}},
		"behind the end of the list":      {[]byte{0, 148, 4, 0, 0, 0, 0, 0}, nil},
		"malformed: no length":            {[]byte{148, 4, 0, 0, 1, 1, 1, 148}, []byte{148, 4, 0, 0}},
		"malformed: length 1":             {[]byte{148, 1, 148, 2}, nil},
		"malformed: longer than the rest": {[]byte{148, 4, 0, 0, 148, 5, 0, 0}, []byte{148, 4, 0, 0}},
	} {
		udp := udpFlow(false)
		udp.flags4, udp.options = 0, c.options
		for i, b := range reversed(checkFragments(t, udp.packet(1000, false), 500)) {
			want := c.want
			if i == 0 {
				want = c.options
			}
			if got := b[20:reference.Read(b).IPHeader]; !bytes.Equal(got, want) {
				t.Errorf("%s: fragment %d has the options %x, want %x", name, i, got, want)
			}
		}
	}
}

func reversed(all [][]byte) (back [][]byte) {
	for i := range all {
		back = append(back, all[len(all)-1-i])
	}
	return back
}

// The payload is the packet's own bytes.
func TestFragmenterCopiesNoPayload(t *testing.T) {
	udp := udpFlow(false)
	udp.flags4 = 0
	p := udp.packet(1000, false)
	var f packet.Fragmenter
	f.Reset(p, parsed(t, p), 600)
	if _, payload := f.Put(make([]byte, 60), 1); &payload[0] != &p[20+576] {
		t.Error("the payload is elsewhere")
	}
}

func TestFragmenterAllocatesNothing(t *testing.T) {
	udp := udpFlow(false)
	udp.flags4, udp.options = 0, []byte{148, 4, 0, 0, 68, 4, 5, 0}
	p := udp.packet(1000, false)
	h := parsed(t, p)
	var f packet.Fragmenter
	dst := make([]byte, 60)
	if n := testing.AllocsPerRun(1000, func() {
		f.Reset(p, h, 400)
		for i := range f.Len() {
			f.Put(dst, i)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
