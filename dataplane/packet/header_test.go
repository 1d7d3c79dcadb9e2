package packet_test

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
	"github.com/weft-net/weft/dataplane/packet/reference"
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
			h, ok := parse(g.Bytes)
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
			if !ok || h != withLayout(want.header, g.Bytes) {
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
			if _, ok := parse(g.Bytes[:n]); ok {
				t.Errorf("%s: Parse accepts the first %d bytes of %d", g.Name, n, len(g.Bytes))
			}
		}
		if _, ok := parse(append(g.Bytes, 0)); ok {
			t.Errorf("%s: Parse accepts a byte behind the packet", g.Name)
		}
	}
}

func TestParseRefusesEveryFlippedHeaderBit(t *testing.T) {
	p := golden.Load(t, "ipv4-options")
	for bit := range int(p[0]&0x0f) * 4 * 8 {
		p[bit/8] ^= 1 << (bit % 8)
		if _, ok := parse(p); ok {
			t.Errorf("Parse accepts the packet with bit %d of byte %d turned over", bit%8, bit/8)
		}
		p[bit/8] ^= 1 << (bit % 8)
	}
}

// Whatever the fields hold, the checksum that was computed for them is right.
func TestParseAcceptsEveryHeader(t *testing.T) {
	for seed := range uint64(2000) {
		p, ok := repaired(append([]byte{0x45}, randomDice(seed, 19)...))
		if _, accepted := parse(p); !ok || !accepted {
			t.Errorf("refused: %x", p)
		}
	}
	for ttl := range 256 { // sums that carry to the very end
		p := []byte{0x45, 0, 0, 20, 0xff, 0xff, 0xff, 0xff, byte(ttl), 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}
		fixHeaderChecksum(p)
		if _, ok := parse(p); !ok {
			t.Errorf("refused: %x", p)
		}
	}
}

