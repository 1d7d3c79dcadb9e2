package membership

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// messageDigest is the first byte of a message that holds a digest.
const messageDigest = 2

// A digest on the wire: the format byte, its sender (32 bytes), a salt (8 bytes), then
// for each record the first 8 bytes of SHA-256 over salt and node ID, the version as a
// uvarint, and the first 4 bytes of SHA-256 over salt and payload.
const (
	digestSalt = 8
	digestHead = 1 + len(ID{}) + digestSalt
	digestSum  = 4
	// maxDigested is every record that a store holds, and its own.
	maxDigested = MaxMembers + 1
)

// Digest says which version of which record its sender holds, in about 15 bytes each.
// It is not signed: whoever may send one may also ask for everything.
type Digest struct {
	Sender ID
	salt   [digestSalt]byte
	held   map[uint64]digested // by the hash of the node ID
}

// digested is one record in a digest. Of two of one version, which exist where a key
// was cloned, each side sends its own where the sums differ.
type digested struct {
	version uint64
	sum     [digestSum]byte
}

// IsDigest says whether a message is one for ParseDigest.
func IsDigest(b []byte) bool { return len(b) > 0 && b[0] == messageDigest }

// AppendDigest appends the digest of all records held, the own one among them. salt is
// to be another each time: two nodes or two payloads that collide under one salt, by
// chance or by design, do not under the next.
func (s *Store) AppendDigest(dst []byte, salt [8]byte) []byte {
	dst = append(dst, messageDigest)
	dst = append(dst, s.identity.ID[:]...)
	dst = append(dst, salt[:]...)
	for _, e := range s.held() {
		dst = binary.BigEndian.AppendUint64(dst, digestKey(salt, e.rec.ID))
		dst = binary.AppendUvarint(dst, e.rec.Version)
		sum := payloadSum(salt, e.env.Payload)
		dst = append(dst, sum[:]...)
	}
	return dst
}

// ParseDigest reads what AppendDigest wrote, and keeps nothing of b. The error wraps a
// Reject.
func ParseDigest(b []byte) (Digest, error) {
	if !IsDigest(b) || len(b) < digestHead {
		return Digest{}, fmt.Errorf("%w: no digest in %d bytes", RejectFraming, len(b))
	}
	d := Digest{held: make(map[uint64]digested)}
	b = b[1:]
	b = b[copy(d.Sender[:], b):]
	b = b[copy(d.salt[:], b):]
	for n := 0; len(b) > 0; n++ {
		if n == maxDigested {
			return Digest{}, fmt.Errorf("%w: a digest of more than %d records", RejectFull, maxDigested)
		}
		if len(b) < 8 {
			return Digest{}, fmt.Errorf("%w: a digest ends within a record", RejectFraming)
		}
		key := binary.BigEndian.Uint64(b)
		version, size := binary.Uvarint(b[8:])
		if size <= 0 || size > 1 && b[8+size-1] == 0 || version < 1 || version > maxVersion || len(b) < 8+size+digestSum {
			return Digest{}, fmt.Errorf("%w: a bad version in a digest", RejectFraming)
		}
		got := digested{version: version, sum: [digestSum]byte(b[8+size:])}
		// Of two nodes that collide the older record is taken for both: what is sent
		// in vain does no harm.
		if old, twice := d.held[key]; !twice || version < old.version {
			d.held[key] = got
		}
		b = b[8+size+digestSum:]
	}
	return d, nil
}

// Newer returns the records that the sender of d lacks, or holds in an older version or
// in another of the same version: at most all, the own one first if it is among them. They
// are shared: their payloads must not be changed.
func (s *Store) Newer(d Digest) []Envelope {
	var envs []Envelope
	for _, e := range s.held() {
		there, ok := d.held[digestKey(d.salt, e.rec.ID)]
		if !ok || there.version < e.rec.Version ||
			there.version == e.rec.Version && there.sum != payloadSum(d.salt, e.env.Payload) {
			envs = append(envs, e.env)
		}
	}
	return envs
}

// held returns every record, the own one first.
func (s *Store) held() []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*entry, 0, len(s.members)+1)
	if s.own != nil {
		all = append(all, s.own)
	}
	for _, m := range s.members {
		all = append(all, m)
	}
	return all
}

func digestKey(salt [digestSalt]byte, id ID) uint64 {
	sum := sha256.Sum256(append(salt[:], id[:]...))
	return binary.BigEndian.Uint64(sum[:])
}

func payloadSum(salt [digestSalt]byte, payload []byte) [digestSum]byte {
	h := sha256.New()
	h.Write(salt[:])
	h.Write(payload)
	var sum [sha256.Size]byte
	return [digestSum]byte(h.Sum(sum[:0]))
}
