package main

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

const (
	idA = "aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffffgggg"
	idB = "bbbbbbbb2222222233333333444444445555555566666666aaaa"
	idC = "cccccccc2222222233333333444444445555555566666666aaaa"
)

func sampleStatus() control.Status {
	return control.Status{
		Version: "v0.1.0", Node: control.Node{ID: idA, Name: "node1"}, State: control.StateReady, Started: now.Add(-5*time.Minute - 12*time.Second),
		PodNetworks: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")},
		PodCIDRs:    []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")},
		Settled:     true,
		Tun:         control.Tun{Name: "weft0", Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.0"), netip.MustParseAddr("fd00:10:244:1::")}, MTU: 1430},
		Offload:     control.Offload{Workers: 2, On: []string{"tso", "gso"}, Off: map[string]string{"uso": "too old", "rco": "too old"}},
		Underlay: control.Underlay{Interface: "eth0", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
			MTU: 1500, Why: "default route"},
		Mode: "auto", Tunnel: "udp", DataPort: 8285,
		VXLAN:      control.VXLAN{Port: 4789, VNI: 1, VTEPMAC: "02:00:00:00:00:01"},
		Masquerade: true, Firewall: "check",
		Gossip: control.Gossip{Address: netip.MustParseAddrPort("192.0.2.1:7946"), Encrypted: true, Members: 3},
		Peers:  control.PeerCount{Known: 3, Up: 2},
	}
}

const statusText = `node1 is ready

  weftd     v0.1.0, up 5m12s
  node ID   aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffffgggg
  pods      10.244.1.0/24, fd00:10:244:1::/64 of 10.244.0.0/16, fd00:10:244::/48
  device    weft0, 10.244.1.0, fd00:10:244:1::, MTU 1430
  underlay  eth0, 192.0.2.1, 2001:db8::1, MTU 1500, default route
  mode      auto: direct where that works, udp elsewhere
  data      UDP port 8285
  vxlan     UDP port 4789, VNI 1, 02:00:00:00:00:01
  host      masquerade, firewall check
  offload   tso gso, 2 workers, no rco uso: too old
  gossip    192.0.2.1:7946, encrypted, 3 members
  peers     2 up of 3 known
`

func samplePeers() control.PeerList {
	node2, node3 := netip.MustParseAddrPort("192.0.2.2:8285"), netip.MustParseAddrPort("192.0.2.3:8285")
	block := func(p string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(p)} }
	us := func(n time.Duration) control.Microseconds { return control.Microseconds(n * time.Microsecond) }
	return control.PeerList{Peers: []control.Peer{
		{ID: idC, Name: "node4", State: control.PeerRefused, Reason: "10.244.2.0/24 overlaps node2's", PodCIDRs: block("10.244.2.0/24")},
		{ID: idA, Name: "node2", State: control.PeerUp, Since: now.Add(-27 * time.Hour), Endpoint: node2,
			PodCIDRs: block("10.244.2.0/24"), Mode: "direct", Why: "on-link, probe answered", MTU: 1500, PathMTU: 1500,
			DataPath: control.DataWorks, RTT: us(212), Tx: control.Traffic{Packets: 9, Bytes: 1023}, Rx: control.Traffic{Packets: 9, Bytes: 3 << 30}},
		{ID: idB, Name: "node3", State: control.PeerUp, Since: now.Add(-time.Hour), Endpoint: node3,
			PodCIDRs: block("10.244.3.0/24"), Mode: "udp", Why: "not on-link", MTU: 1450, PathMTU: 1500, DataPath: control.DataFails, RTT: us(12345), Loss: 1},
		{ID: idB, Name: "ev\x1b[2Jil", State: control.PeerGrace, Reason: "does not answer", Since: now.Add(time.Second),
			Endpoint: netip.MustParseAddrPort("192.0.2.33:4789"), Mode: "vxlan", Why: "the peer asks for vxlan", MTU: 1400, PathProven: true, RTT: us(150000), Loss: 0.002},
		{ID: "static:linux1", Name: "linux1", Static: true, State: control.PeerUp, Endpoint: netip.MustParseAddrPort("192.0.2.9:4789"), Mode: "vxlan",
			PodCIDRs: block("10.244.9.0/24"), Why: "static", MTU: 1450, PathMTU: 1500, DataPath: control.DataUnknown},
	}}
}

