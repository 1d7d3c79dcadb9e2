package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/cmd/internal/control"
)

// podsShown bounds the pods of one lost block that `weft status` names; --json has them all.
const podsShown = 10

// serving are the blocks that new pods get addresses of.
func serving(s control.Status) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(s.PodCIDRs), func(p netip.Prefix) bool {
		return slices.ContainsFunc(s.Allocation.Lost, func(l control.LostBlock) bool { return l.Prefix == p })
	})
}

// pods says which block new pods get addresses of.
func pods(s control.Status) string {
	has := list(serving(s), ", ")
	if has == "" {
		has = "no block"
	}
	has += " of " + list(s.PodNetworks, ", ")
	if s.Allocation.Auto {
		has += " (auto)"
	}
	return has
}

// blocks says what is amiss with this node's blocks, and what it may have by its certificate.
func blocks(s control.Status) (rows [][]cell) {
	a := s.Allocation
	for _, l := range a.Lost {
		rows = append(rows, lostRows(l, s)...)
	}
	if len(a.Tentative) > 0 {
		rows = append(rows, []cell{painted("tentative", yellow), text(list(a.Tentative, ", ") + ", until nobody has objected")})
	}
	if a.Waiting != "" && a.Waiting != s.Reason {
		rows = append(rows, []cell{painted("waiting", yellow), text(a.Waiting)})
	}
	if !s.Settled && s.State != control.StateStarting {
		rows = append(rows, []cell{painted("unsettled", yellow), text("this node has met none of an established cluster yet, and gives way to all that have")})
	}
	if s.Certificate.Required {
		may := "for any block"
		if len(s.Certificate.CIDRs) > 0 {
			may = "for blocks inside " + list(s.Certificate.CIDRs, ", ")
		}
		rows = append(rows, []cell{text("certified"), text(may)})
	}
	return rows
}

// lostRows say who has a block that this node had, who suffers from it, and what to do.
func lostRows(l control.LostBlock, s control.Status) [][]cell {
	what := fmt.Sprintf("%s, which %s (%s) has", l.Prefix, l.Winner.Name, l.Winner.ID[:min(len(l.Winner.ID), shortID)])
	if l.Winner == (control.Node{}) { // it has just given the block up
		what = l.Prefix.String() + ", which another node had"
	}
	if len(l.Pods) == 0 {
		return [][]cell{{painted("lost", red), text(what + "; no pod here uses it")}}
	}
	rows := [][]cell{{painted("lost", red), text(fmt.Sprintf("%s; cut off with it: %s", what, count(len(l.Pods), "pod")))}}
	more := func(format string, args ...any) { rows = append(rows, []cell{{}, text(fmt.Sprintf(format, args...))}) }
	for _, p := range l.Pods[:min(len(l.Pods), podsShown)] {
		more("  %s on %s", p.Address, p.Device)
	}
	if n := len(l.Pods) - podsShown; n > 0 {
		more("  and %d more, which `weft status --json` names", n)
	}
	family := slices.DeleteFunc(serving(s), func(p netip.Prefix) bool { return p.Addr().Is4() != l.Prefix.Addr().Is4() })
	switch {
	case len(family) > 0:
		more("start them anew, and they get addresses of %s", list(family, ", "))
	case s.Allocation.Auto:
		more("start them anew once this node has another block")
	default:
		more("give this node another podCIDR, and start them anew")
	}
	return rows
}
