package host

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// unreachableMetric is what Documentation/networking/vrf.rst takes for its last-resort unreachable route: FRR
// reads the top octet as an administrative distance, so [255/8192], worse than any route it would install.
// netlink's Priority is an int, which does not hold it on 32-bit machines.
const unreachableMetric = 0xFF002000

// slot is what the IPv4 FIB holds one route for: NLM_F_EXCL refuses, and NLM_F_REPLACE replaces, a route whose
// three agree, whoever made it and wherever it leads (fib_table_insert, net/ipv4/fib_trie.c).
type slot struct {
	prefix netip.Prefix
	tos    int
	metric int
}

func slotOf(r netlink.Route) slot {
	return slot{prefixOf(r.Dst), r.Tos, r.Priority}
}

// routePlan is what leads from the routes that are there to those that should be.
type routePlan struct {
	add     []netlink.Route
	replace []netlink.Route // in the slot of a wrong one of ours, without a moment in which neither is there
	remove  []netlink.Route
	blocked []blockedRoute
}

// blockedRoute is a wanted route whose slot a route without weft's mark holds.
type blockedRoute struct{ want, foreign netlink.Route }

// planRoutes compares wanted routes with all routes of the main table.
func planRoutes(want, have []netlink.Route) routePlan {
	var plan routePlan
	settled := make(map[int]bool) // indices into have: ours that stay or are replaced
	for _, w := range want {
		same, wrong, foreign := -1, -1, -1
		for i, r := range have {
			switch {
			case slotOf(r) != slotOf(w):
			case r.Protocol != RouteProtocol:
				foreign = i
			case equalRoutes(r, w):
				same = i
			default:
				wrong = i
			}
		}
		switch {
		case same >= 0:
			settled[same] = true
		case foreign >= 0:
			plan.blocked = append(plan.blocked, blockedRoute{w, have[foreign]})
		case wrong >= 0:
			settled[wrong] = true
			plan.replace = append(plan.replace, w)
		default:
			plan.add = append(plan.add, w)
		}
	}
	for i, r := range have {
		if r.Protocol == RouteProtocol && !settled[i] {
			plan.remove = append(plan.remove, r)
		}
	}
	return plan
}

// equalRoutes leaves out the flags, in which the kernel reports the state of the link.
func equalRoutes(a, b netlink.Route) bool {
	a.Flags, b.Flags = 0, 0
	return a.Equal(b)
}

// applyRoutes makes want the only routes with weft's mark. Additions come before removals, so that a prefix
// which moves to another route never falls back to the default route in between.
func (h *Host) applyRoutes(tun netlink.Link, want []Route) error {
	have, err := h.routes()
	if err != nil {
		return err
	}
	wanted := make([]netlink.Route, 0, len(want))
	for _, r := range want {
		wanted = append(wanted, kernelRoute(r, tun))
	}
	plan := planRoutes(wanted, have)

	var changes []change
	do := func(verb string, routes []netlink.Route, request func(*netlink.Route) error) {
		for _, r := range routes {
			changes = append(changes, change{verb + " route " + h.describe(r), func() error { return request(&r) }})
		}
	}
	do("add", plan.add, h.nl.RouteAdd)
	do("replace", plan.replace, h.nl.RouteReplace)
	do("remove", plan.remove, func(r *netlink.Route) error {
		return unless(unix.ESRCH, h.nl.RouteDel(r))
	})
	var errs []error
	for _, b := range plan.blocked {
		errs = append(errs, fmt.Errorf("add route %s: the host has the route %s, which is not weft's: "+
			"remove it with `ip route del %[2]s` if nothing needs it, or give weft another prefix", h.describe(b.want), h.describe(b.foreign)))
	}
	return errors.Join(append(errs, run(changes))...)
}

// kernelRoute is r in the form in which the kernel will list it.
func kernelRoute(r Route, tun netlink.Link) netlink.Route {
	k := netlink.Route{
		Dst:      ipNetOf(r.Prefix),
		Protocol: RouteProtocol,
		Table:    unix.RT_TABLE_MAIN,
		Src:      r.Source.AsSlice(),
	}
	if r.Unreachable {
		k.Type, k.Scope, k.Priority = unix.RTN_UNREACHABLE, netlink.SCOPE_UNIVERSE, unreachableMetric
	} else {
		k.Type, k.Scope, k.LinkIndex = unix.RTN_UNICAST, netlink.SCOPE_LINK, tun.Attrs().Index
	}
	return k
}

// describe writes r as `ip route` does, so that the text can be pasted behind `ip route del`.
func (h *Host) describe(r netlink.Route) string {
	var b strings.Builder
	switch r.Type {
	case unix.RTN_UNREACHABLE:
		b.WriteString("unreachable ")
	case unix.RTN_BLACKHOLE:
		b.WriteString("blackhole ")
	case unix.RTN_PROHIBIT:
		b.WriteString("prohibit ")
	case unix.RTN_THROW:
		b.WriteString("throw ")
	}
	b.WriteString(prefixOf(r.Dst).String())
	if r.Tos != 0 {
		fmt.Fprintf(&b, " tos %#x", r.Tos)
	}
	h.describeHop(&b, &netlink.NexthopInfo{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via})
	fmt.Fprintf(&b, " proto %v", r.Protocol)
	if r.Src != nil {
		fmt.Fprintf(&b, " src %v", r.Src)
	}
	if r.Priority != 0 {
		fmt.Fprintf(&b, " metric %d", r.Priority)
	}
	for _, hop := range r.MultiPath {
		b.WriteString(" nexthop")
		h.describeHop(&b, hop)
	}
	return b.String()
}

func (h *Host) describeHop(b *strings.Builder, hop *netlink.NexthopInfo) {
	if via := gateway(hop); via.IsValid() {
		b.WriteString(" via ")
		if via.Is6() {
			b.WriteString("inet6 ")
		}
		b.WriteString(via.String())
	}
	if hop.LinkIndex != 0 {
		name := fmt.Sprint("if", hop.LinkIndex) // as ip prints an interface that went away meanwhile
		if l, err := h.nl.LinkByIndex(hop.LinkIndex); err == nil {
			name = l.Attrs().Name
		}
		b.WriteString(" dev " + name)
	}
}

// gateway is the next hop's address, zero when the destination is on the link. An IPv4 route may have an IPv6
// gateway (RTA_VIA, RFC 5549).
func gateway(hop *netlink.NexthopInfo) netip.Addr {
	if via, ok := hop.Via.(*netlink.Via); ok {
		return addrOf(via.Addr)
	}
	return addrOf(hop.Gw)
}
