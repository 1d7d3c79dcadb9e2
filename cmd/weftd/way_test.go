package main

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/path"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/membership"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func blocks(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// testSite has both families; 198.51.100.0/24 and 2001:db8::/64 are on-link, the rest is
// behind a gateway, except that 198.51.100.66 is routed into the TUN.
func testSite(mode string) *site {
	return &site{
		mode: mode, addresses: []netip.Addr{addr("198.51.100.1"), addr("2001:db8::1")}, tun: "weft0", underlay: "eth0", mtu: 1430, whole: true,
		look: func(to netip.Addr) (host.Way, error) {
			switch {
			case to == addr("198.51.100.66"):
				return host.Way{Interface: "weft0", OnLink: true, MTU: 1430}, nil
			case to == addr("198.51.100.67"):
				return host.Way{}, errors.New("no route to 198.51.100.67")
			}
			onLink := netip.MustParsePrefix("198.51.100.0/24").Contains(to) || netip.MustParsePrefix("2001:db8::/64").Contains(to)
			return host.Way{Interface: "eth0", OnLink: onLink, MTU: 1500}, nil
		},
	}
}

func testRemote(prefixes []netip.Prefix, endpoints ...string) remote {
	r := remote{
		id: "b", name: "b", prefixes: prefixes, modes: []string{"direct", "vxlan", "udp"},
		vxlanPort: 4789, vni: 7, mac: encap.MAC{2}, mtu: 1430, linkMTU: 9000, whole: true,
	}
	for _, e := range endpoints {
		r.endpoints = append(r.endpoints, netip.AddrPortFrom(addr(e), 8285))
	}
	return r
}

// The ways to a peer, the first choice first.
func TestWays(t *testing.T) {
	both := blocks("10.244.2.0/24", "fd00:2::/64")
	for _, c := range []struct {
		name, mode string
		r          remote
		tunnels    []string
		direct     []string // next hops
		why        string   // part of it, where there is no direct way
	}{
		{"on-link in both families", config.ModeAuto, testRemote(both, "198.51.100.2", "2001:db8::2"),
			[]string{"vxlan 198.51.100.2:4789", "vxlan [2001:db8::2]:4789", "udp 198.51.100.2:8285", "udp [2001:db8::2]:8285"},
			[]string{"198.51.100.2", "2001:db8::2"}, ""},
		{"behind a router", config.ModeAuto, testRemote(both[:1], "203.0.113.2"),
			[]string{"vxlan 203.0.113.2:4789", "udp 203.0.113.2:8285"}, nil, "not on-link"},
		{"no encapsulation wanted", config.ModeDirect, testRemote(both[:1], "198.51.100.2"), nil, []string{"198.51.100.2"}, ""},
		{"encapsulation wanted", config.ModeUDP, testRemote(both[:1], "198.51.100.2"),
			[]string{"vxlan 198.51.100.2:4789", "udp 198.51.100.2:8285"}, nil, "mode is udp"},
		{"IPv4 by an IPv6 next hop", config.ModeAuto, testRemote(both[:1], "2001:db8::2"),
			[]string{"vxlan [2001:db8::2]:4789", "udp [2001:db8::2]:8285"}, []string{"2001:db8::2"}, ""},
		{"no IPv6 by an IPv4 next hop", config.ModeAuto, testRemote(both, "198.51.100.2"),
			[]string{"vxlan 198.51.100.2:4789", "udp 198.51.100.2:8285"}, nil, "no endpoint of it is of a family"},
		{"a loop", config.ModeAuto, testRemote(both[:1], "198.51.100.66"), nil, nil, "not on-link"},
		{"no route", config.ModeAuto, testRemote(both[:1], "198.51.100.67"), nil, nil, "no route to"},
	} {
		w := testSite(c.mode).waysTo(c.r)
		var tunnels, direct []string
		for _, x := range w.tunnels {
			tunnels = append(tunnels, x.Mode+" "+x.To.String())
			if x.Ceiling != 1500 {
				t.Errorf("%s: ceiling %d, want the smaller of the two links' MTU", c.name, x.Ceiling)
			}
		}
		for _, x := range w.direct {
			direct = append(direct, x.via.String())
		}
		if !slices.Equal(tunnels, c.tunnels) || !slices.Equal(direct, c.direct) || !strings.Contains(w.notDirect, c.why) || (c.why == "") != (w.notDirect == "") {
			t.Errorf("%s: tunnels %q, next hops %q, %q; want %q, %q, %q", c.name, tunnels, direct, w.notDirect, c.tunnels, c.direct, c.why)
		}
		if len(tunnels) == 0 && w.noTunnel == "" {
			t.Errorf("%s: nobody hears why there is no tunnel", c.name)
		}
	}
}

// Which of the ways is taken, by what is known of them.
func TestChoice(t *testing.T) {
	works := path.State{Known: true, Works: true, MTU: 1500, Proven: true}
	fails := path.State{Known: true, MTU: 1500}
	unknown := path.State{MTU: 1500}
	narrow := path.State{Known: true, Works: true, MTU: 1400, Proven: true}
	small := path.State{Known: true, Works: true, MTU: 1500}
	r := testRemote(blocks("10.244.2.0/24"), "198.51.100.2", "2001:db8::2")
	for _, c := range []struct {
		name   string
		states map[string]path.State // by mode, and for tunnels address; unknown where absent
		mode   string
		to     string
		mtu    int
	}{
		{"nothing known", nil, "vxlan", "198.51.100.2:4789", 1430},
		{"all works", map[string]path.State{"direct": works, "vxlan 198.51.100.2": works}, "direct", "198.51.100.2:0", 1430},
		{"the second was answered first", map[string]path.State{"udp 198.51.100.2": works}, "vxlan", "198.51.100.2:4789", 1430},
		{"pods' addresses are dropped", map[string]path.State{"direct": fails, "vxlan 198.51.100.2": works}, "vxlan", "198.51.100.2:4789", 1430},
		{"direct is too narrow", map[string]path.State{"direct": narrow, "vxlan 198.51.100.2": narrow}, "vxlan", "198.51.100.2:4789", 1400 - 50},
		{"IPv4 fails", map[string]path.State{"vxlan 198.51.100.2": fails, "vxlan 2001:db8::2": works}, "vxlan", "[2001:db8::2]:4789", 1430},
		{"VXLAN is blocked", map[string]path.State{"vxlan 198.51.100.2": fails, "vxlan 2001:db8::2": fails, "udp 198.51.100.2": works}, "udp", "198.51.100.2:8285", 1430},
		{"only a small probe came through", map[string]path.State{"direct": small, "vxlan 198.51.100.2": works}, "vxlan", "198.51.100.2:4789", 1430},
		{"all fails", map[string]path.State{"direct": fails, "vxlan 198.51.100.2": fails, "vxlan 2001:db8::2": fails, "udp 198.51.100.2": fails, "udp 2001:db8::2": fails},
			"vxlan", "198.51.100.2:4789", 1430},
	} {
		w := testSite(config.ModeAuto).waysTo(r)
		got := w.choose(1430, knows(func(x path.Way) path.State {
			key := x.Mode
			if key != modeDirect {
				key += " " + x.To.Addr().String()
			}
			if s, ok := c.states[key]; ok {
				return s
			}
			return unknown
		}))
		if got.mode != c.mode || got.to != netip.MustParseAddrPort(c.to) || got.mtu != c.mtu || got.why == "" || got.tunnel == nil {
			t.Errorf("%s: %s to %s with %d bytes (%s); want %s to %s with %d", c.name, got.mode, got.to, got.mtu, got.why, c.mode, c.to, c.mtu)
		}
	}
}

// What is routed directly stays so until probes have said that it does not work, and that
// the tunnel does.
func TestRoutedPeer(t *testing.T) {
	unknown := path.State{MTU: 1500}
	works := path.State{Known: true, Works: true, MTU: 1500, Proven: true}
	missed := path.State{Known: true, Works: true, Missed: true, MTU: 1500, Proven: true}
	fails := path.State{Known: true, Missed: true, MTU: 1500}
	r := testRemote(blocks("10.244.2.0/24"), "198.51.100.2")
	r.modes = []string{"direct", "udp"}
	for _, c := range []struct {
		name        string
		direct, udp path.State
		mode        string
		doubt       bool
	}{
		{"nothing known", unknown, unknown, "direct", false},
		{"the tunnel was answered first", unknown, works, "direct", false},
		{"only a small probe came through", path.State{Known: true, Works: true, MTU: 1500}, works, "direct", false},
		{"it is too narrow", path.State{Known: true, Works: true, MTU: 1400}, works, "udp", false},
		{"pods' addresses are dropped", fails, works, "udp", false},
		{"the tunnel was not asked yet", fails, missed, "direct", true},
		{"all fails", fails, fails, "direct", false},
	} {
		here := testSite(config.ModeAuto)
		here.routed = map[netip.Prefix]netip.Addr{netip.MustParsePrefix("10.244.2.0/24"): addr("198.51.100.2")}
		state := func(x path.Way) path.State {
			if x.Mode == modeDirect {
				return c.direct
			}
			return c.udp
		}
		w := here.waysTo(r)
		got := w.choose(1430, knows(state))
		if got.mode != c.mode || (got.again > 0) != c.doubt {
			t.Errorf("%s: %s, again after %s (%s); want %s, %t", c.name, got.mode, got.again, got.why, c.mode, c.doubt)
		}
		if left := len(nextHops([]choice{got})) == 1; left != (c.mode == modeDirect) {
			t.Errorf("%s: by %s, its block is routed directly: %t", c.name, got.mode, left)
		}
		here.routed[netip.MustParsePrefix("10.244.2.0/24")] = addr("198.51.100.3")
		w = here.waysTo(r)
		if got := w.choose(1430, knows(state)); got.mode != "udp" {
			t.Errorf("%s, routed to where the peer was before: %s (%s)", c.name, got.mode, got.why)
		}
	}
}

func knows(state func(path.Way) path.State) *knowledge {
	return &knowledge{now: time.Unix(1000, 0), state: state}
}

// A way that failed is taken again once it has worked for a while, or at once where no
// other works.
func TestWayThatComesBack(t *testing.T) {
	r := testRemote(blocks("10.244.2.0/24"), "198.51.100.2")
	w := testSite(config.ModeAuto).waysTo(r)
	direct, vxlan, udp := w.direct[0].Way, w.tunnels[0].Way, w.tunnels[1].Way
	for _, c := range []struct {
		left    path.Way
		worked  time.Duration
		others  bool // whether the other ways work
		mode    string
		waiting bool
	}{
		{direct, time.Second, true, "vxlan", true},
		{direct, returnAfter, true, "direct", false},
		{direct, time.Second, false, "direct", false},
		{vxlan, time.Second, true, "udp", true},
		{vxlan, returnAfter, true, "vxlan", false},
		{vxlan, time.Second, false, "vxlan", true},
		{udp, time.Second, false, "udp", true},
	} {
		known := knows(nil)
		known.left = map[path.Way]bool{c.left: true}
		known.state = func(x path.Way) path.State {
			s := path.State{Known: true, Works: true, Since: known.now.Add(-c.worked), MTU: 1500, Proven: true}
			if c.left != direct && x == direct { // so that it is about the tunnels
				return path.State{Known: true}
			}
			s.Works = x == c.left || c.others
			return s
		}
		if got := w.choose(1430, known); got.mode != c.mode || (got.again > 0) != c.waiting {
			t.Errorf("%s worked for %s, the others work: %t: by %s, again after %s (%s)", c.left.Mode, c.worked, c.others, got.mode, got.again, got.why)
		}
	}
}

// Where a block was lost, the TUN's address may be another node's, and nothing goes directly.
func TestLostBlock(t *testing.T) {
	r := testRemote(blocks("10.244.2.0/24"), "198.51.100.2")
	r.whole = false
	if w := testSite(config.ModeAuto).waysTo(r); len(w.direct) != 0 || len(w.tunnels) == 0 {
		t.Errorf("to a peer that has lost a block: %d direct ways, %d tunnels", len(w.direct), len(w.tunnels))
	}
	here := testSite(config.ModeAuto)
	here.whole = false
	if w := here.waysTo(testRemote(blocks("10.244.2.0/24"), "198.51.100.2")); len(w.direct) != 0 || len(w.tunnels) == 0 {
		t.Errorf("from a node that has lost a block: %d direct ways, %d tunnels", len(w.direct), len(w.tunnels))
	}
}

// Without any way there is a reason.
func TestNoWay(t *testing.T) {
	r := testRemote(blocks("10.244.2.0/24"), "203.0.113.2")
	w := testSite(config.ModeDirect).waysTo(r)
	c := w.choose(1430, knows(func(path.Way) path.State { return path.State{} }))
	if c.mode != "" || c.tunnel != nil || c.why != "not on-link, and mode is direct, and nothing is encapsulated" {
		t.Errorf("%q: %s", c.mode, c.why)
	}
}

// A static peer that has what a member has is left out.
func TestStaticPeerClashes(t *testing.T) {
	d := testDaemon(new(strings.Builder))
	self := testMember("n1", "198.51.100.1:8285", membership.StateUp, blocks("10.244.1.0/24")...)
	member := testMember("n2", "198.51.100.2:8285", membership.StateUp, blocks("10.244.2.0/24")...)
	peer := config.StaticPeer{Name: "linux", Address: addr("198.51.100.9"), PodCIDRs: blocks("10.244.9.0/24"), Mode: "vxlan", VTEPMAC: "02:00:00:00:00:09", Port: 4789}
	for _, c := range []struct {
		change func(*config.StaticPeer)
		says   string
	}{
		{func(*config.StaticPeer) {}, ""},
		{func(p *config.StaticPeer) { p.Address = addr("198.51.100.2") }, "the address 198.51.100.2"},
		{func(p *config.StaticPeer) { p.PodCIDRs = blocks("10.244.2.128/25") }, "a part of 10.244.2.128/25"},
	} {
		p := peer
		c.change(&p)
		d.config.StaticPeers = []config.StaticPeer{p}
		all, err := d.remotes(membership.View{Self: self, Members: []membership.Member{member}})
		if c.says == "" {
			if err != nil || len(all) != 2 || !all[1].static {
				t.Errorf("%d remotes, %v", len(all), err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || len(all) != 1 {
			t.Errorf("%d remotes, %v; want the static peer left out for %s", len(all), err, c.says)
		}
	}
}

func TestTunAddresses(t *testing.T) {
	got := tunAddresses(blocks("fd00:2::/64", "10.244.3.0/24", "10.244.2.0/24", "fd00:1::/64"))
	if want := []netip.Addr{addr("10.244.2.0"), addr("fd00:1::")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// What becomes of a choice in the engine, the kernel's routes and the firewall.
func TestDirectPeerIsRouted(t *testing.T) {
	d := testDaemon(new(strings.Builder))
	d.station.MAC = encap.MAC{2, 1}
	here := testSite(config.ModeAuto)
	w := here.waysTo(testRemote(blocks("10.244.2.0/24"), "198.51.100.2"))
	for _, proven := range []bool{false, true} {
		c := w.choose(1430, knows(func(x path.Way) path.State { return path.State{Known: true, Works: proven, MTU: 1500, Proven: proven} }))
		view := membership.View{Self: testMember("n1", "198.51.100.1:8285", membership.StateUp, d.config.PodCIDRs...)}
		got := d.desired(view, []choice{c})
		p := got.Peers[0]
		if p.To != netip.MustParseAddrPort("198.51.100.2:4789") || p.Tunnel != (encap.Tunnel{Codec: encap.VXLAN, VNI: 7, Local: encap.MAC{2, 1}, Remote: encap.MAC{2}}) {
			t.Errorf("the engine sends to %v by %+v", p.To, p.Tunnel)
		}
		if len(got.PodCIDRs) != 1 || got.Addresses[0] != addr("10.244.1.0") || !slices.Equal(p.Endpoints, []netip.Addr{addr("198.51.100.2")}) {
			t.Errorf("the engine's configuration is %+v", got)
		}
	}
	// A fenced node keeps its address, and owns nothing.
	fenced := d.desired(membership.View{Self: testMember("n1", "198.51.100.1:8285", membership.StateFenced)}, nil)
	if len(fenced.PodCIDRs) != 0 || len(fenced.Addresses) != 1 {
		t.Errorf("fenced, the node owns %v and has the addresses %v", fenced.PodCIDRs, fenced.Addresses)
	}
}
