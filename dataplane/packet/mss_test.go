package packet_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// checkClamp clamps p in both ways. A wrong checksum must stay wrong, whatever it is.
func checkClamp(t *testing.T, p []byte, mtu int, partial bool) (got []byte) {
	t.Helper()
	h := parsed(t, p)
	want := reference.ClampMSS(p, mtu, partial)
	got = bytes.Clone(p)
	if changed := packet.ClampMSS(got, h, mtu, partial); changed == bytes.Equal(want, p) {
		t.Errorf("ClampMSS(%x, %d, %v) = %v", p, mtu, partial, changed)
	}
	if h.Protocol == packet.ProtocolTCP && !partial && !bytes.Equal(got, p) && !packet.ChecksumOK(p, h) {
		if packet.ChecksumOK(got, h) {
			t.Errorf("of %x a wrong checksum became right", p)
		}
		want = bytes.Clone(want)
		copy(want[h.Transport+16:h.Transport+18], got[h.Transport+16:])
	}
	if !bytes.Equal(got, want) {
		t.Errorf("ClampMSS(%d, %v)\n%x, want\n%x", mtu, partial, got, want)
	}
	return got
}

// handshake is the packet of a flow that is a SYN, most times, with any options.
func (d *dice) handshake(partial bool) []byte {
	f := d.flow()
	f.flags = 0x02 | uint8(d.roll(2))<<4
	if d.oneIn(8) {
		f.flags = uint8(d.roll(256))
	}
	if f.gso != packet.UDP {
		f.tcpOptions = d.tcpOptions()
	}
	if !f.six && d.oneIn(8) {
		f.flags4 |= uint16(d.roll(2)) << 13
	}
	p := f.packet(d.roll(20), partial)
	if f.gso != packet.UDP && d.oneIn(8) {
		l := reference.Read(p)
		p[l.Transport+16+d.roll(2)] ^= 1 << d.roll(8)
	}
	return p
}

func (d *dice) tcpOptions() (b []byte) {
	for range d.roll(8) {
		mss := []byte{2, 4, byte(d.roll(8)), byte(d.roll(256))}
		b = append(b, [][]byte{mss, {1}, {4, 2}, {3, 3, 7}, {254, 5, 2, 4, 255}, {2, 3, 9}, {8}, {0}, {30, 1}}[d.roll(9)]...)
	}
	b = b[:min(len(b), 40)]
	for len(b)%4 > 0 {
		b = append(b, 1)
	}
	return b
}

func TestClampMSS(t *testing.T) {
	changed := 0
	for seed := range uint64(8000) {
		d := randomDice(seed, 200)
		partial := d.roll(2) == 1
		p := d.handshake(partial)
		if got := checkClamp(t, p, d.roll(2100), partial); !bytes.Equal(got, p) {
			changed++
		}
	}
	if changed < 300 {
		t.Errorf("only %d were changed", changed)
	}
}

func FuzzClampMSS(f *testing.F) {
	for _, g := range golden.All(f) {
		f.Add(g.Bytes, uint16(1400), false)
	}
	for seed := range uint64(20) {
		d := randomDice(seed, 200)
		f.Add(d.handshake(seed%2 == 1), uint16(100*seed), seed%2 == 1)
	}
	f.Fuzz(func(t *testing.T, raw []byte, mtu uint16, partial bool) {
		p, ok := repaired(raw)
		if !ok {
			return
		}
		checkClamp(t, p, int(mtu), partial)
		if l := reference.Read(p); l.Protocol == packet.ProtocolTCP && !l.Fragment && len(p) >= l.Transport+20 {
			reference.Checksum(p, partial)
			checkClamp(t, p, int(mtu), partial)
		}
	})
}

