// Package keyring holds the keys that encrypt the gossip, and changes them while it goes on.
//
// All nodes have one [Ring], which whoever has the gossip key can change: the ring of the
// highest version is everyone's, ties going to the higher ID of its author. It travels in a
// message that its author signed. There is no coordinator: a node reads by every key of the
// ring as soon as it has the ring on disk, says so in its record (membership.Description.Keys),
// and sends by the newest key that all others say they read. So a rotation takes place by
// itself, and a node that is down, or has not heard, holds it up.
//
// # Why no node loses contact
//
//  1. A node lists a key in its record after it can read by it.
//  2. Once listed, a key is read until somebody removes it: a newer ring that was made without
//     knowing of the key takes it from the ring, so that nobody begins to send by it, and yet it
//     is read on. Whose ring was overtaken like this makes another, of both.
//  3. A node sends by a key that all others list, and goes on from it only to one that is newer.
//  4. A key may be removed when all list the newest one, and send by it. By 3 nobody will send
//     by the removed one again. Only Remove's caller can tell; a removal that
//     comes sooner cuts off those who have not the newest key.
//
// A newcomer has one key from a file, and lists that. It is in contact at once where the others
// send by it, and is sent the ring.
package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/weft-net/weft/membership"
)

// ErrUnknown is wrapped by Remove where the ring has no such key.
var ErrUnknown = errors.New("no such gossip key")

// ErrNewest is wrapped by Remove where the key is the newest: the others are there to be ended by it.
var ErrNewest = errors.New("the newest gossip key is not removed")

// ErrFull is wrapped by Rotate where the ring has MaxKeys.
var ErrFull = errors.New("too many gossip keys")

// Keyring is a node's copy of the ring, and the key that it sends by. Its methods may be
// called concurrently. What they change is on disk when they return, and on an error
// nothing has changed.
type Keyring struct {
	identity membership.Identity
	persist  func(state) error

	writing sync.Mutex // orders changes; held across persist, which mu is not. Taken before mu.
	mu      sync.RWMutex
	state   state
	changed chan struct{} // capacity 1
}

func newKeyring(identity membership.Identity, s state, persist func(state) error) *Keyring {
	return &Keyring{identity: identity, persist: persist, state: s, changed: make(chan struct{}, 1)}
}

// Changed holds a token after Rotate, Remove or Merge made another ring the node's own: its
// Message is to be spread, and its Keys are to be read by.
func (k *Keyring) Changed() <-chan struct{} { return k.changed }

// Ring returns the ring. Its slices are shared and must not be changed.
func (k *Keyring) Ring() Ring { return k.now().ring }

// Keys returns all keys to read by, the one to send by first. They must not be changed.
func (k *Keyring) Keys() [][]byte { return k.now().keys() }

// Message returns the ring as its author signed it, for other nodes; nil while it is
// of version 0, which is the file's key and nobody's news. It must not be changed.
func (k *Keyring) Message() []byte { return k.now().ring.message }

func (k *Keyring) now() state {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.state
}

// Rotate makes a key the newest of a ring of this node's, and returns its fingerprint.
func (k *Keyring) Rotate() (fingerprint string, err error) {
	key := newKey()
	err = k.change(func(s state) (state, error) {
		if len(s.keys()) >= MaxKeys {
			return s, fmt.Errorf("%w: there are %d; remove old ones first", ErrFull, len(s.keys()))
		}
		return s.publish(k.identity, Ring{
			Version: s.ring.Version + 1,
			Keys:    slices.Concat([][]byte{key}, s.ring.Keys, s.kept),
			Removed: s.ring.Removed,
		})
	})
	return Fingerprint(key), err
}

// Remove makes a ring without the key of that fingerprint. It does not ask who still needs
// the key: see the package comment.
func (k *Keyring) Remove(fingerprint string) error {
	return k.change(func(s state) (state, error) {
		at := slices.IndexFunc(s.ring.Keys, func(key []byte) bool { return Fingerprint(key) == fingerprint })
		switch {
		case at < 0:
			return s, fmt.Errorf("remove %s: %w", fingerprint, ErrUnknown)
		case at == 0:
			return s, fmt.Errorf("remove %s: %w", fingerprint, ErrNewest)
		}
		return s.publish(k.identity, Ring{
			Version: s.ring.Version + 1,
			Keys:    slices.Delete(slices.Clone(s.ring.Keys), at, at+1),
			Removed: remember(s.ring.Removed, fingerprint),
		})
	})
}

// Merge takes a message of another node's. If its ring is newer, it is this node's from now on,
// or else part of one that this node makes of both. The error wraps ErrBad, or is of the disk.
func (k *Keyring) Merge(message []byte) error {
	if own := k.Message(); own != nil && bytes.Equal(message, own) { // spares most signatures
		return nil
	}
	ring, err := open(slices.Clone(message))
	if err != nil {
		return err
	}
	return k.change(func(s state) (state, error) {
		if !ring.newer(s.ring) {
			return s, nil
		}
		return s.merge(ring, k.identity)
	})
}

// Choose decides which key to send by. listed are the keys of the records of all other
// members: see membership.Description.Keys. changed says that it is another than before.
func (k *Keyring) Choose(listed [][]string) (changed bool, err error) {
	err = k.change(func(s state) (state, error) {
		next := s.choose(listed)
		changed = next != s.sends
		s.sends = next
		return s, nil
	})
	return changed && err == nil, err
}

// change replaces the state by what f makes of it, which is on disk before anybody sees it.
func (k *Keyring) change(f func(state) (state, error)) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	before := k.now()
	next, err := f(before)
	if err != nil {
		return err
	}
	ringed := next.ring.newer(before.ring)
	if !ringed && next.sends == before.sends {
		return nil
	}
	if next.ring.Version > 0 {
		if err := k.persist(next); err != nil {
			return fmt.Errorf("keep the gossip keys on disk before they are used: %w", err)
		}
	}
	k.mu.Lock()
	k.state = next
	k.mu.Unlock()
	if ringed {
		select {
		case k.changed <- struct{}{}:
		default: // a token is waiting already
		}
	}
	return nil
}
