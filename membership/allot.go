package membership

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"time"
)

// Allot keeps this node in a block of each family of the pod network: it claims one
// tentatively, gives way where another was there before, holds it once nobody was for
// long enough, and takes another where a held one was lost. It is a state machine
// without a clock or goroutines; one goroutine uses it.
type Allot struct {
	store   *Store
	lengths map[bool]int // by "is IPv4": bits of a block's prefix
	// announced are the tentative claims that this process has published with others to
	// hear of them.
	announced map[netip.Prefix]announcement
	tries     uint64 // claims that were given up
}

// announcement is how long a tentative claim could be heard of.
type announcement struct {
	first, since time.Time // since: the last node was heard of that had not been before
	members      int
}

// NewAllot returns the allotter of a store's node. A block has bits4 or bits6 of
// prefix, by its family.
func NewAllot(s *Store, bits4, bits6 int) *Allot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allotted = true
	return &Allot{store: s, lengths: map[bool]int{true: bits4, false: bits6}, announced: make(map[netip.Prefix]announcement)}
}

// Surroundings are what Step needs to know beside the store.
type Surroundings struct {
	// Ready says that the node may claim: it is settled and hears others now, or is the first.
	Ready bool
	// Avoid are blocks of nodes that publish no records.
	Avoid []netip.Prefix
	// Used says whether pods are left on a block that was lost, or is one too many. Such a
	// block stays claimed, so that it is known what they have.
	Used func(netip.Prefix) bool
}

// holdDown is for how long a claim among n other nodes is tentative: until everyone
// has heard of it, and a rival's claim had time to come back. Gossip reaches four
// times as many nodes each 200 ms.
func holdDown(n int) time.Duration {
	return 600*time.Millisecond + 200*time.Millisecond*time.Duration(bits.Len(uint(n)))
}

// growth is for how long a claim waits, at the most, while further nodes are heard of: where
// hundreds start at once, a rival's record is on its way for longer than from a newcomer.
const growth = 10 * time.Second

// retry is after how long claims that could not be written to disk are tried again.
const retry = time.Second

// Step brings the claims one step on, and says when the next is due; the zero time is
// when the store or the surroundings change. What it claims changes the store, and is
// announced from the next Step on. A *ExhaustedError says that there is no
// free block; what else there is to do is done all the same.
func (a *Allot) Step(now time.Time, s Surroundings) (next time.Time, err error) {
	v := a.store.View(now)
	self := &v.Self
	if self.Version == 0 || self.Left || self.Replaced {
		return time.Time{}, nil
	}
	held, tentative, next := a.review(&v, now, s)
	if s.Ready {
		for _, v4 := range []bool{true, false} {
			if !a.lacks(self, v4, slices.Concat(held, tentative)) {
				continue
			}
			p, lack := a.pick(&v, v4, s.Avoid)
			if lack != nil {
				err = lack
				continue
			}
			tentative = append(tentative, p)
		}
	}
	if failed := a.store.Stake(self.Version, held, tentative); failed != nil {
		return earlier(next, now.Add(retry)), failed
	}
	return next, err
}

// review sorts the present claims into those that are held from here on, among them
// lost ones that are still used, and tentative ones.
func (a *Allot) review(v *View, now time.Time, s Surroundings) (held, tentative []netip.Prefix, next time.Time) {
	announced := a.announced
	a.announced = make(map[netip.Prefix]announcement)
	for _, c := range v.Self.Claims {
		lost := slices.Contains(v.Self.Lost, c.Prefix)
		switch {
		case !within(a.store.terms.Networks, c.Prefix), !v.Self.Cert.covers(c.Prefix):
		case lost && s.Used(c.Prefix):
			if c.Tentative { // since it was claimed anew
				tentative = append(tentative, c.Prefix)
			} else {
				held = append(held, c.Prefix)
			}
		case lost:
			a.tries++
		case !c.Tentative:
			held = append(held, c.Prefix)
		case !s.Ready: // nobody hears of it: the hold-down begins when somebody does
			tentative = append(tentative, c.Prefix)
		default:
			said, ok := announced[c.Prefix]
			if !ok {
				said = announcement{first: now, since: now, members: len(v.Members)}
			}
			if len(v.Members) > said.members && now.Sub(said.first) < growth {
				said.since, said.members = now, len(v.Members)
			}
			due := said.since.Add(holdDown(len(v.Members)))
			if !now.Before(due) {
				held = append(held, c.Prefix)
				continue
			}
			a.announced[c.Prefix] = said
			tentative = append(tentative, c.Prefix)
			next = earlier(next, due)
		}
	}
	held, tentative = spared(held, tentative, v.Self.Lost, s.Used)
	return held, tentative, next
}

