package path

import "time"

// What is looked at, a second: as much as a peer's limits allow it to ask, and as this
// node's own allow it to answer. So a flood of messages that are forged in its name
// costs 2000 HMACs for each key, of 1 us each. While it lasts, the peer's own messages are lost in it.
const messageRate, messageBurst = 2 * (largeRate + smallRate), 2 * peerBurst

// What is answered, a second. A peer that searches several ways at once sends all
// that its own limits allow to this node. All peers together may cost a hundredth
// of a CPU: 5000 answers of two HMACs, of 1 us each.
const (
	peerRate, peerBurst     = largeRate + smallRate, 200
	answerRate, answerBurst = 5000, 1000
)

// memory is how long an answer is taken after its probe left.
const memory = 3 * time.Second

// flight is a probe under way.
type flight struct {
	way  *way
	size int
	sent time.Time
	ask  uint64 // number among the small probes, 0 where it is none
	ping bool
}

type departure struct {
	nonce uint64
	at    time.Time
}

// launch makes the probe of f, and remembers it.
func (t *Tracker) launch(f flight) (Probe, uint64) {
	nonce := newNonce()
	t.flights[nonce] = f
	t.departures = append(t.departures, departure{nonce, f.sent})
	m := message{kind: request, size: f.size, nonce: nonce}
	return Probe{Way: f.way.Way, Size: f.size, Message: t.seal(m, t.self, f.way.Peer)}, nonce
}

// forget drops the probes whose answer would be too late.
func (t *Tracker) forget(now time.Time) {
	n := 0
	for n < len(t.departures) && now.Sub(t.departures[n].at) > memory {
		delete(t.flights, t.departures[n].nonce)
		delete(t.pongs, t.departures[n].nonce)
		n++
	}
	t.departures = append(t.departures[:0], t.departures[n:]...)
}

// Receive takes a message that came from peer at now, as told by its outer source
// address, with its padding. size is that of the outer IP packet in bytes.
//
// answer, where not nil, is to be sent back the way the message came, without
// padding; the caller may keep it. err is one of the errors of this package, for a
// counter and a line for debugging.
func (t *Tracker) Receive(peer string, message []byte, size int, now time.Time) (answer []byte, err error) {
	m, ok := parse(message)
	if !ok {
		return nil, ErrMalformed
	}
	p := t.peers[peer]
	if p == nil {
		return nil, ErrForeign
	}
	if !p.messages.AllowN(now, 1) {
		return nil, ErrFlood
	}
	if !t.authentic(message, peer, t.self) {
		return nil, ErrForged
	}
	switch m.kind {
	case request:
		return t.reply(p, m, size, now)
	case question:
		return t.testify(p, m, now)
	case testimony:
		return nil, t.hear(p, m)
	}
	return nil, t.take(p, m, now)
}

// reply answers a request. A replayed one is answered too, to the peer, to which
// that answer says nothing.
func (t *Tracker) reply(p *peer, m message, size int, now time.Time) ([]byte, error) {
	if m.size != size {
		return nil, ErrResized
	}
	if !p.answers.AllowN(now, 1) || !t.answers.AllowN(now, 1) {
		return nil, ErrLimited
	}
	m.kind = answer
	return t.seal(m, t.self, p.id), nil
}

// take looks for the probe that m answers, and says what it tells of its way.
func (t *Tracker) take(p *peer, m message, now time.Time) error {
	f, ok := t.flights[m.nonce]
	if !ok || f.way.peer != p || t.ways[f.way.Way] != f.way || f.size != m.size || now.Sub(f.sent) > memory {
		return ErrStale
	}
	delete(t.flights, m.nonce)
	if f.ping {
		t.pongs[m.nonce] = now.Sub(f.sent)
	}
	t.alive(f.way, f, now)
	t.passed(f.way, f, now)
	return nil
}

// Ping returns a small probe of w that is to be sent at once, beside those of Tick.
// ok is false where w is not a candidate, or mute.
func (t *Tracker) Ping(w Way, now time.Time) (p Probe, id uint64, ok bool) {
	k := t.ways[w]
	if k == nil || k.Mute {
		return Probe{}, 0, false
	}
	p, id = t.launch(flight{way: k, size: smallSize, sent: now, ping: true})
	return p, id, true
}

// Pong returns the round-trip time of the Ping with that id, once there is an
// answer, and then forgets it. It has to be called within 3 s of the Ping.
func (t *Tracker) Pong(id uint64) (rtt time.Duration, ok bool) {
	rtt, ok = t.pongs[id]
	delete(t.pongs, id)
	return rtt, ok
}
