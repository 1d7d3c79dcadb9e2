//go:build netns

package firewall

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

func withoutCounts(list string) string {
	return regexp.MustCompile(`packets \d+ bytes \d+`).ReplaceAllString(list, "")
}

func generationOf(t *testing.T, fw *Firewall) uint32 {
	t.Helper()
	g, err := fw.generation()
	must(t, err)
	return g
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	fw := newNode(t)
	nft(t, "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }")
	s := testState()
	s.Manage = true
	apply(t, fw, s)
	before := generationOf(t, fw)

	reordered := s.clone()
	for _, list := range [][]netip.Prefix{reordered.PodNetworks, reordered.PodCIDRs, reordered.Direct} {
		slices.Reverse(list)
	}
	reordered.Direct = append(reordered.Direct, reordered.Direct...)
	restarted := open(t)
	for _, again := range []func() bool{
		func() bool { return apply(t, fw, s) }, func() bool { return apply(t, fw, s) },
		func() bool { return apply(t, fw, reordered) },
		func() bool { return apply(t, restarted, s) },
	} {
		if again() {
			t.Error("a repair of what is there")
		}
		if now := generationOf(t, fw); now != before {
			t.Fatalf("generation %d, was %d", now, before)
		}
	}
}

func TestWhatOthersChangeIsRepaired(t *testing.T) {
	fw := newNode(t)
	forward := "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }\n"
	nft(t, forward)
	s := testState()
	s.Manage = true
	apply(t, fw, s)
	want := run(t, "nft", "list", "ruleset")
	for _, harm := range []string{
		"flush ruleset\n" + forward,
		"flush table inet weft",
		"flush chain inet weft prerouting",
		"delete table inet weft",
		"add rule inet weft prerouting counter drop",
		"insert rule inet weft prerouting accept",
		"add chain inet weft more { type filter hook input priority 0; policy drop; }",
		"add set inet weft more { type ipv4_addr; }",
		"add chain inet weft prerouting { policy drop; }",
		"add element inet weft direct4 { 10.244.9.0/24 }",
		"delete element inet weft own6 { fd44:0:0:1::/64 }",
		"flush set inet weft data_ports",
		"add table inet weft { flags dormant; }",
		"flush chain ip filter FORWARD",
	} {
		apply(t, fw, s) // so that it has seen everything in order
		nft(t, harm)
		if repaired := apply(t, fw, s); repaired == (harm == "flush chain ip filter FORWARD") {
			t.Errorf("after %q: repaired weft's table: %t", harm, repaired)
		}
		if got := run(t, "nft", "list", "ruleset"); withoutCounts(sorted(got)) != withoutCounts(sorted(want)) {
			t.Errorf("after %q: %s\nwant: %s", harm, got, want)
		}
	}
}

// sorted puts tables in an order of their own: the kernel lists them as they were made.
func sorted(list string) string {
	tables := strings.SplitAfter(list, "\n}\n")
	slices.Sort(tables)
	return strings.Join(tables, "")
}

func TestRemoveLeavesTheRulesetAsItWas(t *testing.T) {
	fw := newNode(t)
	nft(t, `table inet filter {
		chain forward {
			type filter hook forward priority filter; policy drop;
			ct state vmap { established : accept, related : accept, invalid : drop }
			tcp dport 25 reject
			counter drop comment "the last"
		}
	}
	table ip6 weft {
		chain theirs {
			counter comment "weft: not"
		}
	}`)
	before := run(t, "nft", "list", "ruleset")
	s := testState()
	s.Manage = true
	apply(t, fw, s)
	if got := run(t, "nft", "list", "chain", "inet", "filter", "forward"); strings.Count(got, acceptComment) != 4 ||
		strings.Index(got, acceptComment) < strings.Index(got, "reject") || strings.LastIndex(got, acceptComment) > strings.Index(got, "the last") {
		t.Errorf("the accepts are not between what is refused for a reason and the last rule: %s", got)
	}
	for _, rule := range []string{"\tip saddr 10.244.1.0/24 counter", "\tip6 daddr fd44:0:0:1::/64 counter"} {
		if got := run(t, "nft", "list", "chain", "inet", "filter", "forward"); !strings.Contains(got, rule) {
			t.Errorf("no rule %q: %s", rule, got)
		}
	}
	remove(t, fw)
	if got := run(t, "nft", "list", "ruleset"); got != before {
		t.Errorf("after Remove: %s\nbefore: %s", got, before)
	}
	remove(t, fw)
}

