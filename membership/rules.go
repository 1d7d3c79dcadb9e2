package membership

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// verdict is what the rules say of one record within a set of records. At most one
// of replacedBy and refused is set, and then the record owns and lost nothing.
type verdict struct {
	replacedBy *Record
	address    netip.Addr // the one replacedBy took
	refused    string     // why, for people
	owned      []netip.Prefix
	lost       []loss
}

// loss is a claim that an overlapping one beat.
type loss struct {
	claim   Claim
	to      *Record
	toClaim Claim
}

// resolve applies the rules of the package comment to the newest record of each
// node. It depends on nothing but the set: not on order, liveness, or who asks.
// O(n log n) in the number of claims.
func resolve(networks []netip.Prefix, records []*Record) map[ID]*verdict {
	verdicts := make(map[ID]*verdict, len(records))
	holders := addressHolders(records)
	var stakes []stake
	for _, r := range records {
		v := &verdict{}
		verdicts[r.ID] = v
		if v.address, v.replacedBy = replacement(r, holders); v.replacedBy != nil || r.Left {
			continue
		}
		if v.refused = refusal(networks, r); v.refused != "" {
			continue
		}
		for _, c := range r.Claims {
			stakes = append(stakes, stake{Claim: c, by: r})
		}
	}
	for i, rival := range rivals(stakes) {
		s, v := stakes[i], verdicts[stakes[i].by.ID]
		if rival < 0 {
			v.owned = append(v.owned, s.Prefix)
			continue
		}
		v.lost = append(v.lost, loss{claim: s.Claim, to: stakes[rival].by, toClaim: stakes[rival].Claim})
	}
	return verdicts
}

// addressHolders returns for each underlay address the record that holds it. Ports
// do not count: a datagram's source port says nothing of who sent it.
func addressHolders(records []*Record) map[netip.Addr]*Record {
	holders := make(map[netip.Addr]*Record, len(records))
	for _, r := range records {
		for _, e := range r.Endpoints {
			if h := holders[e.Addr()]; h == nil || outdates(r, h) {
				holders[e.Addr()] = r
			}
		}
	}
	return holders
}

// outdates says whether r replaces other where they name the same address. A
// record that left replaces too: the machine at that address has gone.
func outdates(r, other *Record) bool {
	if r.Version != other.Version {
		return r.Version > other.Version
	}
	return r.ID.Compare(other.ID) < 0
}

func replacement(r *Record, holders map[netip.Addr]*Record) (netip.Addr, *Record) {
	for _, e := range r.Endpoints {
		if h := holders[e.Addr()]; h != r {
			return e.Addr(), h
		}
	}
	return netip.Addr{}, nil
}

// refusal says why nothing may be routed to r, or "".
func refusal(networks []netip.Prefix, r *Record) string {
	for _, c := range r.Claims {
		if !within(networks, c.Prefix) {
			return "claims " + c.Prefix.String() + ", which is outside the pod network " + listed(networks)
		}
	}
	for _, e := range r.Endpoints {
		for _, n := range networks {
			if n.Contains(e.Addr()) {
				return "its endpoint " + e.String() + " lies inside the pod network " + n.String()
			}
		}
	}
	return ""
}

// within says whether one of the networks contains all of p.
func within(networks []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool {
		return p.Bits() >= n.Bits() && n.Contains(p.Addr())
	})
}

// listed returns the networks for people.
func listed(networks []netip.Prefix) string {
	texts := make([]string, len(networks))
	for i, n := range networks {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}

// stake is one claim taking part in the conflict rule.
type stake struct {
	Claim
	by *Record
}

func (s stake) compare(o stake) int {
	return cmp.Or(cmp.Compare(s.Since, o.Since), s.by.ID.Compare(o.by.ID))
}

// rivals sorts stakes, and returns for each the index of the strongest overlapping
// stake if that beats it, or -1. Overlapping prefixes are nested, so one pass over
// the sorted prefixes with a stack of those that contain the current one sees
// every overlap.
func rivals(stakes []stake) []int {
	slices.SortFunc(stakes, func(a, b stake) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), a.compare(b))
	})
	stronger := func(a, b int) int {
		if a < 0 || b >= 0 && stakes[b].compare(stakes[a]) < 0 {
			return b
		}
		return a
	}
	above := make([]int, len(stakes)) // the strongest that contains it
	below := make([]int, len(stakes)) // the strongest inside it
	var stack []int
	pop := func() {
		last := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if len(stack) > 0 {
			outer := stack[len(stack)-1]
			below[outer] = stronger(below[outer], stronger(last, below[last]))
		}
	}
	for i, s := range stakes {
		above[i], below[i] = -1, -1
		for len(stack) > 0 && !stakes[stack[len(stack)-1]].Prefix.Overlaps(s.Prefix) {
			pop()
		}
		if len(stack) > 0 {
			outer := stack[len(stack)-1]
			above[i] = stronger(outer, above[outer])
		}
		stack = append(stack, i)
	}
	for len(stack) > 0 {
		pop()
	}
	for i := range above {
		if above[i] = stronger(above[i], below[i]); above[i] >= 0 && stakes[above[i]].compare(stakes[i]) > 0 {
			above[i] = -1
		}
	}
	return above
}
