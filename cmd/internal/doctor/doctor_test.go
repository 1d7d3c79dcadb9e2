package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// well is a node on a machine that has nothing wrong.
func well() (Node, *Machine) {
	prefixes := func(all ...string) (list []netip.Prefix) {
		for _, p := range all {
			list = append(list, netip.MustParsePrefix(p))
		}
		return list
	}
	n := Node{
		Running: true, Tun: "weft0", MTU: 1444, Underlay: "eth0", UnderlayMTU: 1500, UnderlayWhy: "it has the default route",
		PodNetworks: prefixes("10.244.0.0/16", "fd00:244::/48"), PodCIDRs: prefixes("10.244.1.0/24", "fd00:244:0:1::/64"),
		Ports:      []Port{{"udp", 8285, "dataPort"}, {"tcp", 7946, "gossipPort"}},
		CNIConfDir: "/etc/cni/net.d", Conflist: "10-weft.conflist",
		Peers: []Peer{{"node2", netip.MustParseAddr("192.0.2.2")}},
	}
	m := &Machine{
		Links: []Link{
			{Name: "lo", Index: 1, MTU: 65536, Up: true, Carrier: true, Addresses: prefixes("127.0.0.1/8")},
			{Name: "eth0", Index: 2, MTU: 1500, Up: true, Carrier: true, Addresses: prefixes("192.0.2.1/24", "2001:db8::1/64"), Off: []string{}},
			{Name: "eth1", Index: 3, MTU: 1500, Up: true, Carrier: true, Addresses: prefixes("198.51.100.1/24")},
			{Name: "weft0", Index: 4, Kind: "tun", Alias: "weft", MTU: 1444, Up: true, Carrier: true, Addresses: prefixes("10.244.1.0/32")},
			{Name: "weftaaaaaaaaaaa", Index: 5, Kind: "veth", MTU: 1444, Up: true, Carrier: true},
			{Name: "docker0", Index: 6, Kind: "bridge", MTU: 1500, Up: true},
			{Name: "veth1", Index: 7, Kind: "veth", MTU: 1500, Up: true, Master: 6},
		},
		Routes: []Route{
			{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Link: 2, Protocol: 3, Main: true, Unicast: true},
			{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Link: 3, Protocol: 3, Metric: 100, Main: true, Unicast: true},
			{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Link: 2, Protocol: 2, Main: true, Unicast: true},
			{Prefix: netip.MustParsePrefix("172.17.0.0/16"), Link: 6, Protocol: 2, Main: true, Unicast: true},
			{Prefix: netip.MustParsePrefix("10.244.0.0/16"), Link: 4, Protocol: 119, Main: true, Unicast: true},
			{Prefix: netip.MustParsePrefix("10.244.1.0/24"), Protocol: 119, Main: true},
			{Prefix: netip.MustParsePrefix("10.244.2.0/24"), Link: 2, Protocol: 119, Main: true, Unicast: true},
			{Prefix: netip.MustParsePrefix("10.244.1.7/32"), Link: 5, Protocol: 16, Main: true, Unicast: true},
		},
		Sysctls: map[string]string{
			ipForward: "1", ip6Forward: "1", rpFilter("all"): "0", rpFilter("weft0"): "2", rpFilter("eth0"): "2", disableIPv6("weft0"): "0",
			conntrackCount: "100", conntrackMax: "65536",
		},
		Ports:    []Port{{Protocol: "udp", Number: 8285}, {Protocol: "tcp", Number: 7946}, {Protocol: "tcp", Number: 22}},
		Services: []string{networkd, networkManager},
		Files:    []string{tunDevice, "/usr/lib/systemd/network/10-weft.network", "/etc/systemd/networkd.conf.d/50-weft.conf", "/etc/NetworkManager/conf.d/50-weft.conf"},
		Networks: []Network{{File: "10-weft.conflist", Name: "weft", Type: "weft-cni"}, {File: "87-podman.conflist", Name: "podman", Type: "bridge"}},
		Clock:    Clock{Known: true, Error: time.Millisecond}, Limits: Limits{Files: 1 << 20}, HugePage: "madvise",
	}
	return n, m
}

func TestNothingWrong(t *testing.T) {
	n, m := well()
	d := Examine(n, m)
	if len(d.Findings) > 0 || len(d.Checked) < 6 {
		t.Errorf("got %+v", d)
	}
	if d := Examine(Node{}, &Machine{Files: []string{tunDevice}}); len(d.Findings) > 0 {
		t.Errorf("of a machine of which nothing is known: %+v", d.Findings)
	}
}