// spared returns claims without what is more than one block of a family: where a block
// that was lost is the node's again. A held one goes when no pod is left on it.
func spared(held, tentative, lost []netip.Prefix, used func(netip.Prefix) bool) (kept, pending []netip.Prefix) {
	has := make(map[bool]int) // blocks that are held and not lost, by "is IPv4"
	for _, p := range held {
		if !slices.Contains(lost, p) {
			has[p.Addr().Is4()]++
		}
	}
	for _, p := range held {
		v4 := p.Addr().Is4()
		if has[v4] > 1 && !slices.Contains(lost, p) && !used(p) {
			has[v4]--
			continue
		}
		kept = append(kept, p)
	}
	for _, p := range tentative {
		if has[p.Addr().Is4()] == 0 || slices.Contains(lost, p) {
			pending = append(pending, p)
		}
	}
	return kept, pending
}

// lacks says whether the node needs a block of a family, beside those that it has: one that
// its certificate does not name it cannot need.
func (a *Allot) lacks(self *Member, v4 bool, has []netip.Prefix) bool {
	serves := func(p netip.Prefix) bool { return p.Addr().Is4() == v4 && !slices.Contains(self.Lost, p) }
	return len(a.ranges(self, v4)) > 0 && !slices.ContainsFunc(has, serves)
}

// pick finds a free block: the one that this machine had before it was installed
// anew, or else the first from a place on that depends on the node and on how often
// it gave way, so that nodes which start at once seldom meet.
func (a *Allot) pick(v *View, v4 bool, avoid []netip.Prefix) (netip.Prefix, error) {
	taken := slices.Concat(avoid, v.Self.Lost)
	var former []netip.Prefix
	for i := range v.Members {
		m := &v.Members[i]
		_, ours := m.shares(&v.Self.Record)
		switch m.State {
		case StateLeft:
		case StateRefused: // it may be about to have another
			taken = append(taken, m.Pending...)
		case StateReplaced:
			for _, c := range m.Claims {
				if ours {
					former = append(former, c.Prefix)
				}
			}
		default:
			for _, c := range m.Claims {
				taken = append(taken, c.Prefix)
			}
		}
	}
	length := a.lengths[v4]
	var spaces []space
	for _, n := range a.ranges(&v.Self, v4) {
		if n.Bits() <= length {
			spaces = append(spaces, newSpace(n, length, taken))
		}
	}
	for _, s := range spaces {
		for _, p := range former {
			if p.Bits() == length && s.free(p) {
				return p, nil
			}
		}
	}
	for i, s := range spaces {
		if n, ok := s.next(a.place(i)); ok {
			return s.block(n), nil
		}
	}
	return netip.Prefix{}, exhausted(v, spaces, length)
}

// ranges are where blocks of a family may be: the pod network's prefixes, or what the
// node's certificate leaves of them.
func (a *Allot) ranges(self *Member, v4 bool) []netip.Prefix {
	var all []netip.Prefix
	for _, n := range a.store.terms.Networks {
		if n.Addr().Is4() != v4 {
			continue
		}
		if self.Cert == nil || len(self.Cert.CIDRs) == 0 {
			all = append(all, n)
			continue
		}
		for _, c := range self.Cert.CIDRs {
			switch {
			case !n.Overlaps(c):
			case n.Bits() > c.Bits():
				all = append(all, n)
			default:
				all = append(all, c)
			}
		}
	}
	return all
}

// place is where the search in the i-th range begins.
func (a *Allot) place(i int) uint64 {
	b := slices.Concat(a.store.identity.ID[:], binary.BigEndian.AppendUint64(nil, a.tries), []byte{byte(i)})
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}
