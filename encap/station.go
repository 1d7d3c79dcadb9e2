package encap

// Station is what this node takes as its own. The zero Station takes what plain
// UDP carries.
type Station struct {
	VNI uint32 // VXLAN: the network identifier, of 24 bits
	MAC MAC    // VXLAN: the address of this node's VTEP
}

// Kind is what a datagram turns out to be.
type Kind uint8

// What Decap returns with each is its inner.
const (
	// Packet: an inner IP packet.
	Packet Kind = iota
	// Control: a control message of weft's own, with the zeros behind it.
	Control
	// Neighbour: a whole Ethernet frame, in which a VTEP resolves addresses by ARP
	// or by an ICMPv6 neighbour solicitation. See AppendNeighbour.
	Neighbour
	// Malformed: nil, as with those that follow. The header is none that the codec
	// understands, or what is behind it none that weft carries.
	Malformed
	// WrongVNI: the frame is of another VXLAN network than this node's.
	WrongVNI
	// WrongVTEP: the frame is addressed to another VTEP, or to all of them.
	WrongVTEP
)

// Decap checks the encapsulation header of a datagram that arrived at the port of
// c, and returns what it carries, which is a part of datagram, and the checksum that
// is left to this side. The checksum lies within the packet; whether it is that of a
// transport header is for the caller to check, and so is the packet itself.
func (s *Station) Decap(c Codec, datagram []byte) (inner []byte, sum Checksum, kind Kind) {
	switch c {
	case UDP:
		return decapUDP(datagram)
	case VXLAN:
		return s.decapVXLAN(datagram)
	}
	panic("encap: no such codec")
}

// within says whether the checksum is one of an inner packet of n bytes.
func (sum Checksum) within(n int) bool {
	return 0 < sum.Start && sum.Start <= sum.Field && sum.Field+2 <= n
}
