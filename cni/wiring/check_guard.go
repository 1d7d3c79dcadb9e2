package wiring

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// checkGuard compares the rules, but not what they have counted.
func (c *inspection) checkGuard() error {
	table := guardTable(c.port.Device)
	have, err := c.listGuard(table)
	switch {
	case errors.Is(err, unix.ENOENT):
		c.note("nftables table netdev %s is missing: the pod can forge addresses", table.Name)
		return nil
	case err != nil:
		return fmt.Errorf("list nftables table netdev %s: %w", table.Name, err)
	}
	var want []string
	for name, rules := range newGuard(c.port, c.port.ends()).rules() {
		chain := &nftables.Chain{Name: name}
		if name == chainIngress {
			chain = ingressChain(table)
		}
		var exprs [][]expr.Any
		for _, r := range rules {
			exprs = append(exprs, r.exprs)
		}
		want = append(want, describe(chain, exprs))
	}
	slices.Sort(want)
	if !slices.Equal(have, want) {
		c.note("nftables table netdev %s has been changed: the pod may forge addresses", table.Name)
	}
	return nil
}

// listGuard describes each chain of the table, sorted. A table that is switched off has none.
func (c *inspection) listGuard(table *nftables.Table) ([]string, error) {
	conn, err := c.nftables()
	if err != nil {
		return nil, err
	}
	found, err := conn.ListTableOfFamily(table.Name, table.Family)
	if err != nil || found.Flags != 0 {
		return nil, err
	}
	chains, err := conn.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return nil, err
	}
	var have []string
	for _, chain := range chains {
		if chain.Table.Name != table.Name {
			continue
		}
		rules, err := conn.GetRules(table, chain)
		if err != nil {
			return nil, err
		}
		var exprs [][]expr.Any
		for _, r := range rules {
			exprs = append(exprs, r.Exprs)
		}
		have = append(have, describe(chain, exprs))
	}
	slices.Sort(have)
	return have, nil
}

// describe writes down a chain with its rules, but for the values of counters.
func describe(chain *nftables.Chain, rules [][]expr.Any) string {
	var b strings.Builder
	fmt.Fprint(&b, chain.Name)
	if chain.Hooknum != nil && chain.Priority != nil && chain.Policy != nil {
		fmt.Fprintf(&b, " hook %d priority %d policy %d", *chain.Hooknum, *chain.Priority, *chain.Policy)
	}
	for _, exprs := range rules {
		b.WriteString("\nrule")
		for _, e := range exprs {
			if _, counts := e.(*expr.Counter); counts {
				e = &expr.Counter{}
			}
			octets, err := expr.Marshal(byte(nftables.TableFamilyNetdev), e)
			fmt.Fprintf(&b, " %x %v", octets, err)
		}
	}
	return b.String()
}
