package membership

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// ErrOutside is wrapped by Claim where a prefix is not inside the pod network.
var ErrOutside = errors.New("outside the pod network")

// ErrUnpublished is wrapped by Claim before the first Publish.
var ErrUnpublished = errors.New("this node has not published what it is")

// ConflictError says that another node stands in the way of what this one wanted
// to publish: a claim that would be lost to it, or an underlay address that it uses while
// it is alive.
type ConflictError struct {
	Prefix      netip.Prefix // the wanted prefix; invalid in a dispute over an address
	Address     netip.Addr   // the disputed underlay address; invalid in one over a prefix
	Other       ID
	OtherName   string
	OtherPrefix netip.Prefix // what it claims; invalid in a dispute over an address
	OtherState  State        // StateUp or StateDown
}

// Error names the other node and the way out.
func (e *ConflictError) Error() string {
	if e.Address.IsValid() {
		return fmt.Sprintf("underlay address %s is in use by node %s (%s, %s): give each node its own underlay address, or wait until that node is seen dead if this machine replaces it",
			e.Address, e.OtherName, e.Other.Short(), e.OtherState)
	}
	return fmt.Sprintf("pod CIDR %s overlaps %s of node %s (%s, %s): choose another podCIDR",
		e.Prefix, e.OtherPrefix, e.OtherName, e.Other.Short(), e.OtherState)
}

// draft is the own record as it would be published now.
type draft struct {
	Record
	stale   bool // it must be: see Refresh
	settled bool // the Since of its claims is final
}

// Publish makes d this node's description. It is a no-op if d is published already;
// after Leave it joins again. A *ConflictError says that a live node uses one of
// the underlay addresses. On any error the published record is as before.
//
// A node that lost its state but not its key publishes the claims under which
// others know it, until Claim says otherwise.
func (s *Store) Publish(d Description) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if own := s.ownRecord(); own != nil && !own.Left && own.Description.equal(d) {
		return nil
	}
	next := s.draft()
	next.Description = d.clone()
	next.Left = false
	if err := s.checkAddresses(&next.Record); err != nil {
		return fmt.Errorf("publish this node: %w", err)
	}
	return s.commit(next)
}

// Claim makes prefixes this node's pod CIDRs, all of them; those it holds keep
// their Since, others of its own are released. It checks them against every known
// record first, also those it holds already, and returns a *ConflictError if one
// would be lost, or an error that wraps ErrOutside; then the published record is as
// before. Publish comes first.
func (s *Store) Claim(prefixes ...netip.Prefix) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	own := s.ownRecord()
	if own == nil || own.Left {
		return fmt.Errorf("claim %v: %w", prefixes, ErrUnpublished)
	}
	next := s.draft()
	if err := s.stake(&next.Record, prefixes); err != nil {
		return err
	}
	same := !next.stale && slices.Equal(next.Claims, own.Claims)
	if same {
		next.Version = own.Version
	} else if err := s.checkAddresses(&next.Record); err != nil {
		return fmt.Errorf("claim %v: %w", prefixes, err)
	}
	if err := s.checkRules(&next.Record); err != nil || same {
		return err
	}
	return s.commit(next)
}

// Check says what a Publish of d and a Claim of prefixes would be refused for, and
// changes nothing: a node that cannot have its block need not be heard of.
func (s *Store) Check(d Description, prefixes ...netip.Prefix) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	next := s.draft()
	next.Description, next.Left = d, false
	if err := s.stake(&next.Record, prefixes); err != nil {
		return err
	}
	if err := s.checkAddresses(&next.Record); err != nil {
		return err
	}
	return s.checkRules(&next.Record)
}

// stake makes prefixes the claims of next, if they can be anybody's here.
func (s *Store) stake(next *Record, prefixes []netip.Prefix) error {
	next.Claims = stamp(prefixes, next)
	if err := checkClaims(next.Claims, next.Version); err != nil {
		return err
	}
	for _, p := range prefixes {
		if !within(s.networks, p) {
			return fmt.Errorf("pod CIDR %s is %w %s: choose a podCIDR inside it", p, ErrOutside, listed(s.networks))
		}
	}
	return nil
}

// stamp gives each prefix the Since that held has for it, or held's Version.
func stamp(prefixes []netip.Prefix, held *Record) []Claim {
	var claims []Claim
	for _, p := range prefixes {
		since, ok := held.since(p)
		if !ok {
			since = held.Version
		}
		claims = append(claims, Claim{Prefix: p, Since: since})
	}
	slices.SortFunc(claims, func(a, b Claim) int { return a.Prefix.Compare(b.Prefix) })
	return claims
}

// Leave publishes that this node departs, and releases its claims. Without a
// published record there is nothing to announce.
func (s *Store) Leave() error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	own := s.ownRecord()
	if own == nil || own.Left {
		return nil
	}
	next := s.draft()
	next.Left, next.Claims = true, nil
	return s.commit(next)
}

// Refresh publishes the own record again where it must be above a record that was
// merged (see the package comment), and says whether it did. On an error nothing
// changed and it may be called again.
func (s *Store) Refresh() (published bool, err error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	next := s.draft()
	if !next.stale {
		return false, nil
	}
	if err := s.commit(next); err != nil {
		return false, err
	}
	return true, nil
}

// Settle makes the own claims' Since final although this node has met no other: for
// the first node of a cluster, which has nobody to ask.
func (s *Store) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.settled && len(s.members) == 0 {
		s.settled = true
		s.changed()
	}
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
		d.restamp(&s.echo.rec)
		d.stale, d.settled = true, true
	case !s.settled && len(s.members) > 0:
		d.stale, d.settled = len(d.Claims) > 0, true
		d.restamp(&Record{})
	case s.own != nil && !s.own.rec.Left:
		d.stale = s.outdatedByTheDead()
	}
	d.stale = d.stale && s.own != nil
	return d
}

// restamp gives the claims the Since that held has for them, or the new Version.
func (d *draft) restamp(held *Record) {
	for i, c := range d.Claims {
		d.Claims[i].Since = d.Version
		if since, ok := held.since(c.Prefix); ok {
			d.Claims[i].Since = since
		}
	}
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
	v := resolve(s.networks, records)[next.ID]
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
	snap := Snapshot{Clock: s.clock, Settled: s.settled, Members: make([]Envelope, 0, len(s.members))}
	if s.own != nil {
		snap.Own = &s.own.env
	}
	for _, m := range s.members {
		snap.Members = append(snap.Members, m.env)
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
