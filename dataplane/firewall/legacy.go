package firewall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// legacyTimeout bounds a run of iptables-legacy, which waits for other users of its lock.
const legacyTimeout = 5 * time.Second

// legacyFindings looks at the rules of the iptables before nf_tables, which nf_tables does not show. Both kinds are in
// force where both are loaded, and either may drop. Only the program iptables-legacy understands its tables.
func legacyFindings(forward, input []*probe) ([]Finding, error) {
	var found []Finding
	for i := range families {
		f := &families[i]
		loaded, err := legacyFilter(f)
		if err != nil {
			return found, err
		}
		if !loaded {
			continue
		}
		for _, side := range []struct {
			chain  string
			probes []*probe
		}{{"FORWARD", forward}, {"INPUT", input}} {
			probes := slices.DeleteFunc(slices.Clone(side.probes), func(p *probe) bool { return p.family != f })
			finding, err := legacyChain(f.iptables+"-legacy", side.chain, probes)
			if err != nil {
				return found, err
			}
			if finding.What != "" {
				found = append(found, finding)
			}
		}
	}
	return found, nil
}

// legacyFilter says whether the kernel has a legacy filter table in this network namespace.
func legacyFilter(f *family) (bool, error) {
	names, err := os.ReadFile("/proc/thread-self/net/" + f.name + "_tables_names")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for rules of %s-legacy: %w", f.iptables, err)
	}
	return slices.Contains(strings.Fields(string(names)), "filter"), nil
}

func legacyChain(command, chain string, probes []*probe) (Finding, error) {
	if len(probes) == 0 {
		return Finding{}, nil
	}
	where := fmt.Sprintf("chain %s of %s", chain, command)
	path, err := exec.LookPath(command)
	if err != nil {
		return Finding{where + " is loaded and may drop pod traffic: it cannot be checked, since there is no program " + command,
			"install the package iptables, then ask again"}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), legacyTimeout)
	defer cancel()
	rules, err := exec.CommandContext(ctx, path, "-w", "2", "-S", chain).Output()
	if err != nil {
		return Finding{}, fmt.Errorf("list %s: %w", where, err)
	}
	var l losses
	var fixes []string
	for _, p := range probes {
		end := legacyFate(string(rules), p)
		l.add(p, end, "its policy is DROP, or a rule for everything")
		if end.does == drops {
			for _, m := range p.iptables() {
				fixes = appendNew(fixes, iptablesAccept(command, chain, m)[0])
			}
		}
	}
	return Finding{l.line(where), "`" + strings.Join(fixes, "; ") + "`"}, nil
}

// iptables writes what matches p's packets: by own addresses, or by the port of this node.
func (p *probe) iptables() []string {
	if p.port != 0 {
		return []string{fmt.Sprintf("-p %s --dport %d", protocolName(p.proto), p.port)}
	}
	var matches []string
	flag, own := "-s", p.src
	if p.in != podInterface {
		flag, own = "-d", p.dst
	}
	for _, prefix := range own {
		matches = append(matches, flag+" "+prefix.String())
	}
	return matches
}

// legacyFate sends p through a chain as `iptables -S` prints it. A chain that is jumped to is not looked into, and may
// accept.
func legacyFate(rules string, p *probe) fate {
	end := fate{does: accepts}
	for line := range strings.Lines(rules) {
		words := splitWords(line)
		if len(words) >= 3 && words[0] == "-P" && words[2] == "DROP" {
			end.does = drops
		}
		if len(words) < 3 || words[0] != "-A" {
			continue
		}
		matches, target := p.legacyRule(words[2:])
		does := goesOn
		switch target {
		case "", "LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "RETURN":
		case "DROP", "REJECT":
			does = drops
		default:
			does = accepts
			if target != "ACCEPT" {
				matches = min(matches, maybe)
			}
		}
		switch {
		case does == goesOn || matches == never:
		case matches == always:
			end.does = does
			return end
		case does == accepts:
			end.unsure = true
		}
	}
	return end
}

// legacyRule evaluates the words of a rule behind the name of its chain.
func (p *probe) legacyRule(words []string) (matches certainty, target string) {
	matches = always
	negated := false
	for i := 0; i < len(words); i++ {
		word, value := words[i], ""
		if word == "!" {
			negated = true
			continue
		}
		if strings.HasPrefix(word, "-") && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") {
			i++
			value = words[i]
		}
		if word == "-j" || word == "-g" {
			return matches, value
		}
		holds := p.legacyMatch(word, value)
		if negated {
			holds = holds.not()
		}
		matches, negated = min(matches, holds), false
	}
	return matches, ""
}

// legacyMatch evaluates one match, maybe where it does not know it.
func (p *probe) legacyMatch(word, value string) certainty {
	switch word {
	case "-i":
		return p.interfaceIs(p.in, legacyInterface(value))
	case "-o":
		return p.interfaceIs(p.out, legacyInterface(value))
	case "-s":
		return legacyAddress(p.src, value)
	case "-d":
		return legacyAddress(p.dst, value)
	case "--ctstate", "--state":
		name := map[uint32]string{stateNew: "NEW", stateUntracked: "UNTRACKED"}[p.state]
		return known(slices.Contains(strings.Split(value, ","), name))
	case "-p":
		if p.proto == 0 {
			return maybe
		}
		return known(value == protocolName(p.proto))
	case "--dport":
		if p.port == 0 {
			return maybe
		}
		return known(value == strconv.Itoa(int(p.port)))
	case "--comment":
		return always
	case "-m": // these match by what follows alone
		if slices.Contains([]string{"comment", "conntrack", "state", "tcp", "udp"}, value) {
			return always
		}
		return maybe
	default:
		return maybe
	}
}

// splitWords splits a line at spaces, but for those between double quotes, in which a backslash quotes what follows.
func splitWords(line string) []string {
	var words []string
	var word strings.Builder
	quoted, escaped, begun := false, false, false
	for _, c := range strings.TrimSpace(line) {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}

// legacyInterface is in the form in which a rule of nf_tables has it: a name ends with a zero octet, and a beginning of
// names, written with a plus sign, does not.
func legacyInterface(name string) []byte {
	if beginning, ok := strings.CutSuffix(name, "+"); ok {
		return []byte(beginning)
	}
	return append([]byte(name), 0)
}

func legacyAddress(within []netip.Prefix, value string) certainty {
	p, err := netip.ParsePrefix(value)
	if err != nil {
		return maybe
	}
	return inside(within, p)
}
