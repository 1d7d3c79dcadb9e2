package firewall

import (
	"fmt"

	"github.com/google/nftables"
)

// A ruleset is a look at the tables of all programs. Rules are read when they are asked for, and once.
type ruleset struct {
	conn   *nftables.Conn
	tables map[tableKey]*nftables.Table
	chains []*nftables.Chain
	rules  map[chainKey][]*nftables.Rule
}

type tableKey struct {
	family nftables.TableFamily
	name   string
}

type chainKey struct {
	table tableKey
	chain string
}

func keyOf(t *nftables.Table) tableKey { return tableKey{t.Family, t.Name} }

func (f *Firewall) readRuleset() (*ruleset, error) {
	tables, err := f.conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list the nftables tables of this host: %w", err)
	}
	chains, err := f.conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list the nftables chains of this host: %w", err)
	}
	r := &ruleset{f.conn, make(map[tableKey]*nftables.Table), chains, make(map[chainKey][]*nftables.Rule)}
	for _, t := range tables {
		r.tables[keyOf(t)] = t
	}
	return r, nil
}

// base returns the chains of others that filter at the hook, in the order of the kernel's tables.
func (r *ruleset) base(hook *nftables.ChainHook) []*nftables.Chain {
	var found []*nftables.Chain
	for _, c := range r.chains {
		if c.Hooknum == nil || *c.Hooknum != *hook || c.Type != nftables.ChainTypeFilter || keyOf(c.Table) == keyOf(ownTable()) {
			continue
		}
		switch c.Table.Family {
		case nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet:
			found = append(found, c)
		}
	}
	return found
}

func (r *ruleset) rulesOf(t *nftables.Table, chain string) ([]*nftables.Rule, error) {
	key := chainKey{keyOf(t), chain}
	if rules, ok := r.rules[key]; ok {
		return rules, nil
	}
	rules, err := r.conn.GetRules(t, &nftables.Chain{Name: chain})
	if err != nil {
		return nil, fmt.Errorf("list chain %s of nftables table %s: %w", chain, tableTitle(t), err)
	}
	r.rules[key] = rules
	return rules, nil
}

// fate is what becomes of a probe: of those of its packets that no rule treats for a reason that is not known here.
type fate struct {
	does outcome // accepts or drops; goesOn at the end of a chain that was jumped to
	// rule is the index of the one that decides, in the chain that was asked about; its length for the policy.
	rule int
	// unsure says that some rule before may accept the probe's packets, or some of them.
	unsure bool
}

// walk sends p through rules that stand in the base chain c.
func (r *ruleset) walk(c *nftables.Chain, rules []*nftables.Rule, p *probe) (fate, error) {
	end, err := r.through(c.Table, rules, p, 0)
	if err == nil && end.does == goesOn {
		end.does = accepts
		if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			end.does = drops
		}
	}
	return end, err
}

// maxJumps is the kernel's NFT_JUMP_STACK_SIZE, net/netfilter/nf_tables.h: it takes no deeper rules, nor loops.
const maxJumps = 16

func (r *ruleset) through(t *nftables.Table, rules []*nftables.Rule, p *probe, depth int) (fate, error) {
	result := fate{rule: len(rules)}
	if depth > maxJumps {
		return result, nil
	}
	for i, rule := range rules {
		e := p.effectOf(rule.Exprs)
		if e.matches == never {
			continue
		}
		switch e.does {
		case accepts, drops:
			if e.matches == always {
				return fate{e.does, i, result.unsure}, nil
			}
			result.unsure = result.unsure || e.does == accepts
		case returns:
			if e.matches == always {
				return fate{goesOn, i, result.unsure}, nil
			}
		case jumps:
			inner, err := r.jump(t, e, p, depth)
			if err != nil {
				return fate{}, err
			}
			if e.matches == maybe {
				result.unsure = result.unsure || inner.unsure || inner.does == accepts
				continue
			}
			result.unsure = result.unsure || inner.unsure
			if inner.does != goesOn || e.leaves {
				return fate{inner.does, i, result.unsure}, nil
			}
		}
	}
	return result, nil
}

func (r *ruleset) jump(t *nftables.Table, e effect, p *probe, depth int) (fate, error) {
	rules, err := r.rulesOf(t, e.chain)
	if err != nil {
		return fate{}, err
	}
	return r.through(t, rules, p, depth+1)
}

// ours says whether a rule in another's table is weft's.
func ours(r *nftables.Rule) bool { return commentOf(r) == acceptComment }

// sees says whether packets of the family pass through the table's chains.
func sees(t *nftables.Table, f *family) bool {
	return t.Family == nftables.TableFamilyINet || byte(t.Family) == f.nfproto
}

func tableTitle(t *nftables.Table) string {
	names := map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet"}
	return names[t.Family] + " " + t.Name
}
