//go:build netns

package host

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestUnderlay shows that the kernel's own answers are read right; the choice itself is in TestChooseUnderlay.
func TestUnderlay(t *testing.T) {
	h := newNamespace(t)
	if _, err := h.Underlay(""); err == nil || !strings.Contains(err.Error(), "no IPv4 default route") || !strings.Contains(err.Error(), "no interface with an IPv4 address is up") {
		t.Errorf("in an empty namespace: %v", err)
	}
	eth0 := newVeth(t, h, "eth0", "eth0p", "192.0.2.2/24", "192.0.2.3/24", "198.51.100.2/24")
	newVeth(t, h, "eth1", "eth1p", "203.0.113.3/24")
	must(t, h.nl.LinkSetMTU(eth0, 1450))
	newTUN(t, "weft0")
	must(t, h.Apply(testState()))
	if _, err := h.Underlay(""); err == nil || !strings.Contains(err.Error(), "for example eth0 (192.0.2.2), eth1 (203.0.113.3)") || strings.Contains(err.Error(), "weft0") {
		t.Errorf("without a default route: %v", err)
	}
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("0.0.0.0/0"), Gw: net.ParseIP("203.0.113.1"), Priority: 100}))
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("0.0.0.0/0"), Gw: net.ParseIP("198.51.100.254"), LinkIndex: eth0.Attrs().Index}))

	want := Underlay{Interface: "eth0", Address: netip.MustParseAddr("198.51.100.2"), MTU: 1450,
		Why: "interface of the default route (via 198.51.100.254, metric 0); of its 2 addresses the one in the gateway's subnet"}
	if got, err := h.Underlay(""); err != nil || got != want {
		t.Errorf("Underlay(\"\") = %+v, %v; want %+v", got, err, want)
	}
	// The kernel agrees that this is the source of the default route.
	routes, err := h.nl.RouteGet(net.ParseIP("8.8.8.8"))
	if err != nil || len(routes) != 1 || addrOf(routes[0].Src) != want.Address {
		t.Errorf("the kernel sends from %v, %v; want %v", routes, err, want.Address)
	}
	for choice, want := range map[string]string{"eth1": "203.0.113.3", "192.0.2.3": "192.0.2.3"} {
		if got, err := h.Underlay(choice); err != nil || got.Address.String() != want {
			t.Errorf("Underlay(%q) = %+v, %v; want %s", choice, got, err, want)
		}
	}
	must(t, h.nl.LinkSetDown(link(t, h, "eth1")))
	for choice, want := range map[string]string{
		"eth1":        "interface eth1 is down",
		"203.0.113.3": "interface eth1 is down",
		"eht0":        "did you mean eth0?",
		"eth0p":       "interface eth0p has no IPv4 address",
		"weft0":       "weft's own TUN",
	} {
		if got, err := h.Underlay(choice); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Underlay(%q) = %+v, %v; want %q", choice, got, err, want)
		}
	}
}

func TestCheckPodNetwork(t *testing.T) {
	h := newNamespace(t)
	podNetwork, podCIDR := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.244.1.0/24")
	underlay := netip.MustParseAddr("192.0.2.2")
	newVeth(t, h, "eth0", "eth0p", "192.0.2.2/24")
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("0.0.0.0/0"), Gw: net.ParseIP("192.0.2.1")}))
	newTUN(t, "weft0")
	must(t, h.Apply(testState()))
	if warnings, err := h.CheckPodNetwork(podNetwork, netip.MustParsePrefix("10.244.2.0/24"), underlay); err != nil || len(warnings) > 0 {
		t.Errorf("beside a TUN and routes of weft's from another pod CIDR: %q, %v", warnings, err)
	}
	newVeth(t, h, "cni0", "cni0p", "10.244.1.1/24") // the pods' own
	check := func(want, wantWarning string) {
		t.Helper()
		warnings, err := h.CheckPodNetwork(podNetwork, podCIDR, underlay)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("error %v, want one line with %q", err, want)
		}
		if wantWarning == "" && len(warnings) > 0 || wantWarning != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], wantWarning)) {
			t.Errorf("warnings %q, want %q", warnings, wantWarning)
		}
	}
	check("", "")

	if _, err := h.CheckPodNetwork(podNetwork, podCIDR, netip.MustParseAddr("10.244.1.5")); err == nil || !strings.Contains(err.Error(), "underlay address 10.244.1.5 is inside the pod network") {
		t.Errorf("underlay inside the pod network: %v", err)
	}

	eth1 := newVeth(t, h, "eth1", "eth1p", "10.244.7.1/24")
	check("address 10.244.7.1 of interface eth1 is inside the pod network", "")
	must(t, h.nl.LinkDel(eth1))

	for _, c := range []struct{ route, err, warning string }{
		{"10.0.0.0/8", "", "route 10.0.0.0/8 via 192.0.2.1 dev eth0 proto static covers the pod network"},
		{"10.244.9.0/24", "", "route 10.244.9.0/24 via 192.0.2.1 dev eth0 proto static is inside the pod network"},
		{"10.244.1.77/32", "", ""},
		{"10.244.0.0/16", "already routes the pod network 10.244.0.0/16 by 10.244.0.0/16 via 192.0.2.1 dev eth0 proto static metric 9", ""},
	} {
		r := &netlink.Route{Dst: hostNet(c.route), Gw: net.ParseIP("192.0.2.1"), Protocol: unix.RTPROT_STATIC}
		if c.err != "" {
			r.Priority = 9 // beside weft's own
		}
		must(t, h.nl.RouteAdd(r))
		check(c.err, c.warning)
		must(t, h.nl.RouteDel(r))
	}
	check("", "")
}
