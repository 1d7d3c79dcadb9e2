//go:build netns

package host

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func testState() State {
	address4, address6 := netip.MustParsePrefix("10.244.1.0/32"), netip.MustParsePrefix("fd00:244:1::/128")
	return State{Link: "weft0", Addresses: []netip.Prefix{address4, address6}, MTU: 1472, Routes: []Route{
		{Prefix: netip.MustParsePrefix("10.244.0.0/16"), Source: address4.Addr()},
		{Prefix: netip.MustParsePrefix("fd00:244::/32"), Source: address6.Addr()},
		{Prefix: netip.MustParsePrefix("10.244.1.0/24"), Unreachable: true},
		{Prefix: netip.MustParsePrefix("fd00:244:1::/64"), Unreachable: true},
	}}
}

// ourRoutes is what testState must come to.
func ourRoutes() []string {
	return []string{
		"10.244.0.0/16 dev weft0 proto 119 src 10.244.1.0",
		"fd00:244::/32 dev weft0 proto 119 src fd00:244:1:: metric 1024",
		"unreachable 10.244.1.0/24 proto 119 metric 4278198272",
		"unreachable fd00:244:1::/64 dev lo proto 119 metric 4278198272",
	}
}

// checkApplied compares the kernel with testState and extraRoutes.
func checkApplied(t *testing.T, h *Host, extraRoutes ...string) {
	t.Helper()
	a := link(t, h, "weft0").Attrs()
	if a.Alias != "weft" || a.MTU != 1472 || a.TxQLen != txQueueLen || a.GSOMaxSegs != 128 || a.Flags&net.FlagUp == 0 {
		t.Errorf("link: alias %q mtu %d qlen %d gso_max_segs %d flags %v", a.Alias, a.MTU, a.TxQLen, a.GSOMaxSegs, a.Flags)
	}
	addrs, err := h.addresses(link(t, h, "weft0"), netlink.FAMILY_ALL)
	must(t, err)
	var have []string
	for _, a := range addrs {
		have = append(have, a.IPNet.String())
		if a.Flags&unix.IFA_F_TENTATIVE != 0 {
			t.Errorf("address %v is tentative", a.IPNet)
		}
	}
	if want := []string{"10.244.1.0/32", "fd00:244:1::/128"}; !slices.Equal(have, want) {
		t.Errorf("addresses: %v, want %v and no link-local one", have, want)
	}
	for path, want := range map[string]string{
		"net/ipv4/ip_forward":                 "1",
		"net/ipv6/conf/all/forwarding":        "1",
		"net/ipv4/conf/weft0/rp_filter":       "2",
		"net/ipv4/conf/weft0/accept_local":    "1",
		"net/ipv6/conf/weft0/addr_gen_mode":   "1",
		"net/ipv6/conf/weft0/disable_ipv6":    "0",
		"net/ipv4/conf/default/rp_filter":     "0",
		"net/ipv4/conf/default/accept_local":  "0",
		"net/ipv6/conf/default/addr_gen_mode": "0",
	} {
		if got := sysctlValue(t, path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	want := append(ourRoutes(), extraRoutes...)
	slices.Sort(want)
	if d := cmp.Diff(want, routeList(t, h)); d != "" {
		t.Errorf("routes (-want +got):\n%s", d)
	}
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	h := newNamespace(t)
	setSysctl(t, "net/ipv4/conf/default/rp_filter", "0")
	newTUN(t, "weft0")
	newUnderlay(t, h)
	apply(t, h, directState())
	checkApplied(t, h, append(theirRoutes(), directRoutes()...)...)

	e := watch(t)
	// The kernel announces the carrier of the links and the addresses it made on the underlay with some delay: such
	// events, a few at most, are not Apply's.
	for deadline := time.Now().Add(5 * time.Second); ; {
		if repaired := apply(t, h, directState()); len(repaired) > 0 {
			t.Errorf("Apply of what is there repaired %q", repaired)
		}
		got := e.take(t)
		if len(got) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Apply of what is there caused events of types %v", got)
		}
	}
	checkApplied(t, h, append(theirRoutes(), directRoutes()...)...)
	for prefix, scope := range map[string]netlink.Scope{"10.244.0.0/16": netlink.SCOPE_NOWHERE, "fd00:244::/32": netlink.SCOPE_UNIVERSE} {
		must(t, h.nl.RouteDel(&netlink.Route{Dst: hostNet(prefix), Scope: scope}))
		if got := e.take(t); !slices.Contains(got, unix.RTM_DELROUTE) {
			t.Errorf("events after a route was removed: %v; the subscription does not work", got)
		}
	}
}

func TestApplyCorrectsAndSweeps(t *testing.T) {
	h := newNamespace(t)
	setSysctl(t, "net/ipv4/conf/default/rp_filter", "0")
	newTUN(t, "weft0")
	eth := newUnderlay(t, h).Attrs().Index
	for _, foreign := range []netlink.Route{
		{Dst: hostNet("198.51.100.0/24"), Gw: net.ParseIP("192.0.2.1")},
		{Dst: hostNet("2001:db8:1::/48"), Gw: net.ParseIP("2001:db8::1")},
		{Dst: hostNet("198.51.100.0/24"), Gw: net.ParseIP("192.0.2.1"), Table: Table},
	} {
		foreign.Protocol = unix.RTPROT_STATIC
		must(t, h.nl.RouteAdd(&foreign))
	}
	theirRule := netlink.NewRule()
	theirRule.Priority, theirRule.Mark, theirRule.Table = 200, 0x2000, 200
	must(t, h.nl.RuleAdd(theirRule))
	rules := ruleList(t, h)
	theirs := append(theirRoutes(),
		"198.51.100.0/24 via 192.0.2.1 dev eth0 proto static",
		"198.51.100.0/24 via 192.0.2.1 dev eth0 table 119 proto static",
		"2001:db8:1::/48 via 2001:db8::1 dev eth0 proto static metric 1024")
	apply(t, h, testState())
	checkApplied(t, h, theirs...)

	weft := link(t, h, "weft0")
	must(t, h.nl.LinkSetDown(weft)) // takes the IPv6 address
	must(t, h.nl.LinkSetAlias(weft, "spoilt"))
	must(t, h.nl.LinkSetMTU(weft, 1400))
	must(t, h.nl.LinkSetTxQLen(weft, 500))
	must(t, h.nl.LinkSetGSOMaxSegs(weft, 65535))
	must(t, h.nl.LinkSetIP6AddrGenMode(weft, 0))
	must(t, h.nl.LinkSetUp(weft)) // makes a link-local address
	must(t, h.nl.AddrAdd(weft, &netlink.Addr{IPNet: hostNet("10.244.9.0/32")}))
	must(t, h.nl.AddrAdd(weft, &netlink.Addr{IPNet: hostNet("fd00:244:9::/128")}))
	must(t, h.nl.AddrDel(weft, &netlink.Addr{IPNet: hostNet("10.244.1.0/32")}))
	setSysctl(t, "net/ipv4/conf/weft0/rp_filter", "1")
	setSysctl(t, "net/ipv4/conf/weft0/accept_local", "0")
	setSysctl(t, "net/ipv4/ip_forward", "0")
	setSysctl(t, "net/ipv6/conf/all/forwarding", "0")
	// The kernel flags the routes of a link without carrier.
	dead := newVeth(t, h, "eth1", "eth1p").Attrs().Index
	must(t, h.nl.LinkSetDown(link(t, h, "eth1p")))
	for _, stale := range []netlink.Route{
		{Dst: hostNet("10.94.0.0/16"), LinkIndex: dead, Scope: netlink.SCOPE_LINK},
		{Dst: hostNet("10.93.0.0/16"), MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: eth, Gw: net.ParseIP("192.0.2.7")}, {LinkIndex: dead}}},
		{Dst: hostNet("10.244.0.0/16"), LinkIndex: weft.Attrs().Index, Scope: netlink.SCOPE_LINK, Src: net.ParseIP("10.244.9.0")},
		{Dst: hostNet("10.99.0.0/16"), LinkIndex: eth, Scope: netlink.SCOPE_LINK},
		{Dst: hostNet("10.98.0.0/16"), Gw: net.ParseIP("192.0.2.77"), Priority: 50},
		{Dst: hostNet("10.97.0.0/16"), Type: unix.RTN_UNREACHABLE, Priority: unreachableMetric},
		{Dst: hostNet("10.96.0.0/16"), Type: unix.RTN_BLACKHOLE},
		{Dst: hostNet("10.95.0.0/16"), MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: eth, Gw: net.ParseIP("192.0.2.7")}, {LinkIndex: eth, Gw: net.ParseIP("192.0.2.8")}}},
		{Dst: hostNet("0.0.0.0/0"), Gw: net.ParseIP("192.0.2.1")},
		{Dst: hostNet("10.92.0.0/16"), Gw: net.ParseIP("192.0.2.7"), Table: Table},
		{Dst: hostNet("0.0.0.0/0"), Type: unix.RTN_UNREACHABLE, Priority: unreachableMetric, Table: Table},
		{Dst: hostNet("fd00:99::/64"), Gw: net.ParseIP("2001:db8::77"), Flags: unix.RTNH_F_ONLINK, LinkIndex: eth},
		{Dst: hostNet("fd00:98::/64"), LinkIndex: eth, Priority: 50},
		{Dst: hostNet("fd00:97::/64"), Type: unix.RTN_UNREACHABLE, Priority: unreachableMetric},
		{Dst: hostNet("fd00:96::/64"), MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: eth, Gw: net.ParseIP("2001:db8::7")}, {LinkIndex: eth, Gw: net.ParseIP("2001:db8::8")}}},
		{Dst: hostNet("fd00:95::/64"), Gw: net.ParseIP("2001:db8::7"), Table: Table},
		{Dst: hostNet("fd00:244::/32"), LinkIndex: eth, Gw: net.ParseIP("2001:db8::7"), Priority: defaultMetric6 + 1},
	} {
		stale.Protocol = RouteProtocol
		must(t, h.nl.RouteAdd(&stale))
	}
	for _, stale := range []netlink.Rule{markRule(netlink.FAMILY_V4), markRule(netlink.FAMILY_V6)} {
		must(t, h.nl.RuleAdd(&stale))
		stale.Priority, stale.Mark = 300, 7
		must(t, h.nl.RuleAdd(&stale))
	}
	if addrs, err := h.addresses(weft, netlink.FAMILY_V6); err != nil || len(addrs) != 2 {
		t.Fatalf("IPv6 addresses before the second Apply: %v, %v; want a link-local one to remove as well", addrs, err)
	}

	apply(t, h, testState())
	checkApplied(t, h, theirs...)
	if d := cmp.Diff(rules, ruleList(t, h)); d != "" {
		t.Errorf("rules (-want +got):\n%s", d)
	}
}