func TestClampMSSRules(t *testing.T) {
	const mtu = 1400
	mss := func(v uint16) []byte { return binary.BigEndian.AppendUint16([]byte{2, 4}, v) }
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	nop, sack := []byte{1}, []byte{4, 2}
	for _, c := range []struct {
		name     string
		six      bool
		flags    uint8
		options  []byte
		at       int // of the value among the options
		from, to uint16
	}{
		{"a SYN", false, 0x02, mss(1460), 2, 1460, 1360},
		{"a SYN-ACK", false, 0x12, mss(1460), 2, 1460, 1360},
		{"a SYN that asks for ECN", false, 0xc2, mss(1460), 2, 1460, 1360},
		{"over IPv6", true, 0x02, mss(1440), 2, 1440, 1340},
		{"the largest", false, 0x02, mss(65535), 2, 65535, 1360},
		{"as large as fits", false, 0x02, mss(1360), 2, 1360, 1360},
		{"smaller", false, 0x02, mss(536), 2, 536, 536},
		{"at an odd place", false, 0x02, cat(nop, mss(1460), nop, nop, nop), 3, 1460, 1360},
		{"behind other options", true, 0x02, cat(sack, nop, nop, mss(1440)), 6, 1440, 1340},
		{"the second", false, 0x02, cat(mss(500), mss(1460)), 6, 1460, 1360},
		{"no SYN", false, 0x10, mss(1460), 2, 1460, 1460},
		{"behind the end", false, 0x02, cat([]byte{0, 0, 0, 0}, mss(1460)), 6, 1460, 1460},
		{"behind a length of 0", false, 0x02, cat([]byte{8, 0, 1, 1}, mss(1460)), 6, 1460, 1460},
		{"behind a length of 1", false, 0x02, cat([]byte{8, 1, 1, 1}, mss(1460)), 6, 1460, 1460},
		{"in another option", false, 0x02, cat([]byte{254, 8, 1, 1}, mss(1460)), 6, 1460, 1460},
		{"beyond the options", false, 0x02, []byte{1, 1, 2, 4}, 4, 0, 0},
	} {
		for _, partial := range []bool{false, true} {
			f := tcpFlow(c.six)
			f.flags, f.tcpOptions = c.flags, c.options
			p := f.packet(10, partial)
			at := reference.Read(p).Transport + 20 + c.at
			got := checkClamp(t, p, mtu, partial)
			if v := binary.BigEndian.Uint16(got[at:]); c.from != c.to && v != c.to || c.from == c.to && !bytes.Equal(got, p) {
				t.Errorf("%s, partial %v: %d became %d, want %d", c.name, partial, c.from, v, c.to)
			}
		}
	}
}

// An MTU that leaves no room for a segment changes nothing.
func TestClampMSSOfImpossibleMTU(t *testing.T) {
	for _, six := range []bool{false, true} {
		f := tcpFlow(six)
		f.flags, f.tcpOptions = 0x02, []byte{2, 4, 5, 0x78}
		p := f.packet(0, false)
		for _, mtu := range []int{-1, 0, 20, 40, 60} {
			if got := bytes.Clone(p); packet.ClampMSS(got, parsed(t, p), mtu, false) != (mtu == 60 && !six) {
				t.Errorf("IPv6 %v, MTU %d: %x of\n%x", six, mtu, got, p)
			}
		}
	}
}

// A SYN whose header is not whole stays as it is.
func TestClampMSSOfShortHeaders(t *testing.T) {
	f := tcpFlow(false)
	f.flags, f.tcpOptions = 0x02, []byte{2, 4, 5, 0xb4}
	whole := f.packet(0, false)
	for n := 20; n < len(whole); n++ {
		p := bytes.Clone(whole[:n])
		p[3] = byte(n)
		reference.HeaderChecksum(p)
		checkClamp(t, p, 1400, false)
	}
	for offset := range 16 {
		p := bytes.Clone(whole)
		p[32] = byte(offset) << 4
		finish(p, false)
		if got := checkClamp(t, p, 1400, false); bytes.Equal(got, p) == (offset == 6) {
			t.Errorf("data offset %d: %x of\n%x", offset, got, p)
		}
	}
}

func TestClampMSSAllocatesNothing(t *testing.T) {
	f := tcpFlow(false)
	f.flags, f.tcpOptions = 0x02, []byte{1, 2, 4, 5, 0x78, 1, 1, 1}
	p := f.packet(0, false)
	h := parsed(t, p)
	if n := testing.AllocsPerRun(1000, func() {
		if binary.BigEndian.PutUint16(p[43:], 1400); !packet.ClampMSS(p, h, 1300, false) {
			t.Error("not clamped")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
