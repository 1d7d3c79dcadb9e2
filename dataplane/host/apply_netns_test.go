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
	address := netip.MustParsePrefix("10.244.1.0/32")
	return State{Link: "weft0", Address: address, MTU: 1472, Routes: []Route{
		{Prefix: netip.MustParsePrefix("10.244.0.0/16"), Source: address.Addr()},
		{Prefix: netip.MustParsePrefix("10.244.1.0/24"), Unreachable: true},
	}}
}

// ourRoutes is what testState must come to.
func ourRoutes() []string {
	return []string{
		"10.244.0.0/16 dev weft0 proto 119 src 10.244.1.0",
		"unreachable 10.244.1.0/24 proto 119 metric 4278198272",
	}
}

// checkApplied compares the kernel with testState.
func checkApplied(t *testing.T, h *Host, extraRoutes ...string) {
	t.Helper()
	a := link(t, h, "weft0").Attrs()
	if a.Alias != "weft" || a.MTU != 1472 || a.TxQLen != 1000 || a.GSOMaxSegs != 128 || a.Flags&net.FlagUp == 0 {
		t.Errorf("link: alias %q mtu %d qlen %d gso_max_segs %d flags %v", a.Alias, a.MTU, a.TxQLen, a.GSOMaxSegs, a.Flags)
	}
	addrs, err := h.addresses(link(t, h, "weft0"), netlink.FAMILY_ALL)
	must(t, err)
	if len(addrs) != 1 || addrs[0].IPNet.String() != "10.244.1.0/32" {
		t.Errorf("addresses: %v, want 10.244.1.0/32 and no link-local one", addrs)
	}
	for path, want := range map[string]string{
		"net/ipv4/ip_forward":                 "1",
		"net/ipv4/conf/weft0/rp_filter":       "2",
		"net/ipv4/conf/weft0/accept_local":    "1",
		"net/ipv6/conf/weft0/addr_gen_mode":   "1",
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
	must(t, h.Apply(testState()))
	checkApplied(t, h)

	e := watch(t)
	// The kernel announces the carrier of the new TUN with some delay: such a link event, at most one or two, is
	// not Apply's.
	for deadline := time.Now().Add(5 * time.Second); ; {
		must(t, h.Apply(testState()))
		got := e.take(t)
		if len(got) == 0 {
			break
		}
		other := slices.ContainsFunc(got, func(typ uint16) bool { return typ != unix.RTM_NEWLINK })
		if other || time.Now().After(deadline) {
			t.Fatalf("Apply of what is there caused events of types %v", got)
		}
	}
	checkApplied(t, h)
	must(t, h.nl.RouteDel(&netlink.Route{Dst: hostNet("10.244.0.0/16"), Scope: netlink.SCOPE_NOWHERE}))
	if got := e.take(t); !slices.Equal(got, []uint16{unix.RTM_DELROUTE}) {
		t.Errorf("events after a route was removed: %v; the subscription does not work", got)
	}
}

func TestApplyCorrectsAndSweeps(t *testing.T) {
	h := newNamespace(t)
	setSysctl(t, "net/ipv4/conf/default/rp_filter", "0")
	newTUN(t, "weft0")
	eth := newVeth(t, h, "eth0", "eth0p", "192.0.2.2/24").Attrs().Index
	foreign := &netlink.Route{Dst: hostNet("198.51.100.0/24"), Gw: net.ParseIP("192.0.2.1"), Protocol: unix.RTPROT_STATIC}
	must(t, h.nl.RouteAdd(foreign))
	theirs := []string{"192.0.2.0/24 dev eth0 proto kernel src 192.0.2.2", "198.51.100.0/24 via 192.0.2.1 dev eth0 proto static"}
	must(t, h.Apply(testState()))
	checkApplied(t, h, theirs...)

	weft := link(t, h, "weft0")
	must(t, h.nl.LinkSetDown(weft))
	must(t, h.nl.LinkSetAlias(weft, "spoilt"))
	must(t, h.nl.LinkSetMTU(weft, 1400))
	must(t, h.nl.LinkSetTxQLen(weft, 500))
	must(t, h.nl.LinkSetGSOMaxSegs(weft, 65535))
	must(t, h.nl.LinkSetIP6AddrGenMode(weft, 0))
	must(t, h.nl.LinkSetUp(weft)) // makes a link-local address
	must(t, h.nl.AddrAdd(weft, &netlink.Addr{IPNet: hostNet("10.244.9.0/32")}))
	must(t, h.nl.AddrDel(weft, &netlink.Addr{IPNet: hostNet("10.244.1.0/32")}))
	setSysctl(t, "net/ipv4/conf/weft0/rp_filter", "1")
	setSysctl(t, "net/ipv4/conf/weft0/accept_local", "0")
	setSysctl(t, "net/ipv4/ip_forward", "0")
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
	} {
		stale.Protocol = RouteProtocol
		must(t, h.nl.RouteAdd(&stale))
	}
	if addrs, err := h.addresses(weft, netlink.FAMILY_V6); err != nil || len(addrs) == 0 {
		t.Fatalf("IPv6 addresses before the second Apply: %v, %v; want a link-local one to remove", addrs, err)
	}

	must(t, h.Apply(testState()))
	checkApplied(t, h, theirs...)
}

// The kernel takes IPv6 off an interface with an MTU below 1280 and puts it back, with new parameters, above.
func TestApplyBesideIPv6sLeastMTU(t *testing.T) {
	h := newNamespace(t)
	setSysctl(t, "net/ipv4/conf/default/rp_filter", "0")
	newTUN(t, "weft0")
	small := testState()
	small.MTU = 1200
	must(t, h.Apply(small))
	if got := link(t, h, "weft0").Attrs().MTU; got != 1200 {
		t.Errorf("MTU %d, want 1200", got)
	}
	must(t, h.Apply(testState()))
	checkApplied(t, h)
}

