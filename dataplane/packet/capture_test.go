package packet_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// captured is one packet as the kernel handed it over, and the wire packets that
// the kernel itself makes of it. A packet with nothing to do has none.
type captured struct {
	line     int
	back     bool // from the far end
	packet   packet.Packet
	segments [][]byte
}

func capture(tb testing.TB) (all []captured) {
	tb.Helper()
	text, err := os.ReadFile("../../testdata/captures/tun.hex")
	if err != nil {
		tb.Fatal(err)
	}
	line := 0
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			tb.Fatalf("line %d: %v", line, err)
		}
		return n
	}
	digits := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			tb.Fatalf("line %d: %v", line, err)
		}
		return b
	}
	gso := map[string]packet.GSO{"wire": packet.NoGSO, "tcp4": packet.TCP4, "tcp6": packet.TCP6, "udp": packet.UDP}
	payload := 0 // of the current packet, as far as its segments have it
	for text := range strings.Lines(string(text)) {
		line++
		f := strings.Fields(text)
		switch f[0] {
		case ">", "<":
			payload = 0
			all = append(all, captured{line: line, back: f[0] == "<", packet: packet.Packet{
				Buf: digits(f[5]), GSO: gso[f[1]], SegmentSize: number(f[2]), CsumStart: number(f[3]), CsumOffset: number(f[4])}})
		case "=":
			c := &all[len(all)-1]
			header, n := digits(f[2]), number(f[1])
			data := c.packet.Data()[len(header)+payload:][:n]
			c.segments = append(c.segments, append(header, data...))
			payload += n
		}
	}
	return all
}

// The kernel is the judge: of both ways to cut a superpacket, and of completed
// checksums.
func TestSegmentsAreTheKernels(t *testing.T) {
	for _, c := range capture(t) {
		p := c.packet
		h := parsed(t, p.Data())
		if !p.Check(h) {
			t.Errorf("line %d: Check refuses it", c.line)
			continue
		}
		if p.CsumStart == 0 {
			if !packet.ChecksumOK(p.Data(), h) {
				t.Errorf("line %d: ChecksumOK is false", c.line)
			}
			continue
		}
		compareSegments(t, c.line, "the reference", reference.Segment(p), c.segments)
		if p.GSO != packet.NoGSO {
			compareSegments(t, c.line, "the Segmenter", cut(t, p, false), c.segments)
			continue
		}
		packet.Complete(&p)
		compareSegments(t, c.line, "Complete", [][]byte{p.Data()}, c.segments)
	}
}

func compareSegments(t *testing.T, line int, who string, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("line %d: %d segments of %s, %d of the kernel", line, len(got), who, len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("line %d, segment %d of %s\n%x, of the kernel\n%x", line, i, who, got[i], want[i])
		}
	}
}

// cut is what a Segmenter makes of p, partial or whole.
func cut(tb testing.TB, p packet.Packet, partial bool) (wire [][]byte) {
	tb.Helper()
	var s packet.Segmenter
	s.Reset(&p, parsed(tb, p.Data()))
	return wirePackets(&s, partial)
}

func wirePackets(s *packet.Segmenter, partial bool) (wire [][]byte) {
	for i := range s.Len() {
		header := make([]byte, s.HeaderLen())
		payload := s.Put(header, i)
		if !partial {
			s.Finish(header, payload)
		}
		wire = append(wire, append(header, payload...))
	}
	return wire
}

// What the kernel put into one superpacket becomes the same one again, but for what
// cannot be merged: the first segment where it has CWR.
func TestMergerMakesTheKernelsSuperpackets(t *testing.T) {
	merged := 0
	for _, partial := range []bool{true, false} {
		m := packet.NewMerger(64, true, true)
		for _, c := range capture(t) {
			if c.packet.GSO == packet.NoGSO {
				continue
			}
			for _, p := range cut(t, c.packet, partial) {
				m.Add(p, parsed(t, p), partial)
			}
			groups := m.Groups()
			whole := c.packet.Data()
			switch {
			case c.packet.GSO != packet.UDP && whole[c.packet.CsumStart+13]&0x80 != 0:
				if len(groups) != 2 || len(groups[0].Members) != 1 {
					t.Errorf("line %d: with CWR in the first segment, %d groups", c.line, len(groups))
				}
			case len(groups) != 1:
				t.Errorf("line %d: %d groups", c.line, len(groups))
			default:
				merged++
				want := packet.Group{Members: groups[0].Members, Header: groups[0].Header, Partial: partial, GSO: c.packet.GSO,
					SegmentSize: c.packet.SegmentSize, CsumStart: c.packet.CsumStart, CsumOffset: c.packet.CsumOffset}
				if !equalGroups(groups[0], want) || !bytes.Equal(joined(groups[0]), whole) {
					t.Errorf("line %d: %+v\n%x, want\n%x", c.line, groups[0], joined(groups[0]), whole)
				}
			}
			m.Reset()
		}
	}
	if merged < 10 {
		t.Errorf("only %d superpackets were merged again", merged)
	}
}

// joined is the group as the kernel gets it.
func joined(g packet.Group) []byte {
	if g.Header == nil {
		return g.Members[0]
	}
	b := bytes.Clone(g.Header)
	for _, p := range g.Members {
		b = append(b, p[len(g.Header):]...)
	}
	return b
}

// All of the capture in one round, each direction for itself.
func TestMergerReplaysTheCapture(t *testing.T) {
	for _, back := range []bool{false, true} {
		for _, partial := range []bool{true, false} {
			var round []reference.Arrival
			for _, c := range capture(t) {
				switch {
				case c.back != back:
				case c.packet.GSO != packet.NoGSO:
					for _, p := range cut(t, c.packet, partial) {
						round = append(round, reference.Arrival{Packet: p, Partial: partial})
					}
				default:
					round = append(round, reference.Arrival{Packet: c.packet.Data(), Partial: c.packet.CsumStart > 0})
				}
			}
			checkMerge(t, packet.NewMerger(len(round), true, true), round, true, true)
		}
	}
}
