package host

import (
	"fmt"
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
		IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
}

// testDefault is a default route of the gateway's family, IPv4 where that is empty.
func testDefault(index int, gw string, metric int) netlink.Route {
	r := netlink.Route{Type: unix.RTN_UNICAST, LinkIndex: index, Gw: net.ParseIP(gw), Priority: metric,
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}
	if strings.Contains(gw, ":") {
		r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return r
}

func linkScope(a netlink.Addr) netlink.Addr {
	a.Scope = unix.RT_SCOPE_LINK
	return a
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
			testLink(8, "eth8", net.FlagUp),
			testLink(9, "eth9", net.FlagUp),
		},
		addrs: []netlink.Addr{
			testAddr(2, "192.0.2.2/24", 0),
			linkScope(testAddr(3, "169.254.7.7/16", 0)),
			testAddr(3, "198.51.100.9/24", unix.IFA_F_SECONDARY),
			testAddr(3, "203.0.113.3/24", 0),
			testAddr(3, "198.51.100.3/24", 0),
			testAddr(4, "192.0.2.130/25", 0),
			testAddr(6, "172.17.0.1/16", 0),
			testAddr(testTUN, "10.244.1.0/32", 0),
			linkScope(testAddr(8, "fe80::8/64", unix.IFA_F_PERMANENT)),
			testAddr(8, "2001:db8:8::5/64", 0),
			testAddr(8, "2001:db8:8::1/64", unix.IFA_F_TEMPORARY),
			testAddr(8, "2001:db8:8::2/64", unix.IFA_F_DEPRECATED|unix.IFA_F_PERMANENT),
			testAddr(8, "2001:db8:8::3/64", unix.IFA_F_TENTATIVE|unix.IFA_F_PERMANENT),
			testAddr(8, "fd00:8::4/64", unix.IFA_F_PERMANENT),
			testAddr(8, "2001:db8:8::4/64", unix.IFA_F_PERMANENT),
			testAddr(8, "2001:db8:8::44/64", unix.IFA_F_PERMANENT),
			testAddr(9, "203.0.113.9/24", 0),
			testAddr(9, "fd00:9::9/64", unix.IFA_F_PERMANENT),
		},
	}
}

