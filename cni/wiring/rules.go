package wiring

import (
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// guard makes a pod's own rules, which have what most of its packets meet. What no rule accepts is dropped and counted for the pod.
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
	bridge bool // with other pods on the link
}

func newGuard(p Port, ends Ends) guard {
	g := guard{mac: ends.Pod, bridge: p.Bridge != ""}
	g.ip, _ = p.of(netip.Addr.Is4)
	g.ip6, _ = p.of(netip.Addr.Is6)
	return g
}

func (g guard) rules() []rule {
	var rules []rule
	if g.bridge {
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
	if g.ip.IsValid() { // by the sender, from which neighbours learn (RFC 826)
		rules = append(rules, rule{"ARP about its address", slices.Concat(arpForm(), []expr.Any{arpSender(), is(g.ip.AsSlice()...)}, accept())})
	}
	return slices.Concat(rules, g.ipv6(), []rule{
		{"what all pods may", []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chainShared}}},
		{"forged, or of an unknown kind", drop()}})
}

// ipv6 has the pod tell the node and other pods of no neighbour but itself. A later fragment has no type, whatever the kernel
// loads in its place, and passes by its source; neighbour discovery is never fragmented (RFC 6980).
func (g guard) ipv6() []rule {
	advertisement, probe := icmp6(neighbourAdvertisement), append(icmp6(neighbourSolicitation), unspecified()...)
	source := []expr.Any{ip6Source(), is(g.ip6.AsSlice()...)}
	var rules []rule
	if g.ip6.IsValid() {
		rules = append(rules, rule{"later fragments from its address", slices.Concat(etherType(unix.ETH_P_IPV6), isLaterFragment(), source, accept())})
	}
	rules = append(rules,
		rule{"advertisements of others", slices.Concat(advertisement, g.isOthers(target()), drop())},
		rule{"probes for the addresses of others", slices.Concat(probe, g.isOthers(target()), drop())})
	if g.bridge {
		rules = append(rules,
			rule{"the link-local address of another pod", slices.Concat(etherType(unix.ETH_P_IPV6), g.isOthersLinkLocal(ip6Source()), drop())},
			rule{"advertisements of another pod's link-local address", slices.Concat(advertisement, g.isOthersLinkLocal(target()), drop())},
			rule{"probes for another pod's link-local address", slices.Concat(probe, g.isOthersLinkLocal(target()), drop())})
	}
	if g.ip6.IsValid() {
		rules = append(rules, rule{"ICMPv6 from its address, but for a router's", slices.Concat(
			icmp6(), []expr.Any{isNot(routerAdvertisement), isNot(redirect)}, source, accept())})
	}
	return rules
}

// isOthers matches an address that is neither the pod's nor link-local.
func (g guard) isOthers(address expr.Any) []expr.Any {
	others := append([]expr.Any{address}, isNotLinkLocal()...)
	if g.ip6.IsValid() {
		others = append(others, address, isNot(g.ip6.AsSlice()...))
	}
	return others
}

// isOthersLinkLocal matches an address that the kernel would make of a hardware address of weft's, but not of this pod's.
func (g guard) isOthersLinkLocal(address expr.Any) []expr.Any {
	form := linkLocal(net.HardwareAddr{macPod0, macPod1, 0, 0, 0, 0})
	mask := slices.Concat(ones(10, 10), []byte{0, 0xff, 0xff, 0, 0, 0})
	own := linkLocal(g.mac)
	return []expr.Any{address, masked(mask...), is(form.AsSlice()...), address, isNot(own.AsSlice()...)}
}

// sharedRules are what pods may whatever their addresses. An ARP probe has an unspecified sender (RFC 5227 section 2.1.1).
func sharedRules() []rule {
	request := []expr.Any{load(expr.PayloadBaseNetworkHeader, 6, 2), is(0, 1)}
	multicast := []expr.Any{load(expr.PayloadBaseNetworkHeader, 24, 2), is(0xff, 0x02)}
	rules := []rule{
		{"ARP probes", slices.Concat(arpForm(), request, []expr.Any{arpSender(), is(0, 0, 0, 0)}, accept())},
		{"router advertisements", append(icmp6(routerAdvertisement), back()...)},
		{"redirects", append(icmp6(redirect), back()...)},
		{"IPv6 from a link-local address", slices.Concat(etherType(unix.ETH_P_IPV6), []expr.Any{ip6Source()}, isLinkLocal(), accept())},
	}
	for _, kinds := range [][2]byte{{listenerQuery + 1, neighbourSolicitation}, {listenerReport2, listenerReport2}} {
		among := append(icmp6(), &expr.Range{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, FromData: kinds[:1], ToData: kinds[1:]})
		rules = append(rules, rule{"before it has an address", slices.Concat(among, unspecified(), multicast, accept())})
	}
	return rules
}

// forLinkRules are about what is for the link alone, which pods have no need to send: a bridge does not forward it, and learns from some of it without any hook
// (__br_handle_local_finish, net/bridge/br_input.c), as that another pod's hardware address is here.
func forLinkRules() []rule {
	return []rule{{"for the link alone", append(isForLink(), drop()...)}}
}
