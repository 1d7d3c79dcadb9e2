package keyring

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/weft-net/weft/membership"
)

// MaxKeys bounds a ring, as membership bounds Description.Keys.
const MaxKeys = 8

const (
	maxRemoved = 16
	keyBytes   = 32 // of a key that Rotate makes: AES-256

	// maxVersion is what every JSON reader holds exactly.
	maxVersion = 1 << 53

	// maxMessage bounds a ring on the wire, so that it fits one gossip packet of 1,400
	// bytes: 8 keys and 16 fingerprints take 750.
	maxMessage  = 1280
	messageHead = ed25519.PublicKeySize + ed25519.SignatureSize

	// signContext keeps a ring's signature from being taken for one over anything else.
	signContext = "weft gossip keyring"

	fingerprintLen = 8
)

// ErrBad is wrapped by Merge where a message holds no ring that its author may have made.
var ErrBad = errors.New("not a ring of gossip keys")

// Ring is the keys of a cluster. It is not changed.
type Ring struct {
	// Version is one above that of any ring that the author had seen; 0 for the key of a
	// file alone, which nobody signed.
	Version uint64        `json:"version"`
	By      membership.ID `json:"-"`       // the author
	Keys    [][]byte      `json:"keys"`    // newest first, 16 or 32 bytes each
	Removed []string      `json:"removed"` // fingerprints, the last removed first

	message []byte // as the author signed it; nil in version 0
}

// Fingerprint names a key to people and in records, without giving it away: 8 hex digits.
func Fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("weft gossip key"), key...))
	return hex.EncodeToString(sum[:fingerprintLen/2])
}

// Fingerprints returns the fingerprints of keys, in their order.
func Fingerprints(keys [][]byte) []string {
	prints := make([]string, len(keys))
	for i, key := range keys {
		prints[i] = Fingerprint(key)
	}
	return prints
}

func newKey() []byte {
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails: crypto/rand ends the program instead
	return key
}

// newer says whether r replaces other. Two of one version and author exist only where a node was
// cloned or a backup restored; then any rule will do that all nodes share.
func (r Ring) newer(other Ring) bool {
	return cmp.Or(cmp.Compare(r.Version, other.Version), r.By.Compare(other.By), bytes.Compare(r.message, other.message)) > 0
}

func (r Ring) has(key []byte) bool {
	return slices.ContainsFunc(r.Keys, func(k []byte) bool { return bytes.Equal(k, key) })
}

// remember returns removed with fingerprint in front.
func remember(removed []string, fingerprint ...string) []string {
	all := slices.Clone(fingerprint)
	for _, r := range removed {
		if !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all[:min(len(all), maxRemoved)]
}

func (r Ring) validate() error {
	if r.Version < 1 || r.Version > maxVersion {
		return fmt.Errorf("%w: version %d is out of range", ErrBad, r.Version)
	}
	if len(r.Keys) < 1 || len(r.Keys) > MaxKeys || len(r.Removed) > maxRemoved {
		return fmt.Errorf("%w: %d keys and %d removed ones; at most %d and %d", ErrBad, len(r.Keys), len(r.Removed), MaxKeys, maxRemoved)
	}
	seen := make(map[string]bool)
	for _, key := range r.Keys {
		if !sized(key) {
			return fmt.Errorf("%w: a key of %d bytes", ErrBad, len(key))
		}
		seen[Fingerprint(key)] = true
	}
	for _, removed := range r.Removed {
		if b, err := hex.DecodeString(removed); err != nil || hex.EncodeToString(b) != removed || len(removed) != fingerprintLen {
			return fmt.Errorf("%w: a removed key that is no fingerprint", ErrBad)
		}
		seen[removed] = true
	}
	if len(seen) != len(r.Keys)+len(r.Removed) {
		return fmt.Errorf("%w: a key is in it twice, or is removed as well", ErrBad)
	}
	return nil
}

// sized says whether key is one for AES-128 or AES-256.
func sized(key []byte) bool { return len(key) == 16 || len(key) == 32 }

// Author is who made a message, by its own word, which Merge verifies.
func Author(message []byte) (id membership.ID) {
	copy(id[:], message)
	return id
}

// seal returns r as identity's, with its message: the author's ID (32 bytes), the signature (64
// bytes), and the rest of the ring as JSON.
func seal(identity membership.Identity, r Ring) (Ring, error) {
	if err := r.validate(); err != nil {
		return Ring{}, err
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return Ring{}, fmt.Errorf("encode the ring of gossip keys: %w", err)
	}
	signature := identity.Sign(signContext, payload)
	r.By = identity.ID
	r.message = slices.Concat(identity.ID[:], signature[:], payload)
	return r, nil
}

// open verifies a message and returns its ring, which aliases it. The error wraps ErrBad, and has
// none of the keys.
func open(message []byte) (Ring, error) {
	if len(message) > maxMessage || len(message) <= messageHead {
		return Ring{}, fmt.Errorf("%w: %d bytes", ErrBad, len(message))
	}
	var by membership.ID
	rest := message[copy(by[:], message):]
	signature, payload := rest[:ed25519.SignatureSize], rest[ed25519.SignatureSize:]
	if !by.Verify(signContext, payload, signature) {
		return Ring{}, fmt.Errorf("%w: not signed by %s", ErrBad, by.Short())
	}
	r := Ring{By: by, message: message}
	if err := json.Unmarshal(payload, &r); err != nil {
		return Ring{}, fmt.Errorf("%w: what %s signed is not JSON of a ring", ErrBad, by.Short())
	}
	if err := r.validate(); err != nil {
		return Ring{}, fmt.Errorf("node %s: %w", by.Short(), err)
	}
	return r, nil
}
