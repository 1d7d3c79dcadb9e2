package host

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const testTUN = 7 // interface index

func tunLink() netlink.Link {
	return &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Index: testTUN, Name: "weft0"}}
}

func TestPlanRoutes(t *testing.T) {
	source := netip.MustParseAddr("10.244.1.0")
	overlay := kernelRoute(Route{Prefix: netip.MustParsePrefix("10.244.0.0/16"), Source: source}, testTUN)
	answer := kernelRoute(Route{Prefix: netip.MustParsePrefix("10.244.1.0/24"), Unreachable: true}, testTUN)
	want := []netlink.Route{overlay, answer}
	direct := kernelRoute(Route{Prefix: netip.MustParsePrefix("10.244.2.0/24"), Via: netip.MustParseAddr("192.0.2.2"), Device: "eth0"}, 3)
	probe := kernelRoute(Route{Prefix: netip.MustParsePrefix("10.244.2.0/24"), Via: netip.MustParseAddr("192.0.2.2"), Device: "eth0", Probe: true}, 3)
	answer6 := kernelRoute(Route{Prefix: netip.MustParsePrefix("fd00::/64"), Unreachable: true}, testTUN)

	with := func(r netlink.Route, change func(*netlink.Route)) netlink.Route {
		change(&r)
		return r
	}
	linkDown := with(overlay, func(r *netlink.Route) { r.Flags = unix.RTNH_F_LINKDOWN; r.Family = unix.AF_INET })
	noSource := with(overlay, func(r *netlink.Route) { r.Src = nil })
	otherLink := with(overlay, func(r *netlink.Route) { r.LinkIndex = 8 })
	stale := with(overlay, func(r *netlink.Route) { r.Dst = ipNetOf(netip.MustParsePrefix("10.99.0.0/16")); r.LinkIndex = 3 })
	elsewhere := with(direct, func(r *netlink.Route) { r.Gw = net.ParseIP("192.0.2.3") })
	narrow := with(direct, func(r *netlink.Route) { r.MTU, r.MTULock = 1280, true })
	unlocked := with(narrow, func(r *netlink.Route) { r.MTULock = false })
	offLink := with(direct, func(r *netlink.Route) { r.Flags = 0 })
	onLoopback := with(answer6, func(r *netlink.Route) { r.LinkIndex = 1 })
	foreign := with(overlay, func(r *netlink.Route) { r.Protocol = unix.RTPROT_STATIC; r.LinkIndex = 3 })
	foreignWorse := with(foreign, func(r *netlink.Route) { r.Priority = 100 })
	foreignTOS := with(foreign, func(r *netlink.Route) { r.Tos = 8 })
	bridge := with(answer, func(r *netlink.Route) {
		r.Protocol, r.Type, r.LinkIndex, r.Priority = unix.RTPROT_KERNEL, unix.RTN_UNICAST, 3, 0
	})

	for _, c := range []struct {
		name       string
		want, have []netlink.Route
		plan       routePlan
	}{
		{"nothing there", want, nil, routePlan{add: want}},
		{"all there", want, want, routePlan{keep: want}},
		{"flags and family do not count", want, []netlink.Route{linkDown, answer}, routePlan{keep: want}},
		{"wrong source", want, []netlink.Route{noSource, answer}, routePlan{keep: want[1:], replace: []netlink.Route{overlay}}},
		{"wrong link", want, []netlink.Route{otherLink, answer}, routePlan{keep: want[1:], replace: []netlink.Route{overlay}}},
		{"leftover", want, []netlink.Route{overlay, stale, answer}, routePlan{keep: want, remove: []netlink.Route{stale}}},
		{"wrong one beside the right one", want, []netlink.Route{otherLink, overlay, answer}, routePlan{keep: want, remove: []netlink.Route{otherLink}}},
		{"foreign in the slot", want, []netlink.Route{foreign, answer}, routePlan{keep: want[1:], blocked: []blockedRoute{{overlay, foreign}}}},
		{"foreign in the slot beside a wrong one of ours", want, []netlink.Route{foreign, noSource, answer},
			routePlan{keep: want[1:], remove: []netlink.Route{noSource}, blocked: []blockedRoute{{overlay, foreign}}}},
		{"foreign with another metric", want, []netlink.Route{foreignWorse, answer}, routePlan{keep: want[1:], add: []netlink.Route{overlay}}},
		{"foreign with another TOS", want, []netlink.Route{foreignTOS, answer}, routePlan{keep: want[1:], add: []netlink.Route{overlay}}},
		{"the pods' bridge beside the unreachable route", want, []netlink.Route{overlay, bridge}, routePlan{keep: want[:1], add: []netlink.Route{answer}}},
		{"another next hop", []netlink.Route{direct}, []netlink.Route{elsewhere}, routePlan{replace: []netlink.Route{direct}}},
		{"not onlink", []netlink.Route{direct}, []netlink.Route{offLink}, routePlan{replace: []netlink.Route{direct}}},
		{"another MTU", []netlink.Route{direct}, []netlink.Route{narrow}, routePlan{replace: []netlink.Route{direct}}},
		{"an MTU that is not locked", []netlink.Route{narrow}, []netlink.Route{unlocked}, routePlan{replace: []netlink.Route{narrow}}},
		{"the same in another table", []netlink.Route{direct}, []netlink.Route{probe}, routePlan{add: []netlink.Route{direct}, remove: []netlink.Route{probe}}},
		{"as the kernel lists an unreachable IPv6 route", []netlink.Route{answer6}, []netlink.Route{onLoopback}, routePlan{keep: []netlink.Route{answer6}}},
		{"nothing wanted", nil, []netlink.Route{overlay, foreign, answer, bridge}, routePlan{remove: []netlink.Route{overlay, answer}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := planRoutes(c.want, c.have)
			if d := cmp.Diff(c.plan, got, cmp.AllowUnexported(routePlan{}, blockedRoute{})); d != "" {
				t.Errorf("plan (-want +got):\n%s", d)
			}
		})
	}
}

