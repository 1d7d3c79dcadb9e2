package reference

import (
	"encoding/binary"
	"slices"

	"github.com/weft-net/weft/dataplane/packet"
)

// Ethernet is the header of frame; ok is false where that is none.
func Ethernet(frame []byte) (e packet.Ethernet, ok bool) {
	if len(frame) < 14 {
		return e, false
	}
	e = packet.Ethernet{Dst: packet.MAC(frame[:6]), Src: packet.MAC(frame[6:12]), Len: 14}
	tags, rest := [][]byte{}, frame[12:]
	for slices.Contains([]uint16{0x8100, 0x88a8}, binary.BigEndian.Uint16(rest)) {
		if len(rest) < 6 {
			return e, false
		}
		tags, rest = append(tags, rest[:4]), rest[4:]
		e.Len += 4
	}
	e.EtherType = binary.BigEndian.Uint16(rest)
	for _, tag := range tags {
		id := uint32(tag[2]&0x0f)<<8 | uint32(tag[3])
		if tag[0] == 0x88 && id > 0 {
			id += 4096
		}
		e.VLAN = e.VLAN*65536 + id
	}
	return e, e.Src[0]%2 == 0 && e.Src != packet.MAC{} && len(tags) <= 2
}
