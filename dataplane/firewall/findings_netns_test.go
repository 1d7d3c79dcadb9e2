//go:build netns

package firewall

import (
	"strings"
	"testing"
)

func findings(t *testing.T, fw *Firewall) []Finding {
	t.Helper()
	found, err := fw.Findings()
	must(t, err)
	return found
}

// What is said of a chain; a want that is empty stands for nothing at all.
func TestFindings(t *testing.T) {
	forward := func(policy, rules string) string {
		return "table inet filter {\n chain other {\n drop\n }\n chain more {\n return\n drop\n}\n chain accepting {\n accept\n}\n chain forward {\n type filter hook forward priority filter; policy " +
			policy + ";\n" + rules + "\n}\n}"
	}
	input := func(rules string) string {
		return "table inet filter {\n chain input {\n type filter hook input priority filter; policy drop;\n" + rules + "\n}\n}"
	}
	for _, c := range []struct{ name, ruleset, want string }{
		{"accept", forward("accept", ""), ""},
		{"drop", forward("drop", ""), "drops"},
		{"drop for some", forward("accept", "tcp dport 25 drop"), ""},
		{"last rule", forward("accept", "ct state established accept\ncounter reject"), "drops"},
		{"last rule elsewhere", forward("accept", "jump more\ngoto other"), "drops"},
		{"jump of some", forward("drop", "meta mark 7 jump accepting"), "may drop"},
		{"goto does not come back", forward("drop", "goto more\naccept"), "drops"},
		{"jump comes back", forward("drop", "jump more\naccept"), ""},
		{"all that is needed, by interface", forward("drop", `iifname "weft0" accept
			oifname "weft0" accept
			iifname "eth0" accept
			oifname "eth0" accept`), ""},
		{"by address", forward("drop", `ip saddr 10.244.0.0/15 accept
			ip daddr 10.244.1.0/24 accept
			ip6 saddr fd44:0:0:1::/64 accept
			ip6 daddr fd44::/16 accept`), ""},
		{"one family", forward("drop", "meta nfproto ipv4 accept"), "drops"},
		{"one direction", forward("drop", `iifname "weft0" accept`), "drops packets from pods here to those"},
		{"states", forward("drop", "ct state established,related accept"), "drops"},
		{"not a state", forward("drop", "ct state != established accept"), ""},
		{"tracked", forward("drop", "ct state new accept"), ""},
		{"another interface", forward("drop", `iifname "docker0" oifname != "docker0" accept`), "drops"},
		{"some address", forward("drop", "ip saddr 10.244.2.7 accept"), "drops"},
		{"a set", forward("drop", "ip saddr { 10.244.0.0/16, 10.0.0.1 } accept\nip6 saddr fd44::/48 accept"), "may drop packets from"},
		{"certain and not", forward("drop", `ip saddr { 10.244.0.0/16, 10.0.0.1 } accept
			ip saddr != 10.244.0.0/16 accept`), "may drop packets from pods of other nodes to those here, from pods here to those of other nodes"},
		{"all in sets", forward("drop", `oifname { "weft0", "eth0" } accept
			iifname { "weft0", "eth0" } accept`), "may drop"},
		{"verdicts", forward("drop", "ct state vmap { new : accept, invalid : drop }"), "may drop"},
		{"wildcard", forward("drop", "iifname \"weft*\" accept\noifname \"weft*\" accept\niifname \"eth*\" accept\noifname \"eth*\" accept"), ""},
		{"not the node's", "table bridge filter {\n chain accepting {\n accept\n}\n chain forward {\n type filter hook forward priority 0; policy drop;\n}\n}", ""},

		{"input", input(""), "drops packets to udp port 8285"},
		{"input, ports accepted", input("udp dport 8285 accept\nudp dport 4789 accept\nudp dport 7946 accept\ntcp dport 7946 accept"), ""},
		{"input, a port lacks", input("udp dport 8285 accept\nudp dport 4789 accept\ntcp dport 7946 accept"), "drops packets to udp port 7946:"},
		{"input, a set", input("meta l4proto { tcp, udp } th dport { 8285, 4789, 7946 } accept"), "may drop"},
		// What is not tracked is not new.
		{"input, new", input("ct state new accept"), "drops packets to udp port 8285, to udp port 4789:"},
		{"input, the address", input("ip daddr 192.0.2.1 accept\nip6 daddr fd00::/8 accept"), ""},
		{"input, the interface", input(`iifname "eth0" accept`), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			fw := newNode(t)
			nft(t, c.ruleset)
			apply(t, fw, testState())
			found := findings(t, fw)
			if c.want == "" {
				if len(found) != 0 {
					t.Errorf("found %q", found)
				}
				return
			}
			if len(found) != 1 || !strings.Contains(found[0].What, " "+c.want) || strings.Contains(found[0].What+found[0].Fix, "\n") {
				t.Fatalf("found %q, want one with %q", found, c.want)
			}
		})
	}
}

