package wiring

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (a *attachment) setPodUp() error {
	if err := a.pod.nl.LinkSetUp(a.deviceInIt); err != nil {
		return fmt.Errorf("set %s up in the pod: %w", a.port.Interface, err)
	}
	return nil
}

// addPodAddresses adds addresses that are ready at once: nobody else has them, so no duplicates are looked for.
func (a *attachment) addPodAddresses() error {
	for _, p := range a.port.Addresses {
		addr := &netlink.Addr{IPNet: ipNet(a.port.inPod(p))}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := a.addAddress(a.pod.nl, a.deviceInIt, addr); err != nil {
			return fmt.Errorf("in the pod: %w", err)
		}
	}
	return nil
}

// inPod is the pod's address with its length there: only with a bridge the block is on the link.
func (p Port) inPod(a netip.Prefix) netip.Prefix {
	if p.Bridge != "" {
		return a
	}
	return single(a.Addr())
}

func (a *attachment) addPodRoutes() error {
	for _, p := range a.port.Addresses {
		for _, r := range a.port.podRoutes(p.Addr(), a.port.gateway(p), a.deviceInIt.Attrs().Index) {
			err := a.pod.nl.RouteAdd(&r)
			if errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("add the route %v in the pod: %w: another network made it meanwhile; attach again", prefixOf(r.Dst), err)
			}
			if err != nil {
				return fmt.Errorf("add the route %v in the pod: %w", prefixOf(r.Dst), err)
			}
		}
	}
	return nil
}

// DefaultRoutes are 0.0.0.0/0 and ::/0 where the pod in the network namespace at path has such a route: ErrNamespace where
// that is none, or the node's own.
func (w *Wiring) DefaultRoutes(path string) ([]netip.Prefix, error) {
	fail := func(err error) ([]netip.Prefix, error) {
		return nil, explain(fmt.Errorf("look for default routes in %s: %w", path, err))
	}
	pod, err := w.enter(path)
	if err != nil {
		return fail(err)
	}
	defer pod.close()
	routes, err := dump(func() ([]netlink.Route, error) { return pod.nl.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fail(err)
	}
	var defaults []netip.Prefix
	for _, r := range routes {
		if p := prefixOf(r.Dst); p.IsValid() && p.Bits() == 0 && r.Type == unix.RTN_UNICAST && !slices.Contains(defaults, p) {
			defaults = append(defaults, p)
		}
	}
	return defaults, nil
}

// podRoutes are the routes of a family in the pod. Where routed an IPv4 gateway needs one to itself, since the pod's
// address has no neighbours.
func (p Port) podRoutes(addr, gateway netip.Addr, link int) []netlink.Route {
	var routes []netlink.Route
	unspecified := netip.IPv6Unspecified()
	if addr.Is4() {
		unspecified = netip.IPv4Unspecified()
	}
	everywhere := netip.PrefixFrom(unspecified, 0)
	if slices.Contains(p.Without, everywhere) {
		return nil
	}
	if addr.Is4() && p.Bridge == "" {
		routes = append(routes, netlink.Route{LinkIndex: link, Dst: ipNet(single(gateway)), Scope: netlink.SCOPE_LINK})
	}
	return append(routes, netlink.Route{LinkIndex: link, Dst: ipNet(everywhere), Gw: gateway.AsSlice()})
}

// addNeighbours saves each pod a neighbour that would count against the limit of the whole machine (gc_thresh3,
// net/core/neighbour.c), and its first packets a question. A change of the pod's hardware address
// removes such entries (neigh_changeaddr); then the pod asks, and the device answers.
func (a *attachment) addNeighbours() error {
	for _, gateway := range Gateways(a.port) {
		err := a.pod.nl.NeighSet(&netlink.Neigh{
			LinkIndex: a.deviceInIt.Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: gateway.AsSlice(), HardwareAddr: a.ends.Host,
		})
		if err != nil {
			return fmt.Errorf("add the neighbour %v in the pod: %w", gateway, err)
		}
	}
	return nil
}
