//go:build netns

package host

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestUnderlay shows that the kernel's own answers are read right; the choice itself is in TestChooseUnderlay.
func TestUnderlay(t *testing.T) {
	h := newNamespace(t)
	if _, err := h.Underlay(""); err == nil || !strings.Contains(err.Error(), "no default route") || !strings.Contains(err.Error(), "no interface with an address is up") {
		t.Errorf("in an empty namespace: %v", err)
	}
	eth0 := newVeth(t, h, "eth0", "eth0p", "192.0.2.2/24", "192.0.2.3/24", "198.51.100.2/24")
	newVeth(t, h, "eth1", "eth1p", "203.0.113.3/24")
	must(t, h.nl.LinkSetMTU(eth0, 1450))
	newTUN(t, "weft0")
	apply(t, h, testState())
	if _, err := h.Underlay(""); err == nil || !strings.Contains(err.Error(), "for example eth0 (192.0.2.2), eth1 (203.0.113.3)") || strings.Contains(err.Error(), "weft0") {
		t.Errorf("without a default route: %v", err)
	}
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("0.0.0.0/0"), Gw: net.ParseIP("203.0.113.1"), Priority: 100}))
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("0.0.0.0/0"), Gw: net.ParseIP("198.51.100.254"), LinkIndex: eth0.Attrs().Index}))

	want := Underlay{Interface: "eth0", Index: eth0.Attrs().Index, Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.2")}, MTU: 1450,
		Why: "interface of the default route (via 198.51.100.254, metric 0); of its 2 addresses the one in the gateway's subnet"}
	got, err := h.Underlay("")
	must(t, err)
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("Underlay(\"\") (-want +got):\n%s", d)
	}
	// The kernel agrees that this is the source of the default route.
	routes, err := h.nl.RouteGet(net.ParseIP("8.8.8.8"))
	if err != nil || len(routes) != 1 || addrOf(routes[0].Src) != want.Address() {
		t.Errorf("the kernel sends from %v, %v; want %v", routes, err, want.Address())
	}
	for choice, want := range map[string]string{"eth1": "203.0.113.3", "192.0.2.3": "192.0.2.3"} {
		if got, err := h.Underlay(choice); err != nil || got.Address().String() != want {
			t.Errorf("Underlay(%q) = %+v, %v; want %s", choice, got, err, want)
		}
	}
	must(t, h.nl.LinkSetDown(link(t, h, "eth1")))
	for choice, want := range map[string]string{
		"eth1":        "interface eth1 is down",
		"203.0.113.3": "interface eth1 is down",
		"eht0":        "did you mean eth0?",
		"eth0p":       "interface eth0p has no address that other nodes could reach",
		"weft0":       "weft's own TUN",
	} {
		if got, err := h.Underlay(choice); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Underlay(%q) = %+v, %v; want %q", choice, got, err, want)
		}
	}
}

// TestUnderlayIPv6 has the kernel make the flags by which addresses are told apart.
func TestUnderlayIPv6(t *testing.T) {
	h := newNamespace(t)
	eth0 := newVeth(t, h, "eth0", "eth0p", "192.0.2.2/24")
	eth1 := newVeth(t, h, "eth1", "eth1p")
	must(t, h.nl.LinkSetUp(eth1))
	for _, a := range []netlink.Addr{
		{IPNet: hostNet("2001:db8::1/64"), ValidLft: 3600, PreferedLft: 0},                                 // deprecated
		{IPNet: hostNet("2001:db8::2/64"), ValidLft: 3600, PreferedLft: 3600},                              // by autoconfiguration
		{IPNet: hostNet("2001:db8::3/64"), ValidLft: 3600, PreferedLft: 3600, Flags: unix.IFA_F_TEMPORARY}, // the kernel drops the flag
		{IPNet: hostNet("fd00::1/64")},
	} {
		a.Flags |= unix.IFA_F_NODAD
		must(t, h.nl.AddrAdd(eth1, &a))
	}
	must(t, h.nl.AddrAdd(eth0, &netlink.Addr{IPNet: hostNet("2001:db8:1::9/64"), Flags: unix.IFA_F_NODAD}))
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("::/0"), Gw: net.ParseIP("2001:db8::ff"), LinkIndex: eth1.Attrs().Index}))
	check := func(choice, iface, addrs string) {
		t.Helper()
		got, err := h.Underlay(choice)
		if err != nil || got.Interface != iface || fmt.Sprint(got.Addresses) != addrs {
			t.Errorf("Underlay(%q) = %+v, %v; want %s %s", choice, got, err, iface, addrs)
		}
	}
	check("", "eth1", "[fd00::1]") // it alone does not expire
	check("eth1", "eth1", "[fd00::1]")
	check("eth0", "eth0", "[192.0.2.2 2001:db8:1::9]")
	check("2001:db8::2", "eth1", "[2001:db8::2]")
	must(t, h.nl.AddrAdd(eth1, &netlink.Addr{IPNet: hostNet("2001:db8::4/64"), Flags: unix.IFA_F_NODAD}))
	check("", "eth1", "[2001:db8::4]")
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("0.0.0.0/0"), Gw: net.ParseIP("192.0.2.1")}))
	check("", "eth0", "[192.0.2.2 2001:db8:1::9]")
}
