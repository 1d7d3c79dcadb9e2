package host

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Passage asks the kernel where it would send a packet from one address to another that came in by device; "" stands for
// one that this host made, whose source must be its own. The error of a packet that it would not forward is the kernel's: EXDEV
// is what rp_filter refuses.
func (h *Host) Passage(from, to netip.Addr, device string) (Way, error) {
	r, err := h.routeGet(to, &netlink.RouteGetOptions{Iif: device, SrcAddr: from.AsSlice()})
	if err != nil {
		return Way{}, fmt.Errorf("look up the route from %s to %s: %w", from, to, err)
	}
	link, err := h.nl.LinkByIndex(r.LinkIndex)
	if err != nil {
		return Way{}, fmt.Errorf("look up the route from %s to %s: %w", from, to, err)
	}
	via := gateway(&netlink.NexthopInfo{Gw: r.Gw, Via: r.Via})
	return Way{Interface: link.Attrs().Name, OnLink: !via.IsValid(), Via: via, MTU: link.Attrs().MTU, Source: from}, nil
}
