package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Usable returns how many addresses of block pods can have: all but the network address, which the node's TUN has and
// which is IPv6's subnet-router anycast (RFC 4291, 2.6.1), the one after it, which is the gateway, and the last one of
// an IPv4 block, its broadcast. So an IPv4 block of /31 or /32 has none, nor an IPv6 block of /127 or /128. What does
// not fit is math.MaxUint64.
func Usable(block netip.Prefix) uint64 {
	host := block.Addr().BitLen() - block.Bits()
	if host >= 64 {
		return math.MaxUint64
	}
	all, reserved := uint64(1)<<host, uint64(2)
	if block.Addr().Is4() {
		reserved = 3
	}
	return all - min(all, reserved)
}

// usable returns the range that Usable counts, both ends included, of a masked block.
func usable(block netip.Prefix) (first, last netip.Addr, ok bool) {
	first, last = block.Addr().Next().Next(), lastOf(block)
	if last.Is4() {
		last = last.Prev()
	}
	return first, last, Usable(block) > 0
}

func lastOf(block netip.Prefix) netip.Addr {
	bytes := block.Addr().AsSlice()
	for bit := block.Bits(); bit < 8*len(bytes); bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

// role says what an address is that pods cannot have, "" for the others.
func role(block netip.Prefix, a netip.Addr) string {
	switch {
	case a == block.Addr():
		return "network address"
	case a == block.Addr().Next():
		return "gateway"
	case a.Is4() && a == lastOf(block):
		return "broadcast address"
	}
	return ""
}

// picker picks addresses that nobody holds.
type picker struct {
	held  map[netip.Addr]Key
	last  hints            // changed by what is picked
	label func(Key) string // for messages: who that is
}

// pick returns an address of each family that r.Blocks has, IPv4 first, and the blocks they are of: the wanted one, or
// the next after the block's last.
func (p *picker) pick(r Request) (blocks []netip.Prefix, addresses []netip.Addr, err error) {
	wanted, err := r.wanted()
	if err != nil {
		return nil, nil, err
	}
	for _, is4 := range []bool{true, false} {
		of := r.family(is4)
		if len(of) == 0 {
			continue
		}
		block, a := netip.Prefix{}, wanted[is4]
		if a.IsValid() {
			block, err = p.admit(of, a)
		} else {
			block, a, err = p.next(of)
		}
		if err != nil {
			return nil, nil, err
		}
		blocks, addresses = append(blocks, block), append(addresses, a)
	}
	if len(addresses) == 0 {
		return nil, nil, fmt.Errorf("%w: this node has no block", ErrExhausted)
	}
	return blocks, addresses, nil
}

// wanted has one address for IPv4 (true) and one for IPv6 at most, each of a family that there are blocks of.
func (r Request) wanted() (map[bool]netip.Addr, error) {
	wanted := make(map[bool]netip.Addr)
	for _, a := range r.Wanted {
		a = a.Unmap()
		if other := wanted[a.Is4()]; other.IsValid() && other != a {
			return nil, fmt.Errorf("%w: %s and %s", ErrTooMany, other, a)
		}
		if len(r.family(a.Is4())) == 0 {
			return nil, fmt.Errorf("%s %w: %s", a, ErrOutside, join(r.Blocks))
		}
		wanted[a.Is4()] = a
	}
	return wanted, nil
}

func (r Request) family(is4 bool) []netip.Prefix {
	var of []netip.Prefix
	for _, b := range r.Blocks {
		if b.IsValid() && b.Addr().Is4() == is4 {
			of = append(of, b.Masked())
		}
	}
	return of
}

// admit returns the block of an address that was asked for, or why it cannot be had.
func (p *picker) admit(blocks []netip.Prefix, a netip.Addr) (netip.Prefix, error) {
	i := slices.IndexFunc(blocks, func(b netip.Prefix) bool { return b.Contains(a) })
	if i < 0 {
		return netip.Prefix{}, fmt.Errorf("%s %w: %s", a, ErrOutside, join(blocks))
	}
	if role := role(blocks[i], a); role != "" {
		return netip.Prefix{}, fmt.Errorf("%s %w: it is the %s of %s", a, ErrReserved, role, blocks[i])
	}
	if by, held := p.held[a]; held {
		return netip.Prefix{}, fmt.Errorf("%s %w by %s", a, ErrTaken, p.label(by))
	}
	return blocks[i], nil
}

// next returns a free address of the first block that has one.
func (p *picker) next(blocks []netip.Prefix) (netip.Prefix, netip.Addr, error) {
	for _, b := range blocks {
		from, known := p.last[b]
		if !known {
			from = p.highest(b)
		}
		if a, ok := p.after(b, from); ok {
			p.last[b] = a
			return b, a, nil
		}
	}
	return netip.Prefix{}, netip.Addr{}, p.exhausted(blocks)
}

// after returns the first free address of block after from, which may be any address, going round at the end. It looks
// at one address more than are held, however large the block is.
func (p *picker) after(block netip.Prefix, from netip.Addr) (netip.Addr, bool) {
	first, last, ok := usable(block)
	if !ok {
		return netip.Addr{}, false
	}
	a := from
	for range len(p.held) + 1 {
		if a.Less(first) || !a.Less(last) {
			a = first
		} else {
			a = a.Next()
		}
		if _, held := p.held[a]; !held {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// highest returns the highest address held of block, from where to go on when the last one picked is not known.
func (p *picker) highest(block netip.Prefix) netip.Addr {
	var highest netip.Addr
	for a := range p.held {
		if block.Contains(a) && highest.Less(a) {
			highest = a
		}
	}
	return highest
}

func (p *picker) exhausted(blocks []netip.Prefix) error {
	var counts []string
	for _, b := range blocks {
		first, last, _ := usable(b)
		held := 0
		for a := range p.held {
			if b.Contains(a) && !a.Less(first) && !last.Less(a) {
				held++
			}
		}
		counts = append(counts, fmt.Sprintf("%d of %d in use in %s", held, Usable(b), b))
	}
	return fmt.Errorf("%w: %s; `weft ipam gc` frees those of pods that are gone", ErrExhausted, strings.Join(counts, ", "))
}

func join(blocks []netip.Prefix) string {
	if len(blocks) == 0 {
		return "it has none"
	}
	var text []string
	for _, b := range blocks {
		text = append(text, b.String())
	}
	return strings.Join(text, ", ")
}
