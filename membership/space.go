package membership

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// maxOrder bounds the number of blocks in a space, 2^maxOrder, so that it is a uint64.
const maxOrder = 62

// space is a prefix cut into blocks of one size, numbered from 0.
type space struct {
	within netip.Prefix
	length int    // bits of a block's prefix
	total  uint64 // blocks
	taken  []span // sorted, apart
}

// span is a range of blocks, both ends included.
type span struct{ first, last uint64 }

// newSpace cuts n into blocks with prefixes of length bits, at least n's. Blocks that
// overlap one of taken are not free. Of more than 2^62 blocks the first so many are there.
func newSpace(n netip.Prefix, length int, taken []netip.Prefix) space {
	s := space{within: n, length: length, total: 1 << min(length-n.Bits(), maxOrder)}
	var spans []span
	for _, p := range taken {
		switch {
		case !p.Overlaps(n):
		case p.Bits() <= n.Bits():
			spans = append(spans, span{0, s.total - 1})
		default:
			first := s.number(p.Addr())
			if first >= s.total {
				continue
			}
			more := uint64(1)<<min(max(0, length-p.Bits()), maxOrder) - 1
			spans = append(spans, span{first, min(first+more, s.total-1)})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	for _, sp := range spans {
		if last := len(s.taken) - 1; last >= 0 && sp.first <= s.taken[last].last+1 {
			s.taken[last].last = max(s.taken[last].last, sp.last)
			continue
		}
		s.taken = append(s.taken, sp)
	}
	return s
}

// next is the first free block from number from on, modulo the total, and then from
// the beginning.
func (s *space) next(from uint64) (number uint64, ok bool) {
	from %= s.total
	for _, begin := range []uint64{from, 0} {
		i, inside := slices.BinarySearchFunc(s.taken, begin, func(sp span, n uint64) int {
			switch {
			case sp.last < n:
				return -1
			case sp.first > n:
				return 1
			}
			return 0
		})
		if !inside {
			return begin, true
		}
		if after := s.taken[i].last + 1; after < s.total {
			return after, true // spans that touch are one
		}
	}
	return 0, false
}

// free says whether p is a free block of s.
func (s *space) free(p netip.Prefix) bool {
	if !within([]netip.Prefix{s.within}, p) {
		return false
	}
	n := s.number(p.Addr())
	return n < s.total && !slices.ContainsFunc(s.taken, func(sp span) bool { return sp.first <= n && n <= sp.last })
}

// used is how many blocks are not free.
func (s *space) used() (n uint64) {
	for _, sp := range s.taken {
		n += sp.last - sp.first + 1
	}
	return n
}

// block is the prefix of block number n.
func (s *space) block(n uint64) netip.Prefix {
	a := s.within.Addr()
	width := a.BitLen()
	b := a.As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	shift := width - s.length // of n within the address
	addLo, addHi := uint64(0), uint64(0)
	if shift >= 64 {
		addHi = n << (shift - 64)
	} else {
		addLo, addHi = n<<shift, n>>(64-shift)
	}
	lo, carry := bits.Add64(lo, addLo, 0)
	hi, _ = bits.Add64(hi, addHi, carry)
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	addr := netip.AddrFrom16(b)
	if a.Is4() {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, s.length)
}

// number is the block that a, within s, belongs to; s.total where it is beyond the last.
func (s *space) number(a netip.Addr) uint64 {
	b, base := a.As16(), s.within.Addr().As16()
	lo, borrow := bits.Sub64(binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(base[8:]), 0)
	hi, _ := bits.Sub64(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(base[:8]), borrow)
	switch shift := a.BitLen() - s.length; {
	case shift >= 64:
		lo, hi = hi>>(shift-64), 0
	case shift > 0:
		lo, hi = lo>>shift|hi<<(64-shift), hi>>shift
	}
	if hi != 0 {
		return s.total
	}
	return min(lo, s.total)
}

// ExhaustedError says that there is no free block.
type ExhaustedError struct {
	Ranges []netip.Prefix // of the pod network, where this node may have one
	Length int            // bits of a block's prefix
	Total  uint64         // blocks
	Down   []string       // names of holders that are not alive, sorted
	Up     []string       // and of those that are
}

func exhausted(v *View, spaces []space, length int) error {
	e := &ExhaustedError{Length: length}
	for _, s := range spaces {
		e.Ranges = append(e.Ranges, s.within)
		e.Total += s.total
	}
	for i := range v.Members {
		m := &v.Members[i]
		holds := slices.ContainsFunc(m.Claims, func(c Claim) bool { return slices.ContainsFunc(e.Ranges, c.Prefix.Overlaps) })
		switch {
		case !holds || m.State == StateLeft || m.State == StateReplaced || m.State == StateRefused:
		case m.Alive:
			e.Up = append(e.Up, m.Name)
		default:
			e.Down = append(e.Down, m.Name)
		}
	}
	return e
}

// listedHolders bounds the line.
const listedHolders = 10

// Error says who holds the blocks, the dead first, and the ways out.
func (e *ExhaustedError) Error() string {
	if len(e.Ranges) == 0 {
		return fmt.Sprintf("no block with a prefix of /%d fits into the pod network, or into what this node's certificate names: set a smaller block, a larger podNetwork, or make a certificate with a larger --cidr", e.Length)
	}
	holders := func(what string, names []string) string {
		if len(names) == 0 {
			return ""
		}
		text := strings.Join(names[:min(len(names), listedHolders)], ", ")
		if len(names) > listedHolders {
			text += fmt.Sprintf(" and %d more", len(names)-listedHolders)
		}
		return fmt.Sprintf("; %d %s: %s", len(names), what, text)
	}
	return fmt.Sprintf("all %d blocks of /%d in %s are held%s%s: free a dead node's by `weft forget NODE`, or give a larger podNetwork or smaller blocks",
		e.Total, e.Length, listed(e.Ranges), holders("down", e.Down), holders("up", e.Up))
}
