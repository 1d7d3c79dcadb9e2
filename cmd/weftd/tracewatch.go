package main

import (
	"hash/fnv"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/path"
)

const (
	// watchFor is how long after a peer's last question a node looks for its marker, and maxWatches for how many at
	// once: one of each peer, and never so many that there are no taps left for captures.
	watchFor   = time.Second
	maxWatches = 2

	// turnAfter is how long after that its next marker takes the place of one: more than some questions lost.
	turnAfter = 3 * askInterval
)

// watches is what this node looks for on behalf of peers that trace a packet to here. The prober owns
// it, and locks it.
type watches struct {
	engine   *dataplane.Engine
	host     *host.Host
	tun      string
	underlay string            // interface
	all      map[uint64]*watch // by marker
}

type watch struct {
	peer    string
	tap     *dataplane.Tap
	sniffer *sniffer
	asked   time.Time // last
	seen    path.Sighting
}

// observe says what was seen of a marker, and begins to look for it where that is new.
func (w *watches) observe(peer string, marker uint64, now time.Time) path.Sighting {
	if found := w.all[marker]; found != nil && found.peer == peer {
		found.asked = now
		found.look()
		found.sniffer.drain(func(s sniffed) { found.seen |= w.sight(&s) })
		return found.seen
	}
	w.expire(now, peer)
	for _, other := range w.all {
		if other.peer == peer || len(w.all) == maxWatches {
			return 0
		}
	}
	tap, err := w.engine.Tap(dataplane.TapConfig{Filter: dataplane.Filter{Marker: markerBytes(marker)}})
	if err != nil {
		return 0
	}
	sniffer, err := openSniffer(markerBytes(marker))
	if err != nil {
		tap.Close()
		return 0
	}
	begun := &watch{peer: peer, tap: tap, sniffer: sniffer, asked: now, seen: path.Watching | path.Sniffing}
	w.all[marker] = begun
	return begun.seen
}

// look enters what the tap has.
func (x *watch) look() {
	_ = x.tap.Drain(func(c *dataplane.Captured) error {
		switch {
		case c.Direction == dataplane.Out:
			if c.Layer == dataplane.Outer && !c.Dropped {
				x.seen |= path.Answered
			}
		case c.Peer != x.peer:
		case c.Dropped:
			x.seen = (x.seen | path.Arrived).With(reasonCode(c.Reason))
		case c.Layer == dataplane.Outer:
			x.seen |= path.Arrived
		default:
			x.seen |= path.Delivered
		}
		return nil
	})
}

// sight is what a packet at a device tells.
func (w *watches) sight(s *sniffed) (seen path.Sighting) {
	switch {
	case !s.probe && s.out && s.device == w.underlay:
		return path.Answered
	case !s.probe:
		return 0
	case s.out:
		if s.device != w.tun && s.device != w.underlay {
			return path.Forwarded
		}
		return 0
	}
	if s.device != w.tun { // by the underlay, or by a port of it that shows it first
		seen = path.Arrived
	}
	if way, err := w.host.Way(s.to); err == nil && way.Interface != w.tun {
		seen |= path.Routed
		if way.Interface == "lo" {
			seen |= path.Forwarded
		}
	}
	return seen
}

// expire ends what is over; next is a peer that asks about another marker, "" for none.
func (w *watches) expire(now time.Time, next string) {
	for marker, x := range w.all {
		if idle := now.Sub(x.asked); idle > watchFor || idle > turnAfter && x.peer == next {
			x.close()
			delete(w.all, marker)
		}
	}
}

// close ends all.
func (w *watches) close() {
	for _, x := range w.all {
		x.close()
	}
	clear(w.all)
}

func (x *watch) close() {
	x.tap.Close()
	x.sniffer.close()
}

// reasonCode is what two nodes, perhaps of different versions, agree to call a reason: 16 bits of a hash of its name.
func reasonCode(r dataplane.Reason) uint16 {
	h := fnv.New32a()
	h.Write([]byte(r.String()))
	return uint16(h.Sum32())
}

// reasonNamed is the reason with that code; ok is false where this version has none.
func reasonNamed(code uint16) (r dataplane.Reason, ok bool) {
	for _, r := range dataplane.Reasons() {
		if reasonCode(r) == code {
			return r, true
		}
	}
	return 0, false
}
