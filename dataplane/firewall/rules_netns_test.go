//go:build netns

package firewall

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
)

func TestWhatPassesAndWhatDoesNot(t *testing.T) {
	l := newLab(t)
	must(t, l.fw.Apply(testState()))
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

func TestWithoutMasqueradeSourcesStay(t *testing.T) {
	l := newLab(t)
	s := testState()
	s.Masquerade = false
	must(t, l.fw.Apply(s))
	for family, a := range addressings {
		l.mustPass(t, family, l.pod, a.pod, l.underlay, a.outside, a.pod)
	}
}

// As Kubernetes does with what comes to a node's port for a pod elsewhere.
func TestForwardedWithTheNodesAddressPasses(t *testing.T) {
	l := newLab(t)
	must(t, l.fw.Apply(testState()))
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
	must(t, l.fw.Apply(testState()))
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

	// A pod's own traffic to such a port is tracked, else it would leave with the pod's address.
	for family, a := range addressings {
		if got, ok := l.send(t, l.pod, a.pod, l.underlay, a.outside, 8285, patience); !ok || got != a.node {
			t.Errorf("%s: a pod's datagram arrives: %t, from %s, want from %s", family, ok, got, a.node)
		}
	}
}

func TestPeersComeAndGoWithoutNewRules(t *testing.T) {
	l := newLab(t)
	s := testState()
	must(t, l.fw.Apply(s))
	a := addressings["IPv4"]
	l.mustDrop(t, "before it is direct", l.underlay, a.strangerPod, l.pod, a.pod)
	rules := run(t, "nft", "-a", "list", "table", "inet", "weft")

	s.Direct = append(s.Direct, netip.MustParsePrefix("10.244.4.0/24"))
	must(t, l.fw.Apply(s))
	l.mustPass(t, "direct", l.underlay, a.strangerPod, l.pod, a.pod, a.strangerPod)
	if spoofed(t, l.fw) != 1 {
		t.Error("the counters are lost")
	}
	s.Direct = nil
	must(t, l.fw.Apply(s))
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
	must(t, l.fw.Apply(s))
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
	must(t, l.fw.Apply(s))
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
	must(t, l.fw.Apply(s))
	must(t, l.fw.Apply(s))
	if got := run(t, "iptables-nft", "-S"); strings.Contains(got, "10.244.") {
		t.Errorf("Manage is off, and rules stay: %s", got)
	}
	s.Manage = true
	must(t, l.fw.Apply(s))
	must(t, l.fw.Remove())
	if got := run(t, "nft", "list", "ruleset"); withoutCounts(got) != withoutCounts(before) {
		t.Errorf("after Remove: %s\nbefore: %s", got, before)
	}
}
