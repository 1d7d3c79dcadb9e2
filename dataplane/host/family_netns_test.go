//go:build netns

package host

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The kernel takes IPv6 off an interface with an MTU below 1280 and puts it back, with new parameters, above.
func TestApplyAfterIPv6WasTakenOffTheTUN(t *testing.T) {
	for name, takeOff := range map[string]func(t *testing.T, h *Host){
		"by its MTU": func(t *testing.T, h *Host) { must(t, h.nl.LinkSetMTU(link(t, h, "weft0"), minMTU-1)) },
		"by sysctl":  func(t *testing.T, _ *Host) { setSysctl(t, "net/ipv6/conf/weft0/disable_ipv6", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newNamespace(t)
			setSysctl(t, "net/ipv4/conf/default/rp_filter", "0")
			newTUN(t, "weft0")
			takeOff(t, h)
			apply(t, h, testState())
			checkApplied(t, h)
			takeOff(t, h)
			if repaired := apply(t, h, testState()); !slices.Contains(repaired, "address fd00:244:1::/128 on interface weft0") ||
				!slices.Contains(repaired, "route "+ourRoutes()[1]) || slices.Contains(repaired, "route "+ourRoutes()[0]) {
				t.Errorf("repaired %q, want what IPv6 had, and not what IPv4 has", repaired)
			}
			checkApplied(t, h)
		})
	}
}

func oneFamily(s State, is4 bool) State {
	s.Addresses = slices.DeleteFunc(s.Addresses, func(p netip.Prefix) bool { return p.Addr().Is4() != is4 })
	s.Routes = slices.DeleteFunc(s.Routes, func(r Route) bool { return r.Prefix.Addr().Is4() != is4 })
	return s
}

func TestApplyOfOneFamilyLeavesTheOtherAlone(t *testing.T) {
	for _, c := range []struct {
		is4      bool
		v4, v6   string // forwarding
		disabled string // IPv6 on the TUN, which the host has disabled
	}{{true, "1", "0", "1"}, {false, "0", "1", "0"}} {
		h := newNamespace(t)
		setSysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
		newTUN(t, "weft0")
		apply(t, h, oneFamily(testState(), c.is4))
		for path, want := range map[string]string{"net/ipv4/ip_forward": c.v4, "net/ipv6/conf/all/forwarding": c.v6, "net/ipv6/conf/weft0/disable_ipv6": c.disabled} {
			if got := sysctlValue(t, path); got != want {
				t.Errorf("IPv4 %v: %s is %s, want %s", c.is4, path, got, want)
			}
		}
		for _, r := range routeList(t, h) {
			if strings.Contains(r, "10.244.") != c.is4 {
				t.Errorf("IPv4 %v: route %s", c.is4, r)
			}
		}
	}
}
