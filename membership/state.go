package membership

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	stateFile   = "state.json"
	stateFormat = 1
	// maxStateBytes is over three times MaxMembers of the largest records.
	maxStateBytes = 64 << 20
	// maxCorrupt bounds how many damaged files are kept aside.
	maxCorrupt = 10
)

// stateJSON is the file. Envelopes are base64 of their wire form, because the exact
// bytes are signed.
type stateJSON struct {
	Format  int           `json:"format"`
	Clock   uint64        `json:"clock"`
	Settled bool          `json:"settled"`
	Own     []byte        `json:"own,omitempty"`
	Members []memberState `json:"members"`
}

// memberState is an object, so that a later version can note more of a member.
type memberState struct {
	Envelope []byte        `json:"envelope"`
	Gone     time.Duration `json:"gone,omitempty"` // nanoseconds: see Store.Lapsed
}

// OpenStore returns a store that lives in dir/state.json, which is written before
// a new own record is visible, and by Save. Members found there count as not alive
// since now, so that they are routed for one grace period while a source confirms
// them.
//
// A damaged file is moved aside, to state.json.corrupt-N, and the node goes on with
// what is left: each warning is one line for the log. An error means that the file
// could not be read or moved.
func OpenStore(dir string, identity Identity, terms Terms, grace time.Duration, now time.Time) (*Store, []string, error) {
	path := filepath.Join(dir, stateFile)
	s := NewStore(identity, terms, grace, func(snap Snapshot) error { return writeState(path, snap) })
	text, err := readState(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var st stateJSON
	if err := json.Unmarshal(text, &st); err != nil {
		return setAside(s, path, err)
	}
	if st.Format != stateFormat {
		return setAside(s, path, fmt.Errorf("format %d, this version reads %d", st.Format, stateFormat))
	}
	return s, s.restore(st.snapshot(), now), nil
}

// RestoreStore returns a store that goes on from a snapshot, as OpenStore's does from
// its file: with a warning for whatever of it cannot be used.
func RestoreStore(identity Identity, terms Terms, grace time.Duration, persist func(Snapshot) error, snap Snapshot, now time.Time) (*Store, []string) {
	s := NewStore(identity, terms, grace, persist)
	return s, s.restore(snap, now)
}

// snapshot is what the file holds. An envelope that is too short for one is empty, which
// is refused when it is opened.
func (st *stateJSON) snapshot() Snapshot {
	snap := Snapshot{Clock: st.Clock, Settled: st.Settled}
	if len(st.Own) > 0 {
		own, _ := parseEnvelope(st.Own)
		snap.Own = &own
	}
	for _, m := range st.Members {
		e, _ := parseEnvelope(m.Envelope)
		snap.Members, snap.Gone = append(snap.Members, e), append(snap.Gone, m.Gone)
	}
	return snap
}

func readState(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the state file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxStateBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the state file: %w", err)
	}
	if len(text) > maxStateBytes {
		text = nil // fails to decode: kept aside as damaged
	}
	return text, nil
}

func setAside(s *Store, path string, cause error) (*Store, []string, error) {
	aside, err := freeName(path)
	if err != nil {
		return nil, nil, err
	}
	if err := os.Rename(path, aside); err != nil {
		return nil, nil, fmt.Errorf("move the damaged state file aside: %w", err)
	}
	return s, []string{fmt.Sprintf("state file %s is damaged (%v): moved to %s; this node goes on with its key and learns the rest from its peers", path, cause, aside)}, nil
}

// freeName returns the first free name for a damaged file; the last is reused.
func freeName(path string) (string, error) {
	var name string
	for n := 1; n <= maxCorrupt; n++ {
		name = fmt.Sprintf("%s.corrupt-%d", path, n)
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", fmt.Errorf("move the damaged state file aside: %w", err)
		}
	}
	return name, nil
}

// restore fills an empty store. Whatever cannot be used is left out and named.
func (s *Store) restore(snap Snapshot, now time.Time) []string {
	var warnings []string
	s.settled = snap.Settled
	s.clock = min(snap.Clock, maxClock)
	if snap.Own != nil {
		own, err := openEntry(*snap.Own)
		switch {
		case err != nil:
			warnings = append(warnings, fmt.Sprintf("state file: this node's own record is damaged (%v): its claims are learnt from its peers, or made again", err))
			s.settled = false
		case own.rec.ID != s.identity.ID:
			warnings = append(warnings, fmt.Sprintf("state file: written under another node key, by %s: its record is kept as another node's", label(own.rec.Name, own.rec.ID)))
			s.settled = false
			s.restoreMember(own, now)
		default:
			s.own = own
			s.clock = max(s.clock, own.rec.Version)
		}
	}
	for i, m := range snap.Members {
		e, err := openEntry(m)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("state file: member %d is damaged (%v): it is learnt again", i+1, err))
			continue
		}
		if err := s.terms.admits(&e.rec); err != nil {
			warnings = append(warnings, fmt.Sprintf("state file: node %s is left out: %v", label(e.rec.Name, e.rec.author()), err))
			continue
		}
		if e.rec.ID != s.identity.ID && len(s.members) < MaxMembers {
			s.restoreMember(e, now)
			l := s.alive[e.rec.ID]
			l.gone = max(0, snap.Gone[i])
			s.alive[e.rec.ID] = l
		}
	}
	return warnings
}

func (s *Store) restoreMember(e *entry, now time.Time) {
	s.members[e.rec.ID] = e
	s.alive[e.rec.ID] = liveness{since: now}
	if e.rec.Version <= maxClock {
		s.clock = max(s.clock, e.rec.Version)
	}
}

func openEntry(env Envelope) (*entry, error) {
	env = env.clone()
	rec, err := Open(env)
	if err != nil {
		return nil, err
	}
	return &entry{env: env, rec: rec}, nil
}

func writeState(path string, snap Snapshot) error {
	st := stateJSON{Format: stateFormat, Clock: snap.Clock, Settled: snap.Settled, Members: make([]memberState, 0, len(snap.Members))}
	if snap.Own != nil {
		st.Own = snap.Own.append(nil)
	}
	for i, e := range snap.Members {
		st.Members = append(st.Members, memberState{Envelope: e.append(nil), Gone: snap.Gone[i]})
	}
	text, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	return WriteFile(path, append(text, '\n'))
}
