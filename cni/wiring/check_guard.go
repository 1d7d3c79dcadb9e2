package wiring

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// checkGuard compares the rules, but not what they have counted.
func (c *inspection) checkGuard() error {
	parts := guardOf(c.port, c.port.ends())
	for _, t := range tablesOf(c.port) {
		have, err := steady(func() ([]string, error) { return c.listGuard(t) })
		if err != nil {
			return fmt.Errorf("list nftables table %v: %w", t, err)
		}
		if have == nil {
			c.note("nftables table %v is missing or switched off: the pod can forge addresses", t)
			continue
		}
		for _, part := range append(t.shared(), parts...) {
			if part.table == t && !slices.Contains(have, describeWanted(part.chain, part.rules)) {
				c.note("chain %s of nftables table %v is missing or has been changed: the pod may forge addresses, or its packets are dropped", part.chain.Name, t)
			}
		}
		if t == bridges {
			err = c.checkPort()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkPort sees that the map of a bridge's ports leads to the chain.
func (c *inspection) checkPort() error {
	conn, err := c.nftables()
	if err != nil {
		return err
	}
	elements, err := conn.GetSetElements(portsMap())
	if err != nil {
		return fmt.Errorf("list map %s of nftables table %v: %w", mapPorts, bridges, err)
	}
	key := portsElement(c.port.Device)[0].Key
	if !slices.ContainsFunc(elements, func(e nftables.SetElement) bool { return bytes.Equal(e.Key, key) }) {
		c.note("map %s of nftables table %v lacks %s: the pod may forge addresses", mapPorts, bridges, c.port.Device)
	}
	return nil
}

// listGuard describes the chains that are the device's, or all pods'. A table that is missing or switched off has none.
func (c *inspection) listGuard(t table) (have []string, err error) {
	conn, err := c.nftables()
	if err != nil {
		return nil, err
	}
	found, err := conn.ListTableOfFamily(tableName, nftables.TableFamily(t))
	if isNone(err) || err == nil && found.Flags != 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamily(t))
	if err != nil {
		return nil, err
	}
	for _, chain := range chains {
		if chain.Table.Name != tableName || isDevice(chain.Name) && chain.Name != c.port.Device {
			continue
		}
		rules, err := conn.GetRules(t.table(), chain)
		if err != nil {
			return nil, err
		}
		var exprs [][]expr.Any
		for _, r := range rules {
			exprs = append(exprs, r.Exprs)
		}
		have = append(have, describe(chain, exprs))
	}
	return have, nil
}

func describeWanted(chain *nftables.Chain, rules []rule) string {
	var exprs [][]expr.Any
	for _, r := range rules {
		exprs = append(exprs, r.exprs)
	}
	return describe(chain, exprs)
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
			switch x := e.(type) {
			case *expr.Counter:
				e = &expr.Counter{}
			case *expr.Lookup: // in the map by its name: its ID was the transaction's
				e = &expr.Lookup{SourceRegister: x.SourceRegister, SetName: x.SetName, Invert: x.Invert, DestRegister: x.DestRegister, IsDestRegSet: x.IsDestRegSet}
			}
			octets, err := expr.Marshal(byte(nftables.TableFamilyNetdev), e)
			fmt.Fprintf(&b, " %x %v", octets, err)
		}
	}
	return b.String()
}
