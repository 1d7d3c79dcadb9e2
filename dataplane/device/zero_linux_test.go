package device

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/weft-net/weft/dataplane/packet/reference"
)

// A UDP packet over IPv6 never has the checksum zero, which would be none.
func TestZeroChecksum(t *testing.T) {
	p := make([]byte, 40+8+2)
	p[0], p[6], p[7], p[23], p[39] = 0x60, 17, 64, 1, 2
	binary.BigEndian.PutUint16(p[4:], 10)
	binary.BigEndian.PutUint16(p[44:], 10)
	reference.Checksum(p, false)
	// The payload takes up what the sum lacks.
	binary.BigEndian.PutUint16(p[48:], binary.BigEndian.Uint16(p[46:]))
	want := bytes.Clone(p)
	reference.Checksum(want, false)
	if want[46] != 0xff || want[47] != 0xff {
		t.Fatalf("the right checksum is %x, and was to be zero", want[46:48])
	}
	p[46], p[47] = 0, 0
	if correct(p); !bytes.Equal(p, want) {
		t.Errorf("%x, want %x", p, want)
	}
	four := bytes.Clone(p)
	four[46], four[47] = 0, 0
	four[6] = 6 // not UDP
	before := bytes.Clone(four)
	if correct(four); !bytes.Equal(four, before) {
		t.Errorf("%x became %x", before, four)
	}
}
