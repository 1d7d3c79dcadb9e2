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

// Publish makes d this node's description, with those hosts of its segments that there
// is room for. It is a no-op if d is published already; after Leave it joins again. A *ConflictError says that a live node uses one of
// the underlay addresses. On any error the published record is as before.
//
// A node that lost its state but not its key publishes the claims under which
// others know it, until Claim says otherwise.
func (s *Store) Publish(d Description) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	next := s.draft()
	d = next.fit(d)
	if own := s.ownRecord(); own != nil && !own.Left && own.Description.equal(d) {
		return nil
	}
	s.mu.RLock()
	if s.own != nil && !s.own.rec.Left && s.replaced() {
		// What was released with the address may have had another owner since.
		next.restamp(&Record{}, s.allotted)
	}
	s.mu.RUnlock()
	next.Description = d
	next.Left = false
	if err := s.terms.admits(&next.Record); err != nil {
		return fmt.Errorf("publish this node (%s): %w", s.identity.ID, err)
	}
	if err := s.checkAddresses(&next.Record); err != nil {
		return fmt.Errorf("publish this node: %w", err)
	}
	return s.commit(next)
}

// Redescribe is Publish for a node that is published, and has neither left nor been
// replaced; for another it does nothing.
func (s *Store) Redescribe(d Description) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	next := s.draft()
	d = next.fit(d)
	if own := s.ownRecord(); own == nil || own.Left || own.Description.equal(d) {
		return nil
	}
	s.mu.RLock()
	replaced := s.replaced()
	s.mu.RUnlock()
	if replaced { // it would take the address back
		return nil
	}
	next.Description = d
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
	if err := s.terms.admits(&next.Record); err != nil {
		return fmt.Errorf("this node (%s): %w", s.identity.ID, err)
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
		if !within(s.terms.Networks, p) {
			return fmt.Errorf("pod CIDR %s is %w %s: choose a podCIDR inside it", p, ErrOutside, listed(s.terms.Networks))
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

// Stake makes held and tentative this node's claims, whatever others claim: for an
// allotter, which knows when to give way. Those that it has keep their Since, also
// from tentative to held. Publish comes first. version is that of the own record which
// the allotter looked at; where there is another by now, or the record must be published
// anew (see Refresh), nothing is staked, and subscribers are told. An error says that the
// claims cannot be anybody's, or could not be kept on disk; then the record is as before.
func (s *Store) Stake(version uint64, held, tentative []netip.Prefix) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	own := s.ownRecord()
	if own == nil || own.Left {
		return fmt.Errorf("claim %v: %w", append(held, tentative...), ErrUnpublished)
	}
	if own.Version != version {
		return nil
	}
	next := s.draft()
	if next.stale {
		return s.commit(next)
	}
	if err := s.stake(&next.Record, slices.Concat(held, tentative)); err != nil {
		return err
	}
	for i, c := range next.Claims {
		next.Claims[i].Tentative = slices.Contains(tentative, c.Prefix)
	}
	if slices.Equal(next.Claims, own.Claims) {
		return nil
	}
	return s.commit(next)
}

// Leave publishes that this node departs, and releases its claims and segments. Without a
// published record there is nothing to announce.
func (s *Store) Leave() error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	own := s.ownRecord()
	if own == nil || own.Left {
		return nil
	}
	next := s.draft()
	next.Left, next.Claims, next.Segments = true, nil, nil
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

// Settle makes this node one that has part in the cluster's history, although it met
// none that has: for the first nodes of a cluster, which have nobody to ask.
func (s *Store) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.settled {
		s.settled = true
		s.changed()
	}
}

// Settled says whether the node has part in the cluster's history, or will with the
// next Refresh.
func (s *Store) Settled() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.settled || s.heardSettled()
}

// heardSettled says whether a node that has part in the cluster's history is known.
// Called with mu held.
func (s *Store) heardSettled() bool {
	for _, m := range s.members {
		if m.rec.Settled {
			return true
		}
	}
	return false
}