func TestWhatIsFoundCanBeCured(t *testing.T) {
	for _, c := range []struct{ name, ruleset string }{
		{"nft", `table inet filter {
			chain input {
				type filter hook input priority filter; policy drop;
			}
			chain forward {
				type filter hook forward priority filter; policy drop;
			}
		}`},
		{"iptables", `table ip filter {
			chain INPUT {
				type filter hook input priority filter; policy drop;
			}
			chain FORWARD {
				type filter hook forward priority filter; policy drop;
			}
		}
		table ip6 filter {
			chain INPUT {
				type filter hook input priority filter; policy drop;
			}
			chain FORWARD {
				type filter hook forward priority filter; policy accept;
				counter drop
			}
		}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			fw := newNode(t)
			nft(t, c.ruleset)
			apply(t, fw, testState())
			found := findings(t, fw)
			if len(found) == 0 {
				t.Fatal("nothing is found")
			}
			for _, f := range found {
				_, commands, _ := strings.Cut(strings.TrimSuffix(f.Fix, "`"), ": `")
				if commands == "" {
					commands = strings.Trim(f.Fix, "`")
				}
				run(t, "sh", "-ec", commands)
			}
			if left := findings(t, fw); len(left) != 0 {
				t.Errorf("left after its own cure: %q", left)
			}
		})
	}
}

func TestStatesOfIPTables(t *testing.T) {
	for states, want := range map[string]int{"NEW": 0, "RELATED,ESTABLISHED": 1} {
		fw := newNode(t)
		run(t, "iptables-nft", "-P", "FORWARD", "DROP")
		run(t, "iptables-nft", "-A", "FORWARD", "-m", "conntrack", "--ctstate", states, "-m", "comment", "--comment", "why", "-j", "ACCEPT")
		apply(t, fw, testState())
		found := findings(t, fw)
		if len(found) != want || want > 0 && !strings.Contains(found[0].What, " drops packets") {
			t.Errorf("%s: found %q", states, found)
		}
	}
}

func TestFirewalldIsNamed(t *testing.T) {
	fw := newNode(t)
	nft(t, `table inet firewalld {
		chain filter_INPUT {
			type filter hook input priority filter + 10; policy accept;
			ct state { established, related } accept
			iifname "lo" accept
			reject with icmpx admin-prohibited
		}
		chain filter_FORWARD {
			type filter hook forward priority filter + 10; policy accept;
			ct state { established, related } accept
			ct status dnat accept
			iifname "lo" accept
			ct state invalid drop
			reject with icmpx admin-prohibited
		}
	}`)
	apply(t, fw, testState())
	found := findings(t, fw)
	if len(found) != 2 {
		t.Fatalf("found %q", found)
	}
	for i, want := range []string{
		"`firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 --add-source=fd44::/48 && firewall-cmd --reload`",
		"`firewall-cmd --permanent --add-port=8285/udp --add-port=4789/udp --add-port=7946/udp --add-port=7946/tcp && firewall-cmd --reload`",
	} {
		if !strings.Contains(found[i].Fix, want) {
			t.Errorf("finding %q, want the fix %q", found[i], want)
		}
	}
}

func TestLegacyRulesAreFound(t *testing.T) {
	fw := newNode(t)
	apply(t, fw, testState())
	if found := findings(t, fw); len(found) != 0 {
		t.Errorf("found before there is anything: %q", found)
	}
	run(t, "iptables-legacy", "-P", "FORWARD", "DROP")
	run(t, "iptables-legacy", "-A", "FORWARD", "-m", "comment", "--comment", "a -j ACCEPT \"quoted\"", "-o", "docker0", "-j", "ACCEPT")
	found := findings(t, fw)
	if len(found) != 1 || !strings.HasPrefix(found[0].What, "chain FORWARD of iptables-legacy drops packets") {
		t.Fatalf("found %q", found)
	}
	run(t, "sh", "-ec", strings.Trim(found[0].Fix, "`"))
	if left := findings(t, fw); len(left) != 0 {
		t.Errorf("left after its own cure: %q", left)
	}
}

func TestAnotherFamilysInputIsOfNoInterest(t *testing.T) {
	fw := newNode(t)
	nft(t, "table ip6 filter { chain INPUT { type filter hook input priority filter; policy drop; }; }")
	s := testState()
	s.Endpoints = s.Endpoints[:1]
	apply(t, fw, s)
	if found := findings(t, fw); len(found) != 0 {
		t.Errorf("found %q", found)
	}
}
