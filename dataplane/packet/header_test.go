package packet_test

import (
	"bytes"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
)

// The golden packets are what their comments say only if an independent
// implementation makes the same bytes of the same fields.
func TestGoldenPacketsAreWhatGopacketEncodes(t *testing.T) {
	for _, g := range golden.All(t) {
		if g.Malformed() {
			continue
		}
		t.Run(g.Name, func(t *testing.T) {
			if again := reserialised(t, g.Bytes); !bytes.Equal(again, g.Bytes) {
				t.Errorf("gopacket encodes\n%x, the file says\n%x", again, g.Bytes)
			}
		})
	}
}

func TestParseReadsWhatGopacketDecodes(t *testing.T) {
	for _, g := range golden.All(t) {
		t.Run(g.Name, func(t *testing.T) {
			h, ok := packet.Parse(g.Bytes)
			if g.Malformed() {
				if ok || h != (packet.Header{}) {
					t.Errorf("Parse accepts it: %+v %v", h, ok)
				}
				return
			}
			want, err := decode(g.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if !ok || h != want.header {
				t.Errorf("Parse = %+v %v, gopacket reads %+v", h, ok, want.header)
			}
		})
	}
}

// A prefix of a packet is never a packet, and neither is one with a byte behind it.
func TestParseRefusesOtherLengths(t *testing.T) {
	for _, g := range golden.All(t) {
		if g.Malformed() {
			continue
		}
		for n := range g.Bytes {
			if _, ok := packet.Parse(g.Bytes[:n]); ok {
				t.Errorf("%s: Parse accepts the first %d bytes of %d", g.Name, n, len(g.Bytes))
			}
		}
		if _, ok := packet.Parse(append(g.Bytes, 0)); ok {
			t.Errorf("%s: Parse accepts a byte behind the packet", g.Name)
		}
	}
}

func TestParseRefusesEveryFlippedHeaderBit(t *testing.T) {
	p := golden.Load(t, "ipv4-options")
	for bit := range int(p[0]&0x0f) * 4 * 8 {
		p[bit/8] ^= 1 << (bit % 8)
		if _, ok := packet.Parse(p); ok {
			t.Errorf("Parse accepts the packet with bit %d of byte %d turned over", bit%8, bit/8)
		}
		p[bit/8] ^= 1 << (bit % 8)
	}
}

// The longest packets have length fields of all ones.
func TestParseLongest(t *testing.T) {
	p4, _ := repaired(append(golden.Load(t, "ipv4-empty"), make([]byte, 65535-20)...))
	p6 := append(golden.Load(t, "ipv6-empty"), make([]byte, 65535)...)
	p6[4], p6[5] = 0xff, 0xff
	for _, p := range [][]byte{p4, p6} {
		if _, ok := packet.Parse(p); !ok {
			t.Errorf("Parse refuses a packet of %d bytes", len(p))
		}
		if _, ok := packet.Parse(append(p, 0)); ok {
			t.Errorf("Parse accepts a packet of %d bytes", len(p)+1)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	for _, name := range []string{"ipv4-options", "ipv6-udp"} {
		p := golden.Load(t, name)
		if n := testing.AllocsPerRun(1000, func() { packet.Parse(p) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// FuzzParse compares Parse with gopacket, in both directions.
func FuzzParse(f *testing.F) {
	for _, g := range golden.All(f) {
		f.Add(g.Bytes)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		compareParse(t, raw)
		if p, ok := repaired(raw); ok {
			if _, ok := packet.Parse(p); !ok {
				t.Errorf("Parse refuses %x", p)
			}
			compareParse(t, p)
		}
	})
}

func compareParse(t *testing.T, b []byte) {
	h, ok := packet.Parse(b)
	d, err := decode(b)
	if ok {
		// gopacket may dislike what lies behind the fields, such as options.
		if h != d.header || d.length != len(b) {
			t.Errorf("Parse(%x) = %+v, gopacket reads %+v, length %d of %d", b, h, d.header, d.length, len(b))
		}
		return
	}
	exact := err == nil && d.length == len(b)
	if exact && (b[0]>>4 == 6 || slowChecksum(b[:int(b[0]&0x0f)*4], 0) == 0) {
		t.Errorf("Parse refuses %x, gopacket reads %+v", b, d.header)
	}
}

func FuzzChecksum(f *testing.F) {
	for _, g := range golden.All(f) {
		f.Add(g.Bytes, uint32(0))
	}
	f.Add([]byte{0, 0}, uint32(0))
	f.Add([]byte{0xff, 0xff}, uint32(0xffff))
	f.Add([]byte{1, 2, 3}, uint32(0x12345678))
	f.Add(bytes.Repeat([]byte{0xff}, 65535), uint32(0xffffffff))
	f.Fuzz(func(t *testing.T, b []byte, partial uint32) {
		if got, want := packet.Checksum(b, partial), slowChecksum(b, partial); got != want {
			t.Errorf("Checksum(%d bytes, %#x) = %#04x, want %#04x", len(b), partial, got, want)
		}
	})
}
