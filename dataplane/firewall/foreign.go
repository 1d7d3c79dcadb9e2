package firewall

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// acceptComment marks a rule of weft's in another's chain.
const acceptComment = "weft: accept pods of this node"

// tableOwned is NFT_TABLE_F_OWNER (linux/netfilter/nf_tables.h): nobody but the program that made the table may change
// it. firewalld does so.
const tableOwned = 1 << 1

// applyForeign has weft's accepts in those forward chains of others that would drop pod traffic, if s.Manage, and
// nowhere else. It says whether that took a transaction.
func (f *Firewall) applyForeign(s State) (changed bool, err error) {
	all, err := f.readRuleset()
	if err != nil {
		return false, err
	}
	return f.transact("accept pod traffic in the host's forward chains", func() (changed bool, err error) {
		for _, c := range all.base(nftables.ChainHookForward) {
			if all.tables[keyOf(c.Table)] == nil || all.tables[keyOf(c.Table)].Flags&tableOwned != 0 {
				continue
			}
			did, err := f.manage(all, c, s)
			if err != nil {
				return false, err
			}
			changed = changed || did
		}
		return changed, nil
	})
}

// manage queues the changes of one chain.
func (f *Firewall) manage(all *ruleset, c *nftables.Chain, s State) (changed bool, err error) {
	rules, err := all.rulesOf(c.Table, c.Name)
	if err != nil {
		return false, err
	}
	foreign := slices.DeleteFunc(slices.Clone(rules), ours)
	want, place, err := acceptsFor(all, c, foreign, s)
	if err != nil || slices.EqualFunc(rules, withAccepts(foreign, want, place), sameRule) {
		return false, err
	}
	for _, r := range rules {
		if ours(r) {
			if err := f.conn.DelRule(r); err != nil {
				return false, err
			}
		}
	}
	for _, r := range want {
		if place < len(foreign) {
			r.Position = foreign[place].Handle
			f.conn.InsertRule(r)
		} else {
			f.conn.AddRule(r)
		}
	}
	return true, nil
}

// withAccepts is how the chain shall be: the accepts stand before the first rule that drops everything, or at the end,
// so that all that the host's administrator refuses for a reason of its own stays refused.
func withAccepts(foreign, accepts []*nftables.Rule, place int) []*nftables.Rule {
	return slices.Insert(slices.Clone(foreign), place, accepts...)
}

func sameRule(a, b *nftables.Rule) bool {
	return a == b || ours(a) && ours(b) && bytes.Equal(encoded(a.Exprs), encoded(b.Exprs))
}

// acceptsFor is what the chain needs so that traffic from and to own pods passes, and the index of the foreign rule
// that it must stand before. It needs nothing where the foreign rules let it pass.
func acceptsFor(all *ruleset, c *nftables.Chain, foreign []*nftables.Rule, s State) (want []*nftables.Rule, place int, err error) {
	place = len(foreign)
	if !s.Manage {
		return nil, place, nil
	}
	for i := range families {
		f := &families[i]
		if !sees(c.Table, f) {
			continue
		}
		needed := false
		for _, p := range forwardProbes(s, f) {
			end, err := all.walk(c, foreign, p)
			if err != nil {
				return nil, 0, err
			}
			if end.does == drops {
				needed, place = true, min(place, end.rule)
			}
		}
		if needed {
			want = append(want, acceptRules(c, f, f.of(s.PodCIDRs))...)
		}
	}
	return want, place, nil
}

// acceptRules accept what comes from own pods and what goes to them, over whatever interface: a forged source is
// dropped by weft's own table.
func acceptRules(c *nftables.Chain, f *family, own []netip.Prefix) []*nftables.Rule {
	var rules []*nftables.Rule
	for _, p := range own {
		for _, offset := range []uint32{f.src, f.dst} {
			var exprs []expr.Any
			if c.Table.Family == nftables.TableFamilyINet {
				exprs = f.is()
			}
			exprs = slices.Concat(exprs, f.inPrefix(offset, expr.CmpOpEq, p), verdict(expr.VerdictAccept))
			rules = append(rules, &nftables.Rule{Table: c.Table, Chain: c, Exprs: exprs, UserData: comment(acceptComment)})
		}
	}
	return rules
}

// forwardProbes are the kinds of pod traffic that this host forwards, in one family.
func forwardProbes(s State, f *family) []*probe {
	own, pods := f.of(s.PodCIDRs), f.of(s.PodNetworks)
	if len(own) == 0 || len(pods) == 0 {
		return nil
	}
	const (
		fromNodes = "from pods of other nodes to those here"
		toNodes   = "from pods here to those of other nodes"
		toOutside = "from pods here to the outside"
	)
	kind := func(what, in, out string, src, dst []netip.Prefix) *probe {
		return &probe{what: what, family: f, in: in, out: out, src: src, dst: dst, state: stateNew, ofPods: mayLeadTo(own)}
	}
	probes := []*probe{kind(fromNodes, s.Tun, podInterface, pods, own), kind(toNodes, podInterface, s.Tun, own, pods)}
	if direct := f.of(s.Direct); len(direct) > 0 {
		probes = append(probes, kind("directly "+fromNodes, s.Underlay, podInterface, direct, own),
			kind("directly "+toNodes, podInterface, s.Underlay, own, direct))
	}
	if s.Masquerade {
		probes = append(probes, kind(toOutside, podInterface, s.Underlay, own, nil))
	}
	return probes
}

// mayLeadTo says of an interface whether pods may be behind it: that of a bridge with pods has an address of theirs,
// and that of a single pod often none but link-local ones.
func mayLeadTo(own []netip.Prefix) func(string) bool {
	return func(name string) bool {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return false // a rule for what is not there
		}
		addrs, err := i.Addrs()
		other := false
		for _, a := range addrs {
			p, _ := netip.ParsePrefix(a.String())
			if slices.ContainsFunc(own, func(o netip.Prefix) bool { return o.Contains(p.Addr()) }) {
				return true
			}
			other = other || !p.Addr().IsLinkLocalUnicast()
		}
		return err != nil || !other
	}
}
