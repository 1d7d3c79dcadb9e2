package keyring

import (
	"bytes"
	"slices"

	"github.com/weft-net/weft/membership"
)

// state is what a node knows of keys. Its methods return another, and change nothing.
type state struct {
	ring  Ring
	kept  [][]byte // read as well: keys that a ring had which the present one took no notice of
	sends string   // fingerprint of the key to send by
}

// alone is the state of a node that knows the key of its file.
func alone(key []byte) state {
	return state{ring: Ring{Keys: [][]byte{key}}, sends: Fingerprint(key)}
}

// readable returns the keys of the ring, and those kept.
func (s state) readable() [][]byte { return slices.Concat(s.ring.Keys, s.kept) }

// keys returns the readable keys, the one to send by first.
func (s state) keys() [][]byte {
	keys := s.readable()
	at := slices.IndexFunc(keys, func(key []byte) bool { return Fingerprint(key) == s.sends })
	return slices.Concat(keys[at:at+1], keys[:at], keys[at+1:])
}

// publish returns s with r, made by identity, as its ring.
func (s state) publish(identity membership.Identity, r Ring) (state, error) {
	r, err := seal(identity, r)
	if err != nil {
		return s, err
	}
	return s.adopt(r), nil
}

// merge returns s with another's newer ring. Where that was made without knowledge of the one of
// identity that it overtakes, another of both follows it.
func (s state) merge(r Ring, identity membership.Identity) (state, error) {
	next := s.adopt(r)
	if s.ring.By != identity.ID {
		return next, nil
	}
	lost := s.ring.without(r)
	undone := slices.ContainsFunc(r.Keys, func(key []byte) bool { return slices.Contains(s.ring.Removed, Fingerprint(key)) })
	if len(lost) == 0 && !undone {
		return next, nil
	}
	removed := remember(r.Removed, s.ring.Removed...)
	both := Ring{Version: r.Version + 1, Removed: removed}
	for _, key := range slices.Concat(lost, r.Keys) {
		if !slices.Contains(removed, Fingerprint(key)) {
			both.Keys = append(both.Keys, key)
		}
	}
	if len(both.Keys) == 0 || len(both.Keys) > MaxKeys {
		return next, nil // the lost ones are read on
	}
	return next.publish(identity, both)
}

// without returns the keys of r that other neither has nor removed.
func (r Ring) without(other Ring) [][]byte {
	return slices.DeleteFunc(slices.Clone(r.Keys), func(key []byte) bool {
		return other.has(key) || slices.Contains(other.Removed, Fingerprint(key))
	})
}

// adopt returns s with r as its ring. A key that r does not know of is read on.
func (s state) adopt(r Ring) state {
	kept := Ring{Keys: s.readable()}.without(r)
	next := state{ring: r, kept: kept[:min(len(kept), MaxKeys-len(r.Keys))], sends: s.sends}
	if !slices.ContainsFunc(next.readable(), func(key []byte) bool { return Fingerprint(key) == s.sends }) {
		next.sends = Fingerprint(r.Keys[0]) // until Choose finds one that more can read
	}
	return next
}

// choose returns the fingerprint of the newest key that most of the others list: all of them,
// but for who was cut off by a removal. One that lists none is taken to read what is sent so far.
func (s state) choose(listed [][]string) string {
	best, most := "", -1
	for _, fingerprint := range Fingerprints(s.ring.Keys) {
		n := 0
		for _, l := range listed {
			if slices.Contains(l, fingerprint) || len(l) == 0 && fingerprint == s.sends {
				n++
			}
		}
		if n > most {
			best, most = fingerprint, n
		}
	}
	return best
}

// knows says whether key is read, and whether it was removed.
func (s state) knows(key []byte) (read, removed bool) {
	read = slices.ContainsFunc(s.readable(), func(k []byte) bool { return bytes.Equal(k, key) })
	return read, slices.Contains(s.ring.Removed, Fingerprint(key))
}
