//go:build netns

package host

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestPods finds pods by their routes, and on bridges of others by what was heard of them.
func TestPods(t *testing.T) {
	h := newNamespace(t)
	newVeth(t, h, "routed", "routedp")
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("10.244.1.5/32"), LinkIndex: link(t, h, "routed").Attrs().Index, Scope: netlink.SCOPE_LINK}))
	for name, bridge := range map[string]struct{ mac, pod string }{
		"cni0": {"0e:77:0a:f4:01:01", "10.244.1.6"}, "flannel": {"0e:55:0a:f4:01:01", "10.244.1.7"},
	} {
		mac, err := net.ParseMAC(bridge.mac)
		must(t, err)
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = name, mac
		must(t, h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
		must(t, h.nl.LinkSetUp(link(t, h, name)))
		must(t, h.nl.NeighAdd(&netlink.Neigh{LinkIndex: link(t, h, name).Attrs().Index, IP: net.ParseIP(bridge.pod), HardwareAddr: mac, State: netlink.NUD_PERMANENT}))
	}
	pods, err := h.Pods([]netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}, "weft0")
	want := []Pod{{netip.MustParseAddr("10.244.1.5"), "routed"}, {netip.MustParseAddr("10.244.1.7"), "flannel"}}
	if err != nil || !slices.Equal(pods, want) {
		t.Errorf("%v, %v; want %v", pods, err, want)
	}
}
