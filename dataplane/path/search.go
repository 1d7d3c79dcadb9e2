package path

import (
	"slices"
	"time"
)

// A search is a series of rounds. A round asks several sizes between the largest
// that passed and the smallest that was lost, three times each, and a small probe
// with the last try: sizes without an answer are lost once a probe was answered
// that left with or after the last try, so that neither a way that is slow for a
// while, nor one that is down, shrinks. The first round asks for its largest size
// alone before it asks for all: mostly that is the answer.
//
// Tries are 80 ms apart, or one and a half round trips. 1500 bytes take three rounds
// at the most, 9000 six. A busy way that shrinks is asked within 1 s, falls at the
// end of the first round to the largest size that was answered, and is at its MTU
// within 3 s where a round trip takes 50 ms or less. With a tenth of all probes
// unanswered one size in a thousand is lost by chance, and the MTU once in 10,000
// confirmations. The way is then too small, by a few bytes mostly, until more is
// tried.
const (
	minMTU  = 1280 // RFC 8200 section 5: what every link of IPv6 takes
	tries   = 3
	minStep = 80 * time.Millisecond
	maxStep = 400 * time.Millisecond

	// sweepSizes is how many sizes a round has, maxSweep how many the common ones
	// and the two ends can make.
	sweepSizes = 8
	maxSweep   = 13
)

// search narrows down the largest size that passes: floor does, or is one byte
// below the least that is looked for; top does not, or is one above the largest.
type search struct {
	floor, top int
	began      time.Time

	sizes []int // of this round, ascending, above floor and below top; at least one
	lead  bool  // the first try is for the largest only
	tried int
	last  time.Time // when the last needed try left, zero before
	heard bool      // a probe was answered that left then, or later
}

// newSearch returns a search from low to high, beginning with high alone.
func newSearch(low, high int, began time.Time) *search {
	s := &search{floor: low - 1, top: high + 1, began: began}
	s.round()
	s.lead = true
	return s
}

// over says whether there is nothing left to ask.
func (s *search) over() bool { return s.floor+1 == s.top }

// round begins the next round of a search that is not over.
func (s *search) round() {
	s.sizes, s.lead = sweep(s.floor, s.top), false
	s.tried, s.last, s.heard = 0, time.Time{}, false
}

// needed is the number of tries after which all sizes were tried often enough.
func (s *search) needed() int {
	if s.lead {
		return tries + 1
	}
	return tries
}

// next returns the sizes to ask for in the next try.
func (s *search) next() []int {
	sizes := slices.Clone(s.sizes)
	if s.lead && s.tried == 0 {
		sizes = sizes[len(sizes)-1:]
	}
	if s.tried+1 >= s.needed() {
		sizes = append(sizes, smallSize)
	}
	return sizes
}

// sent enters that they left, and returns how long to wait for answers: one and a
// half round trips, and twice as long after each try that was not needed.
func (s *search) sent(now time.Time, rtt time.Duration) time.Duration {
	s.tried++
	if s.tried == s.needed() {
		s.last = now
	}
	const doublings = 3
	extra := min(max(s.tried-s.needed(), 0), doublings)
	return min(max(rtt*3/2, minStep), maxStep) << extra
}

// pass enters an answer. It says whether that leads to the next round at once.
func (s *search) pass(size int, left time.Time, ceiling int) (next bool) {
	if !s.last.IsZero() && !left.Before(s.last) {
		s.heard = true
	}
	if size <= s.floor {
		return false
	}
	s.floor = size
	if size >= s.top { // lost by chance, or the way takes more than it did
		s.top = ceiling + 1
		s.sizes = nil
	}
	s.sizes = slices.DeleteFunc(s.sizes, func(other int) bool { return other <= size })
	if len(s.sizes) > 0 || s.over() {
		return false
	}
	s.round()
	return true
}

// decided says whether the sizes of this round that had no answer are lost.
func (s *search) decided() bool { return s.tried >= s.needed() && s.heard }

// sweep returns the sizes between floor and top, both excluded, to ask for at once:
// the two ends, what is common on networks and behind tunnels, and then halves of
// the largest gap.
func sweep(floor, top int) []int {
	common := [...]int{
		minMTU,
		1400, // clouds' and users' round figure
		1420, // WireGuard over IPv6
		1450, // VXLAN
		1460, // Google Cloud
		1480, // IPIP, 6in4
		1492, // PPPoE
		1500, // Ethernet
		8896, // Google Cloud, jumbo
		8950, // VXLAN in jumbo frames
		9000, // jumbo frames
	}
	sizes := []int{floor + 1, top - 1}
	for _, size := range common {
		if floor < size && size < top {
			sizes = append(sizes, size)
		}
	}
	slices.Sort(sizes)
	sizes = slices.Compact(sizes)
	for len(sizes) < sweepSizes {
		at, gap := 0, 1
		for i := 1; i < len(sizes); i++ {
			if g := sizes[i] - sizes[i-1]; g > gap {
				at, gap = i, g
			}
		}
		if gap == 1 {
			break
		}
		sizes = slices.Insert(sizes, at, sizes[at-1]+gap/2)
	}
	return sizes
}
