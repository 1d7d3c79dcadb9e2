package membership

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// MaxMembers bounds how many other nodes' records a store keeps, and so its
// memory: a further node is refused.
const MaxMembers = 10_000

// Store holds this node's record, the newest record of every other node, and who
// is alive. All methods may be called concurrently. It has no timers and no
// goroutines, and never reads the clock.
type Store struct {
	identity Identity
	terms    Terms
	grace    time.Duration
	persist  func(Snapshot) error

	// publishing orders changes of the own record and writes of the snapshot. It
	// is held across persist, which mu is not: a slow disk must not hold up
	// readers. Taken before mu.
	publishing sync.Mutex

	mu      sync.RWMutex
	own     *entry // nil until the first publication
	echo    *entry // our own ID's record, newer than own, that came from elsewhere
	echoes  int    // how many of those named other endpoints than own
	clock   uint64 // the highest Version seen, up to maxClock, or our own
	settled bool   // the own claims' Since is final: see Settle
	// allotted says that an allotter sees to the own claims, which may be tentative again.
	allotted bool
	clone    netip.Addr // of the last of echoes
	members  map[ID]*entry
	alive    map[ID]liveness
	ticked   time.Time // the last Lapsed
	changes  uint64    // counts changes of what a snapshot holds
	saved    uint64    // changes when the last snapshot was taken that persisted
	subs     map[chan struct{}]struct{}
}

// entry is immutable: it may be read without the lock once fetched.
type entry struct {
	env Envelope
	rec Record
}

type liveness struct {
	alive bool
	since time.Time
	gone  time.Duration // how long it has been missed in all: see Lapsed
}

// Snapshot is what outlives the process.
type Snapshot struct {
	Clock   uint64
	Settled bool
	Own     *Envelope // nil before the first publication
	Members []Envelope
	Gone    []time.Duration // of each of Members: see Lapsed
}

// NewStore returns an empty store of the node identity. grace is
// how long a member is routed after it was last alive. persist must make a snapshot
// durable before it returns nil: it is called before a new own record becomes
// visible, never concurrently, and must not call the store.
func NewStore(identity Identity, terms Terms, grace time.Duration, persist func(Snapshot) error) *Store {
	return &Store{
		identity: identity,
		terms:    terms,
		grace:    grace,
		persist:  persist,
		members:  make(map[ID]*entry),
		alive:    make(map[ID]liveness),
		subs:     make(map[chan struct{}]struct{}),
	}
}

// ID returns this node's ID.
func (s *Store) ID() ID { return s.identity.ID }

// Merge takes a record from another node. changed says that it was news about
// another node, to be relayed. The error wraps a Reject. A newer record of our own
// ID is not news, but makes Refresh publish above it.
//
// Merge does no I/O. e may be reused by the caller afterwards.
func (s *Store) Merge(e Envelope) (changed bool, err error) {
	// Verifying costs 50 us; most envelopes of a full exchange are known already.
	if s.known(e) {
		return false, nil
	}
	v, err := Verify(e.clone())
	if err != nil {
		return false, err
	}
	return s.Accept(v)
}

// Verified is a record whose signature and values were found good. It is immutable, and
// any number of stores may share it.
type Verified struct{ entry *entry }

// Verify opens e, which it keeps. The error wraps a Reject.
func Verify(e Envelope) (Verified, error) {
	r, err := Open(e)
	if err != nil {
		return Verified{}, err
	}
	return Verified{&entry{env: e, rec: r}}, nil
}

