package fdb

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/weft-net/weft/dataplane/packet"
)

// Owner is who has a MAC. The caller numbers the other nodes, from Local+1 on.
type Owner uint16

const (
	None  Owner = iota // nobody that is known
	Local              // this node
)

const (
	// MaxAge is for how many seconds an entry holds: what Linux and IEEE 802.1Q give to
	// bridges.
	MaxAge = 300
	// shownFor is for how many seconds no announcement displaces what a frame has shown. Gossip
	// may be as late when a machine has moved.
	shownFor = 30
	// onceOlder is how many seconds older than it is an entry counts, where room is needed,
	// that one frame only has shown. Nearly all of a flood of forged MACs are such, and so do not
	// displace stations that are heard of within that time.
	onceOlder = 30
)

// A set takes two cache lines.
const ways = 8

// Table maps MACs to their owners. VLANs share it, as they do that of a Linux VXLAN device.
//
// It is set-associative: a MAC has its place in one set of entries, which a secret hash
// selects, so that nobody can choose the set that he fills. There is no lock: an entry is one
// atomic word that holds MAC and owner, and one beside it that says when it was heard. The two
// are not read at once; who meets an entry that is being replaced may take it for as old as its
// predecessor, which costs one frame a detour.
type Table struct {
	key  [2]uint64
	sets []set
	// adding is for each set whether an entry is being added. One goroutine does so at a time,
	// so that no MAC gets two. Another one does without: its next frame comes.
	adding []atomic.Bool
}

type set [ways]slot

type slot struct {
	// place is the MAC in the upper 48 bits, and the owner; 0 is no entry.
	place atomic.Uint64
	// heard is the time in the lower half, and the flags below in the upper one.
	heard atomic.Uint64
}

const (
	announced = 1 << (32 + iota) // no frame has shown it since
	again                        // frames of two seconds at least have shown it
)

func placed(mac uint64, o Owner) uint64 { return mac<<16 | uint64(o) }

// number is the MAC as a number, in network order.
func number(mac packet.MAC) uint64 {
	return uint64(binary.BigEndian.Uint16(mac[:]))<<32 | uint64(binary.BigEndian.Uint32(mac[2:]))
}

// New makes a Table with room for entries MACs. It has twice as many slots, so that 2 sets in
// 100 are too small for what falls to them, and not 41 (Poisson).
func New(entries int) *Table {
	n := max(1, (2*entries+ways-1)/ways)
	return &Table{key: [2]uint64{rand.Uint64(), rand.Uint64()}, sets: make([]set, n), adding: make([]atomic.Bool, n)}
}

// index is the set of mac: keyed products, folded. One alone leaves what MACs have in common
// visible in its upper bits, which count.
func (t *Table) index(mac uint64) int {
	hi, lo := bits.Mul64(mac^t.key[0], t.key[1]|1)
	hi, lo = bits.Mul64(hi^lo^t.key[1], t.key[0]|1)
	at, _ := bits.Mul64(hi^lo, uint64(len(t.sets)))
	return int(at)
}

// find is the slot of mac, or nil, and what is in its first word.
func (s *set) find(mac uint64) (e *slot, place uint64) {
	for i := range s {
		if place := s[i].place.Load(); place>>16 == mac && place != 0 {
			return &s[i], place
		}
	}
	return nil, 0
}

// Lookup is who has mac: None where nothing has been heard of it for MaxAge seconds.
func (t *Table) Lookup(mac packet.MAC, now uint32) Owner {
	m := number(mac)
	e, place := t.sets[t.index(m)].find(m)
	if e == nil || age(uint32(e.heard.Load()), now) > MaxAge {
		return None
	}
	return Owner(place)
}

// Learn enters what a frame from mac shows: that it is o's, which is not None, from here on.
// was is what Lookup would have said before, thus None where mac is new, and o where
// nothing has changed.
func (t *Table) Learn(mac packet.MAC, o Owner, now uint32) (was Owner) {
	m := number(mac)
	i := t.index(m)
	for {
		e, place := t.sets[i].find(m)
		if e == nil {
			if t.add(i, m, o, uint64(now)) {
				return None
			}
			continue
		}
		heard := e.heard.Load()
		if next := shown(heard, now); next != heard { // once a second at most, as others read that cache line
			e.heard.Store(next) // before the move, which no announcement then undoes
		}
		if Owner(place) != o && !e.place.CompareAndSwap(place, placed(m, o)) {
			continue
		}
		if age(uint32(heard), now) > MaxAge {
			return None
		}
		return Owner(place)
	}
}

