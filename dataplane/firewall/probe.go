package firewall

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A probe is a kind of packet that is asked about: the first of a connection.
type probe struct {
	what     string // who sends to whom, for people
	family   *family
	in, out  string         // interfaces; podInterface for that of any pod here, "" for none
	src, dst []netip.Prefix // where the addresses lie, nil for anywhere
	proto    byte           // 0 for any
	port     uint16         // destination
	state    uint32         // bit of the state that connection tracking gives it: NF_CT_STATE_BIT
	// ofPods says whether an interface may be a pod's, for probes with podInterface.
	ofPods func(name string) bool
}

const (
	podInterface = "\x00pod" // no name of an interface

	// linux/netfilter/nf_conntrack_common.h: NF_CT_STATE_BIT(IP_CT_NEW), NF_CT_STATE_UNTRACKED_BIT. iptables has the
	// same bits but for the last (XT_CONNTRACK_STATE_UNTRACKED, linux/netfilter/xt_conntrack.h).
	stateNew         = 1 << 3
	stateUntracked   = 1 << 6
	xtStateUntracked = 1 << 8
)

// certainty is whether a condition holds for every packet of a probe, for none, or for some as far as is known.
type certainty int

const (
	never certainty = iota
	maybe
	always
)

func known(holds bool) certainty {
	if holds {
		return always
	}
	return never
}

func (c certainty) not() certainty { return always - c }

// outcome is what a rule does with the packets it matches.
type outcome int

const (
	goesOn outcome = iota
	accepts
	drops
	jumps
	returns
)

// effect of a rule on a probe. chain is where it jumps to; leaves says that it does not come back (goto).
type effect struct {
	matches certainty
	does    outcome
	chain   string
	leaves  bool
}

// register is what an expression has loaded: an attribute of the packet, of which a mask may have been taken.
type register struct {
	holds attribute
	mask  []byte
}

type attribute int

const (
	unknown attribute = iota
	inName
	outName
	inIndex
	outIndex
	source
	destination
	protocol
	nfproto
	port
	state
)

// effectOf evaluates the expressions of one rule.
func (p *probe) effectOf(exprs []expr.Any) effect {
	e := effect{matches: always}
	regs := make(map[uint32]register)
	holds := func(c certainty) { e.matches = min(e.matches, c) }
	for _, x := range exprs {
		switch x := x.(type) {
		case *expr.Meta:
			if !x.SourceRegister {
				regs[x.Register] = register{holds: metaAttribute(x.Key)}
			}
		case *expr.Payload:
			regs[x.DestRegister] = p.payload(x)
		case *expr.Ct:
			regs[x.Register] = register{holds: ctAttribute(x.Key)}
		case *expr.Bitwise:
			r := regs[x.SourceRegister]
			r.mask = x.Mask
			if slices.ContainsFunc(x.Xor, func(b byte) bool { return b != 0 }) {
				r = register{}
			}
			regs[x.DestRegister] = r
		case *expr.Fib:
			regs[x.Register] = register{}
		case *expr.Cmp:
			holds(p.compare(regs[x.Register], x))
		case *expr.Match:
			holds(p.match(x))
		case *expr.Lookup:
			holds(maybe)
			if x.IsDestRegSet && x.DestRegister == unix.NFT_REG_VERDICT { // a map of verdicts
				e.does = accepts
			}
		case *expr.Range, *expr.Limit, *expr.Quota, *expr.Connlimit, *expr.Dynset, *expr.Exthdr:
			holds(maybe)
		case *expr.Queue:
			holds(maybe) // a program decides
			e.does = accepts
		case *expr.Reject:
			e.does = drops
		case *expr.Target:
			if x.Name == "REJECT" {
				e.does = drops
			}
		case *expr.Verdict:
			e.decide(x)
		}
	}
	return e
}

func (e *effect) decide(v *expr.Verdict) {
	switch v.Kind {
	case expr.VerdictAccept, expr.VerdictStop:
		e.does = accepts
	case expr.VerdictDrop:
		e.does = drops
	case expr.VerdictReturn:
		e.does = returns
	case expr.VerdictJump, expr.VerdictGoto:
		e.does, e.chain, e.leaves = jumps, v.Chain, v.Kind == expr.VerdictGoto
	}
}

func metaAttribute(key expr.MetaKey) attribute {
	switch key {
	case expr.MetaKeyIIFNAME:
		return inName
	case expr.MetaKeyOIFNAME:
		return outName
	case expr.MetaKeyIIF:
		return inIndex
	case expr.MetaKeyOIF:
		return outIndex
	case expr.MetaKeyL4PROTO:
		return protocol
	case expr.MetaKeyNFPROTO:
		return nfproto
	default:
		return unknown
	}
}

func ctAttribute(key expr.CtKey) attribute {
	if key == expr.CtKeySTATE {
		return state
	}
	return unknown
}

// payload knows the addresses, of which a shorter load is the beginning, and the destination port.
func (p *probe) payload(x *expr.Payload) register {
	switch {
	case x.Base == expr.PayloadBaseNetworkHeader && x.Len <= uint32(p.family.bits/8):
		r := register{mask: slices.Repeat([]byte{0xff}, int(x.Len))}
		switch x.Offset {
		case p.family.src:
			r.holds = source
		case p.family.dst:
			r.holds = destination
		}
		return r
	case x.Base == expr.PayloadBaseTransportHeader && x.Offset == 2 && x.Len == 2:
		return register{holds: port}
	default:
		return register{}
	}
}
