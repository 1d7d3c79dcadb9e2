package device

import (
	"encoding/binary"

	"github.com/weft-net/weft/dataplane/packet"
)

// struct virtio_net_hdr of include/uapi/linux/virtio_net.h, which stands in front
// of every packet that is read or written: flags and gso_type of one byte each,
// then hdr_len, gso_size, csum_start and csum_offset of two, in the byte order
// of the machine (TUNSETVNETLE, tuntap.txt, is not asked for).
const (
	virtioLen = 10

	needsCsum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM

	gsoNone  = 0    // VIRTIO_NET_HDR_GSO_NONE
	gsoTCP4  = 1    // VIRTIO_NET_HDR_GSO_TCPV4
	gsoTCP6  = 4    // VIRTIO_NET_HDR_GSO_TCPV6
	gsoUDPL4 = 5    // VIRTIO_NET_HDR_GSO_UDP_L4
	gsoECN   = 0x80 // VIRTIO_NET_HDR_GSO_ECN, a bit beside the others
)

// decodeVirtio reads a virtio-net header into p, but for p.Buf and p.Start. It
// looks at nothing but the header. ok is false where that says what cannot be
// of an IP packet, or of one that weft asked for.
//
// hdr_len is left alone: of a forwarded packet it is wrong.
func decodeVirtio(h *[virtioLen]byte, p *packet.Packet) (ok bool) {
	switch h[1] &^ gsoECN {
	case gsoNone:
		p.GSO = packet.NoGSO
	case gsoTCP4:
		p.GSO = packet.TCP4
	case gsoTCP6:
		p.GSO = packet.TCP6
	case gsoUDPL4:
		p.GSO = packet.UDP
	default:
		return false
	}
	p.SegmentSize = 0
	if p.GSO != packet.NoGSO {
		p.SegmentSize = int(binary.NativeEndian.Uint16(h[4:]))
	}
	p.CsumStart, p.CsumOffset = 0, 0
	if h[0]&needsCsum != 0 {
		p.CsumStart = int(binary.NativeEndian.Uint16(h[6:]))
		p.CsumOffset = int(binary.NativeEndian.Uint16(h[8:]))
		return p.CsumStart != 0 // where an IP header stands, and 0 means none
	}
	return true
}

// virtio is what a virtio-net header says of a packet to be written.
type virtio struct {
	gso         packet.GSO
	headerLen   int // of IP and transport header, where gso is not NoGSO
	segmentSize int

	// As in packet.Packet.
	csumStart, csumOffset int
}

// encode writes the header to h.
func (v virtio) encode(h *[virtioLen]byte) {
	h[0] = 0
	if v.csumStart != 0 {
		h[0] = needsCsum
	}
	switch v.gso {
	case packet.NoGSO:
		h[1] = gsoNone
	case packet.TCP4:
		h[1] = gsoTCP4
	case packet.TCP6:
		h[1] = gsoTCP6
	case packet.UDP:
		h[1] = gsoUDPL4
	}
	binary.NativeEndian.PutUint16(h[2:], uint16(v.headerLen))
	binary.NativeEndian.PutUint16(h[4:], uint16(v.segmentSize))
	binary.NativeEndian.PutUint16(h[6:], uint16(v.csumStart))
	binary.NativeEndian.PutUint16(h[8:], uint16(v.csumOffset))
}
