package host

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// unreachableMetric is what Documentation/networking/vrf.rst takes for its last-resort unreachable route: FRR
	// reads the top octet as an administrative distance, so [255/8192], worse than any route it would install.
	// netlink's Priority is an int, which does not hold it on 32-bit machines.
	unreachableMetric = 0xFF002000

	// probeMetric is the next better one.
	probeMetric = unreachableMetric - 1

	// defaultMetric6 is IP6_RT_PRIO_USER of linux/ipv6_route.h, which the kernel takes where none is given.
	defaultMetric6 = 1024
)

// slot is what the FIB holds one route for: NLM_F_EXCL refuses, and NLM_F_REPLACE replaces, a route whose four
// agree, whoever made it and wherever it leads (fib_table_insert, net/ipv4/fib_trie.c; fib6_add_rt2node,
// net/ipv6/ip6_fib.c, where the TOS is 0).
type slot struct {
	table  int
	prefix netip.Prefix
	tos    int
	metric int
}

func slotOf(r netlink.Route) slot {
	return slot{r.Table, prefixOf(r.Dst), r.Tos, r.Priority}
}

// routePlan is what leads from the routes that are there to those that should be.
type routePlan struct {
	keep    []netlink.Route
	add     []netlink.Route
	replace []netlink.Route // in the slot of a wrong one of ours, without a moment in which neither is there
	remove  []netlink.Route
	blocked []blockedRoute
}

// blockedRoute is a wanted route whose slot a route without weft's mark holds.
type blockedRoute struct{ want, foreign netlink.Route }

// planRoutes compares wanted routes with all routes of the tables that they are in.
func planRoutes(want, have []netlink.Route) routePlan {
	var plan routePlan
	inSlot := make(map[slot][]int, len(have)) // indices into have
	for i, r := range have {
		inSlot[slotOf(r)] = append(inSlot[slotOf(r)], i)
	}
	settled := make(map[int]bool) // indices into have: ours that stay or are replaced
	for _, w := range want {
		same, wrong, foreign := -1, -1, -1
		for _, i := range inSlot[slotOf(w)] {
			switch r := have[i]; {
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
			plan.keep = append(plan.keep, w)
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

func equalRoutes(a, b netlink.Route) bool {
	return significant(a).Equal(significant(b)) && a.MTU == b.MTU && a.MTULock == b.MTULock // which Equal leaves out
}

// significant leaves out the flags in which the kernel reports the state of the link, and that it writes an IPv6
// route which leads nowhere as one on the loopback interface.
func significant(r netlink.Route) netlink.Route {
	r.Flags &= unix.RTNH_F_ONLINK
	if r.Type != unix.RTN_UNICAST {
		r.LinkIndex = 0
	}
	return r
}

// applyRoutes makes s.Routes the only routes with weft's mark. Additions come before
// removals, so that a prefix which moves to another route never falls back to the default route in between.
func (h *Host) applyRoutes(l *ledger, links []netlink.Link, s State) error {
	have, err := h.routes()
	if err != nil {
		return err
	}
	names := namesOf(links)
	indices := make(map[string]int, len(links))
	for _, l := range links {
		indices[l.Attrs().Name] = l.Attrs().Index
	}
	var errs []error
	var wanted []netlink.Route
	for _, r := range s.Routes {
		index, ok := indices[cmp.Or(r.Device, s.Link)]
		if !ok {
			errs = append(errs, fmt.Errorf("add route %v: interface %s does not exist", r.Prefix, r.Device))
			continue
		}
		wanted = append(wanted, kernelRoute(r, index))
	}
	plan := planRoutes(wanted, have)
	for _, r := range plan.keep {
		l.found("route " + names.describe(r))
	}
	for _, b := range plan.blocked {
		errs = append(errs, fmt.Errorf("add route %s: the host has the route %s, which is not weft's: "+
			"remove it with `ip route del %[2]s` if nothing needs it, or give weft another prefix", names.describe(b.want), names.describe(b.foreign)))
	}
	return errors.Join(append(errs, l.run(h.routeChanges(plan, names)))...)
}

func (h *Host) routeChanges(plan routePlan, names linkNames) []change {
	var changes []change
	for _, r := range plan.add {
		thing := "route " + names.describe(r)
		changes = append(changes, change{kind: KindRoute, what: "add " + thing, thing: thing, do: func() error { return h.nl.RouteAdd(&r) }})
	}
	for _, r := range plan.replace {
		thing := "route " + names.describe(r)
		changes = append(changes, change{kind: KindRoute, what: "replace " + thing, thing: thing, do: func() error { return h.nl.RouteReplace(&r) }})
	}
	for _, r := range plan.remove {
		changes = append(changes, change{what: "remove route " + names.describe(r), gone: "route " + names.describe(r), do: func() error {
			return unless(unix.ESRCH, h.nl.RouteDel(&r))
		}})
	}
	return changes
}

// kernelRoute is r, which goes out of the interface link, in the form in which the kernel will list it.
func kernelRoute(r Route, link int) netlink.Route {
	v4 := r.Prefix.Addr().Is4()
	k := netlink.Route{
		Dst:      ipNetOf(r.Prefix),
		Protocol: RouteProtocol,
		Table:    unix.RT_TABLE_MAIN,
		Src:      r.Source.AsSlice(),
	}
	if r.Marked {
		k.Table = Table
	}
	if r.Unreachable {
		k.Type, k.Priority = unix.RTN_UNREACHABLE, unreachableMetric
		return k
	}
	k.Type, k.LinkIndex = unix.RTN_UNICAST, link
	k.MTU, k.MTULock = r.MTU, r.MTU != 0
	if !v4 {
		k.Priority = defaultMetric6
	}
	if r.Probe {
		k.Priority = probeMetric
	}
	switch {
	case r.Via.IsValid():
		k.Flags = unix.RTNH_F_ONLINK
		if r.Via.Is4() == v4 {
			k.Gw = r.Via.AsSlice()
		} else {
			k.Via = &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: r.Via.AsSlice()}
		}
	case v4: // IPv6 routes have no scope
		k.Scope = netlink.SCOPE_LINK
	}
	return k
}