// Accept is Merge for a record that was verified before: it costs no signature.
func (s *Store) Accept(v Verified) (changed bool, err error) {
	got := v.entry
	r := &got.rec
	if err := s.terms.admits(r); err != nil {
		return false, fmt.Errorf("%w: node %s: %w", RejectAuthority, label(r.Name, r.author()), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.ID == s.identity.ID {
		s.mergeOwn(got)
		return false, nil
	}
	old := s.members[r.ID]
	if old == nil && len(s.members) >= MaxMembers && (r.Left || !s.evict()) {
		return false, fmt.Errorf("%w: node %s would be number %d", RejectFull, r.ID.Short(), MaxMembers+1)
	}
	if old != nil && !got.newer(old) {
		return false, nil
	}
	s.members[r.ID] = got
	if r.Version <= maxClock {
		s.clock = max(s.clock, r.Version)
	}
	s.changed()
	return true, nil
}

// known says whether this very record is held, also under another signature.
func (s *Store) known(e Envelope) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	held := s.members[e.Signer]
	if e.Signer == s.identity.ID {
		held = s.own
	}
	return held != nil && bytes.Equal(held.env.Payload, e.Payload)
}

// newer orders two records of one node. Two of one version exist only where a key
// was cloned or a backup restored; then any rule will do that all nodes share.
func (e *entry) newer(old *entry) bool {
	if e.rec.Version != old.rec.Version {
		return e.rec.Version > old.rec.Version
	}
	return bytes.Compare(e.env.Payload, old.env.Payload) > 0
}

// evict makes room by dropping the oldest record of a node that has left, which is of
// little use. Called with mu held.
func (s *Store) evict() bool {
	var oldest *entry
	for _, m := range s.members {
		if m.rec.Left && (oldest == nil || m.rec.Version < oldest.rec.Version) {
			oldest = m
		}
	}
	if oldest == nil {
		return false
	}
	delete(s.members, oldest.rec.ID)
	delete(s.alive, oldest.rec.ID)
	return true
}

func (s *Store) mergeOwn(e *entry) {
	if s.own != nil && !e.newer(s.own) || s.echo != nil && !e.newer(s.echo) {
		return
	}
	if s.own != nil && e.rec.By == (ID{}) && !slices.Equal(e.rec.Endpoints, s.own.rec.Endpoints) {
		s.echoes++
		s.clone = e.rec.Endpoints[0].Addr()
	}
	s.clock = max(s.clock, e.rec.Version) // also above maxClock: the key is ours
	s.echo = e
	s.notify()
}

// Clone returns where another machine speaks with this node's key, if any does: time
// and again a record of our own ID comes that was not made here. Once it may be a
// restored backup.
func (s *Store) Clone() (at netip.Addr, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.clone, s.echoes > 1
}

// Name returns the name of a node of which a record is held, this one included, or false.
func (s *Store) Name(id ID) (name string, known bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.members[id]
	if id == s.identity.ID {
		m = s.own
	}
	if m == nil {
		return "", false
	}
	return m.rec.Name, true
}

// SetAlive reports whether a node answers, as of now. It is kept also for a node
// whose record is not here yet. Repeating the state changes nothing.
func (s *Store) SetAlive(id ID, alive bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.identity.ID || s.alive[id].alive == alive {
		return
	}
	if !alive && s.members[id] == nil {
		delete(s.alive, id) // nothing to route: keep the map no larger than the cluster
	} else {
		s.alive[id] = liveness{alive: alive, since: now}
	}
	s.notify()
}

// Own returns this node's record as published, or false.
func (s *Store) Own() (Envelope, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.own == nil {
		return Envelope{}, false
	}
	return s.own.env, true
}

// Envelopes returns every record held, the own one first. They are shared: their
// payloads must not be changed.
func (s *Store) Envelopes() []Envelope {
	s.mu.RLock()
	defer s.mu.RUnlock()
	envs := make([]Envelope, 0, len(s.members)+1)
	if s.own != nil {
		envs = append(envs, s.own.env)
	}
	for _, m := range s.members {
		envs = append(envs, m.env)
	}
	return envs
}

// Subscribe returns a channel that holds a token whenever records or liveness may
// have changed since the last receive. cancel ends it; the channel is not closed.
func (s *Store) Subscribe() (changes <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[ch] = struct{}{}
	return ch, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, ch)
	}
}

// changed is called with mu held when a snapshot would differ.
func (s *Store) changed() {
	s.changes++
	s.notify()
}

// notify is called with mu held.
func (s *Store) notify() {
	for ch := range s.subs {
		select {
		case ch <- struct{}{}:
		default: // a token is waiting already
		}
	}
}
