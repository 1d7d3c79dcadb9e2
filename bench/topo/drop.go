//go:build linux

package topo

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// DropAddresses drops what passes the other end of the node's eth0, in either direction, with an IPv4 or IPv6 source
// or destination in one of prefixes, as clouds do with addresses that are not the machine's own. Tunnelled packets
// pass by their outer addresses. A call replaces the prefixes of the last one; one without any drops nothing again.
func (n *Node) DropAddresses(prefixes ...netip.Prefix) error {
	var rules []string
	for _, prefix := range prefixes {
		family := "ip"
		if prefix.Addr().Is6() {
			family = "ip6"
		}
		for _, field := range []string{"saddr", "daddr"} {
			rules = append(rules, fmt.Sprintf("%s %s %s drop", family, field, prefix))
		}
	}
	return n.drop("addresses", rules)
}

// DropPorts is DropAddresses for UDP to one of ports. Fragments but the first carry no port and pass.
func (n *Node) DropPorts(ports ...uint16) error {
	var rules []string
	for _, port := range ports {
		rules = append(rules, fmt.Sprintf("udp dport %d drop", port))
	}
	return n.drop("ports", rules)
}

// drop puts rules at the node's port: at the device and not at the bridge, so that it does the same for a remote
// node, whose port is a router's. What names the rules.
func (n *Node) drop(what string, rules []string) error {
	var chains strings.Builder
	for _, hook := range []string{"ingress", "egress"} {
		if len(rules) > 0 {
			fmt.Fprintf(&chains, "chain %[1]s { type filter hook %[1]s device %[2]q priority 0;\n%[3]s\n}\n",
				hook, n.port.Attrs().Name, strings.Join(rules, "\n"))
		}
	}
	return n.far.setTable("netdev "+what+"_of_"+n.label, chains.String())
}

// setTable replaces the nftables table ("FAMILY NAME") by one with these chains, in one step, or removes it where
// there are none.
func (ns *Namespace) setTable(table, chains string) error {
	script := fmt.Sprintf("add table %[1]s\ndelete table %[1]s\n", table)
	if chains != "" {
		script += fmt.Sprintf("table %s {\n%s\n}\n", table, chains)
	}
	if _, err := ns.Run(context.Background(), "nft", script); err != nil {
		return fmt.Errorf("set nftables table %s: %w", table, err)
	}
	return nil
}
