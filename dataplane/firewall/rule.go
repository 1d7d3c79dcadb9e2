package firewall

import (
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A family is one of the two of addresses, with what rules must know of its header.
type family struct {
	name     string // as nft writes it
	nfproto  byte
	addrType nftables.SetDatatype
	bits     int
	src, dst uint32 // offsets of the addresses in the IP header
	// multicast is RFC 5771 and RFC 4291 section 2.7.
	multicast              netip.Prefix
	linkLocal, unspecified netip.Prefix // RFC 3927, RFC 4291
	iptables               string       // the command that iptables has for the family
}

// Immutable.
var families = [...]family{
	{"ip", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 32, 12, 16, netip.MustParsePrefix("224.0.0.0/4"),
		netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("0.0.0.0/32"), "iptables"},
	{"ip6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 128, 8, 24, netip.MustParsePrefix("ff00::/8"),
		netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::/128"), "ip6tables"},
}

// of returns those of prefixes that belong to the family.
func (f *family) of(prefixes []netip.Prefix) []netip.Prefix {
	var mine []netip.Prefix
	for _, p := range prefixes {
		if p.Addr().BitLen() == f.bits {
			mine = append(mine, p)
		}
	}
	return mine
}

// What follows are parts of rules, in the form in which nft makes them, so that nft can list them.

func inInterface(name string) []expr.Any {
	return compareMeta(expr.MetaKeyIIFNAME, expr.CmpOpEq, interfaceName(name))
}

func outInterface(op expr.CmpOp, name string) []expr.Any {
	return compareMeta(expr.MetaKeyOIFNAME, op, interfaceName(name))
}

// interfaceName fills the register: a shorter comparison would be one of the beginning.
func interfaceName(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

func compareMeta(key expr.MetaKey, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: unix.NFT_REG_1}, &expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: data}}
}

// is matches packets of the family; in a table of both it comes before any look at an address.
func (f *family) is() []expr.Any {
	return compareMeta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{f.nfproto})
}

// address loads the source (f.src) or destination (f.dst).
func (f *family) address(offset uint32) expr.Any {
	return &expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(f.bits / 8)}
}

func (f *family) inSet(offset uint32, set string) []expr.Any {
	return []expr.Any{f.address(offset), &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: setName(set, f)}}
}

func (f *family) notInSet(offset uint32, set string) []expr.Any {
	return []expr.Any{f.address(offset), &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: setName(set, f), Invert: true}}
}

func setName(set string, f *family) string {
	if f.bits == 32 {
		return set + "4"
	}
	return set + "6"
}

// inPrefix compares with p, or with everything else. iptables-nft lists a mask of any length in this form.
func (f *family) inPrefix(offset uint32, op expr.CmpOp, p netip.Prefix) []expr.Any {
	mask := net.CIDRMask(p.Bits(), f.bits)
	load := []expr.Any{f.address(offset)}
	if p.Bits() < f.bits {
		load = append(load, &expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1,
			Len: uint32(f.bits / 8), Mask: mask, Xor: make([]byte, f.bits/8)})
	}
	return append(load, &expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: p.Addr().AsSlice()})
}

// fromOthers matches a source that is no address of this host.
func fromOthers() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: unix.NFT_REG_1, ResultADDRTYPE: true, FlagSADDR: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// inInterfaces matches those whose names begin so.
func inInterfaces(prefix string) []expr.Any {
	return compareMeta(expr.MetaKeyIIFNAME, expr.CmpOpEq, []byte(prefix))
}

// fromElsewhere matches a source that is not reached by the interface which the packet came in by. Link-local ones and
// the unspecified one are left aside, which neighbour discovery needs.
func (f *family) fromElsewhere() []expr.Any {
	return slices.Concat(f.inPrefix(f.src, expr.CmpOpNeq, f.linkLocal), f.inPrefix(f.src, expr.CmpOpNeq, f.unspecified), sourceBehind(expr.CmpOpEq))
}

// sourceBehind matches, by expr.CmpOpNeq, a source that is reached by the interface which the packet came in by, and by expr.CmpOpEq one that is not.
func sourceBehind(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: unix.NFT_REG_1, ResultOIF: true, FlagSADDR: true, FlagIIF: true},
		&expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: make([]byte, 4)},
	}
}

// What routers alone send (RFC 4861 sections 4.2 and 4.5).
const (
	routerAdvertisement = 134
	redirect            = 137
)

func icmpv6(kind byte) []expr.Any {
	return append(compareMeta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_ICMPV6}),
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{kind}})
}

// toDataPort matches UDP datagrams to a port of the set.
func toDataPort(set string) []expr.Any {
	return append(compareMeta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_UDP}),
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: set})
}

func verdict(kind expr.VerdictKind) []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: kind}}
}
