// Package encap carries inner packets over the underlay: the codecs that wrap a
// packet in an encapsulation header and take it off again, and the data port,
// whose UDP sockets send and receive the result in batches.
//
// A codec is one file with its overhead and its two functions, and in codec.go a
// constant, a line in facts, and a case in Len, Encap and Decap.
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

	codecs
)

// The facts of each codec. Immutable.
var facts = [codecs]struct {
	name     string
	overhead int // bytes between the outer UDP header and the inner packet, at the most
}{
	UDP: {name: "udp", overhead: udpOverhead},
}

// Headroom is how many bytes Encap may need in front of a packet.
const Headroom = max(udpOverhead)

// Checksum leaves the transport checksum of an inner packet to the far side
// (remote checksum offload): the field at Field holds the sum of the pseudo header
// only, and the complete sum covers the packet from Start to its end. Both are in
// bytes from the start of the inner packet, and Start is never 0. The zero Checksum
// is none: the packet's own is complete.
type Checksum struct{ Start, Field int }

// String is the codec's name, as configuration and records spell it.
func (c Codec) String() string { return facts[c].name }

// Overhead is the largest number of bytes that the codec adds between the outer
// UDP header and the inner packet.
func (c Codec) Overhead() int { return facts[c].overhead }

// Len is how many bytes Encap writes.
func (c Codec) Len(sum Checksum) int {
	switch c {
	case UDP:
		return lenUDP(sum)
	}
	panic("encap: no such codec")
}

// Encap writes the encapsulation header in front of the inner packet that starts
// at buf[at], and returns where the datagram now starts. There must be room for
// Len(sum) bytes. Of the packet itself the first byte is read and none written,
// therefore buf may end anywhere behind that.
func (c Codec) Encap(buf []byte, at int, sum Checksum) (start int) {
	switch c {
	case UDP:
		return encapUDP(buf, at, sum)
	}
	panic("encap: no such codec")
}

// Decap checks the encapsulation header of datagram and returns the inner packet,
// which is the rest of datagram, and the checksum that is left to this side. ok is
// false where the header is none that this codec understands. A checksum lies
// within the packet; whether it is that of a transport header is for the caller to
// check, since of the packet only the first byte is looked at.
func (c Codec) Decap(datagram []byte) (inner []byte, sum Checksum, ok bool) {
	switch c {
	case UDP:
		return decapUDP(datagram)
	}
	panic("encap: no such codec")
}
