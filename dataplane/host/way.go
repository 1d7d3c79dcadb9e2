package host

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Way is how the kernel sends to an address.
type Way struct {
	Interface string     // "lo" for an address of this host
	OnLink    bool       // without a gateway
	Via       netip.Addr // the gateway, zero where OnLink
	MTU       int        // octets: of the interface, or of the route where that has a smaller one
	Source    netip.Addr // the address it sends from
}

// Way asks the kernel how it would send to an address with no mark of its own. An Interface that is weft's TUN says
// that the underlay is routed into the pod network.
func (h *Host) Way(to netip.Addr) (Way, error) {
	way, err := h.way(to)
	if err != nil {
		return Way{}, fmt.Errorf("look up the route to %v: %w", to, err)
	}
	return way, nil
}

func (h *Host) way(to netip.Addr) (Way, error) {
	r, err := h.routeGet(to, nil)
	if err != nil {
		return Way{}, err
	}
	link, err := h.nl.LinkByIndex(r.LinkIndex)
	if err != nil {
		return Way{}, err
	}
	via := gateway(&netlink.NexthopInfo{Gw: r.Gw, Via: r.Via})
	way := Way{
		Interface: link.Attrs().Name,
		OnLink:    !via.IsValid(),
		Via:       via,
		MTU:       link.Attrs().MTU,
		Source:    addrOf(r.Src),
	}
	if r.MTU == 0 {
		return way, nil
	}
	// The MTU may be one that an ICMP error brought (RTM_GETROUTE shows the cached exception), which passes and
	// which anybody can forge: what counts is the route's own.
	r, err = h.routeGet(to, &netlink.RouteGetOptions{FIBMatch: true})
	if err == nil && r.MTU > 0 {
		way.MTU = min(way.MTU, r.MTU)
	}
	return way, err
}

func (h *Host) routeGet(to netip.Addr, options *netlink.RouteGetOptions) (netlink.Route, error) {
	routes, err := h.nl.RouteGetWithOptions(to.AsSlice(), options)
	if err != nil {
		return netlink.Route{}, err
	}
	if len(routes) == 0 {
		return netlink.Route{}, errors.New("the kernel's answer is empty")
	}
	return routes[0], nil
}

// Direct is the routes with weft's mark by which pods' packets go to a next hop on a device, whichever run of weft
// made them.
func (h *Host) Direct(device string) ([]Route, error) {
	links, err := h.links()
	if err != nil {
		return nil, err
	}
	routes, err := h.routes()
	if err != nil {
		return nil, err
	}
	names := namesOf(links)
	var direct []Route
	for _, r := range routes {
		via := gateway(&netlink.NexthopInfo{Gw: r.Gw, Via: r.Via})
		if r.Protocol == RouteProtocol && r.Table == unix.RT_TABLE_MAIN && r.Priority != probeMetric && via.IsValid() && names[r.LinkIndex] == device {
			direct = append(direct, Route{Prefix: prefixOf(r.Dst), Source: addrOf(r.Src), Via: via, Device: device})
		}
	}
	return direct, nil
}