func sampleRoutes() control.RouteList {
	node2 := netip.MustParseAddrPort("192.0.2.2:8285")
	return control.RouteList{Routes: []control.Route{
		{Prefix: netip.MustParsePrefix("fd00:10:244:2::/64"), Node: "node2", ID: idB, Endpoint: node2, Mode: "direct", MTU: 9000},
		{Prefix: netip.MustParsePrefix("10.244.10.0/24"), Node: "node10", ID: idB, Endpoint: netip.MustParseAddrPort("[2001:db8::10]:8285"), Mode: "udp", MTU: 1430},
		{Prefix: netip.MustParsePrefix("10.244.2.0/24"), Node: "node2", ID: idB, Endpoint: node2, Mode: "direct", MTU: 9000},
		{Prefix: netip.MustParsePrefix("10.244.1.0/24"), Node: "node1", ID: idA, Local: true},
	}}
}

func sampleDrops() control.Drops {
	return control.Drops{
		Egress:   control.Direction{Received: 12045, Forwarded: 12000, Drops: map[string]uint64{"no_route": 42, "too_big": 3, "socket_full": 0}},
		Ingress:  control.Direction{Received: 100, Forwarded: 98, Drops: map[string]uint64{"malformed": 0, "spoofed": 1}},
		ICMPSent: 17,
		Kernel:   control.Kernel{SocketOverflow: 5, Spoofed: 7},
		Reasons: map[string]string{"no_route": "no node owns the destination", "too_big": "larger than the MTU, and must not be fragmented",
			"malformed": "not an IPv4 packet"},
	}
}

// rendered returns what a rendering function writes.
func rendered(render func(io.Writer)) string {
	var b bytes.Buffer
	render(&b)
	return b.String()
}

