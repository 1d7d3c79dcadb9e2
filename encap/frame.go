package encap

import "encoding/binary"

/* Frames of layer-2 segments, which are VXLAN too, each in a network of its own: the
 * inner Ethernet header is the frame's, and not one between VTEPs.
 */

// FrameOverhead is the number of bytes between the outer UDP header and a frame.
const FrameOverhead = vxlanLen

// Network is the VXLAN network that a datagram to the VXLAN port is of. ok is false where
// it has no VXLAN header, or no frame behind that.
func Network(datagram []byte) (vni uint32, ok bool) {
	if len(datagram) < vxlanOverhead || binary.BigEndian.Uint32(datagram)&vxlanVNI == 0 {
		return 0, false
	}
	return binary.BigEndian.Uint32(datagram[4:]) >> 8, true
}

// Frame is the frame in a datagram that Network has found to be VXLAN.
func Frame(datagram []byte) []byte { return datagram[vxlanLen:] }

// FrameChecksum is what such a datagram leaves to this side of the checksum of the packet
// that begins link bytes into its frame, counted from there. ok is false where that is not
// within the packet. As with Decap the rest is for the caller to check.
func FrameChecksum(datagram []byte, link int) (sum Checksum, ok bool) {
	if sum = vxlanChecksum(datagram, link); sum == (Checksum{}) {
		return sum, true
	}
	return sum, sum.within(len(datagram) - vxlanLen - link)
}

// FrameTakes says whether EncapFrame can express sum.
func FrameTakes(link int, sum Checksum) bool { return vxlanTakes(sum, link) }

// EncapFrame writes the VXLAN header of network vni in front of the frame that starts at
// buf[at], and returns where the datagram now starts. There must be room for FrameOverhead
// bytes. sum is of the packet link bytes into the frame, counted from there, and FrameTakes it.
func EncapFrame(buf []byte, at, link int, vni uint32, sum Checksum) (start int) {
	putVXLAN((*[vxlanLen]byte)(buf[at-vxlanLen:]), vni, link, sum)
	return at - vxlanLen
}
