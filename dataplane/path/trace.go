package path

import "time"

// Sighting is what a node has seen of a packet that bears a marker, in the 4 bytes that a message has for
// it. The flags are set one after the other as the packet goes on, but that Dropped ends it. One that a version does
// not know it passes over.
type Sighting uint32

const (
	Watching  Sighting = 1 << iota // the node looks for the marker; without it, it cannot, and all else is 0
	Arrived                        // it came from the underlay
	Dropped                        // weftd did not carry it on: see Reason
	Delivered                      // it was written to the TUN
	Routed                         // the kernel has a route for it to a device, and not back into the pod network
	Answered                       // an answer to it left, for the node that asks
	Sniffing                       // the node also looks at what its kernel carries past weftd; without it, Forwarded is 0
	Forwarded                      // the kernel sent it out by such a device, or the destination is the node itself
)

// reasonShift is where a code for the reason of a drop stands, which the two ends agree on.
const reasonShift = 16

// With adds the code of a drop's reason.
func (s Sighting) With(reason uint16) Sighting {
	return s&(1<<reasonShift-1) | Dropped | Sighting(reason)<<reasonShift
}

// Reason is the code of a drop's reason.
func (s Sighting) Reason() uint16 { return uint16(s >> reasonShift) }

// Has says whether all of flags are set.
func (s Sighting) Has(flags Sighting) bool { return s&flags == flags }

// asked is a marker that a peer is asked about, and its last answer.
type asked struct {
	peer  string
	seen  Sighting
	heard bool
}

// Observe sets who answers the questions of peers. observe is called by Receive, for authentic questions within the
// limits; without it there is no answer.
func (t *Tracker) Observe(observe func(peer string, marker uint64, now time.Time) Sighting) {
	t.observe = observe
}

// Ask returns a message that asks peer what it has seen of a packet with marker, and has it look for that from then
// on. Until Unask, the last answer is what Heard returns.
func (t *Tracker) Ask(peer string, marker uint64) []byte {
	if _, again := t.asked[marker]; !again {
		t.asked[marker] = asked{peer: peer}
	}
	return t.seal(message{kind: question, nonce: marker}, t.self, peer)
}

// Heard is the last answer about marker; ok is false where there is none.
func (t *Tracker) Heard(marker uint64) (s Sighting, ok bool) {
	a := t.asked[marker]
	return a.seen, a.heard
}

// Unask ends what Ask began. An answer that comes later is stale.
func (t *Tracker) Unask(marker uint64) { delete(t.asked, marker) }

// testify answers a question. A replayed one has this node look again, and its maker's node gets the answer.
func (t *Tracker) testify(p *peer, m message, now time.Time) (answer []byte, err error) {
	if !p.answers.AllowN(now, 1) || !t.answers.AllowN(now, 1) {
		return nil, ErrLimited
	}
	if t.observe == nil {
		return nil, ErrMalformed
	}
	seen := t.observe(p.id, m.nonce, now)
	return t.seal(message{kind: testimony, size: int(seen), nonce: m.nonce}, t.self, p.id), nil
}

// hear takes what a peer has seen.
func (t *Tracker) hear(p *peer, m message) error {
	a, ok := t.asked[m.nonce]
	if !ok || a.peer != p.id {
		return ErrStale
	}
	a.seen, a.heard = Sighting(m.size), true
	t.asked[m.nonce] = a
	return nil
}
