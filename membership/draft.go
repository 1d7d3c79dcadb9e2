package membership

import (
	"fmt"
	"slices"
)

// draft is the own record as it would be published now.
type draft struct {
	Record
	stale   bool // it must be: see Refresh
	settled bool // the Since of its claims is final
}

// draft returns the own record at the next Version, with its claims as they must be
// stamped now. Called with publishing held.
func (s *Store) draft() draft {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d := draft{Record: Record{Format: Format, ID: s.identity.ID}, settled: s.settled}
	switch {
	case s.own != nil:
		d.Record = s.own.rec.clone()
	case s.echo != nil:
		d.Claims = slices.Clone(s.echo.rec.Claims)
	}
	d.Version = s.clock + 1
	switch {
	case s.echo != nil:
		// What others hold of us outranks what we remember: a claim that it does
		// not name had been released, and may have had another owner since.
		d.restamp(&s.echo.rec, s.allotted)
		d.stale, d.settled = true, s.settled || s.echo.rec.Settled || s.heardSettled()
	case !d.Settled && (s.settled || s.heardSettled()):
		d.stale, d.settled = true, true
		if !s.settled {
			d.restamp(&Record{}, s.allotted)
		}
	case s.own != nil && !s.own.rec.Left:
		if d.stale = s.outdatedByTheDead(); d.stale {
			// What was released with the address may have had another owner since.
			d.restamp(&Record{}, s.allotted)
		}
	}
	d.Settled = d.settled
	d.stale = d.stale && s.own != nil
	return d
}

// restamp gives the claims the Since that held has for them, or the new Version; those
// are then also tentative, if they are to be.
func (d *draft) restamp(held *Record, tentative bool) {
	for i, c := range d.Claims {
		if since, ok := held.since(c.Prefix); ok {
			d.Claims[i].Since = since
			continue
		}
		d.Claims[i].Since = d.Version
		d.Claims[i].Tentative = c.Tentative || tentative
	}
}

// replaced says whether another machine has one of our addresses, so that our claims are
// released. Called with mu held.
func (s *Store) replaced() bool {
	for _, m := range s.members {
		if _, shared := m.rec.shares(&s.own.rec); shared && outdates(&m.rec, &s.own.rec) {
			return true
		}
	}
	return false
}

// outdatedByTheDead says whether a node that is not alive replaces us: its newer
// record names an underlay address that we are using. Called with mu held.
func (s *Store) outdatedByTheDead() bool {
	for id, m := range s.members {
		if s.alive[id].alive || !outdates(&m.rec, &s.own.rec) || m.rec.Version > maxClock {
			continue
		}
		if _, shared := m.rec.shares(&s.own.rec); shared {
			return true
		}
	}
	return false
}

// checkAddresses refuses to replace a node that is alive.
func (s *Store) checkAddresses(next *Record) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, m := range s.members {
		if !s.alive[id].alive || m.rec.Left {
			continue
		}
		if a, shared := m.rec.shares(next); shared {
			return &ConflictError{Address: a, Other: id, OtherName: m.rec.Name, OtherState: StateUp}
		}
	}
	return nil
}

// checkRules says what next would lose if it were published.
func (s *Store) checkRules(next *Record) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	records := []*Record{next}
	for _, m := range s.members {
		records = append(records, &m.rec)
	}
	v := resolve(s.terms, records)[next.ID]
	if v.replacedBy != nil {
		return &ConflictError{Address: v.address, Other: v.replacedBy.ID, OtherName: v.replacedBy.Name, OtherState: s.stateOf(v.replacedBy.ID)}
	}
	if v.refused != "" {
		return fmt.Errorf("this node cannot be routed: %s", v.refused)
	}
	if len(v.lost) > 0 {
		l := v.lost[0]
		return &ConflictError{Prefix: l.claim.Prefix, Other: l.to.ID, OtherName: l.to.Name, OtherPrefix: l.toClaim.Prefix, OtherState: s.stateOf(l.to.ID)}
	}
	return nil
}

func (s *Store) stateOf(id ID) State {
	if s.alive[id].alive {
		return StateUp
	}
	return StateDown
}

// commit signs next, makes it durable, and only then shows it. Called with
// publishing held.
func (s *Store) commit(next draft) error {
	next.Description = next.fit(next.Description)
	env, err := Seal(s.identity, next.Record)
	if err != nil {
		return fmt.Errorf("publish this node's record: %w", err)
	}
	snap, mark := s.snapshot()
	snap.Own, snap.Clock, snap.Settled = &env, max(snap.Clock, next.Version), next.settled
	if err := s.persist(snap); err != nil {
		return fmt.Errorf("keep this node's record on disk before it is published: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = mark
	s.own = &entry{env: env, rec: next.Record}
	s.clock = max(s.clock, next.Version)
	s.settled = next.settled
	if s.echo != nil && s.own.newer(s.echo) {
		s.echo = nil
	}
	s.notify()
	return nil
}

// Save makes the other nodes' records durable, if they changed since the last time.
// The own record never waits for it.
func (s *Store) Save() error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	snap, mark := s.snapshot()
	s.mu.RLock()
	same := s.saved == mark
	s.mu.RUnlock()
	if same {
		return nil
	}
	if err := s.persist(snap); err != nil {
		return fmt.Errorf("save the known members: %w", err)
	}
	s.mu.Lock()
	s.saved = mark
	s.mu.Unlock()
	return nil
}

// snapshot returns the durable state and the count of changes it contains.
func (s *Store) snapshot() (Snapshot, uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	snap := Snapshot{Clock: s.clock, Settled: s.settled}
	if s.own != nil {
		snap.Own = &s.own.env
	}
	for id, m := range s.members {
		snap.Members = append(snap.Members, m.env)
		snap.Gone = append(snap.Gone, s.alive[id].gone)
	}
	return snap, s.changes
}

func (s *Store) ownRecord() *Record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.own == nil {
		return nil
	}
	return &s.own.rec
}
