package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Finding is something of the host's that harms pod traffic, and what cures it: one line each, for people.
type Finding struct{ What, Fix string }

// Findings is what harms the pod traffic of the State that Apply was last called with: forward chains of others that
// drop it, then input chains that drop what comes to weft's ports. A chain "drops" where that is certain, and "may
// drop" where it has rules that might accept, which this package does not evaluate. It changes nothing.
func (f *Firewall) Findings() ([]Finding, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, err := f.readRuleset()
	if err != nil {
		return nil, explain(err)
	}
	forward, input := f.state.probes()
	var found []Finding
	for _, side := range []struct {
		hook   *nftables.ChainHook
		probes []*probe
		fix    func(*nftables.Table, *nftables.Chain) string
	}{
		{nftables.ChainHookForward, forward, f.state.forwardFix},
		{nftables.ChainHookInput, input, f.state.inputFix},
	} {
		for _, c := range all.base(side.hook) {
			what, err := all.losses(c, side.probes)
			if err != nil {
				return nil, explain(err)
			}
			if what != "" {
				found = append(found, Finding{what, side.fix(all.tables[keyOf(c.Table)], c)})
			}
		}
	}
	legacy, err := legacyFindings(forward, input)
	return append(found, legacy...), err
}

// probes are all that is asked about.
func (s State) probes() (forward, input []*probe) {
	for i := range families {
		forward = append(forward, forwardProbes(s, &families[i])...)
		input = append(input, inputProbes(s, &families[i])...)
	}
	return forward, input
}

// inputProbes are the kinds of packets that come to the node itself.
func inputProbes(s State, f *family) []*probe {
	var here []netip.Prefix
	for _, a := range s.Endpoints {
		here = append(here, f.of([]netip.Prefix{netip.PrefixFrom(a, a.BitLen())})...)
	}
	if len(here) == 0 {
		return nil
	}
	to := func(proto byte, port uint16, state uint32) *probe {
		return &probe{what: fmt.Sprintf("to %s port %d", protocolName(proto), port), family: f, in: s.Underlay, dst: here,
			proto: proto, port: port, state: state}
	}
	var probes []*probe
	for _, port := range s.DataPorts {
		probes = append(probes, to(unix.IPPROTO_UDP, port, stateUntracked))
	}
	if s.GossipPort != 0 {
		probes = append(probes, to(unix.IPPROTO_TCP, s.GossipPort, stateNew), to(unix.IPPROTO_UDP, s.GossipPort, stateNew))
	}
	return probes
}

func protocolName(proto byte) string {
	if proto == unix.IPPROTO_TCP {
		return "tcp"
	}
	return "udp"
}

// losses says in a line which probes the chain drops, and by what; it is empty where it drops none.
func (r *ruleset) losses(c *nftables.Chain, probes []*probe) (string, error) {
	rules, err := r.rulesOf(c.Table, c.Name)
	if err != nil {
		return "", err
	}
	var l losses
	for _, p := range probes {
		if !sees(c.Table, p.family) {
			continue
		}
		end, err := r.walk(c, rules, p)
		if err != nil {
			return "", err
		}
		reason := "its policy is drop"
		if end.rule < len(rules) {
			reason = fmt.Sprintf("its rule %d drops or rejects everything", end.rule+1)
		}
		l.add(p, end, reason)
	}
	return l.line(fmt.Sprintf("chain %s of nftables table %s", c.Name, tableTitle(c.Table))), nil
}

// losses are what one chain drops, in words.
type losses struct{ certain, possible, reasons []string }

func (l *losses) add(p *probe, end fate, reason string) {
	if end.does != drops {
		return
	}
	l.reasons = appendNew(l.reasons, reason)
	if end.unsure {
		l.possible = appendNew(l.possible, p.what)
	} else {
		l.certain = appendNew(l.certain, p.what)
	}
}