func TestApplyReplacesItsOwnRoute(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	apply(t, h, testState())

	e := watch(t)
	moved := testState()
	moved.Routes[0].Source, moved.Routes[1].Source = netip.Addr{}, netip.Addr{}
	if repaired := apply(t, h, moved); len(repaired) > 0 {
		t.Errorf("repaired %q by a State that says otherwise", repaired)
	}
	for _, want := range []string{"10.244.0.0/16 dev weft0 proto 119", "fd00:244::/32 dev weft0 proto 119 metric 1024"} {
		if got := routeList(t, h); !slices.Contains(got, want) {
			t.Errorf("routes: %v, want %s", got, want)
		}
	}
	if got := e.take(t); slices.Contains(got, unix.RTM_DELROUTE) {
		t.Errorf("events %v: the route was removed before the new one was added", got)
	}
}

func TestApplyNamesAForeignRoute(t *testing.T) {
	for _, c := range []struct {
		foreign netlink.Route
		text    string
		ours    string // that it blocks
	}{
		{netlink.Route{Dst: hostNet("10.244.0.0/16"), Gw: net.ParseIP("192.0.2.1")}, "10.244.0.0/16 via 192.0.2.1 dev eth0 proto static", ourRoutes()[0]},
		{netlink.Route{Dst: hostNet("fd00:244::/32"), Gw: net.ParseIP("2001:db8::1")}, "fd00:244::/32 via 2001:db8::1 dev eth0 proto static metric 1024", ourRoutes()[1]},
		{netlink.Route{Dst: hostNet("10.244.2.0/24"), Gw: net.ParseIP("192.0.2.1")}, "10.244.2.0/24 via 192.0.2.1 dev eth0 proto static", directRoutes()[0]},
		{netlink.Route{Dst: hostNet("10.244.3.0/32"), Gw: net.ParseIP("192.0.2.1")}, "10.244.3.0/32 via 192.0.2.1 dev eth0 proto static", directRoutes()[3]},
		{netlink.Route{Dst: hostNet("2001:db8::5/128"), Gw: net.ParseIP("2001:db8::1"), Table: Table},
			"2001:db8::5/128 via 2001:db8::1 dev eth0 table 119 proto static metric 1024", directRoutes()[7]},
	} {
		t.Run(c.text, func(t *testing.T) {
			h := newNamespace(t)
			setSysctl(t, "net/ipv4/conf/default/rp_filter", "0")
			newTUN(t, "weft0")
			newUnderlay(t, h)
			c.foreign.Protocol = unix.RTPROT_STATIC
			must(t, h.nl.RouteAdd(&c.foreign))

			_, err := h.Apply(directState())
			if err == nil || !strings.Contains(err.Error(), "`ip route del "+c.text+"`") || strings.Contains(err.Error(), "\n") {
				t.Errorf("Apply = %v, want one line that names the route and how to remove it", err)
			}
			want := slices.Concat(ourRoutes(), theirRoutes(), directRoutes(), []string{c.text})
			want = slices.DeleteFunc(want, func(r string) bool { return r == c.ours })
			slices.Sort(want)
			if d := cmp.Diff(want, routeList(t, h)); d != "" {
				t.Errorf("routes (-want +got): the foreign one must stay and the rest be done:\n%s", d)
			}
			must(t, h.nl.RouteDel(&c.foreign))
			if repaired := apply(t, h, directState()); len(repaired) > 0 {
				t.Errorf("repaired %q, which was never in place", repaired)
			}
			checkApplied(t, h, append(theirRoutes(), directRoutes()...)...)
		})
	}
}

func TestApplyRefusesTheWrongLink(t *testing.T) {
	h := newNamespace(t)
	newVeth(t, h, "eth0", "eth0p", "192.0.2.2/24")
	newTUN(t, "weft0")
	apply(t, h, testState())

	other := testState()
	for name, want := range map[string]string{
		"weft7": "interface weft0 carries weft's mark",
		"eth0":  "interface weft0 carries weft's mark",
	} {
		other.Link = name
		if _, err := h.Apply(other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Apply on %s beside weft0 = %v, want %q", name, err, want)
		}
	}
	remove(t, h)
	for name, want := range map[string]string{
		"weft7": "interface weft7 does not exist",
		"eth0":  "interface eth0 is not a TUN (its type is veth)",
	} {
		other.Link = name
		if _, err := h.Apply(other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Apply on %s = %v, want %q", name, err, want)
		}
	}
	if addrs, err := h.addresses(link(t, h, "eth0"), netlink.FAMILY_V4); err != nil || len(addrs) != 1 {
		t.Errorf("addresses of eth0: %v, %v", addrs, err)
	}
}
