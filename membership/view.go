package membership

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// State is what a node is in another's eyes, or in its own.
type State string

// States of members; the last three of this node itself, beside StateUp.
const (
	StateUp        State = "up"        // alive, routed
	StateGrace     State = "grace"     // not alive for less than the grace period, still routed
	StateDown      State = "down"      // not alive: not routed, its claims stay reserved
	StateRefused   State = "refused"   // its record is valid, yet it owns nothing: see Reason
	StateReplaced  State = "replaced"  // another machine has its underlay address now
	StateLeft      State = "left"      // departed: its claims are released
	StateFenced    State = "fenced"    // this node owns none of its claims: see Reason
	StateUnclaimed State = "unclaimed" // this node claims nothing
)

// View is the cluster as seen from one node at one moment. It shares records with
// the store: their slices must not be changed.
type View struct {
	Self      Member
	Members   []Member   // all others, by name, then ID
	Conflicts []Conflict // what two nodes dispute, by loser, then winner
	Next      time.Time  // when the view changes without any event; zero if never
}

// Member is one node in a view.
type Member struct {
	Record
	State    State
	Reason   string         // for people; empty when there is nothing to say
	Alive    bool           // it answers; Self is always alive
	Since    time.Time      // when Alive took its value; zero if it never answered
	Prefixes []netip.Prefix // owned and to be routed now, sorted; empty if not routable
	Pending  []netip.Prefix // tentative, and nobody else's so far, sorted
	Lost     []netip.Prefix // claims that another's beat, sorted
	Replaced bool           // another machine has its underlay address
}

// Conflict is something that two nodes claim and one of them has.
type Conflict struct {
	Winner, Loser         ID
	WinnerName, LoserName string
	Prefix                netip.Prefix // what the loser claims; invalid for an address
	WinnerPrefix          netip.Prefix // the overlapping claim; invalid for an address
	Address               netip.Addr   // an underlay address of two live nodes; invalid for prefixes
}

// String describes the conflict in one line.
func (c Conflict) String() string {
	winner, loser := label(c.WinnerName, c.Winner), label(c.LoserName, c.Loser)
	if c.Address.IsValid() {
		return fmt.Sprintf("nodes %s and %s both live at underlay address %s; %s has it", winner, loser, c.Address, winner)
	}
	return fmt.Sprintf("pod CIDR %s of node %s overlaps %s of node %s, which has held it for longer", c.Prefix, loser, c.WinnerPrefix, winner)
}

func label(name string, id ID) string { return name + " (" + id.Short() + ")" }

// View derives the present view. now is compared with the times given to SetAlive.
// Two views never route one address to two nodes.
func (s *Store) View(now time.Time) View {
	self, others, alive := s.entries()
	records := make([]*Record, 0, len(others)+1)
	for _, m := range others {
		records = append(records, &m.rec)
	}
	if self != nil {
		records = append(records, &self.rec)
	}
	verdicts := resolve(s.terms, records)

	v := View{Self: s.viewSelf(self, verdicts[s.identity.ID])}
	v.Members = make([]Member, 0, len(others))
	for _, e := range others {
		m := viewMember(e, verdicts[e.rec.ID], alive[e.rec.ID], now, s.grace)
		if m.State == StateGrace {
			v.Next = earlier(v.Next, m.Since.Add(s.grace))
		}
		v.Members = append(v.Members, m)
	}
	slices.SortFunc(v.Members, func(a, b Member) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), a.ID.Compare(b.ID))
	})
	alive[s.identity.ID] = liveness{alive: true}
	v.Conflicts = conflicts(records, verdicts, alive)
	return v
}

// entries copies what a view needs, so that it is derived without the lock.
func (s *Store) entries() (self *entry, others []*entry, alive map[ID]liveness) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	others = make([]*entry, 0, len(s.members))
	alive = make(map[ID]liveness, len(s.members)+1)
	for id, m := range s.members {
		others = append(others, m)
		if l, ok := s.alive[id]; ok {
			alive[id] = l
		}
	}
	return s.own, others, alive
}

