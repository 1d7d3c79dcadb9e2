package packet

import (
	"encoding/binary"
	"net"
)

// MAC is an Ethernet address.
type MAC [6]byte

// Multicast says whether frames to m are for several stations (IEEE 802-2014 section
// 8.4). The broadcast address is such a one.
func (m MAC) Multicast() bool { return m[0]&1 != 0 }

// String is the address in the form 02:00:00:00:00:01.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Ethernet is what a frame's header says: IEEE 802.3 section 3.2, 802.1Q clause 9.
type Ethernet struct {
	Dst, Src  MAC
	Len       int    // bytes of the header: 14, and 4 for each VLAN tag
	EtherType uint16 // behind the tags; below 0x600 it is a length, and LLC follows

	// VLAN tells the VLANs of a link apart: 0 is that of frames without a tag, and of
	// tags that give a priority only. Its value has no meaning beyond that.
	VLAN uint32
}

const (
	minEthernet    = 14
	vlanTag        = 4 // TPID and TCI
	maxTags        = 2
	etherTypeIPv4  = 0x0800
	etherTypeARP   = 0x0806
	etherTypeIPv6  = 0x86dd
	etherTypeVLAN  = 0x8100 // 802.1Q
	etherTypeSVLAN = 0x88a8 // 802.1ad
	vlanID         = 0x0fff // of the TCI; above it are priority and drop eligibility
	serviceVLAN    = 0x1000 // in Ethernet.VLAN: the tag is of 802.1ad, whose VLANs are others
)

// ParseEthernet reads the header of frame, which has neither preamble nor checksum. ok
// is false, and e undefined, for what no station sends: less than a header, a source
// that is zero or not one station's. It is so for more than two VLAN tags, too.
//
// It fills e in place, as [ParseInto] does.
func ParseEthernet(frame []byte, e *Ethernet) (ok bool) {
	if len(frame) < minEthernet {
		return false
	}
	e.Dst, e.Src = MAC(frame), MAC(frame[6:])
	if e.Src.Multicast() || e.Src == (MAC{}) {
		return false
	}
	e.Len, e.VLAN = minEthernet, 0
	e.EtherType = binary.BigEndian.Uint16(frame[minEthernet-2:])
	for e.EtherType == etherTypeVLAN || e.EtherType == etherTypeSVLAN {
		if e.Len == minEthernet+maxTags*vlanTag || len(frame) < e.Len+vlanTag {
			return false
		}
		id := uint32(binary.BigEndian.Uint16(frame[e.Len:]) & vlanID)
		if e.EtherType == etherTypeSVLAN && id != 0 {
			id |= serviceVLAN
		}
		e.VLAN = e.VLAN<<16 | id
		e.EtherType = binary.BigEndian.Uint16(frame[e.Len+2:])
		e.Len += vlanTag
	}
	return true
}

// ParseFrame is [ParseInto] for what is behind the header e of frame. ok is false, too,
// where that is not what the EtherType says, or padding follows it.
func ParseFrame(frame []byte, e *Ethernet, h *Header) (ok bool) {
	p := frame[e.Len:]
	return len(p) > 0 && (e.EtherType == etherTypeIPv4 && p[0]>>4 == 4 || e.EtherType == etherTypeIPv6 && p[0]>>4 == 6) &&
		ParseInto(p, h)
}
