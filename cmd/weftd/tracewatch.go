package main

import (
	"encoding/binary"
	"hash/fnv"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/path"
)

const (
	// watchFor is how long a node looks for a peer's marker, and maxWatches for how many at once: one of each
	// peer, and never so many that there are no taps left for captures.
	watchFor   = 3 * time.Second
	maxWatches = 2

	// markerMagic begins the payload of a probe, so that a pod's own data is none by chance.
	markerMagic = 0x776566742d747263 // "weft-trc"
)

// markerBytes is the payload of a probe with that marker.
func markerBytes(marker uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, markerMagic), marker)
}

// watches is what this node looks for on behalf of peers that trace a packet to here. The prober owns
// it, and locks it.
type watches struct {
	engine *dataplane.Engine
	host   *host.Host
	tun    string
	all    map[uint64]*watch // by marker
}

type watch struct {
	peer  string
	tap   *dataplane.Tap
	until time.Time
	seen  path.Sighting
}

// observe says what was seen of a marker, and begins to look for it where that is new.
func (w *watches) observe(peer string, marker uint64, now time.Time) path.Sighting {
	w.expire(now)
	if found := w.all[marker]; found != nil && found.peer == peer {
		w.look(found)
		return found.seen
	}
	for _, other := range w.all {
		if other.peer == peer || len(w.all) == maxWatches {
			return 0
		}
	}
	tap, err := w.engine.Tap(dataplane.TapConfig{Filter: dataplane.Filter{Marker: markerBytes(marker)}})
	if err != nil {
		return 0
	}
	w.all[marker] = &watch{peer: peer, tap: tap, until: now.Add(watchFor), seen: path.Watching}
	return path.Watching
}

// look enters what the tap has.
func (w *watches) look(x *watch) {
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
			if way, err := w.host.Way(c.Dst); err == nil && way.Interface != w.tun {
				x.seen |= path.Routed
			}
		}
		return nil
	})
}

// expire ends what is over.
func (w *watches) expire(now time.Time) {
	for marker, x := range w.all {
		if now.After(x.until) {
			x.tap.Close()
			delete(w.all, marker)
		}
	}
}

// close ends all.
func (w *watches) close() {
	for _, x := range w.all {
		x.tap.Close()
	}
	clear(w.all)
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
