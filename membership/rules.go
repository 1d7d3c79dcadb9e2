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
	pending    []netip.Prefix // tentative, and nobody else's so far
	lost       []loss
}

// Terms are what the nodes of a cluster must agree in, apart from the gossip key.
type Terms struct {
	// Networks are the prefixes of the pod network, of either family; every claim is
	// inside one of them.
	Networks []netip.Prefix
	// Authority signs the nodes' certificates; zero where none are asked for.
	Authority ID
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
func resolve(t Terms, records []*Record) map[ID]*verdict {
	verdicts := make(map[ID]*verdict, len(records))
	holders := addressHolders(records)
	var stakes []stake
	for _, r := range records {
		v := &verdict{}
		verdicts[r.ID] = v
		if v.address, v.replacedBy = replacement(r, holders); v.replacedBy != nil || r.Left {
			continue
		}
		if v.refused = refusal(t, r); v.refused != "" {
			continue
		}
		for _, c := range r.Claims {
			stakes = append(stakes, stake{Claim: c, by: r})
		}
	}
	for i, rival := range rivals(stakes) {
		s, v := stakes[i], verdicts[stakes[i].by.ID]
		switch {
		case rival < 0 && s.Tentative:
			v.pending = append(v.pending, s.Prefix)
			continue
		case rival < 0:
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

// admits says why r is not heard at all. Where there is an authority, whom it has not
// certified neither is a member nor says of others that they are gone. An Ed25519
// verification, so it is asked once for a record.
func (t *Terms) admits(r *Record) error {
	if t.Authority == (ID{}) {
		return nil
	}
	return r.Cert.Verify(t.Authority, r.author())
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
func refusal(t Terms, r *Record) string {
	for _, c := range r.Claims {
		if !within(t.Networks, c.Prefix) {
			return "claims " + c.Prefix.String() + ", which is outside the pod network " + listed(t.Networks)
		}
		if t.Authority != (ID{}) && !r.Cert.covers(c.Prefix) {
			return "claims " + c.Prefix.String() + ", and its certificate is for " + listed(r.Cert.CIDRs)
		}
	}
	for _, e := range r.Endpoints {
		for _, n := range t.Networks {
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

// compare orders by strength: less than 0 where s beats o.
func (s stake) compare(o stake) int {
	return cmp.Or(below(s.Tentative, o.Tentative), below(!s.by.Settled, !o.by.Settled),
		cmp.Compare(s.Since, o.Since), s.by.ID.Compare(o.by.ID))
}

// below orders what is not before what is.
func below(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
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
	above := make([]int, len(stakes))  // the strongest that contains it
	inside := make([]int, len(stakes)) // the strongest inside it
	var stack []int
	pop := func() {
		last := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if len(stack) > 0 {
			outer := stack[len(stack)-1]
			inside[outer] = stronger(inside[outer], stronger(last, inside[last]))
		}
	}
	for i, s := range stakes {
		above[i], inside[i] = -1, -1
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
		if above[i] = stronger(above[i], inside[i]); above[i] >= 0 && stakes[above[i]].compare(stakes[i]) > 0 {
			above[i] = -1
		}
	}
	return above
}
