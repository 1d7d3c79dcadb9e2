package membership

import (
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
)

// Envelope is a record as its node signed it. Its bytes are relayed unchanged.
//
// On the wire: signer (32 bytes), signature (64 bytes), payload. The signer stands
// beside the payload so that nothing is parsed before it is verified.
type Envelope struct {
	Signer    ID
	Signature [ed25519.SignatureSize]byte
	Payload   []byte // the Record as JSON
}

const (
	envelopeHead = ed25519.PublicKeySize + ed25519.SignatureSize
	// MaxEnvelope bounds one record on the wire. With its message framing (3
	// bytes) and memberlist's (34) it fits one gossip packet of 1,400 bytes,
	// so that every valid record can be broadcast.
	MaxEnvelope = 1280
	maxPayload  = MaxEnvelope - envelopeHead
)

// signContext keeps a record's signature from being taken for one over anything
// else a node may sign.
const signContext = "weft membership record"

// Reject is why a record was not accepted. Its text is a counter label: find it
// with errors.AsType[Reject].
type Reject string

// The reasons of Open, ParseMessage and Store.Merge.
const (
	RejectFraming   Reject = "framing"   // not a sequence of envelopes
	RejectSize      Reject = "size"      // larger than MaxEnvelope
	RejectSignature Reject = "signature" // not signed by the key it names
	RejectFormat    Reject = "format"    // an unknown major format
	RejectIdentity  Reject = "identity"  // a record about another node
	RejectFields    Reject = "fields"    // a value out of its range
	RejectFull      Reject = "full"      // more than MaxMembers nodes
	RejectAuthority Reject = "authority" // not certified by the cluster's authority
)

// Error implements error.
func (r Reject) Error() string { return "record rejected (" + string(r) + ")" }

// Seal signs r as id's record. It refuses what Open would refuse, so that no node
// publishes what others drop.
func Seal(id Identity, r Record) (Envelope, error) {
	if r.author() != id.ID || r.Format != Format {
		return Envelope{}, fmt.Errorf("seal a record of %s in format %d: want %s in format %d", r.author().Short(), r.Format, id.ID.Short(), Format)
	}
	if err := r.validate(); err != nil {
		return Envelope{}, err
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return Envelope{}, fmt.Errorf("encode the record: %w", err)
	}
	if len(payload) > maxPayload {
		return Envelope{}, fmt.Errorf("the record has %d bytes, at most %d fit a gossip packet: use fewer claims or segments, or a shorter name", len(payload), maxPayload)
	}
	return sign(id, payload), nil
}

func sign(id Identity, payload []byte) Envelope {
	return Envelope{Signer: id.ID, Signature: id.Sign(signContext, payload), Payload: payload}
}

// Open verifies e and returns its record. The error wraps a Reject. The record
// does not alias e.
func Open(e Envelope) (Record, error) {
	if len(e.Payload) > maxPayload {
		return Record{}, fmt.Errorf("%w: a payload of %d bytes, at most %d", RejectSize, len(e.Payload), maxPayload)
	}
	if !e.Signer.Verify(signContext, e.Payload, e.Signature[:]) {
		return Record{}, fmt.Errorf("%w: not signed by %s", RejectSignature, e.Signer.Short())
	}
	// The format first: a later one may give fields other types.
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(e.Payload, &head); err != nil {
		return Record{}, fmt.Errorf("%w: %w", RejectFields, err)
	}
	if head.Format != Format {
		return Record{}, fmt.Errorf("%w: format %d of node %s, this version reads %d", RejectFormat, head.Format, e.Signer.Short(), Format)
	}
	var r Record
	if err := json.Unmarshal(e.Payload, &r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", RejectFields, err)
	}
	if r.author() != e.Signer {
		return Record{}, fmt.Errorf("%w: node %s signed a record of %s", RejectIdentity, e.Signer.Short(), r.ID.Short())
	}
	if err := r.validate(); err != nil {
		return Record{}, fmt.Errorf("%w: node %s: %w", RejectFields, e.Signer.Short(), err)
	}
	return r, nil
}

// Subject is the node that e is about, which mostly is its signer; e was opened before.
func (e Envelope) Subject() ID {
	var about struct {
		ID ID `json:"id"`
	}
	if json.Unmarshal(e.Payload, &about) != nil {
		return e.Signer
	}
	return about.ID
}

func (e Envelope) clone() Envelope {
	e.Payload = slices.Clone(e.Payload)
	return e
}

func (e Envelope) append(dst []byte) []byte {
	dst = append(dst, e.Signer[:]...)
	dst = append(dst, e.Signature[:]...)
	return append(dst, e.Payload...)
}

// parseEnvelope reads the wire form; the payload aliases b.
func parseEnvelope(b []byte) (Envelope, error) {
	if len(b) <= envelopeHead {
		return Envelope{}, fmt.Errorf("%w: an envelope of %d bytes", RejectFraming, len(b))
	}
	var e Envelope
	b = b[copy(e.Signer[:], b):]
	b = b[copy(e.Signature[:], b):]
	e.Payload = b[:len(b):len(b)]
	return e, nil
}

// messageEnvelopes is the first byte of a message that holds envelopes. Other
// messages between sources will take other values.
const messageEnvelopes = 1

// AppendMessage appends one message that holds envs: a format byte, then for each
// envelope its length as a uvarint and its bytes.
func AppendMessage(dst []byte, envs ...Envelope) []byte {
	dst = append(dst, messageEnvelopes)
	for _, e := range envs {
		dst = binary.AppendUvarint(dst, uint64(envelopeHead+len(e.Payload)))
		dst = e.append(dst)
	}
	return dst
}

// ParseMessage reads what AppendMessage wrote. The envelopes alias b and are not
// verified; one that is too large is for Open to refuse, so that it costs no other.
// The error wraps a Reject.
func ParseMessage(b []byte) ([]Envelope, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: an empty message", RejectFraming)
	}
	if b[0] != messageEnvelopes {
		return nil, fmt.Errorf("%w: unknown message format %d", RejectFraming, b[0])
	}
	var envs []Envelope
	for b = b[1:]; len(b) > 0; {
		size, n := binary.Uvarint(b)
		if n <= 0 || n > 1 && b[n-1] == 0 { // a last group of zero: not the shortest form
			return nil, fmt.Errorf("%w: a bad length", RejectFraming)
		}
		b = b[n:]
		if size > uint64(len(b)) {
			return nil, fmt.Errorf("%w: a length of %d with %d bytes left", RejectFraming, size, len(b))
		}
		e, err := parseEnvelope(b[:size])
		if err != nil {
			return nil, err
		}
		envs = append(envs, e)
		b = b[size:]
	}
	return envs, nil
}
