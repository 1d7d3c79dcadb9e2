//go:build netns

package host

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newUnderlay makes eth0 with an address of each family, and theirRoutes with it.
func newUnderlay(t *testing.T, h *Host) netlink.Link {
	t.Helper()
	return newVeth(t, h, "eth0", "eth0p", "192.0.2.2/24", "2001:db8::2/64")
}

func theirRoutes() []string {
	return []string{"192.0.2.0/24 dev eth0 proto kernel src 192.0.2.2", "2001:db8::/64 dev eth0 proto kernel metric 256"}
}

// directState is testState with peer 2 reached directly, peer 3 by the TUN and probed, and peer 4 with IPv4 pods on an underlay
// that has IPv6 only, at addresses that no connected route holds. The paths to 2001:db8::5, which is on the link, and
// 2001:db8:66::6, which is not, are narrow.
func directState() State {
	s := testState()
	s.Underlay = "eth0"
	block2, block2v6 := netip.MustParsePrefix("10.244.2.0/24"), netip.MustParsePrefix("fd00:244:2::/64")
	s.Routes = append(s.Routes,
		Route{Prefix: block2, Source: netip.MustParseAddr("10.244.1.0"), Via: netip.MustParseAddr("192.0.2.22"), Device: "eth0"},
		Route{Prefix: block2v6, Via: netip.MustParseAddr("2001:db8::22"), Device: "eth0"},
		Route{Prefix: netip.MustParsePrefix("10.244.4.0/24"), Via: netip.MustParseAddr("2001:db8:44::44"), Device: "eth0"},
		Route{Prefix: netip.MustParsePrefix("10.244.3.0/32"), Source: netip.MustParseAddr("10.244.1.0")},
		Route{Prefix: netip.MustParsePrefix("10.244.3.0/32"), Via: netip.MustParseAddr("198.51.100.33"), Device: "eth0", Probe: true},
		Route{Prefix: netip.MustParsePrefix("fd00:244:3::/128"), Source: netip.MustParseAddr("fd00:244:1::")},
		Route{Prefix: netip.MustParsePrefix("fd00:244:3::/128"), Via: netip.MustParseAddr("2001:db8:33::33"), Device: "eth0", Probe: true},
		Route{Prefix: netip.MustParsePrefix("2001:db8::5/128"), Device: "eth0", MTU: 1280, Marked: true},
		Route{Prefix: netip.MustParsePrefix("2001:db8:66::6/128"), Via: netip.MustParseAddr("fe80::1"), Device: "eth0", MTU: 1280, Marked: true})
	return s
}

// directRoutes is what directState adds to testState's.
func directRoutes() []string {
	return []string{
		"10.244.2.0/24 via 192.0.2.22 dev eth0 proto 119 src 10.244.1.0 onlink",
		"fd00:244:2::/64 via 2001:db8::22 dev eth0 proto 119 metric 1024 onlink",
		"10.244.4.0/24 via inet6 2001:db8:44::44 dev eth0 proto 119 onlink",
		"10.244.3.0/32 dev weft0 proto 119 src 10.244.1.0",
		"10.244.3.0/32 via 198.51.100.33 dev eth0 proto 119 metric 4278198271 onlink",
		"fd00:244:3::/128 dev weft0 proto 119 src fd00:244:1:: metric 1024",
		"fd00:244:3::/128 via 2001:db8:33::33 dev eth0 proto 119 metric 4278198271 onlink",
		"2001:db8::5/128 dev eth0 table 119 proto 119 metric 1024 mtu lock 1280",
		"2001:db8:66::6/128 via fe80::1 dev eth0 table 119 proto 119 metric 1024 onlink mtu lock 1280",
	}
}

