package firewall

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func legacyProbes() []*probe {
	s := State{Tun: "weft0", Underlay: "eth0", DataPorts: []uint16{8285}, GossipPort: 7946, Masquerade: true,
		Endpoints:   []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		PodNetworks: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/48")},
		PodCIDRs:    []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd44:0:0:1::/64")}}
	forward, input := s.probes()
	return append(forward, input...)
}

func TestLegacyFate(t *testing.T) {
	into := legacyProbes()[0] // from the TUN to a pod
	port := legacyProbes()[slices.IndexFunc(legacyProbes(), func(p *probe) bool { return p.port == 8285 })]
	for _, c := range []struct {
		rules string
		p     *probe
		want  fate
	}{
		{"-P FORWARD ACCEPT\n", into, fate{does: accepts}},
		{"-P FORWARD DROP\n", into, fate{does: drops}},
		{"-P FORWARD DROP\n-A FORWARD -i weft0 -j ACCEPT\n", into, fate{does: accepts}},
		{"-P FORWARD DROP\n-A FORWARD -i weft+ -j ACCEPT\n", into, fate{does: accepts}},
		{"-P FORWARD DROP\n-A FORWARD ! -i weft0 -j ACCEPT\n", into, fate{does: drops}},
		{"-P FORWARD DROP\n-A FORWARD -o weft0 -j ACCEPT\n", into, fate{does: drops}},
		{"-P FORWARD DROP\n-A FORWARD -i weft0 -o pod0 -j ACCEPT\n", into, fate{does: drops}}, // there is no such interface
		{"-P FORWARD DROP\n-A FORWARD -i weft0 -o veth+ -j ACCEPT\n", into, fate{does: drops, unsure: true}},
		{"-P FORWARD DROP\n-A FORWARD -d 10.244.1.0/24 -j ACCEPT\n", into, fate{does: accepts}},
		{"-P FORWARD DROP\n-A FORWARD -s 10.244.7.0/24 -j ACCEPT\n", into, fate{does: drops, unsure: true}},
		{"-P FORWARD DROP\n-A FORWARD -s 192.0.2.0/24 -j ACCEPT\n", into, fate{does: drops}},
		{"-P FORWARD DROP\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n", into, fate{does: drops}},
		{"-P FORWARD DROP\n-A FORWARD -m conntrack ! --ctstate INVALID -j ACCEPT\n", into, fate{does: accepts}},
		{"-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n", into, fate{does: drops, unsure: true}},
		{"-P FORWARD DROP\n-A FORWARD -p tcp -m tcp --tcp-flags FIN,SYN SYN -j ACCEPT\n", into, fate{does: drops, unsure: true}},
		{"-P FORWARD DROP\n-A FORWARD -m socket -j ACCEPT\n", into, fate{does: drops, unsure: true}},
		{"-P FORWARD DROP\n-A FORWARD -m comment --comment \"all -i x -j DROP\" -j ACCEPT\n", into, fate{does: accepts}},
		{"-P FORWARD ACCEPT\n-A FORWARD -p tcp -j DROP\n", into, fate{does: accepts}},
		{"-P FORWARD ACCEPT\n-A FORWARD -j LOG\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n", into, fate{does: drops}},
		{"-P INPUT DROP\n-A INPUT -p udp -m udp --dport 8285 -j ACCEPT\n", port, fate{does: accepts}},
		{"-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 8285 -j ACCEPT\n", port, fate{does: drops}},
		{"-P INPUT DROP\n-A INPUT -p udp -m multiport --dports 8285,9 -j ACCEPT\n", port, fate{does: drops, unsure: true}},
		{"-P INPUT DROP\n-A INPUT -m conntrack --ctstate NEW -j ACCEPT\n", port, fate{does: drops}},
	} {
		if got := legacyFate(c.rules, c.p); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.rules, got, c.want)
		}
	}
}

func FuzzLegacyFate(f *testing.F) {
	f.Add("-P FORWARD DROP\n-A FORWARD ! -i weft+ -s 10.0.0.0/8 -m comment --comment \"a \\\" b\" -j ACCEPT\n")
	f.Add("-A FORWARD -j\n-A\n-P FORWARD\n-A FORWARD ! !\n\"")
	probes := legacyProbes()
	f.Fuzz(func(t *testing.T, rules string) {
		for _, p := range probes {
			end := legacyFate(rules, p)
			// A rule that accepts everything makes all before it that may accept certain.
			first := legacyFate("-A FORWARD -j ACCEPT\n"+rules, p)
			if end.does != accepts && end.does != drops || first != (fate{does: accepts}) {
				t.Fatalf("%q: %+v, behind an accept %+v", rules, end, first)
			}
		}
	})
}

// Quoting is undone as iptables does it (xtables_save_string).
func FuzzSplitWords(f *testing.F) {
	f.Add("a \"b\\", "-j")
	f.Fuzz(func(t *testing.T, a, b string) {
		quote := func(s string) string {
			return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
		}
		if strings.ToValidUTF8(a, "") != a || strings.ToValidUTF8(b, "") != b {
			return
		}
		if got := splitWords(" " + quote(a) + "  " + quote(b) + "\n"); !slices.Equal(got, []string{a, b}) {
			t.Fatalf("%q and %q: %q", a, b, got)
		}
	})
}
