package wiring

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

type rule struct {
	comment string
	exprs   []expr.Any
}

// What follows are parts of rules, in the form in which nft makes them, so that nft can list them.

func load(base expr.PayloadBase, offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: unix.NFT_REG_1, Base: base, Offset: offset, Len: length}
}

func is(data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: data}
}

func isNot(data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: data}
}

// masked leaves of what is loaded the bits of mask.
func masked(mask ...byte) expr.Any {
	return &expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}
}

func meta(key expr.MetaKey, data ...byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: unix.NFT_REG_1}, is(data...)}
}

func etherType(protocol uint16) []expr.Any {
	return meta(expr.MetaKeyPROTOCOL, byte(protocol>>8), byte(protocol))
}

// The sources of frames, and of IP packets.

func etherSource() expr.Any { return load(expr.PayloadBaseLLHeader, 6, 6) }

func ipSource() expr.Any { return load(expr.PayloadBaseNetworkHeader, 12, 4) } // RFC 791 section 3.1

func ip6Source() expr.Any { return load(expr.PayloadBaseNetworkHeader, 8, 16) } // RFC 8200 section 3

// isForLink matches destinations that no bridge forwards to: 01-80-C2-00-00-0X (IEEE 802.1D, table 7-10).
func isForLink() []expr.Any {
	return []expr.Any{load(expr.PayloadBaseLLHeader, 0, 6), masked(0xff, 0xff, 0xff, 0xff, 0xff, 0xf0), is(0x01, 0x80, 0xc2, 0, 0, 0)}
}

// arpForm is that of Ethernet and IPv4 (RFC 826).
func arpForm() []expr.Any {
	return append(etherType(unix.ETH_P_ARP), load(expr.PayloadBaseNetworkHeader, 0, 6), is(0, 1, 8, 0, 6, 4))
}

func arpSender() expr.Any { return load(expr.PayloadBaseNetworkHeader, 14, 4) }

// isLinkLocal matches fe80::/64 (RFC 4291 section 2.5.6), isNotLinkLocal the rest.
func isLinkLocal() []expr.Any { return []expr.Any{masked(ones(8, 16)...), is(linkLocalPrefix()...)} }
func isNotLinkLocal() []expr.Any {
	return []expr.Any{masked(ones(8, 16)...), isNot(linkLocalPrefix()...)}
}

func linkLocalPrefix() []byte { return netip.MustParseAddr("fe80::").AsSlice() }

// ones is a mask of n octets of length octets.
func ones(n, length int) []byte {
	return append(slices.Repeat([]byte{0xff}, n), make([]byte, length-n)...)
}

// ICMPv6 messages: those of RFC 4861 section 4, and reports of multicast listeners (RFC 2710, RFC 3810).
const (
	listenerQuery          = 130
	listenerReport2        = 143
	routerAdvertisement    = 134
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
	redirect               = 137
)

// icmp6 matches ICMPv6, of that type where there is one, and leaves the type loaded.
func icmp6(of ...byte) []expr.Any {
	exprs := slices.Concat(etherType(unix.ETH_P_IPV6), meta(expr.MetaKeyL4PROTO, unix.IPPROTO_ICMPV6), []expr.Any{load(expr.PayloadBaseTransportHeader, 0, 1)})
	for _, t := range of {
		exprs = append(exprs, is(t))
	}
	return exprs
}

// isLaterFragment matches one whose offset is not 0 (RFC 8200 section 4.5).
func isLaterFragment() []expr.Any {
	return []expr.Any{&expr.Exthdr{Op: expr.ExthdrOpIpv6, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, DestRegister: unix.NFT_REG_1}, masked(0xff, 0xf8), isNot(0, 0)}
}

// unspecified matches an IPv6 packet from ::.
func unspecified() []expr.Any { return []expr.Any{ip6Source(), is(make([]byte, 16)...)} }

// target is the address that a neighbour solicitation or advertisement is about.
func target() expr.Any { return load(expr.PayloadBaseTransportHeader, 8, 16) }

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// drop counts.
func drop() []expr.Any { return append([]expr.Any{&expr.Counter{}}, verdict(expr.VerdictDrop)...) }

func accept() []expr.Any { return verdict(expr.VerdictAccept) }

// toPort leads to the chain of a bridge's port.
func toPort() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: mapPorts, SetID: 1}}
}

// back leaves it to the chain that jumped here.
func back() []expr.Any { return verdict(expr.VerdictReturn) }
