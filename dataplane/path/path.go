// Package path finds out, for each way to each peer, whether it works, how long a
// round trip takes, how much is lost, and how large a packet it takes: liveness of
// the data path, and path MTU discovery by probes (RFC 8899, DPLPMTUD), since many
// underlays drop the ICMP messages that classical discovery needs.
//
// A [Tracker] is a state machine without sockets, clocks and goroutines. The caller
// sends what [Tracker.Tick] returns, hands what comes to [Tracker.Receive], and
// says what time it is. A probe is a message of 32 bytes that asks the far side's
// Tracker for an answer, padded to the size of outer packet that is in question.
// In the order in which a way meets them:
//
//	path.go     the desired set of ways
//	recall.go   what an earlier Tracker knew of them
//	lane.go     which one is next, within a limit of probes a second
//	live.go     a small probe now and then: does it work?
//	sizes.go    large ones: what does it take?
//	search.go   which sizes to ask for
//	message.go  what they look like
//	receive.go  requests answered, answers taken
package path

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// Way is one way to a peer.
type Way struct {
	Peer string         // node ID
	Mode string         // how packets are carried, such as "udp" or "direct"
	To   netip.AddrPort // where its datagrams go
}

// Candidate is a way to look after.
type Candidate struct {
	Way
	// Ceiling is the size in bytes of the largest outer IP packet that may pass:
	// the smaller one of the two ends' links. Less than 1280 is taken as 1280.
	Ceiling int
	// Mute says that the peer does not answer probes, since it does not run weft.
	// Its way is taken to work, with the ceiling as its MTU.
	Mute bool
}

// Probe is a datagram to be sent on Way: Message at the front of its payload, and
// zeros behind it, so that the outer IP packet has Size bytes. It must not be
// fragmented.
type Probe struct {
	Way     Way
	Size    int
	Message []byte // MessageLen bytes, the caller's to keep
}

// State is what is known of a way. The zero State is that of a way that is none
// of the candidates.
type State struct {
	Known  bool // there was an answer, or time enough for one
	Works  bool // answers come; false where not Known
	Missed bool // the last small probe had no answer in time
	// Since is when Works took its value: the now of the call of Tick or Receive that
	// changed it, or of Set for a way that is new. The first verdict that a way does
	// not work is no change. One answer makes a dead way work, so who does not want to
	// go to and fro on a lossy one waits until it has worked for a while, and looks
	// again by then: Changed does not tell that time has passed.
	Since time.Time
	RTT   time.Duration // smoothed (RFC 6298 section 2), 0 where none is known
	Loss  float64       // part of the last 32 small probes that had no answer, 0 to 1
	// MTU is the size in bytes of the largest outer IP packet that is known or
	// assumed to pass: the ceiling before there is a verdict. 1280 and not Proven
	// says that 1280 bytes do not pass: outer packets have to be fragmented.
	MTU    int
	Proven bool // MTU was found by probing: it passes, and no more does or may
}

// Tracker looks after ways. It must be used by one goroutine at a time.
type Tracker struct {
	self string
	macs []hash.Hash // HMAC-SHA256, one for each key, reset for each message

	ways    map[Way]*way
	peers   map[string]*peer
	roster  []*peer // in the order of the candidates
	sweepAt time.Time
	busy    int // ways, at the last sweep
	idle    int // the others, without mute ones

	small, large lane              // liveness and sizes
	flights      map[uint64]flight // probes under way, by nonce
	departures   []departure       // the same, in order
	pongs        map[uint64]time.Duration
	recalled     map[Way]State // see Recall

	asked   map[uint64]asked // by marker
	observe func(peer string, marker uint64, now time.Time) Sighting

	answers *rate.Limiter // for all peers
	jitter  *rand.Rand
	changed bool
}

// peer is a node that at least one candidate leads to.
type peer struct {
	id       string
	ways     []*way
	messages *rate.Limiter // that are looked at
	answers  *rate.Limiter
}

// way is what is known of a candidate, and when something is to be done for it.
type way struct {
	Candidate
	peer  *peer
	busy  bool  // at the last sweep
	live  timer // in the small lane
	sizes timer // in the large lane

	known, works bool
	since        time.Time
	srtt         time.Duration
	asked        time.Time // when the last small probe left
	asks         uint64    // how many did
	pending      bool      // no answer to the last one yet
	misses       int       // without any answer, in a row
	lost         uint32    // bit n%32: no answer to the small probe n

	mtu      int
	proven   bool
	judged   bool      // mtu comes from a search, not from the ceiling
	searched bool      // a search up to this ceiling has ended
	search   *search   // nil where none is on
	raiseAt  time.Time // when to see whether more passes
}

