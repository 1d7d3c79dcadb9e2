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

func TestCheckPodNetwork(t *testing.T) {
	h := newNamespace(t)
	prefixes := func(list ...string) (p []netip.Prefix) {
		for _, s := range list {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	networks, own := prefixes("10.244.0.0/16", "fd00:244::/32"), prefixes("10.244.1.0/24", "fd00:244:1::/64")
	underlay := []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")}
	newUnderlay(t, h)
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("0.0.0.0/0"), Gw: net.ParseIP("192.0.2.1")}))
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("2000::/3"), Gw: net.ParseIP("2001:db8::1")}))
	newTUN(t, "weft0")
	apply(t, h, directState())
	if warnings, err := h.CheckPodNetwork(networks, prefixes("10.244.9.0/24", "fd00:244:9::/64"), underlay); err != nil || len(warnings) > 0 {
		t.Errorf("beside a TUN and routes of weft's from another pod CIDR: %q, %v", warnings, err)
	}
	newVeth(t, h, "cni0", "cni0p", "10.244.1.1/24", "fd00:244:1::1/64") // the pods' own
	check := func(want, wantWarning string) {
		t.Helper()
		warnings, err := h.CheckPodNetwork(networks, own, underlay)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("error %v, want one line with %q", err, want)
		}
		if wantWarning == "" && len(warnings) > 0 || wantWarning != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], wantWarning)) {
			t.Errorf("warnings %q, want %q", warnings, wantWarning)
		}
	}
	check("", "")

	for _, inside := range []string{"10.244.1.5", "fd00:244:1::5"} {
		want := "underlay address " + inside + " is inside the pod network"
		if _, err := h.CheckPodNetwork(networks, own, []netip.Addr{underlay[0], netip.MustParseAddr(inside)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("underlay %s inside the pod network: %v", inside, err)
		}
	}
	for _, clash := range []string{"10.244.7.1/24", "fd00:244:7::1/64"} {
		eth1 := newVeth(t, h, "eth1", "eth1p", clash)
		check("address "+netip.MustParsePrefix(clash).Addr().String()+" of interface eth1 is inside the pod network", "")
		must(t, h.nl.LinkDel(eth1))
	}

	// What is left of a former block on a bridge that weft made keeps nobody from starting.
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "cni1", net.HardwareAddr{0x0e, 0x77, 10, 244, 7, 1}
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	must(t, h.nl.LinkAdd(bridge))
	must(t, h.nl.AddrAdd(bridge, &netlink.Addr{IPNet: hostNet("10.244.7.1/24")}))
	must(t, h.nl.LinkSetUp(bridge))
	check("", "route 10.244.7.0/24 dev cni1")
	must(t, h.nl.LinkDel(bridge))

	for _, c := range []struct{ route, err, warning string }{
		{"10.0.0.0/8", "", "route 10.0.0.0/8 via 192.0.2.1 dev eth0 proto static covers the pod network"},
		{"10.244.9.0/24", "", "route 10.244.9.0/24 via 192.0.2.1 dev eth0 proto static is inside the pod network"},
		{"10.244.1.77/32", "", ""},
		{"10.244.0.0/16", "already routes the pod network 10.244.0.0/16 by 10.244.0.0/16 via 192.0.2.1 dev eth0 proto static metric 9", ""},
		{"fd00::/8", "", "route fd00::/8 via 2001:db8::1 dev eth0 proto static metric 1024 covers the pod network fd00:244::/32"},
		{"fd00:244:9::/64", "", "route fd00:244:9::/64 via 2001:db8::1 dev eth0 proto static metric 1024 is inside the pod network"},
		{"fd00:244:1::77/128", "", ""},
		{"fd00:244::/32", "already routes the pod network fd00:244::/32 by fd00:244::/32 via 2001:db8::1 dev eth0 proto static metric 9", ""},
	} {
		r := &netlink.Route{Dst: hostNet(c.route), Gw: net.ParseIP("192.0.2.1"), Protocol: unix.RTPROT_STATIC}
		if strings.Contains(c.route, ":") {
			r.Gw = net.ParseIP("2001:db8::1")
		}
		if c.err != "" {
			r.Priority = 9 // beside weft's own
		}
		must(t, h.nl.RouteAdd(r))
		check(c.err, c.warning)
		must(t, h.nl.RouteDel(r))
	}
	check("", "")
}