func TestCompareRoute(t *testing.T) {
	type lies map[string]overlap
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		network netip.Prefix
		own     []netip.Prefix
		routes  lies
	}{
		{prefix("10.244.0.0/16"), []netip.Prefix{prefix("fd00::/64"), prefix("10.244.1.0/24"), prefix("10.244.5.0/24")}, lies{
			"0.0.0.0/0":      routeApart,
			"0.0.0.0/1":      routeApart,
			"10.0.0.0/8":     routeWider,
			"10.245.0.0/16":  routeApart,
			"10.244.0.0/16":  routeSame,
			"10.244.0.0/20":  routeNarrower, // holds our own and other nodes' pods
			"10.244.1.0/24":  routeApart,    // a bridge for all pods of this node
			"10.244.1.7/32":  routeApart,    // one pod
			"10.244.5.7/32":  routeApart,
			"10.244.2.0/24":  routeNarrower,
			"10.244.2.77/32": routeNarrower,
			"192.0.2.0/24":   routeApart,
			"::/0":           routeApart,
		}},
		// Wider than our own block although it begins with it.
		{prefix("10.244.0.0/16"), []netip.Prefix{prefix("10.244.0.0/24")}, lies{"10.244.0.0/20": routeNarrower}},
		{prefix("2001:db8::/48"), []netip.Prefix{prefix("10.244.1.0/24"), prefix("2001:db8:0:1::/64")}, lies{
			"::/0":                routeApart,
			"2000::/3":            routeApart,
			"2001:db8::/32":       routeWider,
			"2001:db8::/48":       routeSame,
			"2001:db8:0:1::/64":   routeApart,
			"2001:db8:0:1::7/128": routeApart,
			"2001:db8:0:2::/64":   routeNarrower,
			"2001:db8:1::/48":     routeApart,
			"fe80::/64":           routeApart,
			"10.244.1.0/24":       routeApart,
		}},
	} {
		for route, want := range c.routes {
			if got := compareRoute(prefix(route), c.network, c.own); got != want {
				t.Errorf("compareRoute(%s, %v, %v) = %v, want %v", route, c.network, c.own, got, want)
			}
		}
	}
}