// New returns a Tracker for the node with the ID self, without candidates. Nodes that
// probe one another have the same key, or know each other's: see SetKeys.
func New(self string, key [32]byte, now time.Time) *Tracker {
	// Jitter is no secret. It differs from node to node, and a test can repeat it.
	seed := sha256.Sum256([]byte(self))
	t := &Tracker{
		self:    self,
		ways:    map[Way]*way{},
		peers:   map[string]*peer{},
		sweepAt: now,
		small:   lane{limit: rate.NewLimiter(smallRate, smallBurst)},
		large:   lane{limit: rate.NewLimiter(largeRate, largeBurst)},
		flights: map[uint64]flight{},
		pongs:   map[uint64]time.Duration{},
		asked:   map[uint64]asked{},
		answers: rate.NewLimiter(answerRate, answerBurst),
		jitter:  rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:]), uint64(now.UnixNano()))),
	}
	t.SetKeys(key)
	return t
}

// SetKeys makes the first of keys the one that messages are made with, and takes those
// made with any. There is at least one.
func (t *Tracker) SetKeys(keys ...[32]byte) {
	t.macs = make([]hash.Hash, len(keys))
	for i := range keys {
		t.macs[i] = hmac.New(sha256.New, keys[i][:])
	}
}

// Set makes candidates the ways to look after. What is known of a way that stays is
// kept. A way whose ceiling changed is searched anew, and until that has ended the
// MTU is the one that was found, within the ceiling.
func (t *Tracker) Set(candidates []Candidate, now time.Time) {
	before, peers := t.ways, t.peers
	t.ways, t.peers, t.roster = make(map[Way]*way, len(candidates)), map[string]*peer{}, nil
	for _, c := range candidates {
		c.Ceiling = max(c.Ceiling, minMTU)
		if t.ways[c.Way] != nil {
			continue
		}
		w := before[c.Way]
		fresh := w == nil || w.Mute != c.Mute
		if fresh {
			w = &way{Candidate: c, since: now}
		}
		t.enlist(w, peers[c.Peer])
		if fresh {
			t.begin(w, now)
		} else if w.Ceiling != c.Ceiling {
			t.lift(w, c.Ceiling, now)
		}
	}
	for key, w := range before {
		if t.ways[key] != w {
			t.small.stop(&w.live)
			t.large.stop(&w.sizes)
			t.changed = true
		}
	}
	t.sweepAt = now // who of the newcomers is busy?
}

// enlist adds w to the ways, and to those of its peer, which before may have been
// known already.
func (t *Tracker) enlist(w *way, before *peer) {
	p := t.peers[w.Peer]
	if p == nil {
		if p = before; p == nil {
			p = &peer{
				id:       w.Peer,
				messages: rate.NewLimiter(messageRate, messageBurst),
				answers:  rate.NewLimiter(peerRate, peerBurst),
			}
		}
		p.ways = nil
		t.peers[w.Peer] = p
		t.roster = append(t.roster, p)
	}
	p.ways = append(p.ways, w)
	w.peer = p
	t.ways[w.Way] = w
}

// begin starts to look after a way.
func (t *Tracker) begin(w *way, now time.Time) {
	w.live.way, w.sizes.way = w, w
	w.mtu = w.Ceiling
	t.changed = true
	if w.Mute {
		w.known, w.works = true, true
		return
	}
	t.recall(w)
	t.small.set(&w.live, now.Add(t.upTo(hurry)))
}

// upTo is a random part of d, so that what begins together does not stay together.
func (t *Tracker) upTo(d time.Duration) time.Duration {
	return time.Duration(t.jitter.Int64N(int64(d)))
}

// State returns what is known of w.
func (t *Tracker) State(w Way) State {
	k := t.ways[w]
	if k == nil {
		return State{}
	}
	s := State{Known: k.known, Works: k.works, Missed: k.misses > 0, Since: k.since, RTT: k.srtt, MTU: k.mtu, Proven: k.proven}
	if n := min(k.asks, lossWindow); n > 0 {
		s.Loss = float64(bits.OnesCount32(k.lost)) / float64(n)
	}
	return s
}

// Changed says whether Known, Works, MTU or Proven of any way changed since the
// last call, or the ways themselves.
func (t *Tracker) Changed() bool {
	changed := t.changed
	t.changed = false
	return changed
}
