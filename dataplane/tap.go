package dataplane

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/encap"
)

const (
	// maxTaps is how many taps there may be at once. Each costs the workers a copy of
	// what it shows.
	maxTaps = 4

	// tapMemory is what the rings of one tap have together, in bytes, and minSlots the
	// least that each has room for: with 64 KiB of each packet that is more.
	tapMemory = 4 << 20
	minSlots  = 32

	// MaxSnaplen is the most that a tap keeps of a packet, in bytes.
	MaxSnaplen = 65535
)

// ErrTaps says that there are as many taps as there may be.
var ErrTaps = errors.New("as many captures are under way as there may be at once")

// Direction says which way a packet goes.
type Direction uint8

const (
	Out Direction = iota + 1 // from this node's pods to a peer
	In
)

// Layer says which packet it is: the pod's, or the one around it.
type Layer uint8

const (
	Inner Layer = iota + 1
	Outer
)

// TapConfig is what a tap shows.
type TapConfig struct {
	Filter

	// Snaplen is how many bytes of each packet are kept, up to MaxSnaplen.
	Snaplen int

	// Sample shows one in so many of the packets that pass the filter, drawn at random. 0 and 1
	// show all.
	Sample int

	// Ports are this node's data ports. They stand in the outer headers, which the kernel
	// makes and takes off, and which are therefore made up for a tap.
	Ports map[encap.Codec]uint16
}

// Filter selects packets by all of what is set in it.
type Filter struct {
	Direction Direction    // 0 is both
	Layer     Layer        // 0 is both
	Peer      string       // ID
	Pods      []netip.Addr // one of them is the inner source or destination
	Dropped   bool         // what went no further, and nothing else
	Reasons   []Reason     // of that, what did for one of these; none is for any
	Marker    []byte       // occurs within the first markerReach bytes of the inner packet
}

// markerReach covers a probe in an ICMPv6 error: two IPv6 headers, ICMPv6, UDP and a marker.
const markerReach = 128

// Captured is a packet that a tap has seen. A superpacket is one.
type Captured struct {
	Time      time.Time // of its batch
	Direction Direction
	Layer     Layer
	Peer      string // ID of the peer that it goes to or comes from; "" where none is known

	Src, Dst netip.Addr // of the inner packet; invalid where none can be read

	// Dropped says that it went no further, and Reason why. A packet that is dropped is
	// shown once, as what it was by then: inner or outer.
	Dropped bool
	Reason  Reason

	Length      int  // of the whole, in bytes
	Segments    int  // of the wire packets that it stands for
	SegmentSize int  // of a superpacket: payload, or datagram, of each but the last, in bytes; else 0
	Partial     bool // its transport checksum is left to a device or to the far node

	// Data is its first bytes, IP header first; at most as many as the tap keeps. It is
	// empty where nothing could be read.
	Data []byte
}

// Tap shows packets as they pass the engine. It never makes a worker wait: what finds its ring
// full is skipped, and counted. One goroutine at a time may use it.
type Tap struct {
	engine *Engine
	filter filter
	keep   int
	sample uint64
	ports  []uint16 // by codec
	rings  []*ring  // one for each worker
}

// filter is a Filter made ready.
type filter struct {
	Filter
	reasons uint32 // a bit for each; 0 also for what was not dropped
}

const _ = uint(32 - reasons)

func newFilter(f Filter) filter {
	ready := filter{Filter: f}
	for _, r := range f.Reasons {
		ready.reasons |= 1 << r
	}
	if f.Dropped && len(f.Reasons) == 0 {
		ready.reasons = 1<<reasons - 1
	}
	return ready
}

// Tap begins to show what passes, with the next batches. The caller has to Close it. The error is
// ErrTaps where there are too many. Any goroutine may call it.
func (e *Engine) Tap(c TapConfig) (*Tap, error) {
	t := &Tap{engine: e, filter: newFilter(c.Filter), keep: min(max(c.Snaplen, 0), MaxSnaplen), sample: uint64(max(c.Sample, 1))}
	for _, codec := range encap.Codecs() {
		t.ports = append(t.ports, c.Ports[codec])
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var others []*Tap
	if all := e.taps.Load(); all != nil {
		others = *all
	}
	if len(others) >= maxTaps {
		return nil, ErrTaps
	}
	for i := range e.workers {
		t.rings = append(t.rings, newRing(t.keep, tapMemory/len(e.workers), uint64(i)))
	}
	all := append(slices.Clone(others), t)
	e.taps.Store(&all)
	return t, nil
}

// Close ends the tap. What it has seen can still be drained.
func (t *Tap) Close() {
	e := t.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.taps.Load()
	if all == nil {
		return
	}
	rest := slices.DeleteFunc(slices.Clone(*all), func(other *Tap) bool { return other == t })
	if len(rest) == 0 {
		e.taps.Store(nil)
		return
	}
	e.taps.Store(&rest)
}

// Drain calls show with what there is, in the order of time, as far as that is in yet from all
// workers. The packet and its bytes are borrowed until show returns; an error of show ends Drain, which returns it.
func (t *Tap) Drain(show func(*Captured) error) error {
	for {
		var first *Captured
		var from *ring
		for _, r := range t.rings {
			if c := r.peek(); c != nil && (first == nil || c.Time.Before(first.Time)) {
				first, from = c, r
			}
		}
		if first == nil {
			return nil
		}
		err := show(first)
		from.drop()
		if err != nil {
			return err
		}
	}
}

// Skipped is how many packets passed filter and sampling, and found no room.
func (t *Tap) Skipped() (n uint64) {
	for _, r := range t.rings {
		n += r.skipped.Load()
	}
	return n
}

// takes says whether f selects what s describes.
func (f *filter) takes(s *sight) bool {
	switch {
	case f.Direction != 0 && f.Direction != s.Direction,
		f.Layer != 0 && f.Layer != s.Layer,
		f.reasons != 0 && (!s.Dropped || f.reasons&(1<<s.Reason) == 0),
		f.Peer != "" && f.Peer != s.Peer:
		return false
	case len(f.Pods) > 0 && !slices.Contains(f.Pods, s.Src) && !slices.Contains(f.Pods, s.Dst):
		return false
	}
	return len(f.Marker) == 0 || bytes.Contains(s.inner[:min(len(s.inner), markerReach)], f.Marker)
}
