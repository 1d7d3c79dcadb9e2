package membership

import (
	"errors"
	"fmt"
	"time"
)

// ErrAlive is wrapped by Forget where the node answers.
var ErrAlive = errors.New("is alive")

// ErrUnknown is wrapped by Forget where there is nothing to forget.
var ErrUnknown = errors.New("is not a member")

// countSteps is how often on the way to being forgotten a node's absence is noted on
// disk.
const countSteps = 100

// longestTick bounds what one interval between two Lapsed counts for: a machine that
// was suspended has missed nobody meanwhile.
const longestTick = 5 * time.Minute

// Forget makes this node's signed word that the node id is gone for good, which
// releases its claims and its address everywhere, and returns it: the caller spreads
// it. A node that comes back all the same hears of it, and is a member again; what
// it claimed is then claimed anew, and another's where that was quicker.
func (s *Store) Forget(id ID) (Envelope, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[id]
	switch {
	case m == nil:
		return Envelope{}, fmt.Errorf("node %s %w", id.Short(), ErrUnknown)
	case m.rec.Left:
		return Envelope{}, fmt.Errorf("node %s %w: it has left", label(m.rec.Name, id), ErrUnknown)
	case s.alive[id].alive:
		return Envelope{}, fmt.Errorf("node %s %w", label(m.rec.Name, id), ErrAlive)
	}
	gone := Record{
		Format: Format, ID: id, Version: max(s.clock, m.rec.Version) + 1, Left: true, By: s.identity.ID,
		Description: Description{Name: m.rec.Name},
	}
	if s.own != nil {
		gone.Cert = s.own.rec.Cert
	}
	env, err := Seal(s.identity, gone)
	if err != nil {
		return Envelope{}, fmt.Errorf("forget node %s: %w", label(m.rec.Name, id), err)
	}
	s.members[id] = &entry{env: env, rec: gone}
	s.clock = max(s.clock, min(gone.Version, maxClock))
	s.changed()
	return env, nil
}

// Lapsed returns the nodes that have been missed for longer than after, and that it
// is this node's to forget: it is the one of lowest ID among those alive, and sees
// most of the members, so that the smaller part of a divided cluster forgets nobody. It
// is called at intervals, and counts the time between two calls, up to 5 minutes, for
// those that are missed; only while most members are seen. So no clock's setting matters, and
// what was counted outlives the process.
func (s *Store) Lapsed(now time.Time, after time.Duration) []ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	tick := min(max(0, now.Sub(s.ticked)), longestTick)
	if s.ticked.IsZero() {
		tick = 0
	}
	s.ticked = now
	present, all, first := 1, 1, true
	for id, m := range s.members {
		if m.rec.Left {
			continue
		}
		all++
		if s.alive[id].alive {
			present++
			first = first && s.identity.ID.Compare(id) < 0
		}
	}
	if 2*present <= all {
		return nil
	}
	var lapsed []ID
	missed := false
	for id, m := range s.members {
		l := s.alive[id]
		if m.rec.Left || l.alive {
			continue
		}
		before := l.gone
		l.gone += tick
		s.alive[id] = l
		// A disk is not written each time.
		missed = missed || before*countSteps/after != l.gone*countSteps/after
		if first && l.gone > after {
			lapsed = append(lapsed, id)
		}
	}
	if missed {
		s.changes++ // to be saved, and no news to anybody
	}
	return lapsed
}
