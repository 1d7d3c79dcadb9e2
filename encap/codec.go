// Package encap carries inner packets over the underlay: the codecs that wrap a
// packet in an encapsulation header and take it off again, and the UDP socket
// that sends and receives the result in batches.
//
// A codec is one file with its overhead and its two functions, and in codec.go a
// constant, a line in facts, and a case in Encap and Decap.
//
// The package builds on 64-bit Linux only.
package encap

// Codec selects an encapsulation. The codecs of one node live on distinct UDP
// ports, so that the port of arrival says which one a datagram has.
type Codec uint8

const (
	// UDP is a bare IP packet in UDP: GUE variant 1
	// (draft-ietf-intarea-gue-09 section 4), and what flannel's udp backend sends.
	UDP Codec = iota

	codecs
)

// The facts of each codec. Immutable.
var facts = [codecs]struct {
	name     string
	overhead int // bytes between the outer UDP header and the inner packet
}{
	UDP: {name: "udp", overhead: udpOverhead},
}

// Headroom is how many bytes Encap may need in front of a packet.
const Headroom = max(udpOverhead)

// String is the codec's name, as configuration and records spell it.
func (c Codec) String() string { return facts[c].name }

// Overhead is how many bytes the codec adds between the outer UDP header and
// the inner packet.
func (c Codec) Overhead() int { return facts[c].overhead }

// Encap writes the encapsulation header in front of the packet buf[at:] and
// returns where the datagram now starts. at must be at least Headroom. No byte of
// the packet is read or moved.
func (c Codec) Encap(buf []byte, at int) (start int) {
	switch c {
	case UDP:
		return encapUDP(at)
	}
	panic("encap: no such codec")
}

// Decap checks the encapsulation header of datagram and returns the inner
// packet, a part of datagram. ok is false where the header is none that this
// codec understands; the inner packet is not looked at beyond that.
func (c Codec) Decap(datagram []byte) (inner []byte, ok bool) {
	switch c {
	case UDP:
		return decapUDP(datagram)
	}
	panic("encap: no such codec")
}