func TestManyPeers(t *testing.T) {
	fw := newNode(t)
	s := testState()
	s.Direct = nil
	const peers = 5000
	for i := range peers {
		addr := netip.MustParseAddr("fd44::").As16()
		binary.BigEndian.PutUint16(addr[6:], uint16(2*i)) // no two that touch
		s.Direct = append(s.Direct, netip.PrefixFrom(netip.AddrFrom16(addr), 64))
	}
	apply(t, fw, s)
	before := generationOf(t, fw)
	apply(t, fw, s)
	if now := generationOf(t, fw); now != before {
		t.Error("a second Apply changes something")
	}
	if got := strings.Count(run(t, "nft", "list", "set", "inet", "weft", "direct6"), "/64"); got != peers {
		t.Errorf("%d prefixes in the set", got)
	}
}

// What was queued for a transaction that came to nothing is not sent with the next.
func TestFailuresLeaveNothingBehind(t *testing.T) {
	fw := newNode(t)
	nft(t, "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }")
	s := testState()
	apply(t, fw, s)
	before := run(t, "nft", "list", "table", "inet", "weft")

	changed := s.clone()
	changed.Direct = nil
	want := wantedTable(changed)
	for i := range want.sets {
		if want.sets[i].name == "own6" { // behind those of direct prefixes
			want.sets[i].elements = []nftables.SetElement{{Key: make([]byte, 1<<16)}} // too long for a message
		}
	}
	if _, _, err := fw.applyTable(want); err == nil {
		t.Fatal("a key of 65,536 octets is taken")
	}
	_, err := fw.transact("", func() (bool, error) {
		fw.conn.AddTable(&nftables.Table{Name: "left", Family: nftables.TableFamilyIPv4})
		return true, errors.New("no")
	})
	if err == nil {
		t.Fatal("the error is lost")
	}
	s.Manage = true
	_, err = fw.applyForeign(s)
	must(t, err)
	if got := run(t, "nft", "list", "table", "inet", "weft"); got != before {
		t.Errorf("the next transaction changed %s\nbefore: %s", got, before)
	}
	got := run(t, "nft", "list", "ruleset")
	if strings.Contains(got, "left") || !strings.Contains(got, acceptComment) {
		t.Errorf("want the accepts, and no table left: %s", got)
	}
}

func TestWithoutNetAdmin(t *testing.T) {
	fw := newNode(t)
	apply(t, fw, testState())
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // of the test's thread, which ends with it
	var sets [2]unix.CapUserData
	must(t, unix.Capget(&header, &sets[0]))
	sets[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	must(t, unix.Capset(&header, &sets[0]))

	_, openErr := Open()
	_, applyErr := fw.Apply(testState())
	_, removeErr := fw.Remove()
	for name, err := range map[string]error{"Open": openErr, "Apply": applyErr, "Remove": removeErr} {
		if err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN: start it with") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s = %v, want one line with the capability and how to get it", name, err)
		}
	}
}

func TestStateThatIsNone(t *testing.T) {
	fw := newNode(t)
	for _, change := range []func(*State){
		func(s *State) { s.Tun = "" },
		func(s *State) { s.Underlay = "a-name-too-long-" },
		func(s *State) { s.Direct = []netip.Prefix{netip.MustParsePrefix("10.244.3.1/24")} },
		func(s *State) { s.PodCIDRs = []netip.Prefix{{}} },
	} {
		s := testState()
		change(&s)
		if _, err := fw.Apply(s); err == nil {
			t.Errorf("%+v is applied", s)
		}
	}
}
