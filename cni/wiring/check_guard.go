package wiring

import (
	"bytes"
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
	ingress, icmpv6 := newGuard(c.port, c.port.ends(), chainICMPv6).rules()
	want := []string{describeWanted(ingressChain(table), ingress), describeWanted(&nftables.Chain{Name: chainICMPv6}, icmpv6)}
	slices.Sort(want)
	if !slices.Equal(have, want) {
		c.note("nftables table netdev %s has been changed: the pod may forge addresses", table.Name)
	}
	return c.checkBridgeGuard()
}

// checkBridgeGuard compares what the table of all bridges has for this port.
func (c *inspection) checkBridgeGuard() error {
	if c.port.Bridge == "" {
		return nil
	}
	device, table := c.port.Device, bridgeTable()
	fail := func(err error) error { return fmt.Errorf("list nftables table bridge %s: %w", table.Name, err) }
	have, err := c.listGuard(table)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fail(err)
	}
	ingress, icmpv6 := newGuard(c.port, c.port.ends(), device+discoverySuffix).rules()
	for _, want := range []string{describeWanted(&nftables.Chain{Name: device}, ingress),
		describeWanted(&nftables.Chain{Name: device + discoverySuffix}, icmpv6), describeWanted(portsChain(table), []rule{portsRule()})} {
		if !slices.Contains(have, want) {
			c.note("chain %s of nftables table bridge %s is missing or has been changed: the pod may forge addresses", strings.Fields(want)[0], table.Name)
			return nil
		}
	}
	conn, err := c.nftables()
	if err != nil {
		return err
	}
	elements, err := conn.GetSetElements(portsMap(table))
	if err != nil {
		return fail(err)
	}
	key := portsElement(device)[0].Key
	if !slices.ContainsFunc(elements, func(e nftables.SetElement) bool { return bytes.Equal(e.Key, key) }) {
		c.note("map %s of nftables table bridge %s lacks %s: the pod may forge addresses", mapPorts, table.Name, device)
	}
	return nil
}

// listGuard describes each chain of the table that is the device's, sorted. A table that is switched off has none.
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
		others := table.Name == bridgeTableName && chain.Name != chainPorts && !strings.HasPrefix(chain.Name, c.port.Device)
		if chain.Table.Name != table.Name || others {
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