func TestPacketsGoDirectly(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	newUnderlay(t, h)
	apply(t, h, directState())
	for to, want := range map[string]Way{
		"10.244.2.7":      {Interface: "eth0", Via: netip.MustParseAddr("192.0.2.22"), MTU: 1500, Source: netip.MustParseAddr("10.244.1.0")},
		"fd00:244:2::7":   {Interface: "eth0", Via: netip.MustParseAddr("2001:db8::22"), MTU: 1500, Source: netip.MustParseAddr("2001:db8::2")},
		"10.244.4.7":      {Interface: "eth0", Via: netip.MustParseAddr("2001:db8:44::44"), MTU: 1500, Source: netip.MustParseAddr("192.0.2.2")},
		"10.244.3.0":      {Interface: "weft0", OnLink: true, MTU: 1472, Source: netip.MustParseAddr("10.244.1.0")},
		"fd00:244:3::":    {Interface: "weft0", OnLink: true, MTU: 1472, Source: netip.MustParseAddr("fd00:244:1::")},
		"fd00:244:99::99": {Interface: "weft0", OnLink: true, MTU: 1472, Source: netip.MustParseAddr("fd00:244:1::")},
	} {
		if got, err := h.Way(netip.MustParseAddr(to)); err != nil || got != want {
			t.Errorf("Way(%s) = %+v, %v; want %+v", to, got, err, want)
		}
	}

	direct, err := h.Direct("eth0")
	must(t, err)
	if want := directState().Routes[4:7]; !slices.Equal(direct, []Route{want[0], want[2], want[1]}) {
		t.Errorf("Direct = %+v, want %+v, IPv4 first", direct, want)
	}
	if direct, err := h.Direct("weft0"); err != nil || len(direct) > 0 {
		t.Errorf("Direct of another device = %+v, %v", direct, err)
	}

	// A peer without its direct route falls back to the TUN.
	if repaired := apply(t, h, testState()); len(repaired) > 0 {
		t.Errorf("repaired %q", repaired)
	}
	if got, err := h.Way(netip.MustParseAddr("10.244.2.7")); err != nil || got.Interface != "weft0" {
		t.Errorf("Way to a peer that is not direct = %+v, %v; want the TUN", got, err)
	}
}

func TestApplyDoesTheRestWithoutADevice(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	newUnderlay(t, h)
	s := directState()
	s.Routes[4].Device = "eth9"
	_, err := h.Apply(s)
	if err == nil || !strings.Contains(err.Error(), "add route 10.244.2.0/24: interface eth9 does not exist") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Apply = %v, want one line that names the route and the interface", err)
	}
	want := slices.Concat(ourRoutes(), theirRoutes(), directRoutes()[1:])
	slices.Sort(want)
	if d := cmp.Diff(want, routeList(t, h)); d != "" {
		t.Errorf("routes (-want +got):\n%s", d)
	}
}

// TestMarkedPacketsKeepToTheirTable also has a VPN's rule that takes all traffic, as wg-quick makes it.
func TestMarkedPacketsKeepToTheirTable(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	eth := newUnderlay(t, h)
	newTUN(t, "wg0")
	must(t, h.nl.LinkSetUp(link(t, h, "wg0")))
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet(all), LinkIndex: eth.Attrs().Index, Scope: netlink.SCOPE_UNIVERSE}))
		must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet(all), LinkIndex: link(t, h, "wg0").Attrs().Index, Table: 51820}))
	}
	for _, family := range families() {
		vpn := netlink.NewRule()
		vpn.Family, vpn.Priority, vpn.Table = family, 32764, 51820
		must(t, h.nl.RuleAdd(vpn))
	}
	rules := ruleList(t, h)
	apply(t, h, directState())
	for _, c := range []struct {
		to   string
		mark uint32
		want string
	}{
		{"2001:db8:ffff::1", Mark, "wg0"}, // nothing that is narrow
		{"2001:db8::5", Mark, "eth0"},
		{"2001:db8:66::6", Mark, "eth0 fe80::1"},
		{"2001:db8:66::6", Mark | 0x4000, "eth0 fe80::1"}, // Kubernetes: to be masqueraded
		{"2001:db8:66::6", Mark &^ 2, "wg0"},
		{"2001:db8:66::6", 0, "wg0"},
		{"192.0.2.2", Mark, "lo"}, // the host's own
	} {
		if got := hop(t, h, c.to, &netlink.RouteGetOptions{Mark: c.mark}); got != c.want {
			t.Errorf("with the mark %#x %s is reached by %s, want %s", c.mark, c.to, got, c.want)
		}
	}
	if got := ruleList(t, h); len(got) != len(rules)+1 || !slices.Contains(got, "IPv6 rule priority 119 fwmark 0x100e/0x100e lookup 119 proto 119") {
		t.Errorf("rules with marked IPv6 routes alone: %q", got)
	}
	apply(t, h, testState())
	if d := cmp.Diff(rules, ruleList(t, h)); d != "" {
		t.Errorf("rules without a marked route (-want +got):\n%s", d)
	}
}