func (s *Store) viewSelf(self *entry, v *verdict) Member {
	if self == nil {
		return Member{Record: Record{ID: s.identity.ID}, State: StateUnclaimed, Reason: "not published yet", Alive: true}
	}
	m := Member{Record: self.rec, State: StateUp, Alive: true, Reason: lostReason(v), Pending: v.pending, Lost: v.losses(), Replaced: v.replacedBy != nil}
	switch {
	case self.rec.Left:
		m.State, m.Reason = StateLeft, "left the network"
	case v.replacedBy != nil:
		m.State, m.Reason = StateFenced, replacedReason(v)
	case v.refused != "":
		m.State, m.Reason = StateFenced, v.refused
	case len(self.rec.Claims) == 0:
		m.State, m.Reason = StateUnclaimed, "no pod CIDR claimed"
	case len(v.owned) == 0 && len(v.lost) == 0:
		m.State, m.Reason = StateUnclaimed, "its claim is not settled yet"
	case len(v.owned) == 0:
		m.State = StateFenced
	default:
		m.Prefixes = v.owned
	}
	return m
}

func viewMember(e *entry, v *verdict, l liveness, now time.Time, grace time.Duration) Member {
	m := Member{Record: e.rec, Alive: l.alive, Since: l.since, Reason: lostReason(v), Pending: v.pending, Lost: v.losses(), Replaced: v.replacedBy != nil}
	switch {
	case e.rec.By != (ID{}):
		m.State, m.Reason = StateLeft, "forgotten by node "+e.rec.By.Short()
	case e.rec.Left:
		m.State, m.Reason = StateLeft, "left the network"
	case v.replacedBy != nil:
		m.State, m.Reason = StateReplaced, replacedReason(v)
	case v.refused != "":
		m.State, m.Reason = StateRefused, v.refused
	case len(v.lost) > 0 && len(v.owned) == 0:
		m.State = StateRefused
	case l.alive:
		m.State, m.Prefixes = StateUp, v.owned
	case !l.since.IsZero() && now.Before(l.since.Add(grace)):
		m.State, m.Prefixes = StateGrace, v.owned
		m.Reason = "does not answer; routed until the grace period ends"
	case l.since.IsZero():
		m.State, m.Reason = StateDown, "has not answered yet"
	default:
		m.State, m.Reason = StateDown, "does not answer"
	}
	return m
}

// losses are the claims that were lost, sorted.
func (v *verdict) losses() []netip.Prefix {
	var all []netip.Prefix
	for _, l := range v.lost {
		all = append(all, l.claim.Prefix)
	}
	return all
}

func replacedReason(v *verdict) string {
	return "underlay address " + v.address.String() + " belongs to node " + label(v.replacedBy.Name, v.replacedBy.ID)
}

func lostReason(v *verdict) string {
	if v == nil || len(v.lost) == 0 {
		return ""
	}
	l := v.lost[0]
	return fmt.Sprintf("pod CIDR %s overlaps %s of node %s, which has held it for longer", l.claim.Prefix, l.toClaim.Prefix, label(l.to.Name, l.to.ID))
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// conflicts lists what the rules decided between two nodes. An address is in
// dispute only while both live: else it is a machine that was replaced.
func conflicts(records []*Record, verdicts map[ID]*verdict, alive map[ID]liveness) []Conflict {
	var all []Conflict
	for _, r := range records {
		v := verdicts[r.ID]
		if w := v.replacedBy; w != nil && !r.Left && !w.Left && alive[r.ID].alive && alive[w.ID].alive {
			all = append(all, Conflict{Winner: w.ID, WinnerName: w.Name, Loser: r.ID, LoserName: r.Name, Address: v.address})
		}
		for _, l := range v.lost {
			all = append(all, Conflict{Winner: l.to.ID, WinnerName: l.to.Name, Loser: r.ID, LoserName: r.Name,
				Prefix: l.claim.Prefix, WinnerPrefix: l.toClaim.Prefix})
		}
	}
	slices.SortFunc(all, func(a, b Conflict) int {
		return cmp.Or(a.Loser.Compare(b.Loser), a.Winner.Compare(b.Winner), a.Prefix.Compare(b.Prefix))
	})
	return all
}