func TestChooseUnderlay(t *testing.T) {
	inv := testInventory()
	inv.routes = []netlink.Route{testDefault(3, "198.51.100.254", 100), testDefault(2, "192.0.2.1", 20), testDefault(4, "192.0.2.129", 30)}

	oneDefault := func(r netlink.Route) inventory {
		i := inv
		i.routes = []netlink.Route{r}
		return i
	}
	source6 := testDefault(8, "fe80::1", 1024)
	source6.Src = net.ParseIP("fd00:8::4")
	both := inv
	both.routes = []netlink.Route{testDefault(8, "fe80::1", 10), testDefault(9, "203.0.113.1", 600)}
	nowhere6 := testDefault(1, "::", 0xffffffff)
	nowhere6.Type = unix.RTN_UNREACHABLE
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
		iface, addrs string
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
		{"unreachable default", "", oneDefault(nowhere), "", "", "no default route: set `underlay: NAME`, for example eth0 (192.0.2.2), eth1 (203.0.113.3), eth8 (2001:db8:8::4), eth9 (203.0.113.9)"},
		{"no default route", "", testInventory(), "", "", "no default route"},
		{"nothing at all", "", inventory{}, "", "", "no interface with an address is up"},
		{"default route on an interface that is down", "", oneDefault(inv.routes[2]), "", "", "interface eth2 is down: `ip link set eth2 up`"},

		{"IPv4 default route before IPv6", "", both, "eth9", "203.0.113.9 fd00:9::9", "interface of the default route (via 203.0.113.1, metric 600)"},
		{"IPv6 default route alone", "", oneDefault(testDefault(8, "fe80::1", 1024)), "eth8", "2001:db8:8::4",
			"interface of the IPv6 default route (via fe80::1, metric 1024); the most lasting of its 4 IPv6 addresses"},
		{"preferred IPv6 source", "", oneDefault(source6), "eth8", "fd00:8::4",
			"interface of the IPv6 default route (via fe80::1, metric 1024); the source address of its IPv6 default route"},
		{"unreachable IPv6 default", "", oneDefault(nowhere6), "", "", "no default route"},

		{"name", "eth0", inv, "eth0", "192.0.2.2", named},
		{"name, several addresses", "eth1", inv, "eth1", "198.51.100.3", named + "; of its 2 addresses the one in the gateway's subnet"},
		{"name, no default route", "eth1", oneDefault(inv.routes[1]), "eth1", "203.0.113.3", named + "; the first of its 2 addresses"},
		{"misspelt", "etj0", inv, "", "", `no interface "etj0", it has lo, eth0, eth1, eth2, eth3, docker0, weft0, eth8, eth9; did you mean eth0?`},
		{"unlike any", "enp0s31f6", inv, "", "", "docker0, weft0, eth8"},
		{"down", "eth2", inv, "", "", "interface eth2 is down: `ip link set eth2 up`"},
		{"no address", "eth3", inv, "", "", "interface eth3 has no address that other nodes could reach"},
		{"loopback", "lo", inv, "", "", "interface lo has no address that other nodes could reach"},
		{"our own", "weft0", inv, "", "", "weft's own TUN"},

		{"address", "203.0.113.3", inv, "eth1", "203.0.113.3", "address named in the configuration"},
		{"secondary address", "198.51.100.9", inv, "eth1", "198.51.100.9", "address named in the configuration"},
		{"mapped address", "::ffff:192.0.2.2", inv, "eth0", "192.0.2.2", "address named in the configuration"},
		{"absent address", "192.0.2.3", inv, "", "", "no interface of this host has the address 192.0.2.3"},
		{"name with both families", "eth9", inv, "eth9", "203.0.113.9 fd00:9::9", named},
		{"IPv6 address", "2001:db8:8::5", inv, "eth8", "2001:db8:8::5", "address named in the configuration"},
		{"one of both families", "fd00:9::9", inv, "eth9", "fd00:9::9", "address named in the configuration"},
		{"absent IPv6 address", "2001:db8::1", inv, "", "", "no interface of this host has the address 2001:db8::1"},
		{"link-local address", "fe80::8", inv, "", "", "fe80::8 is link-local"},
		{"link-local address with a zone", "fe80::8%eth8", inv, "", "", "is link-local"},
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
			if got := strings.Trim(fmt.Sprint(u.Addresses), "[]"); u.Interface != c.iface || got != c.addrs || u.Why != c.why {
				t.Errorf("chose %+v, want %s %s %q", u, c.iface, c.addrs, c.why)
			}
			if u.Address() != u.Addresses[0] {
				t.Errorf("Address %v, want the first of %v", u.Address(), u.Addresses)
			}
			if want := map[string]int{"eth0": 1502, "eth1": 1503, "eth8": 1508, "eth9": 1509}[c.iface]; u.MTU != want {
				t.Errorf("MTU %d, want %d", u.MTU, want)
			}
		})
	}
}

// An address that was chosen stays, whatever would be chosen now, while it is as good.
func TestUnderlayAddressStays(t *testing.T) {
	inv := testInventory()
	inv.routes = []netlink.Route{testDefault(3, "198.51.100.254", 100)}
	for _, c := range []struct {
		choice, before string
		index          int
		want           string
	}{
		{"", "198.51.100.3", 3, "198.51.100.3"},
		{"", "203.0.113.3", 3, "203.0.113.3"}, // not in the gateway's subnet
		{"", "203.0.113.3", 2, "198.51.100.3"},
		{"", "198.51.100.9", 3, "198.51.100.3"}, // became a secondary one
		{"", "192.0.2.2", 3, "198.51.100.3"},    // another interface's
		{"198.51.100.3", "203.0.113.3", 3, "198.51.100.3"},
		{"eth8", "2001:db8:8::44", 8, "2001:db8:8::44"},
		{"eth8", "2001:db8:8::2", 8, "2001:db8:8::4"}, // deprecated
	} {
		u, err := inv.choose(c.choice)
		if err != nil {
			t.Fatal(err)
		}
		u = inv.keep(c.choice, u, Underlay{Index: c.index, Addresses: []netip.Addr{netip.MustParseAddr(c.before)}})
		if got := u.Address().String(); got != c.want {
			t.Errorf("%q after %s on %d: %s, want %s", c.choice, c.before, c.index, got, c.want)
		}
	}
}
