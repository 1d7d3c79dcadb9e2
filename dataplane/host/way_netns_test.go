//go:build netns

package host

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestWay(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	eth := newUnderlay(t, h)
	must(t, h.nl.LinkSetMTU(eth, 1450))
	apply(t, h, testState())
	via := func(to, gw string, mtu int) *netlink.Route {
		return &netlink.Route{Dst: hostNet(to), Gw: net.ParseIP(gw), MTU: mtu}
	}
	for _, r := range []*netlink.Route{
		via("198.51.100.0/24", "192.0.2.1", 0),
		via("203.0.113.0/24", "192.0.2.1", 1400),
		via("2001:db8:1::/48", "2001:db8::1", 0),
		via("2001:db8:2::/48", "2001:db8::1", 1400),
		via("203.0.113.64/26", "192.0.2.1", 9000),
	} {
		must(t, h.nl.RouteAdd(r))
	}
	source4, source6 := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
	router4, router6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for to, want := range map[string]Way{
		"192.0.2.9":     {Interface: "eth0", OnLink: true, MTU: 1450, Source: source4},
		"198.51.100.9":  {Interface: "eth0", Via: router4, MTU: 1450, Source: source4},
		"203.0.113.9":   {Interface: "eth0", Via: router4, MTU: 1400, Source: source4},
		"203.0.113.99":  {Interface: "eth0", Via: router4, MTU: 1450, Source: source4},
		"10.244.2.9":    {Interface: "weft0", OnLink: true, MTU: 1472, Source: netip.MustParseAddr("10.244.1.0")},
		"192.0.2.2":     {Interface: "lo", OnLink: true, MTU: 65536, Source: source4},
		"2001:db8::9":   {Interface: "eth0", OnLink: true, MTU: 1450, Source: source6},
		"2001:db8:1::9": {Interface: "eth0", Via: router6, MTU: 1450, Source: source6},
		"2001:db8:2::9": {Interface: "eth0", Via: router6, MTU: 1400, Source: source6},
		"fd00:244:2::9": {Interface: "weft0", OnLink: true, MTU: 1472, Source: netip.MustParseAddr("fd00:244:1::")},
		"2001:db8::2":   {Interface: "lo", OnLink: true, MTU: 65536, Source: source6},
	} {
		got, err := h.Way(netip.MustParseAddr(to))
		// The kernel adds the routes to the host's own IPv6 addresses when the link's carrier is there.
		for deadline := time.Now().Add(5 * time.Second); got != want && time.Now().Before(deadline); {
			got, err = h.Way(netip.MustParseAddr(to))
		}
		if err != nil || got != want {
			t.Errorf("Way(%s) = %+v, %v; want %+v", to, got, err, want)
		}
	}
	for to, want := range map[string]error{
		"8.8.8.8":       unix.ENETUNREACH,
		"2001:4860::8":  unix.ENETUNREACH,
		"10.244.1.9":    unix.EHOSTUNREACH,
		"fd00:244:1::9": unix.EHOSTUNREACH,
	} {
		if got, err := h.Way(netip.MustParseAddr(to)); !errors.Is(err, want) {
			t.Errorf("Way(%s) = %+v, %v; want %v", to, got, err, want)
		}
	}
}

// A forged ICMP error must not narrow a way.
func TestWayIgnoresWhatICMPSays(t *testing.T) {
	h := newNamespace(t)
	eth := newUnderlay(t, h)
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("0.0.0.0/0"), Gw: net.ParseIP("192.0.2.1")}))
	c, err := net.Dial("udp4", "198.51.100.9:8285")
	must(t, err)
	defer c.Close()
	to, own := c.RemoteAddr().(*net.UDPAddr).AddrPort(), c.LocalAddr().(*net.UDPAddr).AddrPort()
	icmp := fragmentationNeeded(eth.Attrs().HardwareAddr, netip.MustParseAddr("192.0.2.1"), own, to, 1300)
	for deadline := time.Now().Add(5 * time.Second); ; {
		sendFrame(t, h, "eth0p", icmp)
		r, err := h.routeGet(to.Addr(), nil)
		must(t, err)
		if r.MTU == 1300 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the kernel did not take the ICMP error: the route's MTU is %d", r.MTU)
		}
	}
	want := Way{Interface: "eth0", Via: netip.MustParseAddr("192.0.2.1"), MTU: 1500, Source: netip.MustParseAddr("192.0.2.2")}
	if got, err := h.Way(to.Addr()); err != nil || got != want {
		t.Errorf("Way = %+v, %v; want %+v", got, err, want)
	}
}

// A run finds the direct routes of the one before, and none of others or for probes.
func TestDirect(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	eth := newUnderlay(t, h)
	apply(t, h, directState())
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("10.244.9.0/24"), Gw: net.ParseIP("192.0.2.9"), LinkIndex: eth.Attrs().Index}))
	got, err := h.Direct("eth0")
	var want []Route
	for _, r := range directState().Routes {
		if r.Via.IsValid() && !r.Marked && !r.Probe {
			want = append(want, r)
		}
	}
	less := func(a, b Route) int { return a.Prefix.Compare(b.Prefix) }
	slices.SortFunc(got, less)
	slices.SortFunc(want, less)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("direct routes are %+v, %v; want %+v", got, err, want)
	}
	if got, err := h.Direct("eth1"); err != nil || len(got) > 0 {
		t.Errorf("over another interface there are %+v, %v", got, err)
	}
}
