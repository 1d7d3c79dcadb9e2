package host

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func testLink(index int, name string, flags net.Flags) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index, Name: name, MTU: 1500 + index, Flags: flags}}
}

func testAddr(index int, prefix string, flags int) netlink.Addr {
	p := netip.MustParsePrefix(prefix)
	return netlink.Addr{LinkIndex: index, Flags: flags,
		IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}}
}

func testDefault(index int, gw string, metric int) netlink.Route {
	return netlink.Route{LinkIndex: index, Gw: net.ParseIP(gw), Priority: metric,
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}
}

func testInventory() inventory {
	ours := tunLink().(*netlink.Tuntap)
	ours.Mode, ours.Alias, ours.LinkAttrs.Flags = netlink.TUNTAP_MODE_TUN, Alias, net.FlagUp
	return inventory{
		links: []netlink.Link{
			testLink(1, "lo", net.FlagUp|net.FlagLoopback),
			testLink(2, "eth0", net.FlagUp),
			testLink(3, "eth1", net.FlagUp),
			testLink(4, "eth2", 0),
			testLink(5, "eth3", net.FlagUp),
			testLink(6, "docker0", net.FlagUp),
			ours,
		},
		addrs: []netlink.Addr{
			testAddr(2, "192.0.2.2/24", 0),
			testAddr(3, "169.254.7.7/16", 0),
			testAddr(3, "198.51.100.9/24", unix.IFA_F_SECONDARY),
			testAddr(3, "203.0.113.3/24", 0),
			testAddr(3, "198.51.100.3/24", 0),
			testAddr(4, "192.0.2.130/25", 0),
			testAddr(6, "172.17.0.1/16", 0),
			testAddr(testTUN, "10.244.1.0/32", 0),
		},
	}
}

func TestChooseUnderlay(t *testing.T) {
	inv := testInventory()
	inv.addrs[1].Scope = unix.RT_SCOPE_LINK
	inv.routes = []netlink.Route{testDefault(3, "198.51.100.254", 100), testDefault(2, "192.0.2.1", 20), testDefault(4, "192.0.2.129", 30)}

	oneDefault := func(r netlink.Route) inventory {
		i := inv
		i.routes = []netlink.Route{r}
		return i
	}
	prefSrc := testDefault(2, "192.0.2.1", 20)
	prefSrc.Src = net.ParseIP("203.0.113.99")
	multi := testDefault(0, "", 5)
	multi.MultiPath = []*netlink.NexthopInfo{{LinkIndex: 3, Gw: net.ParseIP("198.51.100.254")}, {LinkIndex: 2, Gw: net.ParseIP("192.0.2.1")}}
	via6 := testDefault(2, "", 0)
	via6.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP("fe80::1")}
	nowhere := testDefault(0, "", 0)
	nowhere.Type = unix.RTN_UNREACHABLE

	const named = "interface named in the configuration"
	for _, c := range []struct {
		name, choice string
		inv          inventory
		iface, addr  string
		why          string // or the error, when iface is empty
	}{
		{"lowest metric", "", inv, "eth0", "192.0.2.2", "interface of the default route (via 192.0.2.1, metric 20)"},
		{"several addresses", "", oneDefault(inv.routes[0]), "eth1", "198.51.100.3",
			"interface of the default route (via 198.51.100.254, metric 100); of its 2 addresses the one in the gateway's subnet"},
		{"gateway in no subnet", "", oneDefault(testDefault(3, "100.64.0.1", 0)), "eth1", "203.0.113.3",
			"interface of the default route (via 100.64.0.1, metric 0); the first of its 2 addresses"},
		{"preferred source", "", oneDefault(prefSrc), "eth0", "203.0.113.99",
			"interface of the default route (via 192.0.2.1, metric 20); the source address of its default route"},
		{"multipath", "", oneDefault(multi), "eth1", "198.51.100.3",
			"interface of the default route (via 198.51.100.254, metric 5); of its 2 addresses the one in the gateway's subnet"},
		{"IPv6 gateway", "", oneDefault(via6), "eth0", "192.0.2.2", "interface of the default route (via fe80::1, metric 0)"},
		{"no gateway", "", oneDefault(testDefault(2, "", 0)), "eth0", "192.0.2.2", "interface of the default route (metric 0)"},
		{"unreachable default", "", oneDefault(nowhere), "", "", "no IPv4 default route: set `underlay: NAME`, for example eth0 (192.0.2.2), eth1 (203.0.113.3)"},
		{"no default route", "", testInventory(), "", "", "no IPv4 default route"},
		{"nothing at all", "", inventory{}, "", "", "no interface with an IPv4 address is up"},
		{"default route on an interface that is down", "", oneDefault(inv.routes[2]), "", "", "interface eth2 is down: `ip link set eth2 up`"},

		{"name", "eth0", inv, "eth0", "192.0.2.2", named},
		{"name, several addresses", "eth1", inv, "eth1", "198.51.100.3", named + "; of its 2 addresses the one in the gateway's subnet"},
		{"name, no default route", "eth1", oneDefault(inv.routes[1]), "eth1", "203.0.113.3", named + "; the first of its 2 addresses"},
		{"misspelt", "etj0", inv, "", "", `no interface "etj0", it has lo, eth0, eth1, eth2, eth3, docker0, weft0; did you mean eth0?`},
		{"unlike any", "enp0s31f6", inv, "", "", "docker0, weft0"},
		{"down", "eth2", inv, "", "", "interface eth2 is down: `ip link set eth2 up`"},
		{"no address", "eth3", inv, "", "", "interface eth3 has no IPv4 address"},
		{"loopback", "lo", inv, "", "", "interface lo has no IPv4 address"},
		{"our own", "weft0", inv, "", "", "weft's own TUN"},

		{"address", "203.0.113.3", inv, "eth1", "203.0.113.3", "address named in the configuration"},
		{"secondary address", "198.51.100.9", inv, "eth1", "198.51.100.9", "address named in the configuration"},
		{"mapped address", "::ffff:192.0.2.2", inv, "eth0", "192.0.2.2", "address named in the configuration"},
		{"absent address", "192.0.2.3", inv, "", "", "no interface of this host has the address 192.0.2.3"},
		{"IPv6 address", "2001:db8::1", inv, "", "", "must be IPv4"},
		{"address on an interface that is down", "192.0.2.130", inv, "", "", "interface eth2 is down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := c.inv.choose(c.choice)
			if c.iface == "" {
				if err == nil || !strings.Contains(err.Error(), c.why) {
					t.Fatalf("chose %+v, %v; want an error with %q", u, err, c.why)
				}
				if !strings.Contains(c.why, "docker0") && strings.Contains(err.Error(), "docker0") {
					t.Errorf("docker0 is offered as an underlay: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if u.Interface != c.iface || u.Address != netip.MustParseAddr(c.addr) || u.Why != c.why {
				t.Errorf("chose %+v, want %s %s %q", u, c.iface, c.addr, c.why)
			}
			if want := map[string]int{"eth0": 1502, "eth1": 1503}[c.iface]; u.MTU != want {
				t.Errorf("MTU %d, want %d", u.MTU, want)
			}
		})
	}
}