func same(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStatus(t *testing.T) {
	same(t, rendered(func(w io.Writer) { renderStatus(w, false, now, sampleStatus()) }), statusText)

	s := sampleStatus()
	s.State, s.Reason = control.StateFenced, "node7 holds 10.244.1.0/24; give this node another podCIDR"
	s.Started = time.Time{}
	s.Underlay.Why = ""
	s.Gossip = control.Gossip{Address: s.Gossip.Address, Members: 1, KeyMismatches: 1, Rejected: map[string]uint64{"outside": 2, "overlap": 1, "old": 0}}
	s.Warnings = []string{"net.ipv4.ip_forward was off"}
	s.PodNetworks, s.PodCIDRs, s.Tun.Addresses, s.Underlay.Addresses = s.PodNetworks[:1], s.PodCIDRs[:1], s.Tun.Addresses[:1], s.Underlay.Addresses[:1]
	s.Mode, s.Tunnel, s.Masquerade, s.Firewall = "direct", "udp", false, "manage"
	s.VXLAN.Closed = "UDP port 4789 is in use"
	same(t, rendered(func(w io.Writer) { renderStatus(w, true, now, s) }),
		"\x1b[1mnode1\x1b[0m is \x1b[31mfenced\x1b[0m: node7 holds 10.244.1.0/24; give this node another podCIDR\n"+`
  weftd      v0.1.0
  node ID    aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffffgggg
  pods       10.244.1.0/24 of 10.244.0.0/16
  device     weft0, 10.244.1.0, MTU 1430
  underlay   eth0, 192.0.2.1, MTU 1500
  mode       direct
  data       UDP port 8285
`+"  \x1b[33mvxlan\x1b[0m      closed: UDP port 4789 is in use\n"+`  host       no masquerade, firewall manage
  offload    tso gso, 2 workers, no rco uso: too old
  gossip     192.0.2.1:7946, not encrypted, 1 member
  peers      2 up of 3 known
`+"  \x1b[33mwrong key\x1b[0m  1 message under another gossip key: a node with the wrong key, or another cluster\n"+
			"  \x1b[33mrejected\x1b[0m   2 records: outside\n"+
			"  \x1b[33mrejected\x1b[0m   1 record: overlap\n"+
			"  \x1b[33mwarning\x1b[0m    net.ipv4.ip_forward was off\n")
}

func TestStatusOfStarting(t *testing.T) {
	s := control.Status{Version: "v0.1.0", State: control.StateStarting, Node: control.Node{Name: "node1"}, DataPort: 8285,
		Mode: "vxlan", Tunnel: "vxlan", VXLAN: control.VXLAN{Port: 4789}, Firewall: "check",
		PodCIDRs: sampleStatus().PodCIDRs[:1], PodNetworks: sampleStatus().PodNetworks[:1], Tun: control.Tun{Name: "weft0"}}
	same(t, rendered(func(w io.Writer) { renderStatus(w, false, now, s) }), `node1 is starting

  weftd     v0.1.0
  node ID
  pods      10.244.1.0/24 of 10.244.0.0/16
  device    weft0
  underlay  not known yet
  mode      vxlan
  data      UDP port 8285
  vxlan     UDP port 4789, VNI 0
  host      no masquerade, firewall check
  offload   0 workers
  gossip    not encrypted, 0 members
  peers     0 up of 0 known
`)
}

func TestPeers(t *testing.T) {
	same(t, rendered(func(w io.Writer) { renderPeers(w, false, now, samplePeers()) }),
		`NODE      ID        STATE        SINCE  ENDPOINT         PODS           MODE      MTU     RTT  LOSS    SENT  RECEIVED  WHY
ev�[2Jil  bbbbbbbb  grace        0s     192.0.2.33:4789                 vxlan    1400   150ms    1%     0 B       0 B  does not answer; the peer asks for vxlan
linux1              static              192.0.2.9:4789   10.244.9.0/24  vxlan    1450                   0 B       0 B  static
node2     aaaaaaaa  up           1d3h   192.0.2.2        10.244.2.0/24  direct   1500  0.21ms        1023 B   3.0 GiB  on-link, probe answered
node3     bbbbbbbb  up, no data  1h0m   192.0.2.3:8285   10.244.3.0/24  udp     1450?  12.3ms  100%     0 B       0 B  not on-link
node4     cccccccc  refused                              10.244.2.0/24                                  0 B       0 B  10.244.2.0/24 overlaps node2's
`)
	coloured := rendered(func(w io.Writer) { renderPeers(w, true, now, samplePeers()) })
	for _, want := range []string{"\x1b[32mup\x1b[0m", "\x1b[33mgrace\x1b[0m", "\x1b[31mup, no data\x1b[0m", "\x1b[33m100%\x1b[0m", "\x1b[31mrefused\x1b[0m", "\x1b[1mNODE\x1b[0m"} {
		if !strings.Contains(coloured, want) {
			t.Errorf("%q is not in %q", want, coloured)
		}
	}
	for state, want := range map[string]colour{
		control.PeerDown: red, control.PeerRefused: red, control.PeerGrace: yellow, control.PeerLeft: dim, control.PeerReplaced: dim, "new": red,
	} {
		if got := stateColour(state); got != want {
			t.Errorf("%s is shown in colour %q, want %q", state, got, want)
		}
	}
	up := control.PeerList{Peers: samplePeers().Peers[1:2]}
	if got := rendered(func(w io.Writer) { renderPeers(w, false, now, up) }); strings.Contains(got, "LOSS") {
		t.Errorf("a column for no loss:\n%s", got)
	}
	same(t, rendered(func(w io.Writer) { renderPeers(w, false, now, control.PeerList{}) }),
		"No other node is known. Is `join` set, and are the gossip port and the data port open between the nodes?\n")
}

func TestRoutes(t *testing.T) {
	same(t, rendered(func(w io.Writer) { renderRoutes(w, false, sampleRoutes()) }),
		`PREFIX              NODE    ID        ENDPOINT             MODE     MTU
10.244.1.0/24       node1   aaaaaaaa  this node
10.244.2.0/24       node2   bbbbbbbb  192.0.2.2            direct  9000
10.244.10.0/24      node10  bbbbbbbb  [2001:db8::10]:8285  udp     1430
fd00:10:244:2::/64  node2   bbbbbbbb  192.0.2.2            direct  9000
`)
	same(t, rendered(func(w io.Writer) { renderRoutes(w, false, control.RouteList{}) }), "There are no routes. `weft status` says why.\n")
}

func TestDrops(t *testing.T) {
	same(t, rendered(func(w io.Writer) { renderDrops(w, false, false, sampleDrops()) }),
		`EGRESS, from pods to peers
  received                      12045
  forwarded                     12000
  no_route                         42  no node owns the destination
  too_big                           3  larger than the MTU, and must not be fragmented
  sum                           holds

INGRESS, from peers to pods
  received                        100
  forwarded                        98
  spoofed                           1
  sum                        off by 1  received is not forwarded plus dropped: a bug in weftd

KERNEL, beside weftd
  socket overflow                   5  datagrams that the full buffer of the data socket did not take
  device transmit                   0  packets of pods (a TCP superpacket as one) that the full queue of the device did not take
  spoofed                           7  packets of directly routed peers, and of pods, whose source was not the sender's to use

ICMP errors sent                   17
`)
	all := rendered(func(w io.Writer) { renderDrops(w, true, true, sampleDrops()) })
	for _, want := range []string{"socket_full", "malformed", "not an IPv4 packet", "\x1b[32mholds\x1b[0m", "\x1b[31moff by 1\x1b[0m", "\x1b[33m  no_route\x1b[0m"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in %q", want, all)
		}
	}
	over := control.Drops{Egress: control.Direction{Received: 1, Forwarded: 3}}
	if got := rendered(func(w io.Writer) { renderDrops(w, false, false, over) }); !strings.Contains(got, "off by -2  received is not forwarded plus dropped: a bug in weftd") {
		t.Errorf("got\n%s", got)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 20: "1.0 MiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 59 * time.Second: "59s", time.Minute: "1m0s", 3*time.Hour + 5*time.Minute: "3h5m", 99 * time.Hour: "4d3h",
	} {
		if got := span(d); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
}

func TestRTT(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "", time.Nanosecond: "0.00ms", 212 * time.Microsecond: "0.21ms", 9994 * time.Microsecond: "9.99ms", 9996 * time.Microsecond: "10.0ms",
		99940 * time.Microsecond: "99.9ms", 99960 * time.Microsecond: "100ms", 2 * time.Second: "2000ms",
	} {
		if got := rtt(control.Microseconds(d)); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
}

func TestPercent(t *testing.T) {
	for share, want := range map[float64]string{0: "", 0.0001: "1%", 0.014: "1%", 0.5: "50%", 1: "100%"} {
		if got := percent(share); got != want {
			t.Errorf("%g: got %s, want %s", share, got, want)
		}
	}
}

func TestDoctor(t *testing.T) {
	bad := control.Diagnosis{
		Findings: []control.Finding{
			{Level: control.LevelWarning, What: "clock\x1b[2J", Fix: ""},
			{Level: control.LevelProblem, Code: "W502", What: "no data reaches node2", Fix: "open UDP port 8285"},
		},
		Checked: []string{"gossip", "data path"},
	}
	same(t, rendered(func(w io.Writer) { renderDoctor(w, false, bad) }), `problem W502: no data reaches node2
  fix: open UDP port 8285
warning: clock�[2J
Checked: gossip, data path.
`)
	fine := control.Diagnosis{Checked: bad.Checked}
	same(t, rendered(func(w io.Writer) { renderDoctor(w, false, fine) }), "Nothing found that is wrong.\nChecked: gossip, data path.\n")
	for want, d := range map[int]control.Diagnosis{0: {Findings: bad.Findings[:1]}, 1: bad} {
		socket, _ := daemon(t, &backend{doctor: d})
		if got := run(t, socket, "doctor"); got.status != want || got.errOut != "" || !strings.Contains(got.out, "warning: clock") {
			t.Errorf("got %+v, want status %d", got, want)
		}
		if got := run(t, socket, "doctor", "--json"); got.status != want || got.errOut != "" || !strings.Contains(got.out, `"level": "warning"`) {
			t.Errorf("got %+v, want status %d", got, want)
		}
	}
}