func TestApplyReplacesItsOwnRoute(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	must(t, h.Apply(testState()))

	e := watch(t)
	moved := testState()
	moved.Routes[0].Source = netip.Addr{}
	must(t, h.Apply(moved))
	if got := routeList(t, h); !slices.Contains(got, "10.244.0.0/16 dev weft0 proto 119") {
		t.Errorf("routes: %v", got)
	}
	if got := e.take(t); slices.Contains(got, unix.RTM_DELROUTE) {
		t.Errorf("events %v: the route was removed before the new one was added", got)
	}
}

func TestApplyNamesAForeignRoute(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	eth := newVeth(t, h, "eth0", "eth0p", "192.0.2.2/24")
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("10.244.0.0/16"), Gw: net.ParseIP("192.0.2.1"), Protocol: unix.RTPROT_STATIC}))
	const theirs = "10.244.0.0/16 via 192.0.2.1 dev eth0 proto static"

	err := h.Apply(testState())
	if err == nil || !strings.Contains(err.Error(), "`ip route del "+theirs+"`") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Apply = %v, want one line that names the route and how to remove it", err)
	}
	want := []string{"192.0.2.0/24 dev eth0 proto kernel src 192.0.2.2", theirs, ourRoutes()[1]}
	slices.Sort(want)
	if d := cmp.Diff(want, routeList(t, h)); d != "" {
		t.Errorf("routes (-want +got): the foreign one must stay and the rest be done:\n%s", d)
	}
	must(t, h.nl.LinkDel(eth)) // and the route with it
	must(t, h.Apply(testState()))
	checkApplied(t, h)
}

func TestRemoveLeavesTheHostAsBefore(t *testing.T) {
	h := newNamespace(t)
	eth := newVeth(t, h, "eth0", "eth0p", "192.0.2.2/24")
	must(t, h.nl.LinkSetAlias(eth, Alias)) // no TUN, so not ours
	newTUN(t, "tun9")
	must(t, h.nl.LinkSetUp(link(t, h, "tun9")))
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("10.8.0.0/16"), LinkIndex: link(t, h, "tun9").Attrs().Index, Protocol: unix.RTPROT_STATIC}))
	waitForLinkLocal(t, h, "eth0", "eth0p", "tun9")
	before := snapshot(t, h)

	newTUN(t, "weft0")
	must(t, h.Apply(testState()))
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("10.99.0.0/16"), Gw: net.ParseIP("192.0.2.9"), Protocol: RouteProtocol}))
	must(t, h.Remove())
	if d := cmp.Diff(before, snapshot(t, h)); d != "" {
		t.Errorf("the host (-before +after):\n%s", d)
	}
	must(t, h.Remove())
}

// waitForLinkLocal waits for the addresses the kernel makes by itself, so that they do not appear between two
// snapshots.
func waitForLinkLocal(t *testing.T, h *Host, names ...string) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for _, name := range names {
		for {
			addrs, err := h.addresses(link(t, h, name), netlink.FAMILY_V6)
			must(t, err)
			if len(addrs) > 0 && link(t, h, name).Attrs().OperState != netlink.OperDown {
				break
			}
			select {
			case <-look.C:
			case <-deadline:
				t.Fatalf("no link-local address on %s", name)
			}
		}
	}
}

func TestApplyRefusesTheWrongLink(t *testing.T) {
	h := newNamespace(t)
	newVeth(t, h, "eth0", "eth0p", "192.0.2.2/24")
	newTUN(t, "weft0")
	must(t, h.Apply(testState()))

	other := testState()
	for name, want := range map[string]string{
		"weft7": "interface weft0 carries weft's mark",
		"eth0":  "interface weft0 carries weft's mark",
	} {
		other.Link = name
		if err := h.Apply(other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Apply on %s beside weft0 = %v, want %q", name, err, want)
		}
	}
	must(t, h.Remove())
	for name, want := range map[string]string{
		"weft7": "interface weft7 does not exist",
		"eth0":  "interface eth0 is not a TUN (its type is veth)",
	} {
		other.Link = name
		if err := h.Apply(other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Apply on %s = %v, want %q", name, err, want)
		}
	}
	if addrs, err := h.addresses(link(t, h, "eth0"), netlink.FAMILY_V4); err != nil || len(addrs) != 1 {
		t.Errorf("addresses of eth0: %v, %v", addrs, err)
	}
}

func TestRemoveSparesAnotherWeftd(t *testing.T) {
	h := newNamespace(t)
	tun := newTUN(t, "weft0")
	must(t, h.Apply(testState()))
	newTUN(t, "weft7")
	before := snapshot(t, h)

	second, err := Open()
	must(t, err)
	defer second.Close()
	state := testState()
	state.Link = "weft7"
	if second.Apply(state) == nil {
		t.Error("the second weftd was let in")
	}
	if err := second.Remove(); err == nil || !strings.Contains(err.Error(), "another weftd runs") {
		t.Errorf("Remove beside a weftd at work = %v, want an error that says so", err)
	}
	if d := cmp.Diff(before, snapshot(t, h)); d != "" {
		t.Errorf("the first weftd's host (-before +after):\n%s", d)
	}

	// What only persists, nobody holds.
	raw, err := tun.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { must(t, unix.IoctlSetInt(int(fd), unix.TUNSETPERSIST, 1)) }))
	must(t, tun.Close())
	must(t, second.Remove())
	if _, err := h.nl.LinkByName("weft0"); err == nil {
		t.Error("the TUN that the first weftd left is still there")
	}
	if got := routeList(t, h); len(got) != 0 {
		t.Errorf("routes left: %v", got)
	}
}
