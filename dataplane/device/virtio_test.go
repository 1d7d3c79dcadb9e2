package device

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
)

// header is a virtio-net header of the given fields.
func header(flags, gso uint8, headerLen, gsoSize, csumStart, csumOffset uint16) *[virtioLen]byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, struct {
		Flags, GSO                                uint8
		HeaderLen, GSOSize, CsumStart, CsumOffset uint16
	}{flags, gso, headerLen, gsoSize, csumStart, csumOffset})
	return (*[virtioLen]byte)(b.Bytes())
}

func TestDecodeVirtio(t *testing.T) {
	for _, c := range []struct {
		name   string
		header *[virtioLen]byte
		want   packet.Packet
		ok     bool
	}{
		{"a whole packet", header(0, 0, 0, 0, 0, 0), packet.Packet{}, true},
		{"partial TCP", header(1, 0, 0, 0, 20, 16), packet.Packet{CsumStart: 20, CsumOffset: 16}, true},
		{"fields that mean nothing", header(2, 0, 99, 98, 97, 96), packet.Packet{}, true},
		{"TCP over IPv4", header(1, 1, 999, 1448, 20, 16), packet.Packet{GSO: packet.TCP4, SegmentSize: 1448, CsumStart: 20, CsumOffset: 16}, true},
		{"TCP over IPv6", header(1, 4, 60, 1428, 40, 16), packet.Packet{GSO: packet.TCP6, SegmentSize: 1428, CsumStart: 40, CsumOffset: 16}, true},
		{"UDP", header(1, 5, 28, 1472, 20, 6), packet.Packet{GSO: packet.UDP, SegmentSize: 1472, CsumStart: 20, CsumOffset: 6}, true},
		{"TCP with ECN", header(1, 0x81, 40, 1448, 20, 16), packet.Packet{GSO: packet.TCP4, SegmentSize: 1448, CsumStart: 20, CsumOffset: 16}, true},
		{"the old UDP fragmentation", header(1, 3, 28, 1472, 20, 6), packet.Packet{}, false},
		{"an unknown kind", header(1, 6, 28, 1472, 20, 6), packet.Packet{}, false},
		{"a tunnel's", header(1, 0x21, 28, 1472, 20, 6), packet.Packet{}, false},
		{"a checksum that starts with the packet", header(1, 0, 0, 0, 0, 16), packet.Packet{}, false},
	} {
		// What was there before must not show through.
		got := packet.Packet{Start: 7, GSO: packet.UDP, SegmentSize: 1, CsumStart: 2, CsumOffset: 3}
		c.want.Start = 7
		if ok := decodeVirtio(c.header, &got); ok != c.ok {
			t.Errorf("%s: %t", c.name, ok)
		} else if ok && !same(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func same(a, b packet.Packet) bool {
	return a.Start == b.Start && a.GSO == b.GSO && a.SegmentSize == b.SegmentSize && a.CsumStart == b.CsumStart && a.CsumOffset == b.CsumOffset
}

// The decoder agrees with encoding/binary, and what it takes is encoded as it was.
func FuzzVirtio(f *testing.F) {
	for _, h := range []*[virtioLen]byte{header(0, 0, 0, 0, 0, 0), header(1, 1, 999, 1448, 20, 16), header(1, 0x84, 60, 1428, 40, 16), header(3, 5, 28, 1472, 20, 6), header(1, 6, 1, 2, 3, 4)} {
		f.Add(h[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != virtioLen {
			return
		}
		h := (*[virtioLen]byte)(b)
		var fields struct {
			Flags, GSO                                uint8
			HeaderLen, GSOSize, CsumStart, CsumOffset uint16
		}
		if err := binary.Read(bytes.NewReader(b), binary.NativeEndian, &fields); err != nil {
			t.Fatal(err)
		}
		kinds := map[uint8]packet.GSO{0: packet.NoGSO, 1: packet.TCP4, 4: packet.TCP6, 5: packet.UDP}
		kind, known := kinds[fields.GSO&0x7f]
		want := packet.Packet{GSO: kind}
		if kind != packet.NoGSO {
			want.SegmentSize = int(fields.GSOSize)
		}
		partial := fields.Flags&1 == 1
		if partial {
			want.CsumStart, want.CsumOffset = int(fields.CsumStart), int(fields.CsumOffset)
		}

		var got packet.Packet
		ok := decodeVirtio(h, &got)
		if ok != (known && (!partial || fields.CsumStart != 0)) {
			t.Fatalf("%x: %t", b, ok)
		}
		if !ok {
			return
		}
		if !same(got, want) {
			t.Fatalf("%x: %+v, want %+v", b, got, want)
		}
		var again [virtioLen]byte
		virtio{got.GSO, int(fields.HeaderLen), got.SegmentSize, got.CsumStart, got.CsumOffset}.encode(&again)
		wanted := header(fields.Flags&1, fields.GSO&0x7f, fields.HeaderLen, uint16(want.SegmentSize), uint16(want.CsumStart), uint16(want.CsumOffset))
		if again != *wanted {
			t.Fatalf("%x becomes %x, want %x", b, again, *wanted)
		}
	})
}
