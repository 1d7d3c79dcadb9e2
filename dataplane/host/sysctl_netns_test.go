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

// TestForwardingKeepsTheAdvertisedDefaultRoute has a router on eth0's link.
func TestForwardingKeepsTheAdvertisedDefaultRoute(t *testing.T) {
	h := newNamespace(t)
	newVeth(t, h, "eth0", "eth0p")
	newVeth(t, h, "eth1", "eth1p")
	newTUN(t, "weft0")
	setSysctl(t, "net/ipv6/conf/eth1/accept_ra", "0")
	waitForLinkLocal(t, h, "eth0", "eth0p")
	advertised := func() bool {
		t.Helper()
		routes, err := h.routes()
		must(t, err)
		return slices.ContainsFunc(routes, func(r netlink.Route) bool {
			return prefixOf(r.Dst) == netip.MustParsePrefix("::/0") && r.Gw.Equal(routerAddress.AsSlice())
		})
	}
	advertise := func() {
		t.Helper()
		deadline := time.Now().Add(5 * time.Second)
		for !advertised() {
			if time.Now().After(deadline) {
				t.Fatal("no default route from the router's advertisements")
			}
			sendFrame(t, h, "eth0p", routerAdvertisement())
		}
	}
	advertise()
	if got := sysctlValue(t, "net/ipv6/conf/eth0/accept_ra"); got != "1" {
		t.Fatalf("accept_ra is %s at first, want 1", got)
	}

	apply(t, h, testState())
	if !advertised() {
		t.Error("the default route is gone")
	}
	for link, want := range map[string]string{"eth0": "2", "eth1": "0", "weft0": "1", "lo": "1", "default": "1", "all": "1"} {
		if got := sysctlValue(t, "net/ipv6/conf/"+link+"/accept_ra"); got != want {
			t.Errorf("accept_ra of %s is %s, want %s", link, got, want)
		}
	}
	must(t, h.nl.RouteDel(&netlink.Route{Dst: hostNet("::/0"), Gw: routerAddress.AsSlice()}))
	advertise() // still heard

	// What comes when the host forwards already is left as it is.
	newVeth(t, h, "pod1", "pod1p")
	apply(t, h, testState())
	if got := sysctlValue(t, "net/ipv6/conf/pod1/accept_ra"); got != "1" {
		t.Errorf("accept_ra of a later interface is %s, want 1", got)
	}
}

// TestUnderlayPassesWhatComesDirectly looks at what the kernel does with a packet of a peer that comes by eth0,
// while the way back to it leads into the TUN.
func TestUnderlayPassesWhatComesDirectly(t *testing.T) {
	for _, c := range []struct{ all, own, after string }{
		{"0", "0", "0"},
		{"0", "1", "2"},
		{"1", "0", "2"},
		{"1", "1", "2"},
		{"1", "2", "2"},
		{"2", "0", "0"},
		{"2", "1", "1"},
		{"0", "2", "2"},
	} {
		t.Run("all "+c.all+" own "+c.own, func(t *testing.T) {
			h := newNamespace(t)
			newTUN(t, "weft0")
			newUnderlay(t, h)
			state := testState()
			apply(t, h, state)
			setSysctl(t, "net/ipv4/conf/all/rp_filter", c.all)
			setSysctl(t, "net/ipv4/conf/eth0/rp_filter", c.own)
			passes := func() bool {
				t.Helper()
				_, err := h.nl.RouteGetWithOptions(net.ParseIP("192.0.2.2"), &netlink.RouteGetOptions{Iif: "eth0", SrcAddr: net.ParseIP("10.244.2.5")})
				if err != nil && !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EINVAL) { // by kernel
					t.Fatal(err)
				}
				return err == nil
			}
			if strict := max(c.all, c.own) == "1"; passes() == strict {
				t.Fatalf("passes %v before, although strict is %v", passes(), strict)
			}
			state.Underlay = "eth0"
			apply(t, h, state)
			if got := sysctlValue(t, "net/ipv4/conf/eth0/rp_filter"); got != c.after || !passes() {
				t.Errorf("rp_filter %s, passes %v; want %s and that it passes", got, passes(), c.after)
			}
			if got := sysctlValue(t, "net/ipv4/conf/all/rp_filter"); got != c.all {
				t.Errorf("rp_filter of all became %s", got)
			}
			if c.after != "2" {
				return
			}
			setSysctl(t, "net/ipv4/conf/eth0/rp_filter", "1")
			repaired := apply(t, h, state)
			if want := []string{"sysctl net.ipv4.conf.eth0.rp_filter=2"}; c.all != "2" && !slices.Equal(repaired, want) {
				t.Errorf("repaired %q, want %q", repaired, want)
			}
		})
	}
	h := newNamespace(t)
	newTUN(t, "weft0")
	state := testState()
	state.Underlay = "eth9"
	if _, err := h.Apply(state); err == nil {
		t.Error("no error for an underlay that does not exist")
	}
	checkApplied(t, h)
}
