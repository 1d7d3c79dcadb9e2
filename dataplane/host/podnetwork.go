package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// CheckPodNetwork compares the pod networks, of either family, with what this host already uses; own are this
// node's parts of them, where pods' interfaces and routes belong. An error is a clash that would take packets from
// weft or from the host: an underlay address inside a pod network, another interface's address inside one and
// outside own (a warning where own is empty, since then it may yet become its part), or a route to exactly a pod network. A warning is an overlap in which the more specific route wins and
// somebody may be surprised. Default routes and everything with weft's marks are left out, and the addresses of the
// bridges that weft makes: one that is outside own is of a former block whose pods are still there, as its route says.
func (h *Host) CheckPodNetwork(networks, own []netip.Prefix, underlay []netip.Addr) (warnings []string, err error) {
	for _, network := range networks {
		for _, addr := range underlay {
			if network.Contains(addr) {
				return nil, fmt.Errorf("the underlay address %v is inside the pod network %v: choose a podNetwork that no node's own address is in", addr, network)
			}
		}
	}
	inv, err := h.inventory()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, network := range networks {
		warned, err := inv.checkPodNetwork(network, own)
		warnings, errs = append(warnings, warned...), append(errs, err)
	}
	return warnings, errors.Join(errs...)
}

func (inv inventory) checkPodNetwork(network netip.Prefix, own []netip.Prefix) (warnings []string, err error) {
	var errs []error
	clashing := make(map[int]bool) // links whose connected routes would only say the same again
	for _, a := range inv.addrs {
		addr, l := addrOf(a.IP), inv.link(a.LinkIndex)
		isOwn := slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(addr) })
		if l == nil || isOurs(l) || isPodBridge(l) || !network.Contains(addr) || isOwn {
			continue
		}
		clashing[a.LinkIndex] = true
		clash := fmt.Sprintf("the address %v of interface %s is inside the pod network %v", addr, l.Attrs().Name, network)
		if len(own) == 0 {
			warnings = append(warnings, clash+": it and what is behind it are reached where this node takes the block that it is in, and else are not")
			continue
		}
		errs = append(errs, errors.New(clash+": choose another podNetwork, or remove the address"))
	}
	names := namesOf(inv.links)
	for _, r := range inv.routes {
		if r.Protocol == RouteProtocol || clashing[r.LinkIndex] {
			continue
		}
		switch compareRoute(prefixOf(r.Dst), network, own) {
		case routeSame:
			errs = append(errs, fmt.Errorf("the host already routes the pod network %v by %s: remove the route with `ip route del %[2]s` if nothing needs it, or choose another podNetwork",
				network, names.describe(r)))
		case routeWider:
			warnings = append(warnings, fmt.Sprintf("route %s covers the pod network %v: hosts behind it with an address in the pod network become unreachable from this node",
				names.describe(r), network))
		case routeNarrower:
			warnings = append(warnings, fmt.Sprintf("route %s is inside the pod network %v: packets for pods in it do not reach weft", names.describe(r), network))
		}
	}
	return warnings, errors.Join(errs...)
}

type overlap int

const (
	routeApart overlap = iota
	routeSame
	routeWider
	routeNarrower
)

// compareRoute tells how a route that is not weft's lies to a pod network.
func compareRoute(route, network netip.Prefix, own []netip.Prefix) overlap {
	ownPods := func(p netip.Prefix) bool { return p.Contains(route.Addr()) && route.Bits() >= p.Bits() }
	switch {
	case !route.Overlaps(network), isDefault(route):
		return routeApart
	case route == network:
		return routeSame
	case route.Bits() < network.Bits():
		return routeWider
	case slices.ContainsFunc(own, ownPods):
		return routeApart
	default:
		return routeNarrower
	}
}

// isDefault also knows how VPNs write a default route: as 0.0.0.0/1 and 128.0.0.0/1, ::/1 and 8000::/1, or as
// 2000::/3, which is all that IANA has assigned of IPv6.
func isDefault(route netip.Prefix) bool {
	if route.Addr().Is4() {
		return route.Bits() <= 1
	}
	return route.Bits() <= 3
}
