package packet

import (
	"encoding/binary"
	"math/bits"
)

// The other protocols whose header starts with a source and a destination port.
const (
	protoDCCP    = 33
	protoSCTP    = 132
	protoUDPLite = 136
)

// Odd constants with bits set and clear in equal parts, the first digits of pi:
// they keep regular addresses and ports from making regular products.
const (
	hashKey0 = 0x243f6a8885a308d3
	hashKey1 = 0x13198a2e03707345
	hashKey2 = 0xa4093822299f31d1
)

// FlowHash is a hash of the flow that the packet p with header h belongs to:
// addresses, protocol, and ports where there are any. It is the same for all
// packets of a flow and for its superpackets, but for fragments, which have no
// ports in common: those of one pair of hosts go together. All of its bits are
// equally good. It is the same on all machines and no secret.
func (h *Header) FlowHash(p []byte) uint32 {
	flow := uint64(h.Protocol)<<32 | uint64(h.ports(p))
	if p[0]>>4 == 4 {
		return mix(binary.LittleEndian.Uint64(p[12:])^hashKey0, flow^hashKey1)
	}
	a := p[8:header6]
	src := product(binary.LittleEndian.Uint64(a)^hashKey0, binary.LittleEndian.Uint64(a[8:])^hashKey1)
	dst := product(binary.LittleEndian.Uint64(a[16:])^hashKey1, binary.LittleEndian.Uint64(a[24:])^hashKey2)
	return mix(src^bits.RotateLeft64(dst, 23), flow^hashKey2)
}

// ports are both ports in four bytes, or 0.
func (h *Header) ports(p []byte) uint32 {
	if h.Fragment || len(p) < h.Transport+4 {
		return 0
	}
	switch h.Protocol {
	case ProtocolTCP, ProtocolUDP, protoDCCP, protoSCTP, protoUDPLite:
		return binary.LittleEndian.Uint32(p[h.Transport:])
	}
	return 0
}

// product folds the 128 bits of a*b, of which each depends on nearly all of the
// input, into 64.
func product(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// mix multiplies twice, since the lowest bits of one product depend on the
// lowest bits of its factors only, and then folds.
func mix(a, b uint64) uint32 {
	x := product(product(a, b)^hashKey2, hashKey0)
	return uint32(x>>32) ^ uint32(x)
}
