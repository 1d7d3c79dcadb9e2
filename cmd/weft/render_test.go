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
)

func sampleStatus() control.Status {
	return control.Status{
		Version: "v0.1.0", Node: control.Node{ID: idA, Name: "node1"}, State: control.StateReady, Started: now.Add(-5*time.Minute - 12*time.Second),
		PodNetwork: netip.MustParsePrefix("10.244.0.0/16"), PodCIDR: netip.MustParsePrefix("10.244.1.0/24"),
		Tun:      control.Tun{Name: "weft0", Address: netip.MustParseAddr("10.244.1.0"), MTU: 1472},
		Offload:  control.Offload{Workers: 2, On: []string{"tso", "gso"}, Off: map[string]string{"uso": "too old", "rco": "too old"}},
		Underlay: control.Underlay{Interface: "eth0", Address: netip.MustParseAddr("192.0.2.1"), MTU: 1500, Why: "default route"},
		DataPort: 8285,
		Gossip:   control.Gossip{Address: netip.MustParseAddrPort("192.0.2.1:7946"), Encrypted: true, Members: 3},
		Peers:    control.PeerCount{Known: 3, Up: 2},
	}
}

const statusText = `node1 is ready

  weftd     v0.1.0, up 5m12s
  node ID   aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffffgggg
  pods      10.244.1.0/24 of 10.244.0.0/16
  device    weft0, 10.244.1.0, MTU 1472
  underlay  eth0, 192.0.2.1, MTU 1500, default route
  data      UDP port 8285
  offload   tso gso, 2 workers, no rco uso: too old
  gossip    192.0.2.1:7946, encrypted, 3 members
  peers     2 up of 3 known
`

func samplePeers() control.PeerList {
	return control.PeerList{Peers: []control.Peer{
		{ID: idB, Name: "node3", State: control.PeerRefused, Reason: "10.244.2.0/24 overlaps node2's",
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24")}},
		{ID: idA, Name: "node2", State: control.PeerUp, Since: now.Add(-27 * time.Hour), Endpoint: netip.MustParseAddrPort("192.0.2.2:8285"),
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24"), netip.MustParsePrefix("10.244.9.0/24")}, Mode: "udp", MTU: 1472,
			Tx: control.Traffic{Packets: 9, Bytes: 1023}, Rx: control.Traffic{Packets: 9, Bytes: 3 << 30}},
		{ID: idB, Name: "ev\x1b[2Jil", State: control.PeerGrace, Since: now.Add(time.Second), Endpoint: netip.MustParseAddrPort("192.0.2.33:8285"), Mode: "udp", MTU: 1472},
	}}
}

func sampleRoutes() control.RouteList {
	return control.RouteList{Routes: []control.Route{
		{Prefix: netip.MustParsePrefix("10.244.10.0/24"), Node: "node10", ID: idB, Endpoint: netip.MustParseAddrPort("192.0.2.10:8285"), Mode: "udp", MTU: 1472},
		{Prefix: netip.MustParsePrefix("10.244.2.0/24"), Node: "node2", ID: idB, Endpoint: netip.MustParseAddrPort("192.0.2.2:8285"), Mode: "udp", MTU: 9000},
		{Prefix: netip.MustParsePrefix("10.244.1.0/24"), Node: "node1", ID: idA, Local: true},
	}}
}

func sampleDrops() control.Drops {
	return control.Drops{
		Egress:   control.Direction{Received: 12045, Forwarded: 12000, Drops: map[string]uint64{"no_route": 42, "too_big": 3, "socket_full": 0}},
		Ingress:  control.Direction{Received: 100, Forwarded: 98, Drops: map[string]uint64{"malformed": 0, "spoofed": 1}},
		ICMPSent: 17,
		Kernel:   control.Kernel{SocketOverflow: 5},
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
	same(t, rendered(func(w io.Writer) { renderStatus(w, true, now, s) }),
		"\x1b[1mnode1\x1b[0m is \x1b[31mfenced\x1b[0m: node7 holds 10.244.1.0/24; give this node another podCIDR\n"+`
  weftd      v0.1.0
  node ID    aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffffgggg
  pods       10.244.1.0/24 of 10.244.0.0/16
  device     weft0, 10.244.1.0, MTU 1472
  underlay   eth0, 192.0.2.1, MTU 1500
  data       UDP port 8285
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
		PodCIDR: sampleStatus().PodCIDR, PodNetwork: sampleStatus().PodNetwork, Tun: control.Tun{Name: "weft0"}}
	same(t, rendered(func(w io.Writer) { renderStatus(w, false, now, s) }), `node1 is starting

  weftd     v0.1.0
  node ID
  pods      10.244.1.0/24 of 10.244.0.0/16
  device    weft0
  underlay  not known yet
  data      UDP port 8285
  offload   0 workers
  gossip    not encrypted, 0 members
  peers     0 up of 0 known
`)
}

func TestPeers(t *testing.T) {
	same(t, rendered(func(w io.Writer) { renderPeers(w, false, now, samplePeers()) }),
		`NODE      ID        STATE    SINCE  ENDPOINT         PODS                         MODE   MTU    SENT  RECEIVED  REASON
ev�[2Jil  bbbbbbbb  grace    0s     192.0.2.33:8285                               udp   1472     0 B       0 B
node2     aaaaaaaa  up       1d3h   192.0.2.2:8285   10.244.2.0/24,10.244.9.0/24  udp   1472  1023 B   3.0 GiB
node3     bbbbbbbb  refused                          10.244.2.0/24                               0 B       0 B  10.244.2.0/24 overlaps node2's
`)
	coloured := rendered(func(w io.Writer) { renderPeers(w, true, now, samplePeers()) })
	for _, want := range []string{"\x1b[32mup\x1b[0m", "\x1b[33mgrace\x1b[0m", "\x1b[31mrefused\x1b[0m", "\x1b[1mNODE\x1b[0m"} {
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
	if got := rendered(func(w io.Writer) { renderPeers(w, false, now, up) }); strings.Contains(got, "REASON") {
		t.Errorf("a column for no reason:\n%s", got)
	}
	same(t, rendered(func(w io.Writer) { renderPeers(w, false, now, control.PeerList{}) }),
		"No other node is known. Is `join` set, and are the gossip port and the data port open between the nodes?\n")
}

func TestRoutes(t *testing.T) {
	same(t, rendered(func(w io.Writer) { renderRoutes(w, false, sampleRoutes()) }),
		`PREFIX          NODE    ID        ENDPOINT         MODE   MTU
10.244.1.0/24   node1   aaaaaaaa  this node
10.244.2.0/24   node2   bbbbbbbb  192.0.2.2:8285   udp   9000
10.244.10.0/24  node10  bbbbbbbb  192.0.2.10:8285  udp   1472
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
