package wiring

import (
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// guard makes the rules. What no rule accepts is dropped and counted.
//
// A link-local address is the pod's own choice, as is a hardware address that others set (the tuning plugin). On a
// bridge that would let a pod take the place of another, and have its packets. So the ones that weft gives, and the
// link-local addresses that come of them, are nobody else's there.
//
// A VLAN tag is taken off before the rules see the frame, which must be as good as any other.
type guard struct {
	mac    net.HardwareAddr
	ip     netip.Addr // invalid for none
	ip6    netip.Addr
	shared bool // the link, with other pods

	discovery string // name of the chain for ICMPv6
}

func newGuard(p Port, ends Ends, discovery string) guard {
	g := guard{mac: ends.Pod, shared: p.Bridge != "", discovery: discovery}
	g.ip, _ = p.of(netip.Addr.Is4)
	g.ip6, _ = p.of(netip.Addr.Is6)
	return g
}

// rules are those of the chain that frames meet, and of the one that it leaves ICMPv6 to.
func (g guard) rules() (ingress, icmpv6 []rule) { return g.ingress(), g.icmpv6() }

// ingress has first what most packets meet.
func (g guard) ingress() []rule {
	var rules []rule
	if g.shared {
		rules = append(rules, rule{"the hardware address of another pod", slices.Concat(
			[]expr.Any{etherSource(), masked(ones(2, 6)...), is(macPod0, macPod1, 0, 0, 0, 0), etherSource(), isNot(g.mac...)}, drop())})
	}
	if g.ip.IsValid() {
		rules = append(rules, rule{"IPv4 from its address", slices.Concat(etherType(unix.ETH_P_IP), []expr.Any{ipSource(), is(g.ip.AsSlice()...)}, accept())})
	}
	if g.ip6.IsValid() {
		rules = append(rules, rule{"IPv6 from its address, but for ICMPv6", slices.Concat(etherType(unix.ETH_P_IPV6),
			[]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1}, isNot(unix.IPPROTO_ICMPV6), ip6Source(), is(g.ip6.AsSlice()...)}, accept())})
	}
	return slices.Concat(rules, g.arp(), g.ipv6(), []rule{{"forged, or of an unknown kind", drop()}})
}

// arp is by the sender, from which neighbours learn (RFC 826); it is unspecified where a pod probes (RFC 5227 section 2.1.1).
func (g guard) arp() []rule {
	if !g.ip.IsValid() {
		return nil
	}
	// Of Ethernet and IPv4.
	form := append(etherType(unix.ETH_P_ARP), load(expr.PayloadBaseNetworkHeader, 0, 6), is(0, 1, 8, 0, 6, 4))
	sender := load(expr.PayloadBaseNetworkHeader, 14, 4)
	request := []expr.Any{load(expr.PayloadBaseNetworkHeader, 6, 2), is(0, 1)}
	return []rule{
		{"ARP about its address", slices.Concat(form, []expr.Any{sender, is(g.ip.AsSlice()...)}, accept())},
		{"ARP probes", slices.Concat(form, request, []expr.Any{sender, is(0, 0, 0, 0)}, accept())},
	}
}

func (g guard) ipv6() []rule {
	v6 := etherType(unix.ETH_P_IPV6)
	var rules []rule
	if g.shared {
		rules = append(rules, rule{"the link-local address of another pod", slices.Concat(v6, g.othersLinkLocal(ip6Source()), drop())})
	}
	return append(rules,
		rule{"ICMPv6", slices.Concat(v6, meta(expr.MetaKeyL4PROTO, unix.IPPROTO_ICMPV6), []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: g.discovery}})},
		rule{"IPv6 from a link-local address", slices.Concat(v6, []expr.Any{ip6Source()}, isLinkLocal(), accept())})
}

// othersLinkLocal matches an address that the kernel would make of a hardware address of weft's, but not of this pod's.
func (g guard) othersLinkLocal(address expr.Any) []expr.Any {
	form := linkLocal(net.HardwareAddr{macPod0, macPod1, 0, 0, 0, 0})
	mask := slices.Concat(ones(10, 10), []byte{0, 0xff, 0xff, 0, 0, 0})
	own := linkLocal(g.mac)
	return []expr.Any{address, masked(mask...), is(form.AsSlice()...), address, isNot(own.AsSlice()...)}
}

// icmpv6 tells the node and other pods of no router and of no neighbour but itself. A later fragment has no type and
// passes by its source; neighbour discovery is never fragmented (RFC 6980).
func (g guard) icmpv6() []rule {
	rules := []rule{
		{"router advertisements", append(icmp6Type(routerAdvertisement), drop()...)},
		{"redirects", append(icmp6Type(redirect), drop()...)},
		{"advertisements of others", slices.Concat(icmp6Type(neighbourAdvertisement), g.targetOfOthers(), drop())},
	}
	unspecified := []expr.Any{ip6Source(), is(make([]byte, 16)...)}
	probe := slices.Concat(icmp6Type(neighbourSolicitation), unspecified)
	rules = append(rules, rule{"probes for the addresses of others", slices.Concat(probe, g.targetOfOthers(), drop())})
	if g.shared {
		rules = append(rules,
			rule{"advertisements of another pod's link-local address", slices.Concat(icmp6Type(neighbourAdvertisement), g.othersLinkLocal(target()), drop())},
			rule{"probes for another pod's link-local address", slices.Concat(probe, g.othersLinkLocal(target()), drop())})
	}
	if g.ip6.IsValid() {
		rules = append(rules, rule{"from its address", slices.Concat([]expr.Any{ip6Source(), is(g.ip6.AsSlice()...)}, accept())})
	}
	multicast := []expr.Any{load(expr.PayloadBaseNetworkHeader, 24, 2), is(0xff, 0x02)}
	kinds := [][2]byte{{listenerQuery + 1, neighbourSolicitation}, {listenerReport2, listenerReport2}}
	rules = append(rules, rule{"from a link-local address", slices.Concat([]expr.Any{ip6Source()}, isLinkLocal(), accept())})
	for _, k := range kinds {
		among := []expr.Any{load(expr.PayloadBaseTransportHeader, 0, 1), &expr.Range{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, FromData: k[:1], ToData: k[1:]}}
		rules = append(rules, rule{"before it has an address", slices.Concat(unspecified, multicast, among, accept())})
	}
	return append(rules, rule{"forged", drop()})
}

// targetOfOthers matches an address that is neither the pod's nor link-local.
func (g guard) targetOfOthers() []expr.Any {
	others := append([]expr.Any{target()}, isNotLinkLocal()...)
	if g.ip6.IsValid() {
		others = append(others, target(), isNot(g.ip6.AsSlice()...))
	}
	return others
}
