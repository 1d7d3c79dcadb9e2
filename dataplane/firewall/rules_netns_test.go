//go:build netns

package firewall

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

func TestWhatPassesAndWhatDoesNot(t *testing.T) {
	l := newLab(t)
	apply(t, l.fw, testState())
	for family, a := range addressings {
		l.mustPass(t, family+": from the TUN", l.remote, a.remotePod, l.pod, a.pod, a.remotePod)
		l.mustPass(t, family+": to the TUN", l.pod, a.pod, l.remote, a.remotePod, a.pod)
		l.mustPass(t, family+": directly from a peer", l.underlay, a.directPod, l.pod, a.pod, a.directPod)
		l.mustPass(t, family+": directly to a peer", l.pod, a.pod, l.underlay, a.directPod, a.pod)
		l.mustPass(t, family+": from outside", l.underlay, a.outside, l.pod, a.pod, a.outside)
		l.mustPass(t, family+": to the outside", l.pod, a.pod, l.underlay, a.outside, a.node)
		l.mustPass(t, family+": from the node to a peer's pod", l.node, a.node, l.underlay, a.directPod, a.node)

		l.mustDrop(t, family+": from a peer that is not direct", l.underlay, a.strangerPod, l.pod, a.pod)
		l.mustDrop(t, family+": with an address of this node's", l.underlay, a.forged, l.pod, a.pod)
		l.mustDrop(t, family+": a pod with a peer's address", l.pod, a.directPod+"9", l.underlay, a.directPod)
		l.mustDrop(t, family+": a pod with an address of the outside", l.pod, a.outside+"9", l.underlay, a.directPod)
		l.mustDrop(t, family+": in transit", l.remote, a.remotePod, l.underlay, a.directPod)
	}
}

// TCP goes on after a rule of its own; what is for the node meets no later one.
func TestPodsTCP(t *testing.T) {
	l := newLab(t)
	apply(t, l.fw, testState())
	for family, a := range addressings {
		for src, passes := range map[string]bool{a.pod: true, a.directPod + "9": false, a.outside + "9": false} {
			before := spoofed(t, l.fw)
			wait := absence
			if passes {
				wait = patience
			}
			if err := l.connect(t, l.pod, src, l.node, a.node, wait); (err == nil) != passes {
				t.Errorf("%s from %s: %v, and it passes: %v", family, src, err, !passes)
			}
			if after := spoofed(t, l.fw); (after == before) != passes {
				t.Errorf("%s from %s: %d packets counted as forged", family, src, after-before)
			}
		}
	}
}

func TestWithoutMasqueradeSourcesStay(t *testing.T) {
	l := newLab(t)
	s := testState()
	s.Masquerade = false
	apply(t, l.fw, s)
	for family, a := range addressings {
		l.mustPass(t, family, l.pod, a.pod, l.underlay, a.outside, a.pod)
	}
}

// As Kubernetes does with what comes to a node's port for a pod elsewhere.
func TestForwardedWithTheNodesAddressPasses(t *testing.T) {
	l := newLab(t)
	apply(t, l.fw, testState())
	nft(t, `table inet kube {
		chain postrouting {
			type nat hook postrouting priority srcnat
			iifname "weft0" masquerade
		}
	}`)
	for family, a := range addressings {
		l.mustPass(t, family, l.remote, a.outside, l.underlay, a.directPod, a.node)
	}
}

func TestTunnelsAreNotTracked(t *testing.T) {
	l := newLab(t)
	apply(t, l.fw, testState())
	nft(t, `table inet look {
		chain in {
			type filter hook input priority filter
			ct state untracked udp dport 8285 counter
		}
		chain out {
			type filter hook output priority filter
			ct state untracked udp dport 8285 counter
		}
	}`)
	count := func(chain string, packets string) {
		t.Helper()
		if got := run(t, "nft", "list", "chain", "inet", "look", chain); !strings.Contains(got, "packets "+packets+" ") {
			t.Errorf("want %s untracked packets: %s", packets, got)
		}
	}
	for _, a := range addressings {
		if _, ok := l.send(t, l.underlay, a.peer, l.node, a.node, 8285, patience); !ok {
			t.Error("nothing arrives at the data port")
		}
		if _, ok := l.send(t, l.node, a.node, l.underlay, a.peer, 8285, patience); !ok {
			t.Error("nothing leaves for a data port")
		}
	}
	count("in", "2")
	count("out", "2")
}