// hop is the device, and the gateway, by which the kernel sends.
func hop(t *testing.T, h *Host, to string, options *netlink.RouteGetOptions) string {
	t.Helper()
	routes, err := h.nl.RouteGetWithOptions(net.ParseIP(to), options)
	if errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) {
		return "unreachable"
	}
	must(t, err)
	l, err := h.nl.LinkByIndex(routes[0].LinkIndex)
	must(t, err)
	if routes[0].Gw == nil {
		return l.Attrs().Name
	}
	return l.Attrs().Name + " " + routes[0].Gw.String()
}

// A probe goes the way that it shall prove, and whatever else there is to the same address the way that is taken.
func TestProbesGoTheirOwnWay(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	newUnderlay(t, h)
	probed := func(taken bool) {
		t.Helper()
		s, others := directState(), map[string]string{"10.244.3.0": "weft0", "fd00:244:3::": "weft0", "10.244.3.7": "weft0", "fd00:244:3::7": "weft0"}
		if taken {
			others = map[string]string{"10.244.3.0": "eth0 198.51.100.33", "fd00:244:3::": "eth0 2001:db8:33::33", "10.244.3.7": "eth0 198.51.100.33", "fd00:244:3::7": "eth0 2001:db8:33::33"}
			s.Routes = slices.DeleteFunc(s.Routes, func(r Route) bool { return r.Prefix.IsSingleIP() && r.Device == "" })
			s.Routes = append(s.Routes,
				Route{Prefix: netip.MustParsePrefix("10.244.3.0/24"), Via: netip.MustParseAddr("198.51.100.33"), Device: "eth0"},
				Route{Prefix: netip.MustParsePrefix("fd00:244:3::/64"), Via: netip.MustParseAddr("2001:db8:33::33"), Device: "eth0"})
		}
		apply(t, h, s)
		for to, want := range others {
			if got := hop(t, h, to, nil); got != want {
				t.Errorf("taken %v: %s is reached by %s, want %s", taken, to, got, want)
			}
		}
		for to, want := range map[string]string{"10.244.3.0": "eth0 198.51.100.33", "fd00:244:3::": "eth0 2001:db8:33::33"} {
			if got := hop(t, h, to, &netlink.RouteGetOptions{Oif: "eth0"}); got != want {
				t.Errorf("taken %v: a probe to %s goes by %s, want %s", taken, to, got, want)
			}
		}
	}
	probed(false)
	probed(true)
	probed(false)
}

// What a link takes has no say in what the path does, nor the other way round.
func TestMTUOfAPathIsItsOwn(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	eth := newUnderlay(t, h)
	apply(t, h, directState())
	for _, mtu := range []int{1280, 1500} {
		must(t, h.nl.LinkSetMTU(eth, mtu))
		for _, to := range []string{"2001:db8::5", "2001:db8:66::6"} {
			routes, err := h.nl.RouteGetWithOptions(net.ParseIP(to), &netlink.RouteGetOptions{Mark: Mark})
			must(t, err)
			if r := routes[0]; r.MTU != 1280 || !r.MTULock {
				t.Errorf("on a link of %d bytes the path to %s takes %d, locked %v", mtu, to, r.MTU, r.MTULock)
			}
		}
		if got, err := h.Way(netip.MustParseAddr("2001:db8::5")); err != nil || got.MTU != mtu {
			t.Errorf("on a link of %d bytes Way = %+v, %v", mtu, got, err)
		}
	}
}

func TestListenProbe(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	newUnderlay(t, h)
	apply(t, h, directState())
	for own, to := range map[string]string{"10.244.1.0": "10.244.3.0", "fd00:244:1::": "fd00:244:3::"} {
		c, err := ListenProbe("eth0", netip.AddrPortFrom(netip.MustParseAddr(own), 8285))
		must(t, err)
		defer c.Close()
		send := func(to string, size int) error {
			_, err := c.WriteToUDPAddrPort(make([]byte, size), netip.AddrPortFrom(netip.MustParseAddr(to), 8285))
			return err
		}
		if err := send(to, 1400); err != nil {
			t.Errorf("probe to %s: %v", to, err)
		}
		if err := send(to, 1500); !IsTooBig(err) {
			t.Errorf("probe to %s larger than the link's MTU: %v", to, err)
		}
		// Else what went through the tunnel might prove that it is not needed.
		raw, err := c.SyscallConn()
		must(t, err)
		must(t, raw.Control(func(fd uintptr) {
			if device, err := unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err != nil || device != "eth0" {
				t.Errorf("probes of %s leave and arrive by %q, %v; want eth0 alone", own, device, err)
			}
		}))
	}
}
