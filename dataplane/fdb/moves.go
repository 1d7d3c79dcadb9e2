package fdb

import (
	"bytes"
	"slices"
	"sync"

	"github.com/weft-net/weft/dataplane/packet"
)

// A MAC that moves so often is at two nodes at once: RFC 7432 section 15.1, whose N is 5
// too, and whose M is 180 s. A machine that is moved to and fro does not do so in 30 s.
const (
	movesOfDuplicate = 5
	movesWithin      = 30 // seconds
	duplicateHolds   = 60 // seconds after the last move
	mostMoving       = 256
)

// Moves finds MACs that are at two nodes at once. The zero value is ready for use.
type Moves struct {
	mu     sync.Mutex
	moving *recent[packet.MAC, moves]
}

// moves is those of one MAC, since it was at rest for duplicateHolds.
type moves struct {
	between   [2]Owner
	count     int
	times     [movesOfDuplicate]uint32 // of the last ones; move n at n % len
	duplicate bool
}

// Note enters that mac, which was from's, is to's. Where another goroutine is at it, the move is
// not counted: who moves to and fro comes again.
func (m *Moves) Note(mac packet.MAC, from, to Owner, now uint32) {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	if m.moving == nil {
		m.moving = newRecent[packet.MAC, moves](mostMoving)
	}
	v := &m.moving.touch(mac, now, duplicateHolds).value
	v.between = [2]Owner{min(from, to), max(from, to)}
	v.times[v.count%movesOfDuplicate] = now
	v.count++
	oldest := v.times[v.count%movesOfDuplicate]
	if v.count >= movesOfDuplicate && age(oldest, now) <= movesWithin {
		v.duplicate = true
	}
}

// Duplicate is a MAC that is at two nodes.
type Duplicate struct {
	MAC     packet.MAC
	Between [2]Owner // of the last move, the lower one first
	Moves   int      // since it moved for the first time, or after 60 s of rest
	Last    uint32   // when it moved last
}

// Duplicates is all MACs that have moved 5 times within 30 s, sorted. One that has not moved
// for 60 s is none.
func (m *Moves) Duplicates(now uint32) []Duplicate {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moving == nil {
		return nil
	}
	var all []Duplicate
	m.moving.all(now, duplicateHolds, func(i *item[packet.MAC, moves]) {
		if i.value.duplicate {
			all = append(all, Duplicate{MAC: i.key, Between: i.value.between, Moves: i.value.count, Last: i.last})
		}
	})
	slices.SortFunc(all, func(a, b Duplicate) int { return bytes.Compare(a.MAC[:], b.MAC[:]) })
	return all
}