// Their peers would take what comes from the node's address for the node's.
func TestPodsDoNotReachDataPortsOutside(t *testing.T) {
	l := newLab(t)
	s := testState()
	apply(t, l.fw, s)
	for family, a := range addressings {
		for _, port := range s.DataPorts {
			for _, to := range []struct {
				side netns.NsHandle
				addr string
			}{{l.underlay, a.peer}, {l.underlay, a.outside}, {l.node, a.node}} {
				before := spoofed(t, l.fw)
				if got, ok := l.send(t, l.pod, a.pod, to.side, to.addr, int(port), absence); ok {
					t.Errorf("%s: a pod's datagram to port %d of %s arrives, from %s", family, port, to.addr, got)
				}
				if after := spoofed(t, l.fw); after != before+1 {
					t.Errorf("%s: to port %d of %s: %d packets counted, want 1", family, port, to.addr, after-before)
				}
			}
		}
		for _, pass := range []struct {
			what             string
			from, to         netns.NsHandle
			src, dst, source string
			port             int
		}{
			{"a pod to a pod", l.pod, l.remote, a.pod, a.remotePod, a.pod, 8285},
			{"a pod to a pod, directly", l.pod, l.underlay, a.pod, a.directPod, a.pod, 8285},
			{"a pod to another port of a peer", l.pod, l.underlay, a.pod, a.peer, a.node, 8286},
			{"the node to a peer", l.node, l.underlay, a.node, a.peer, a.node, 8285},
			{"a peer to the node", l.underlay, l.node, a.peer, a.node, a.peer, 8285},
		} {
			if got, ok := l.send(t, pass.from, pass.src, pass.to, pass.dst, pass.port, patience); !ok || got != pass.source {
				t.Errorf("%s: %s arrives: %t, from %q, want from %q", family, pass.what, ok, got, pass.source)
			}
		}
	}
}

// A datagram in fragments has its ports in the first alone.
func TestPodsDoNotReachDataPortsInFragments(t *testing.T) {
	for _, masquerade := range []bool{true, false} {
		l := newLab(t)
		s := testState()
		s.Masquerade = masquerade
		apply(t, l.fw, s)
		for family, a := range addressings {
			var arrives, end, sender *net.UDPConn
			var err error
			listen := func(port int) *net.UDPConn {
				c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(a.peer), Port: port})
				must(t, err)
				return c
			}
			l.in(t, l.underlay, func() { arrives, end = listen(8285), listen(8286) })
			l.in(t, l.pod, func() {
				sender, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(a.pod)})
				must(t, err)
			})
			for _, port := range []int{8285, 8286} { // the second says that the first would have come
				_, err = sender.WriteTo(make([]byte, 4000), &net.UDPAddr{IP: net.ParseIP(a.peer), Port: port})
				must(t, err)
			}
			must(t, end.SetReadDeadline(time.Now().Add(patience)))
			if n, err := end.Read(make([]byte, 5000)); n != 4000 || err != nil {
				t.Errorf("%s, masquerade %t: %d octets to another port, %v", family, masquerade, n, err)
			}
			must(t, arrives.SetReadDeadline(time.Now().Add(absence)))
			if n, err := arrives.Read(make([]byte, 5000)); err == nil {
				t.Errorf("%s, masquerade %t: %d octets arrive at the data port", family, masquerade, n)
			}
			for _, c := range []*net.UDPConn{arrives, end, sender} {
				must(t, c.Close())
			}
		}
		if n := spoofed(t, l.fw); n != 2 {
			t.Errorf("masquerade %t: %d packets counted, want 2", masquerade, n)
		}
	}
}

