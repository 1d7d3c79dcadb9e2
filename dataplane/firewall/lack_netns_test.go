//go:build netns

package firewall

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

func TestKernelWithoutAPart(t *testing.T) {
	// The kernel answers as it does without the module.
	absent := func(c *chain) { c.kind = "absent" }
	absentTarget := func(c *chain) { c.rules[0].exprs = []expr.Any{&expr.Target{Name: "absent", Info: &xt.Unknown{}}} }
	for _, test := range []struct {
		chain      string
		damage     func(*chain)
		masquerade bool // is all that is missing
		module     string
	}{
		{"masquerade", absent, true, "modprobe -a nft_chain_absent`"},
		{"masquerade", absentTarget, true, "modprobe -a nf_tables`"},
		{"prerouting", absent, false, "modprobe -a nft_chain_absent`"},
		{"postrouting", absentTarget, false, "modprobe -a nf_tables`"},
	} {
		fw := newNode(t)
		s := testState()
		want := wantedTable(s)
		for i := range want.chains {
			if want.chains[i].name == test.chain {
				test.damage(&want.chains[i])
			}
		}
		before := generationOf(t, fw)
		_, _, err := fw.applyTable(want)
		if errors.Is(err, ErrNoMasquerade) != test.masquerade || !strings.Contains(explain(err).Error(), test.module) ||
			strings.Contains(explain(err).Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q, without masquerade: %t", test.chain, explain(err), test.module, test.masquerade)
		}
		if after := generationOf(t, fw); after != before {
			t.Errorf("%s: the search for what is missing changed the ruleset", test.chain)
		}
		s.Masquerade = false
		apply(t, fw, s)
	}
}

// Every part that the table is made of can be tried, and is there.
func TestKernelWithAllParts(t *testing.T) {
	fw := newNode(t)
	for _, c := range wantedTable(testState()).chains {
		if missing := fw.missing(c); len(missing) != 0 {
			t.Errorf("chain %s: the kernel lacks %v", c.name, missing)
		}
	}
	if got := run(t, "nft", "list", "ruleset"); got != "" {
		t.Errorf("trying leaves %s", got)
	}
}
