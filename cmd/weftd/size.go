package main

import (
	"crypto/sha256"
	"fmt"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/membership"
)

// minMTU is the least MTU of the TUN: IPv6 asks for it (RFC 8200 section 5). Where
// the underlay is narrower than that and the headers, outer packets are fragmented.
const minMTU = 1280

// setMTU gives the pods what is left of the underlay's MTU by the largest overhead of
// any mode and family that may come to be used, so that a change of mode or endpoint
// is none of theirs, and of that what keeps TCP's segments aligned.
func (d *daemon) setMTU() error {
	overhead := 0
	for _, a := range d.underlay.Addresses {
		for _, codec := range encap.Codecs() {
			overhead = max(overhead, outerHeaders(a)+codec.Overhead())
		}
	}
	largest := min(d.underlay.MTU-overhead, encap.MaxPayload-overhead)
	switch d.mtu = d.config.MTU; {
	case d.mtu > max(largest, minMTU):
		return fmt.Errorf("mtu %d (%s) does not fit: the MTU of %s is %d, of which headers take %d, so set `mtu` to %d or less, or leave it out",
			d.mtu, d.config.Source("mtu"), d.underlay.Interface, d.underlay.MTU, overhead, max(largest, minMTU))
	case largest < minMTU:
		d.warnings = append(d.warnings, fmt.Sprintf("the MTU of %s is %d, which with %d bytes of headers leaves less than the %d that IPv6 needs: the largest packets are sent in fragments",
			d.underlay.Interface, d.underlay.MTU, overhead, minMTU))
		d.mtu = minMTU
	case d.mtu == 0:
		d.mtu = max(alignedMTU(largest), minMTU)
	}
	return nil
}

// alignedMTU is the largest MTU up to mtu by which the payload of a full TCP segment
// is a multiple of 8, over IPv4 and with timestamps: 52 bytes are headers. Else every
// other copy of a superpacket, the sender's own first, begins at an odd place, which
// costs the sender up to twice the time on some processors.
func alignedMTU(mtu int) int { return mtu - (mtu-52)%8 }

// vtepMAC is a node's VTEP address: of its ID, so that it stays the same, and locally
// administered (IEEE 802c).
func vtepMAC(id membership.ID) (mac encap.MAC) {
	sum := sha256.Sum256(id[:])
	copy(mac[:], sum[:])
	mac[0] = mac[0]&^1 | 2
	return mac
}