func TestPeersComeAndGoWithoutNewRules(t *testing.T) {
	l := newLab(t)
	s := testState()
	apply(t, l.fw, s)
	a := addressings["IPv4"]
	l.mustDrop(t, "before it is direct", l.underlay, a.strangerPod, l.pod, a.pod)
	rules := run(t, "nft", "-a", "list", "table", "inet", "weft")

	s.Direct = append(s.Direct, netip.MustParsePrefix("10.244.4.0/24"))
	apply(t, l.fw, s)
	l.mustPass(t, "direct", l.underlay, a.strangerPod, l.pod, a.pod, a.strangerPod)
	if spoofed(t, l.fw) != 1 {
		t.Error("the counters are lost")
	}
	s.Direct = nil
	apply(t, l.fw, s)
	l.mustDrop(t, "not direct any more", l.underlay, a.strangerPod, l.pod, a.pod)
	l.mustDrop(t, "not direct any more", l.underlay, a.directPod, l.pod, a.pod)

	handles := func(list string) (found []string) {
		for line := range strings.Lines(list) {
			if _, handle, ok := strings.Cut(line, "# handle "); ok {
				found = append(found, handle)
			}
		}
		return found
	}
	if got, want := handles(run(t, "nft", "-a", "list", "table", "inet", "weft")), handles(rules); strings.Join(got, "") != strings.Join(want, "") {
		t.Errorf("rules were made anew: %v, before %v", got, want)
	}
}

// The host's own firewall, as Docker leaves it, and what Manage makes of it.
func TestManageLetsPodTrafficThrough(t *testing.T) {
	l := newLab(t)
	for _, command := range []string{"iptables-nft", "ip6tables-nft"} {
		run(t, command, "-P", "FORWARD", "DROP")
		run(t, command, "-N", "DOCKER-USER")
		run(t, command, "-A", "FORWARD", "-j", "DOCKER-USER")
		run(t, command, "-A", "DOCKER-USER", "-p", "tcp", "--dport", "25", "-j", "DROP")
		run(t, command, "-A", "FORWARD", "-o", "docker0", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT")
		run(t, command, "-A", "FORWARD", "-i", "docker0", "!", "-o", "docker0", "-j", "ACCEPT")
	}
	before := run(t, "nft", "list", "ruleset")
	s := testState()
	apply(t, l.fw, s)
	found := findings(t, l.fw)
	if len(found) != 2 || !strings.HasPrefix(found[0].What, "chain FORWARD of nftables table ip filter drops packets from ") {
		t.Errorf("found %q", found)
	}
	for family, a := range addressings {
		if _, ok := l.send(t, l.remote, a.remotePod, l.pod, a.pod, 9000, absence); ok {
			t.Errorf("%s: the chain lets it through without help", family)
		}
	}
	s.Manage = true
	apply(t, l.fw, s)
	for family, a := range addressings {
		for _, pair := range []struct {
			from     netns.NsHandle
			src      string
			to       netns.NsHandle
			dst, as_ string
		}{
			{l.remote, a.remotePod, l.pod, a.pod, a.remotePod},
			{l.pod, a.pod, l.remote, a.remotePod, a.pod},
			{l.underlay, a.directPod, l.pod, a.pod, a.directPod},
			{l.pod, a.pod, l.underlay, a.directPod, a.pod},
			{l.pod, a.pod, l.underlay, a.outside, a.node},
		} {
			l.mustPass(t, family, pair.from, pair.src, pair.to, pair.dst, pair.as_)
		}
	}
	if found := findings(t, l.fw); len(found) != 0 {
		t.Errorf("still found: %q", found)
	}
	for command, rule := range map[string]string{"iptables-nft": "-A FORWARD -s 10.244.1.0/24 ", "ip6tables-nft": "-A FORWARD -d fd44:0:0:1::/64 "} {
		if got := run(t, command, "-S"); !strings.Contains(got, rule) || strings.Count(got, "-A FORWARD") != 5 || strings.Contains(got, "incompatible") {
			t.Errorf("%s -S has no %q, or not the foreign ones: %s", command, rule, got)
		}
	}

	s.Manage = false
	apply(t, l.fw, s)
	apply(t, l.fw, s)
	if got := run(t, "iptables-nft", "-S"); strings.Contains(got, "10.244.") {
		t.Errorf("Manage is off, and rules stay: %s", got)
	}
	s.Manage = true
	apply(t, l.fw, s)
	remove(t, l.fw)
	if got := run(t, "nft", "list", "ruleset"); withoutCounts(got) != withoutCounts(before) {
		t.Errorf("after Remove: %s\nbefore: %s", got, before)
	}
}
