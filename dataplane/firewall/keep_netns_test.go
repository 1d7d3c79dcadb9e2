//go:build netns

package firewall

import (
	"net/netip"
	"strings"
	"testing"
)

func TestKeep(t *testing.T) {
	fw := newNode(t)
	before := testState()
	before.Keep = true                                                            // of a table that is not there
	before.Direct = append(before.Direct, netip.MustParsePrefix("10.244.2.0/24")) // one range with 10.244.3.0/24
	apply(t, fw, before)
	elements := func(set string) string {
		t.Helper()
		_, list, _ := strings.Cut(run(t, "nft", "list", "set", "inet", "weft", set), "elements = ")
		return strings.Join(strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(" {}\n\t", r) }), "")
	}
	restarted := open(t)
	s := testState()
	s.Keep, s.Direct = true, []netip.Prefix{netip.MustParsePrefix("10.244.9.0/24")}
	for _, change := range []func(){
		func() {},
		func() {}, // a second time
		func() { nft(t, "delete chain inet weft output") }, // the table is made anew
	} {
		change()
		apply(t, restarted, s)
		if got, want := elements(setDirect+"4"), "10.244.2.0/23,10.244.9.0/24"; got != want {
			t.Errorf("IPv4: %s, want %s", got, want)
		}
		if got, want := elements(setDirect+"6"), "fd44:0:0:3::/64"; got != want {
			t.Errorf("IPv6: %s, want %s", got, want)
		}
	}

	// A block that has become this node's is nobody else's.
	s.PodCIDRs = append(s.PodCIDRs, netip.MustParsePrefix("10.244.3.0/24"))
	apply(t, restarted, s)
	if got, want := elements(setDirect+"4"), "10.244.2.0/24,10.244.9.0/24"; got != want {
		t.Errorf("own block: %s, want %s", got, want)
	}
	s.Keep = false
	apply(t, restarted, s)
	if got4, got6 := elements(setDirect+"4"), elements(setDirect+"6"); got4 != "10.244.9.0/24" || got6 != "" {
		t.Errorf("without Keep: %s and %s, want 10.244.9.0/24", got4, got6)
	}
}

// The accepts in the host's chains stay for kept prefixes, too.
func TestKeepManages(t *testing.T) {
	fw := newNode(t)
	nft(t, `table ip filter { chain FORWARD { type filter hook forward priority filter; iifname "eth0" drop; }; }`)
	s := testState()
	s.Manage = true
	apply(t, fw, s)
	before := run(t, "nft", "list", "ruleset")
	if !strings.Contains(before, acceptComment) {
		t.Fatalf("no accepts: %s", before)
	}
	s.Direct, s.Keep = nil, true
	apply(t, open(t), s)
	if got := run(t, "nft", "list", "ruleset"); got != before {
		t.Errorf("with Keep: %s\nbefore: %s", got, before)
	}
}
