package host

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rulePriority puts the rule for marked packets behind the one for the host's own addresses, which is 0, or 100 where
// Cilium moved it, and before all that look into the main table or send everything to a VPN: wg-quick's and
// Tailscale's begin at 5210.
const rulePriority = 119

// markRule is the rule in the form in which the kernel lists it.
func markRule(family int) netlink.Rule {
	r := netlink.NewRule()
	mask := uint32(Mark)
	r.Family, r.Priority = family, rulePriority
	r.Mark, r.Mask = Mark, &mask
	r.Table, r.Protocol = Table, RouteProtocol
	return *r
}

// applyRules makes the rule for marked packets of these families the only ones with weft's mark.
func (h *Host) applyRules(l *ledger, want []int) error {
	var changes []change
	for _, family := range families() {
		have, err := h.rules(family)
		if err != nil {
			return err
		}
		missing := slices.Contains(want, family)
		wanted := markRule(family)
		for _, r := range have {
			switch {
			case r.Protocol != RouteProtocol:
			case missing && reflect.DeepEqual(r, wanted):
				missing = false
				l.found(describeRule(r))
			default:
				changes = append(changes, change{what: "remove " + describeRule(r), gone: describeRule(r), do: func() error { return unless(unix.ENOENT, h.nl.RuleDel(&r)) }})
			}
		}
		if missing {
			thing := describeRule(wanted)
			changes = append(changes, change{kind: KindRule, what: "add " + thing, thing: thing, do: func() error { return h.nl.RuleAdd(&wanted) }})
		}
	}
	return l.run(changes)
}

func describeRule(r netlink.Rule) string {
	mask := ""
	if r.Mask != nil {
		mask = fmt.Sprintf("/%#x", *r.Mask)
	}
	version := "IPv4"
	if r.Family == netlink.FAMILY_V6 {
		version = "IPv6"
	}
	return fmt.Sprintf("%s rule priority %d fwmark %#x%s lookup %d", version, r.Priority, r.Mark, mask, r.Table)
}
