// Package encap carries inner packets over the underlay: the codecs that wrap a
// packet in an encapsulation header and take it off again, and the data port,
// whose UDP sockets send and receive the result in batches.
//
// A codec is one file with its overhead and its functions, and in codec.go a
// constant and a line in facts, in tunnel.go and station.go a case wherever a
// codec is told from another.
//
// The package builds on 64-bit Linux only.
package encap

// Codec selects an encapsulation. The codecs of one node live on distinct UDP
// ports, so that the port of arrival says which one a datagram has.
type Codec uint8

const (
	// UDP is a bare IP packet in UDP: GUE variant 1
	// (draft-ietf-intarea-gue-09 section 4), and what flannel's udp backend sends.
	// With a remote checksum it is GUE variant 0.
	UDP Codec = iota

	// VXLAN is an Ethernet frame behind a VXLAN header (RFC 7348), as Linux speaks
	// it too. A remote checksum is that of draft-herbert-vxlan-rco.
	VXLAN

	codecs
)

// The facts of each codec. Immutable.
var facts = [codecs]struct {
	name     string
	overhead int    // bytes between the outer UDP header and the inner packet, at the most
	control  int    // bytes between the outer UDP header and a control message
	key      string // of the configuration, for the port
	holder   string // who else is likely to hold the port
}{
	UDP: {name: "udp", overhead: udpOverhead, control: gueControlLen, key: "dataPort"},
	VXLAN: {
		name: "vxlan", overhead: vxlanOverhead, control: vxlanOverhead, key: "vxlanPort",
		holder: " or the kernel VXLAN device, as flannel's or Docker's (`ip -d link show type vxlan`),",
	},
}

// Headroom is how many bytes Encap may need in front of a packet, with any codec.
const Headroom = max(udpOverhead, vxlanOverhead)

// Checksum leaves the transport checksum of an inner packet to the far side
// (remote checksum offload): the field at Field holds the sum of the pseudo header
// only, and the complete sum covers the packet from Start to its end. Both are in
// bytes from the start of the inner packet, and Start is never 0. The zero Checksum
// is none: the packet's own is complete.
type Checksum struct{ Start, Field int }

// Codecs is all there are. The slice is the caller's own.
func Codecs() []Codec {
	all := make([]Codec, codecs)
	for c := range codecs {
		all[c] = c
	}
	return all
}

// ParseCodec finds a codec by its name.
func ParseCodec(name string) (c Codec, ok bool) {
	for c := range codecs {
		if c.String() == name {
			return c, true
		}
	}
	return 0, false
}

// String is the codec's name, as configuration and records spell it.
func (c Codec) String() string { return facts[c].name }

// Overhead is the largest number of bytes that the codec adds between the outer
// UDP header and the inner packet.
func (c Codec) Overhead() int { return facts[c].overhead }

// ControlOverhead is the number of bytes that the codec adds between the outer UDP
// header and a control message.
func (c Codec) ControlOverhead() int { return facts[c].control }