// shown is what heard becomes by a frame.
func shown(heard uint64, now uint32) uint64 {
	if uint32(heard) != now {
		return again | uint64(now)
	}
	return heard &^ announced
}

// Announce enters what node o, which is not None, says of itself: that it has mac. It changes
// nothing where a frame has shown within the last 30 s where mac is, as frames are never late.
func (t *Table) Announce(mac packet.MAC, o Owner, now uint32) {
	m := number(mac)
	i := t.index(m)
	for {
		e, place := t.sets[i].find(m)
		if e == nil {
			if t.add(i, m, o, announced|uint64(now)) {
				return
			}
			continue
		}
		heard := e.heard.Load()
		if heard&announced == 0 && age(uint32(heard), now) <= shownFor {
			return
		}
		if e.heard.CompareAndSwap(heard, announced|uint64(now)) && e.place.CompareAndSwap(place, placed(m, o)) {
			return
		}
	}
}

// add gives m a slot of set i. ok is false where m has got one meanwhile.
func (t *Table) add(i int, m uint64, o Owner, heard uint64) (ok bool) {
	if !t.adding[i].CompareAndSwap(false, true) {
		return true
	}
	defer t.adding[i].Store(false)
	s := &t.sets[i]
	if e, _ := s.find(m); e != nil {
		return false
	}
	e := s.oldest(uint32(heard))
	e.place.Store(placed(m, o)) // whatever becomes of the one before meanwhile
	e.heard.Store(heard)
	return true
}

// oldest is a free slot, else that of what was heard of least recently.
func (s *set) oldest(now uint32) *slot {
	best, most := &s[0], int64(-1)
	for i := range s {
		e := &s[i]
		if e.place.Load() == 0 {
			return e
		}
		heard := e.heard.Load()
		a := int64(age(uint32(heard), now))
		if heard&(announced|again) == 0 {
			a += onceOlder
		}
		if a > most {
			best, most = e, a
		}
	}
	return best
}

// Flush removes all that o has. What another goroutine learns of o meanwhile may stay.
func (t *Table) Flush(o Owner) {
	for i := range t.sets {
		for j := range t.sets[i] {
			e := &t.sets[i][j].place
			if place := e.Load(); Owner(place) == o {
				e.CompareAndSwap(place, 0)
			}
		}
	}
}

// Entry is what a Table knows of a MAC.
type Entry struct {
	MAC       packet.MAC
	Owner     Owner
	Age       uint32 // seconds since the last frame or announcement
	Announced bool   // by the owner, and not shown by a frame lately
}

// All is all entries that hold, sorted by MAC. It takes the memory for them.
func (t *Table) All(now uint32) []Entry {
	var all []Entry
	for i := range t.sets {
		for j := range t.sets[i] {
			place, heard := t.sets[i][j].place.Load(), t.sets[i][j].heard.Load()
			entry := Entry{Owner: Owner(place), Age: age(uint32(heard), now), Announced: heard&announced != 0}
			if place == 0 || entry.Age > MaxAge {
				continue
			}
			binary.BigEndian.PutUint16(entry.MAC[:], uint16(place>>48))
			binary.BigEndian.PutUint32(entry.MAC[2:], uint32(place>>16))
			all = append(all, entry)
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return bytes.Compare(a.MAC[:], b.MAC[:]) })
	return all
}

// Len is how many entries hold.
func (t *Table) Len(now uint32) (n int) {
	for i := range t.sets {
		for j := range t.sets[i] {
			e := &t.sets[i][j]
			if e.place.Load() != 0 && age(uint32(e.heard.Load()), now) <= MaxAge {
				n++
			}
		}
	}
	return n
}

// Cap is how many entries there can be.
func (t *Table) Cap() int { return len(t.sets) * ways }