// The longest packets have length fields of all ones.
func TestParseLongest(t *testing.T) {
	p4, _ := repaired(append(golden.Load(t, "ipv4-empty"), make([]byte, 65535-20)...))
	p6 := append(golden.Load(t, "ipv6-empty"), make([]byte, 65535)...)
	p6[4], p6[5] = 0xff, 0xff
	for _, p := range [][]byte{p4, p6} {
		if _, ok := parse(p); !ok {
			t.Errorf("Parse refuses a packet of %d bytes", len(p))
		}
		if _, ok := parse(append(p, 0)); ok {
			t.Errorf("Parse accepts a packet of %d bytes", len(p)+1)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	for _, name := range []string{"ipv4-options", "ipv6-udp"} {
		p, h := golden.Load(t, name), new(packet.Header)
		if n := testing.AllocsPerRun(1000, func() { packet.ParseInto(p, h) }); n != 0 {
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
			if _, ok := parse(p); !ok {
				t.Errorf("Parse refuses %x", p)
			}
			compareParse(t, p)
		}
	})
}

// withLayout is h with what the reference reads of the headers behind.
func withLayout(h packet.Header, p []byte) packet.Header {
	l := reference.Read(p)
	h.Protocol, h.Transport, h.Fragment = l.Protocol, l.Transport, l.Fragment
	return h
}

func compareParse(t *testing.T, b []byte) {
	h, ok := parse(b)
	d, err := decode(b)
	if ok {
		// gopacket may dislike what lies behind the fields, such as options.
		if h != withLayout(d.header, b) || d.length != len(b) {
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

// gopacket finds the same transport header, where there is one.
func TestParseFindsTheTransportHeader(t *testing.T) {
	for _, g := range golden.All(t) {
		if g.Malformed() {
			continue
		}
		first := layers.LayerTypeIPv4
		if g.Bytes[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
		l := gopacket.NewPacket(g.Bytes, first, gopacket.Default).TransportLayer()
		if l == nil {
			continue
		}
		h := parsed(t, g.Bytes)
		want := len(g.Bytes) - len(l.LayerContents()) - len(l.LayerPayload())
		protocol := map[gopacket.LayerType]uint8{layers.LayerTypeTCP: packet.ProtocolTCP, layers.LayerTypeUDP: packet.ProtocolUDP}[l.LayerType()]
		if h.Transport != want || h.Protocol != protocol {
			t.Errorf("%s: protocol %d at byte %d, gopacket finds %v at %d", g.Name, h.Protocol, h.Transport, l.LayerType(), want)
		}
	}
}

func TestParseExtensionHeaders(t *testing.T) {
	const hopByHop, routing, fragment, esp, auth, options, mobility = 0, 43, 44, 50, 51, 60, 135
	header := func(next byte, rest ...byte) []byte { return append([]byte{next}, rest...) }
	pad := []byte{0, 1, 4, 0, 0, 0, 0}                         // 8 bytes with what is in front
	long := append([]byte{1, 1, 12}, make([]byte, 12)...)      // 16 bytes
	tcp := append(make([]byte, 12), 5<<4, 0, 0, 0, 0, 0, 0, 0) // not looked at
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, c := range []struct {
		name     string
		next     uint8
		rest     []byte
		protocol uint8
		at       int // -1: at the end
		fragment bool
	}{
		{"none", packet.ProtocolTCP, tcp, packet.ProtocolTCP, 40, false},
		{"hop-by-hop", hopByHop, cat(header(packet.ProtocolTCP, pad...), tcp), packet.ProtocolTCP, 48, false},
		{"16 bytes", options, cat(header(packet.ProtocolTCP, long...), tcp), packet.ProtocolTCP, 56, false},
		{"three", hopByHop, cat(header(routing, pad...), header(options, long...), header(packet.ProtocolTCP, pad...), tcp), packet.ProtocolTCP, 72, false},
		{"first fragment", fragment, cat(header(packet.ProtocolTCP, 0, 0, 1, 0, 0, 0, 9), tcp), packet.ProtocolTCP, 48, true},
		{"later fragment", fragment, cat(header(packet.ProtocolTCP, 0, 1, 0, 0, 0, 0, 9), tcp), packet.ProtocolTCP, 48, true},
		{"atomic fragment", fragment, cat(header(packet.ProtocolTCP, 0, 0, 0, 0, 0, 0, 9), tcp), packet.ProtocolTCP, 48, true},
		{"options in a fragment", fragment, cat(header(options, 0, 0, 1, 0, 0, 0, 9), header(packet.ProtocolTCP, pad...), tcp), options, 48, true},
		{"options, then a fragment", options, cat(header(fragment, pad...), header(packet.ProtocolUDP, 0, 0, 1, 0, 0, 0, 9), tcp), packet.ProtocolUDP, 56, true},
		{"authentication", auth, cat(header(packet.ProtocolTCP, 4, 0, 0, 0, 0, 0, 0), tcp), auth, 40, false},
		{"ESP", esp, tcp, esp, 40, false},
		{"mobility", mobility, cat(header(packet.NoNextHeader, pad...)), mobility, 40, false},
		{"nothing", packet.NoNextHeader, nil, packet.NoNextHeader, 40, false},
		{"something behind nothing", packet.NoNextHeader, tcp, packet.NoNextHeader, 40, false},
		{"just the first header", hopByHop, header(packet.ProtocolTCP, pad...), packet.ProtocolTCP, 48, false},
		{"nothing where there should be options", options, nil, packet.NoNextHeader, -1, false},
		{"one byte of options", options, []byte{packet.ProtocolTCP}, packet.NoNextHeader, -1, false},
		{"options cut short", options, header(packet.ProtocolTCP, pad[:6]...), packet.NoNextHeader, -1, false},
		{"options longer than the packet", options, cat(header(packet.ProtocolTCP, 3, 1, 28, 0, 0, 0, 0), tcp), packet.NoNextHeader, -1, false},
		{"fragment header cut short", fragment, header(packet.ProtocolTCP, 0, 0, 1, 0, 0, 0), packet.NoNextHeader, -1, false},
	} {
		f := tcpFlow(true)
		p := append(f.header()[:40], c.rest...)
		p[6] = c.next
		p[4], p[5] = 0, byte(len(p)-40)
		want := c.at
		if want < 0 {
			want = len(p)
		}
		if h := parsed(t, p); h.Protocol != c.protocol || h.Transport != want || h.Fragment != c.fragment {
			t.Errorf("%s: protocol %d at %d, fragment %v; want %d at %d, %v", c.name, h.Protocol, h.Transport, h.Fragment, c.protocol, want, c.fragment)
		}
	}
}

// One Header is used again and again.
func TestParseIntoLeavesNothingBehind(t *testing.T) {
	all := golden.All(t)
	for _, before := range all {
		for _, g := range all {
			var h packet.Header
			packet.ParseInto(before.Bytes, &h)
			want := h
			if fresh, ok := parse(g.Bytes); ok {
				want = fresh
			}
			if packet.ParseInto(g.Bytes, &h); h != want {
				t.Errorf("%s after %s: %+v, want %+v", g.Name, before.Name, h, want)
			}
		}
	}
}