func (l *losses) line(where string) string {
	var verbs []string
	if len(l.certain) > 0 {
		verbs = append(verbs, "drops packets "+strings.Join(l.certain, ", "))
	}
	if len(l.possible) > 0 {
		verbs = append(verbs, "may drop packets "+strings.Join(l.possible, ", "))
	}
	if len(verbs) == 0 {
		return ""
	}
	return fmt.Sprintf("%s %s: %s, which is final whatever other tables accept",
		where, strings.Join(verbs, ", and "), strings.Join(l.reasons, ", "))
}

func appendNew(list []string, more ...string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// forwardFix is what lets pod traffic through the chain.
func (s State) forwardFix(t *nftables.Table, c *nftables.Chain) string {
	if t != nil && t.Name == "firewalld" {
		return firewalldFix("--zone=trusted", "--add-source=", s.PodNetworks)
	}
	var commands []string
	for i := range families {
		f := &families[i]
		if !sees(c.Table, f) {
			continue
		}
		for _, p := range f.of(s.PodCIDRs) {
			if isIPTables(c) {
				commands = append(commands, iptablesAccept(f.iptables, "FORWARD", "-s "+p.String(), "-d "+p.String())...)
				continue
			}
			for _, side := range []string{"saddr", "daddr"} {
				commands = append(commands, fmt.Sprintf("nft insert rule %s %s %s %s %v accept", tableTitle(c.Table), c.Name, f.name, side, p))
			}
		}
	}
	own := "`" + strings.Join(commands, "; ") + "`"
	if s.Manage || t != nil && t.Flags&tableOwned != 0 {
		return own
	}
	return "set `firewall: manage`, or accept pod traffic yourself: " + own
}

// inputFix is what lets the peers' packets through the chain.
func (s State) inputFix(t *nftables.Table, c *nftables.Chain) string {
	udp, tcp := slices.Clone(s.DataPorts), []uint16(nil)
	if s.GossipPort != 0 {
		udp, tcp = append(udp, s.GossipPort), append(tcp, s.GossipPort)
	}
	var commands, services []string
	for _, of := range []struct {
		proto string
		ports []uint16
	}{{"udp", udp}, {"tcp", tcp}} {
		for _, port := range of.ports {
			services = append(services, fmt.Sprintf("%d/%s", port, of.proto))
			if isIPTables(c) {
				command := families[0].iptables
				if c.Table.Family == nftables.TableFamilyIPv6 {
					command = families[1].iptables
				}
				commands = append(commands, iptablesAccept(command, "INPUT", fmt.Sprintf("-p %s --dport %d", of.proto, port))...)
				continue
			}
			commands = append(commands, fmt.Sprintf("nft insert rule %s %s %s dport %d accept", tableTitle(c.Table), c.Name, of.proto, port))
		}
	}
	if t != nil && t.Name == "firewalld" {
		return firewalldFix("", "--add-port=", services)
	}
	return "`" + strings.Join(commands, "; ") + "`"
}

// firewalldFix has the rules made by firewalld, which else takes foreign ones away at its next reload.
func firewalldFix[T any](zone, add string, what []T) string {
	parts := []string{"firewall-cmd --permanent"}
	if zone != "" {
		parts = append(parts, zone)
	}
	for _, w := range what {
		parts = append(parts, fmt.Sprint(add, w))
	}
	return "firewalld is at work: `" + strings.Join(parts, " ") + " && firewall-cmd --reload`"
}

// isIPTables tells chains that iptables-nft made, whose users may have no nft.
func isIPTables(c *nftables.Chain) bool {
	return c.Table.Name == "filter" && c.Table.Family != nftables.TableFamilyINet && c.Name == strings.ToUpper(c.Name)
}

func iptablesAccept(command, chain string, matches ...string) []string {
	var commands []string
	for _, m := range matches {
		commands = append(commands, fmt.Sprintf("%s -I %s %s -j ACCEPT", command, chain, m))
	}
	return commands
}
