package dataplane

import "sync/atomic"

// ring holds what one worker shows to one tap until its reader takes it. The worker
// alone writes, one reader reads; neither waits for the other.
type ring struct {
	slots []Captured
	keep  int // bytes of each packet
	room  []byte

	// Beside the worker's: what it has written, and could not; and the state of its draws.
	written atomic.Uint64
	skipped atomic.Uint64
	random  uint64

	_    [64]byte // the reader's is in another cache line
	read atomic.Uint64
}

// slotSize is about what a slot takes beside the packet's bytes.
const slotSize = 128

// newRing is of so many bytes, and keeps so many of each packet.
func newRing(keep, memory int, seed uint64) *ring {
	n := max(minSlots, memory/(keep+slotSize))
	return &ring{slots: make([]Captured, n), keep: keep, room: make([]byte, n*keep), random: seed + 1}
}

// draw says whether this packet is the one of n that is shown. A count in turn would keep
// step with what alternates, as inner and outer do. (Marsaglia, Xorshift RNGs, 2003.)
func (r *ring) draw(n uint64) bool {
	if n == 1 {
		return true
	}
	r.random ^= r.random << 13
	r.random ^= r.random >> 7
	r.random ^= r.random << 17
	return r.random%n == 0
}

// put copies s, and of its bytes, header and then pieces, as many as are kept.
func (r *ring) put(s *sight, header []byte, pieces [][]byte) {
	written := r.written.Load()
	if written-r.read.Load() == uint64(len(r.slots)) {
		r.skipped.Add(1)
		return
	}
	i := int(written % uint64(len(r.slots)))
	to := r.room[i*r.keep:][:r.keep]
	n := copy(to, header)
	for _, p := range pieces {
		n += copy(to[n:], p)
	}
	r.slots[i] = s.Captured
	r.slots[i].Data = to[:n:n]
	r.written.Store(written + 1)
}

// peek is the oldest packet there, until drop; or nil.
func (r *ring) peek() *Captured {
	read := r.read.Load()
	if read == r.written.Load() {
		return nil
	}
	return &r.slots[read%uint64(len(r.slots))]
}

// drop gives the worker back what peek returned.
func (r *ring) drop() { r.read.Add(1) }
