package packet

// GSO is how a superpacket is cut into wire packets (generic segmentation offload).
type GSO uint8

const (
	NoGSO GSO = iota // not a superpacket
	TCP4             // TCP over IPv4
	TCP6             // TCP over IPv6
	UDP              // UDP datagrams of one size, over either (USO, GSO_UDP_L4)
)

// MaxSegments is how many segments a superpacket from the kernel may stand for:
// gso_max_segs of the TUN. Larger ones the kernel cuts itself; at common sizes none
// is: 64 KiB at an MSS of 1400 are 47 segments, and 128 reach down to an MSS of 512.
const MaxSegments = 128

// Packet is what the kernel hands over in one read of the TUN: a wire packet, or
// a superpacket that stands for several of one flow.
type Packet struct {
	// The packet is Buf[Start:], IP header first. The bytes in front of it are
	// free for an encapsulation header.
	Buf   []byte
	Start int

	// GSO says whether it is a superpacket; then each segment but the last carries
	// SegmentSize bytes of payload behind a copy of the headers.
	GSO         GSO
	SegmentSize int

	// Where CsumStart is not 0 the transport checksum is partial: its field, at
	// CsumStart + CsumOffset, holds the sum of the pseudo header only, folded and not
	// complemented, and whoever completes it sums from CsumStart to the end
	// (NEEDS_CSUM of include/uapi/linux/virtio_net.h). Both count from the start
	// of the packet.
	CsumStart, CsumOffset int
}

// Data is the packet without what is in front of it.
func (p *Packet) Data() []byte { return p.Buf[p.Start:] }

// Group is one or several consecutive wire packets of one flow, on their way into
// the TUN or a TAP, where one write hands them all to the kernel as a superpacket.
type Group struct {
	// Link is the Ethernet header in front of the superpacket, and of each member; nil
	// for the TUN. CsumStart counts from behind it. In a frame with no IP packet, what is
	// behind it is the one member.
	Link []byte

	// Members are the wire packets, in order, each whole and as it arrived.
	Members [][]byte

	// Header replaces the first len(Header) bytes of the superpacket: IP and
	// transport header for the whole. Of each member only what is behind as many
	// bytes follows. It is nil where there is one member, which goes as it is.
	Header []byte

	// As in Packet, of the whole: for one member too.
	GSO                   GSO
	SegmentSize           int
	CsumStart, CsumOffset int

	// Partial says whether the members' own checksums are partial, which counts
	// where they are written one by one after all.
	Partial bool
}
