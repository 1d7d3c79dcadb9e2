package host

import (
	"errors"
	"fmt"
	"net/netip"
)

// CheckPodNetwork compares the pod network with what this host already uses; podCIDR is this node's part of it,
// where pods' interfaces and routes belong. An error is a clash that would take packets from weft or from the
// host: the underlay address inside the pod network, another interface's address inside it outside podCIDR, or a
// route to exactly the pod network. A warning is an overlap in which the more specific route wins and somebody
// may be surprised. Default routes and everything with weft's marks are left out.
func (h *Host) CheckPodNetwork(podNetwork, podCIDR netip.Prefix, underlay netip.Addr) (warnings []string, err error) {
	if podNetwork.Contains(underlay) {
		return nil, fmt.Errorf("the underlay address %v is inside the pod network %v: choose a podNetwork that no node's own address is in", underlay, podNetwork)
	}
	inv, err := h.inventory()
	if err != nil {
		return nil, err
	}
	var errs []error
	clashing := make(map[int]bool) // links whose connected routes would only say the same again
	for _, a := range inv.addrs {
		addr, l := addrOf(a.IP), inv.link(a.LinkIndex)
		if l == nil || isOurs(l) || !podNetwork.Contains(addr) || podCIDR.Contains(addr) {
			continue
		}
		clashing[a.LinkIndex] = true
		errs = append(errs, fmt.Errorf("the address %v of interface %s is inside the pod network %v: choose another podNetwork, or remove the address",
			addr, l.Attrs().Name, podNetwork))
	}
	for _, r := range inv.routes {
		if r.Protocol == RouteProtocol || clashing[r.LinkIndex] {
			continue
		}
		switch compareRoute(prefixOf(r.Dst), podNetwork, podCIDR) {
		case routeSame:
			errs = append(errs, fmt.Errorf("the host already routes the pod network %v by %s: remove the route with `ip route del %[2]s` if nothing needs it, or choose another podNetwork",
				podNetwork, h.describe(r)))
		case routeWider:
			warnings = append(warnings, fmt.Sprintf("route %s covers the pod network %v: hosts behind it with an address in the pod network become unreachable from this node",
				h.describe(r), podNetwork))
		case routeNarrower:
			warnings = append(warnings, fmt.Sprintf("route %s is inside the pod network %v: packets for pods in it do not reach weft", h.describe(r), podNetwork))
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

// compareRoute tells how a route that is not weft's lies to the pod network.
func compareRoute(route, podNetwork, podCIDR netip.Prefix) overlap {
	switch {
	case !route.Overlaps(podNetwork), route.Bits() <= 1: // VPNs write a default route as 0.0.0.0/1 and 128.0.0.0/1
		return routeApart
	case route == podNetwork:
		return routeSame
	case route.Bits() < podNetwork.Bits():
		return routeWider
	case podCIDR.Contains(route.Addr()) && route.Bits() >= podCIDR.Bits(): // this node's own pods
		return routeApart
	default:
		return routeNarrower
	}
}
