package path

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"slices"
)

// MessageLen is the length in bytes of a message, request and answer, without the
// padding of a request:
//
//	 0  version, 1
//	 1  type: 1 request, 2 answer; 3 question, 4 testimony: see trace.go
//	 2  zero
//	 4  size of the outer IP packet of the request, big endian; 0 in a question, a Sighting in a testimony
//	 8  nonce: random in a request, the request's in its answer; the marker that a question is about
//	16  HMAC-SHA256 of the above and of both node IDs, cut to 16 bytes
//
// The IDs, sender's first, keep a message from being of use to anyone but the one
// it was made for, or against its maker. Padding is not covered: only its length
// matters, and that is known.
const MessageLen = headerLen + macLen

const (
	headerLen = 16
	macLen    = 16 // RFC 2104 section 5: no less than half the hash
	version   = 1
)

type kind uint8

const (
	request kind = 1
	answer  kind = 2

	question  kind = 3
	testimony kind = 4
)

// Why Receive takes no message.
var (
	ErrMalformed = errors.New("not a probe message of a version known here")
	ErrForeign   = errors.New("probe message of a node that no way leads to")
	ErrForged    = errors.New("probe message with a wrong authentication code: made with another key, or for another node")
	ErrFlood     = errors.New("more probe messages from the address of a node than are looked at")
	ErrResized   = errors.New("probe request came in another size than it left")
	ErrLimited   = errors.New("more probe requests than are answered")
	ErrStale     = errors.New("answer to no probe under way: replayed, or late")
)

// Key derives the key of the messages from the one of the gossip (HKDF-SHA256,
// RFC 5869), so that neither protocol's messages mean anything in the other. An
// empty gossipKey gives a key that everyone knows.
func Key(gossipKey []byte) [32]byte {
	k, err := hkdf.Key(sha256.New, gossipKey, nil, "weft path probe", 32)
	if err != nil {
		panic("path: 32 bytes are within what HKDF gives: " + err.Error())
	}
	return [32]byte(k)
}

// message is what the header says.
type message struct {
	kind  kind
	size  int
	nonce uint64
}

// seal writes m, from one node to another.
func (t *Tracker) seal(m message, from, to string) []byte {
	b := make([]byte, headerLen, MessageLen)
	b[0], b[1] = version, byte(m.kind)
	binary.BigEndian.PutUint32(b[4:], uint32(m.size))
	binary.BigEndian.PutUint64(b[8:], m.nonce)
	return append(b, code(t.macs[0], b, from, to)...)
}

// parse reads the header of a message, which may be padded.
func parse(b []byte) (m message, ok bool) {
	if len(b) < MessageLen || b[0] != version {
		return m, false
	}
	m = message{kind: kind(b[1]), size: int(binary.BigEndian.Uint32(b[4:])), nonce: binary.BigEndian.Uint64(b[8:])}
	return m, request <= m.kind && m.kind <= testimony
}

// authentic says whether b, which can be parsed, was made by from for to, with any of the keys.
func (t *Tracker) authentic(b []byte, from, to string) bool {
	return slices.ContainsFunc(t.macs, func(mac hash.Hash) bool {
		return hmac.Equal(b[headerLen:MessageLen], code(mac, b[:headerLen], from, to))
	})
}

func code(mac hash.Hash, header []byte, from, to string) []byte {
	mac.Reset()
	mac.Write(header)
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(from)))) // where from ends
	mac.Write([]byte(from))
	mac.Write([]byte(to))
	return mac.Sum(nil)[:macLen]
}

func newNonce() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return binary.BigEndian.Uint64(b[:])
}
