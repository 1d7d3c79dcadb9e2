package firewall

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// compare evaluates a comparison with what was loaded.
func (p *probe) compare(r register, x *expr.Cmp) certainty {
	var equal certainty
	switch r.holds {
	case inName:
		equal = p.interfaceIs(p.in, x.Data)
	case outName:
		equal = p.interfaceIs(p.out, x.Data)
	case inIndex:
		equal = p.interfaceIs(p.in, nameOfIndex(x.Data))
	case outIndex:
		equal = p.interfaceIs(p.out, nameOfIndex(x.Data))
	case source:
		equal = p.addressIs(p.src, x.Data, r.mask)
	case destination:
		equal = p.addressIs(p.dst, x.Data, r.mask)
	case protocol:
		equal = p.protocolIs(x.Data)
	case nfproto:
		equal = known(len(x.Data) > 0 && x.Data[0] == p.family.nfproto)
	case port:
		equal = p.portIs(x.Data)
	case state:
		equal = p.stateIs(x.Data, r.mask)
	default:
		return maybe
	}
	switch x.Op {
	case expr.CmpOpEq:
		return equal
	case expr.CmpOpNeq:
		return equal.not()
	default:
		return maybe
	}
}

// interfaceIs compares with a name that ends with a zero octet, or with the beginning of one, which does not.
func (p *probe) interfaceIs(of string, data []byte) certainty {
	name := strings.TrimRight(string(data), "\x00")
	whole := len(name) < len(data) || len(data) == unix.IFNAMSIZ
	switch {
	case of == podInterface:
		if whole && !p.ofPods(name) {
			return never
		}
		return maybe
	case whole:
		return known(of == name)
	default:
		return known(of != "" && strings.HasPrefix(of, name))
	}
}

// nameOfIndex is a name as the kernel writes it, empty for an interface that is not there.
func nameOfIndex(data []byte) []byte {
	if len(data) != 4 {
		return []byte{0}
	}
	i, err := net.InterfaceByIndex(int(binary.NativeEndian.Uint32(data)))
	if err != nil {
		return []byte{0}
	}
	return append([]byte(i.Name), 0)
}

func (p *probe) addressIs(within []netip.Prefix, data, mask []byte) certainty {
	bits, hole := 0, false
	for _, b := range mask {
		for bit := byte(0x80); bit != 0; bit >>= 1 {
			switch {
			case b&bit == 0:
				hole = true
			case hole: // not a prefix
				return maybe
			default:
				bits++
			}
		}
	}
	full := make([]byte, p.family.bits/8)
	if len(data) > len(full) || bits > p.family.bits {
		return maybe
	}
	copy(full, data)
	addr, _ := netip.AddrFromSlice(full)
	compared := netip.PrefixFrom(addr, bits)
	if compared != compared.Masked() {
		return never // bits that the mask took away
	}
	return inside(within, compared)
}

// inside says whether an address that lies somewhere in within lies in p.
func inside(within []netip.Prefix, p netip.Prefix) certainty {
	if within == nil {
		return maybe
	}
	all, some := true, false
	for _, w := range within {
		all = all && p.Bits() <= w.Bits() && p.Overlaps(w)
		some = some || p.Overlaps(w)
	}
	switch {
	case all:
		return always
	case some:
		return maybe
	default:
		return never
	}
}

func (p *probe) protocolIs(data []byte) certainty {
	if p.proto == 0 || len(data) == 0 {
		return maybe
	}
	return known(data[0] == p.proto)
}

func (p *probe) portIs(data []byte) certainty {
	if p.port == 0 || len(data) != 2 {
		return maybe
	}
	return known(binary.BigEndian.Uint16(data) == p.port)
}

// stateIs compares the state, of which there is one bit, or what a mask leaves of it.
func (p *probe) stateIs(data, mask []byte) certainty {
	if len(data) != 4 || len(mask) != 0 && len(mask) != 4 {
		return maybe
	}
	left := p.state
	if len(mask) == 4 {
		left &= binary.NativeEndian.Uint32(mask)
	}
	return known(binary.NativeEndian.Uint32(data) == left)
}

// match knows two of the matches of iptables: comments, and states.
func (p *probe) match(x *expr.Match) certainty {
	switch info := x.Info.(type) {
	case *xt.ConntrackMtinfo3:
		if info.MatchFlags&^uint16(xt.ConntrackStateAlias) == uint16(xt.ConntrackState) {
			bit := uint16(p.state)
			if p.state == stateUntracked {
				bit = xtStateUntracked
			}
			among := known(info.StateMask&bit != 0)
			if info.InvertFlags&uint16(xt.ConntrackState) != 0 {
				return among.not()
			}
			return among
		}
	case *xt.Comment:
		return always
	}
	return maybe
}