// TestFindings breaks one thing after the other. Each has one finding, with a fix.
func TestFindings(t *testing.T) {
	link := func(m *Machine, name string) *Link { return m.link(name) }
	route := func(m *Machine, prefix string, by, protocol int) {
		m.Routes = append(m.Routes, Route{Prefix: netip.MustParsePrefix(prefix), Link: by, Protocol: protocol, Main: true, Unicast: true})
	}
	for name, test := range map[string]struct {
		spoil func(*Node, *Machine)
		want  string // level, code and a part of the finding
	}{
		"unseen":                   {func(_ *Node, m *Machine) { m.Unseen = []string{"the routes (EPERM)"} }, "warning W003 the routes (EPERM) could not"},
		"no TUN driver":            {func(_ *Node, m *Machine) { m.Files = m.Files[1:] }, "problem W104 /dev/net/tun"},
		"TUN down":                 {func(_ *Node, m *Machine) { link(m, "weft0").Up = false }, "problem W103 weft0 is set down"},
		"TUN gone":                 {func(_ *Node, m *Machine) { *link(m, "weft0") = Link{Name: "dummy0", Index: 4} }, "problem W103 weft0 is gone"},
		"TUN's MTU":                {func(_ *Node, m *Machine) { link(m, "weft0").MTU = 1400 }, "problem W103 an MTU of 1400"},
		"underlay down":            {func(_ *Node, m *Machine) { link(m, "eth0").Up = false }, "problem W105 eth0 is set down"},
		"no carrier":               {func(_ *Node, m *Machine) { link(m, "eth0").Carrier = false }, "problem W105 no carrier"},
		"underlay's MTU":           {func(_ *Node, m *Machine) { link(m, "eth0").MTU = 1400 }, "problem W101 MTU of 1400, and weft sends packets of up to 1500"},
		"underlay's MTU is larger": {func(_ *Node, m *Machine) { link(m, "eth0").MTU = 9000 }, ""},
		"pod's MTU":                {func(_ *Node, m *Machine) { link(m, "weftaaaaaaaaaaa").MTU = 1500 }, "warning W102 weftaaaaaaaaaaa (1500)"},
		"MTU of a pod on the bridge": {func(n *Node, m *Machine) {
			n.Bridge = true
			link(m, "docker0").Name = bridge
			route(m, "10.244.1.0/24", 6, 2)
		}, "warning W102 veth1 (1500)"},
		"peers elsewhere":          {func(n *Node, _ *Machine) { n.Peers[0].Endpoint = netip.MustParseAddr("198.51.100.2") }, "warning W106 node2 is on the network of eth1"},
		"peers elsewhere, as said": {func(n *Node, _ *Machine) { n.Named = true; n.Peers[0].Endpoint = netip.MustParseAddr("198.51.100.2") }, ""},
		"two defaults":             {func(_ *Node, m *Machine) { m.Routes[1].Metric = 0 }, "warning W107 eth0 and eth1"},
		"no sums":                  {func(_ *Node, m *Machine) { link(m, "eth0").Off = []string{"tx-checksumming"} }, "warning W201 tx-checksumming is off"},
		"no GSO":                   {func(_ *Node, m *Machine) { link(m, "eth0").Off = []string{"generic-segmentation-offload"} }, "warning W202 generic-seg"},
		"no GRO":                   {func(_ *Node, m *Machine) { link(m, "eth0").Off = []string{"generic-receive-offload"} }, "warning W203 generic-rec"},
		"strict TUN":               {func(_ *Node, m *Machine) { m.Sysctls[rpFilter("weft0")] = "1" }, "problem W301 strict on weft0"},
		"strict by all":            {func(_ *Node, m *Machine) { m.Sysctls[rpFilter("all")], m.Sysctls[rpFilter("eth0")] = "1", "0" }, "problem W301 strict on eth0"},
		"loose beats strict":       {func(_ *Node, m *Machine) { m.Sysctls[rpFilter("all")] = "1" }, ""},
		"no forwarding":            {func(_ *Node, m *Machine) { m.Sysctls[ipForward] = "0" }, "problem W302 IPv4"},
		"no forwarding of IPv6":    {func(_ *Node, m *Machine) { m.Sysctls[ip6Forward] = "0" }, "problem W302 IPv6"},
		"IPv6 disabled":            {func(_ *Node, m *Machine) { m.Sysctls[disableIPv6("weft0")] = "1" }, "problem W303 weft0"},
		"conntrack":                {func(_ *Node, m *Machine) { m.Sysctls[conntrackCount] = "60000" }, "warning W304 60000 connections of the 65536"},
		"conntrack at its end":     {func(_ *Node, m *Machine) { m.Sysctls[conntrackCount] = "65536" }, "problem W304 drops new ones"},
		"flannel":                  {func(_ *Node, m *Machine) { link(m, "eth1").Name = "flannel.1" }, "warning W702 flannel: flannel.1"},
		"another's bridge":         {func(_ *Node, m *Machine) { link(m, "docker0").Name = bridge }, "warning W702 cniWiring: bridge: cni0"},
		"another TUN":              {func(_ *Node, m *Machine) { link(m, "eth1").Kind, link(m, "eth1").Alias = "tun", "weft" }, "warning W701 eth1"},
		"flannel's routes":         {func(_ *Node, m *Machine) { route(m, "10.244.3.0/24", 6, 2) }, "problem W703 10.244.3.0/24 by docker0"},
		"a route for all pods":     {func(_ *Node, m *Machine) { route(m, "10.244.0.0/16", 3, 4) }, "problem W703 10.244.0.0/16 by eth1"},
		"address of an earlier block": {func(n *Node, m *Machine) {
			n.Bridge = true
			link(m, "docker0").Name, link(m, "veth1").MTU = bridge, 1444
			link(m, bridge).Addresses = []netip.Prefix{netip.MustParsePrefix("10.244.9.1/24"), netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("10.244.1.1/24")}
		}, "problem W704 10.244.9.1/24"},
		"another network first":    {func(_ *Node, m *Machine) { slices.Reverse(m.Networks) }, "problem W711 podman of /etc/cni/net.d/87-podman.conflist (plugin bridge)"},
		"a network that is broken": {func(_ *Node, m *Machine) { m.Networks[1].Bad = "it is no JSON" }, "warning W712 /etc/cni/net.d/87-podman.conflist cannot be used"},
		"networkd":                 {func(_ *Node, m *Machine) { m.Files = slices.Delete(m.Files, 2, 3) }, "warning W801 systemd-networkd runs"},
		"NetworkManager":           {func(_ *Node, m *Machine) { m.Files = m.Files[:3] }, "warning W802 NetworkManager runs"},
		"clock":                    {func(_ *Node, m *Machine) { m.Clock.Unsynced = true }, "warning W901 nothing keeps"},
		"clock off":                {func(_ *Node, m *Machine) { m.Clock.Error = 5 * time.Second }, "warning W901 off by 5s"},
		"files":                    {func(_ *Node, m *Machine) { m.Limits.Files = 256 }, "warning W902 256 files"},
		"huge pages":               {func(_ *Node, m *Machine) { m.HugePage = "never" }, "warning W903 no huge pages"},
		"a port that is taken": {func(n *Node, m *Machine) {
			n.Running, m.Links, m.Routes, m.Ports = false, nil, nil, m.Ports[:1]
		}, "problem W601 udp port 8285"},
		"left by a daemon": {func(n *Node, m *Machine) { n.Running, m.Ports = false, nil }, "warning W701 interface weft0, routes of protocol 119 (3)"},
	} {
		n, m := well()
		test.spoil(&n, m)
		d := Examine(n, m)
		var got []string
		for _, f := range d.Findings {
			got = append(got, f.Level+" "+f.Code+" "+f.What)
			if f.Fix == "" || strings.ContainsAny(f.What+f.Fix, "\n") || strings.Contains(f.What+f.Fix, "%!") {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if !matches(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// matches says whether got is one finding of the level and code that want begins with, and has the rest of it.
func matches(got []string, want string) bool {
	if want == "" {
		return len(got) == 0
	}
	head, part := want[:len("problem W000")], want[len("problem W000 "):]
	return len(got) == 1 && strings.HasPrefix(got[0], head) && strings.Contains(got[0], part)
}

func TestSome(t *testing.T) {
	var all []string
	for i := range 5 {
		all = append(all, fmt.Sprint(i))
	}
	if some(all[:3]) != "0, 1, 2" || some(all) != "0, 1, 2, and 2 more" {
		t.Errorf("got %s", some(all))
	}
}

// TestLook looks at this machine: what all machines have is found, and nothing is wrong with the snapshot.
func TestLook(t *testing.T) {
	m := Look(Node{Underlay: "lo"}, true)
	lo := m.link("lo")
	if lo == nil || lo.Index != 1 || lo.MTU < 1280 || m.linkAt(1) != lo {
		t.Errorf("lo is %+v of %+v", lo, m.Links)
	}
	if m.Limits.Files == 0 || !m.Clock.Known || m.Sysctls[ipForward] == "" || m.Sysctls[rpFilter("lo")] == "" {
		t.Errorf("got %+v", m)
	}
	for _, f := range Examine(Node{Running: true, Underlay: "lo"}, m).Findings {
		if f.Level == control.LevelProblem && f.Code == "W003" {
			t.Errorf("not seen: %+v", f)
		}
	}
}
