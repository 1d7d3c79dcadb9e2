package host

import (
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
	overlay := kernelRoute(Route{Prefix: netip.MustParsePrefix("10.244.0.0/16"), Source: source}, tunLink())
	answer := kernelRoute(Route{Prefix: netip.MustParsePrefix("10.244.1.0/24"), Unreachable: true}, tunLink())
	want := []netlink.Route{overlay, answer}

	with := func(r netlink.Route, change func(*netlink.Route)) netlink.Route {
		change(&r)
		return r
	}
	linkDown := with(overlay, func(r *netlink.Route) { r.Flags = unix.RTNH_F_LINKDOWN; r.Family = unix.AF_INET })
	noSource := with(overlay, func(r *netlink.Route) { r.Src = nil })
	otherLink := with(overlay, func(r *netlink.Route) { r.LinkIndex = 8 })
	stale := with(overlay, func(r *netlink.Route) { r.Dst = ipNetOf(netip.MustParsePrefix("10.99.0.0/16")); r.LinkIndex = 3 })
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
		{"all there", want, want, routePlan{}},
		{"flags and family do not count", want, []netlink.Route{linkDown, answer}, routePlan{}},
		{"wrong source", want, []netlink.Route{noSource, answer}, routePlan{replace: []netlink.Route{overlay}}},
		{"wrong link", want, []netlink.Route{otherLink, answer}, routePlan{replace: []netlink.Route{overlay}}},
		{"leftover", want, []netlink.Route{overlay, stale, answer}, routePlan{remove: []netlink.Route{stale}}},
		{"wrong one beside the right one", want, []netlink.Route{otherLink, overlay, answer}, routePlan{remove: []netlink.Route{otherLink}}},
		{"foreign in the slot", want, []netlink.Route{foreign, answer}, routePlan{blocked: []blockedRoute{{overlay, foreign}}}},
		{"foreign in the slot beside a wrong one of ours", want, []netlink.Route{foreign, noSource, answer},
			routePlan{remove: []netlink.Route{noSource}, blocked: []blockedRoute{{overlay, foreign}}}},
		{"foreign with another metric", want, []netlink.Route{foreignWorse, answer}, routePlan{add: []netlink.Route{overlay}}},
		{"foreign with another TOS", want, []netlink.Route{foreignTOS, answer}, routePlan{add: []netlink.Route{overlay}}},
		{"the pods' bridge beside the unreachable route", want, []netlink.Route{overlay, bridge}, routePlan{add: []netlink.Route{answer}}},
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
	podNetwork, podCIDR := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.244.1.0/24")
	for route, want := range map[string]overlap{
		"0.0.0.0/0":      routeApart,
		"0.0.0.0/1":      routeApart,
		"10.0.0.0/8":     routeWider,
		"10.245.0.0/16":  routeApart,
		"10.244.0.0/16":  routeSame,
		"10.244.0.0/20":  routeNarrower, // holds podCIDR and other nodes' pods
		"10.244.1.0/24":  routeApart,    // a bridge for all pods of this node
		"10.244.1.7/32":  routeApart,    // one pod
		"10.244.2.0/24":  routeNarrower,
		"10.244.2.77/32": routeNarrower,
		"192.0.2.0/24":   routeApart,
	} {
		if got := compareRoute(netip.MustParsePrefix(route), podNetwork, podCIDR); got != want {
			t.Errorf("compareRoute(%s) = %v, want %v", route, got, want)
		}
	}
	// Wider than our own block although it begins with it.
	if got := compareRoute(netip.MustParsePrefix("10.244.0.0/20"), podNetwork, netip.MustParsePrefix("10.244.0.0/24")); got != routeNarrower {
		t.Errorf("compareRoute of a route over the first block and others = %v, want %v", got, routeNarrower)
	}
}
