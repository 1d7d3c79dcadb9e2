package packet_test

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
)

// The ECN codepoints by their values (RFC 3168 section 5), and what stands for
// "drop" in the table.
const (
	notECT = iota
	ect1
	ect0
	ce
	drop
)

var codepoints = [...]string{notECT: "Not-ECT", ect1: "ECT(1)", ect0: "ECT(0)", ce: "CE", drop: "drop"}

// merged is figure 4 of RFC 6040, by inner and then outer codepoint.
var merged = [4][4]uint8{
	notECT: {notECT: notECT, ect0: notECT, ect1: notECT, ce: drop},
	ect0:   {notECT: ect0, ect0: ect0, ect1: ect1, ce: ce},
	ect1:   {notECT: ect1, ect0: ect1, ect1: ect1, ce: ce},
	ce:     {notECT: ce, ect0: ce, ect1: ce, ce: ce},
}

// withDSField is p with another DS field, as gopacket encodes it.
func withDSField(tb testing.TB, p []byte, ds uint8) []byte {
	tb.Helper()
	var header interface {
		gopacket.DecodingLayer
		gopacket.SerializableLayer
	}
	switch p[0] >> 4 {
	case 4:
		header = new(layers.IPv4)
	case 6:
		header = new(layers.IPv6)
	}
	if err := header.DecodeFromBytes(p, gopacket.NilDecodeFeedback); err != nil {
		tb.Fatal(err)
	}
	switch h := header.(type) {
	case *layers.IPv4:
		h.TOS = ds
	case *layers.IPv6:
		h.TrafficClass = ds
	}
	out := gopacket.NewSerializeBuffer()
	payload := gopacket.Payload(header.LayerPayload())
	if err := gopacket.SerializeLayers(out, serialiseOptions, header, payload); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func TestMergeECNIsFigure4(t *testing.T) {
	const innerDSCP, outerDSCP = 46 << 2, 10 << 2
	for _, name := range []string{"ipv4-udp", "ipv4-options", "ipv6-udp"} {
		original := golden.Load(t, name)
		for inner := range uint8(4) {
			for outer := range uint8(4) {
				p := withDSField(t, original, innerDSCP|inner)
				want, wantOK := p, false
				if m := merged[inner][outer]; m != drop {
					want, wantOK = withDSField(t, original, innerDSCP|m), true
				}
				got := bytes.Clone(p)
				ok := packet.MergeECN(got, outerDSCP|outer)
				if ok != wantOK || !bytes.Equal(got, want) {
					t.Errorf("%s: inner %s, outer %s: %v\n%x, want %s\n%x",
						name, codepoints[inner], codepoints[outer], ok, got, codepoints[merged[inner][outer]], want)
				}
			}
		}
	}
}

// The golden packets of each codepoint say the same without gopacket's help.
func TestMergeECNTurnsOneGoldenPacketIntoAnother(t *testing.T) {
	for _, ip := range []string{"ipv4-", "ipv6-"} {
		for _, c := range []struct {
			from  string
			outer uint8
			to    string
		}{
			{"ect0", ce, "ce"},
			{"ect1", ce, "ce"},
			{"ect0", ect1, "ect1"},
			{"dscp-ef", ect1, "dscp-ef"},
			{"ce", notECT, "ce"},
		} {
			p := golden.Load(t, ip+c.from)
			if !packet.MergeECN(p, c.outer) || !bytes.Equal(p, golden.Load(t, ip+c.to)) {
				t.Errorf("%s%s marked %s on the way becomes\n%x, not %s", ip, c.from, codepoints[c.outer], p, c.to)
			}
		}
	}
}

func TestMergeECNAllocatesNothing(t *testing.T) {
	p := golden.Load(t, "ipv4-ect0")
	if n := testing.AllocsPerRun(1000, func() { packet.MergeECN(p, ect1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzMergeECN compares MergeECN with a twin that looks into the table and
// computes the whole header checksum again.
func FuzzMergeECN(f *testing.F) {
	for _, g := range golden.All(f) {
		for outer := range uint8(4) {
			f.Add(g.Bytes, outer)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, outer uint8) {
		p, ok := repaired(raw)
		if !ok {
			return
		}
		want, wantOK := slowMerge(p, outer)
		got := bytes.Clone(p)
		if ok := packet.MergeECN(got, outer); ok != wantOK || !bytes.Equal(got, want) {
			t.Errorf("MergeECN(%x, %#02x) = %v\n%x, want %v\n%x", p, outer, ok, got, wantOK, want)
		}
		if _, ok := parse(got); !ok {
			t.Errorf("MergeECN(%x, %#02x) leaves no packet:\n%x", p, outer, got)
		}
	})
}

func slowMerge(p []byte, outer uint8) (want []byte, ok bool) {
	want = bytes.Clone(p)
	at, shift := 1, 0 // where the codepoint is
	if p[0]>>4 == 6 {
		shift = 4
	}
	m := merged[p[at]>>shift&3][outer&3]
	if m == drop {
		return want, false
	}
	want[at] = want[at]&^(3<<shift) | m<<shift
	if p[0]>>4 == 4 {
		fixHeaderChecksum(want)
	}
	return want, true
}
