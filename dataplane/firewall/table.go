package firewall

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	tableName   = "weft"
	tableFamily = nftables.TableFamilyINet

	// Names of the sets; those of prefixes have the digit of their family behind them.
	setNetworks = "networks" // all pods
	setOwn      = "own"      // this node's pods
	setDirect   = "direct"   // pods of peers that send directly
	setPorts    = "data_ports"

	chainMasquerade   = "masquerade"
	chainFromUnderlay = "from_underlay"
	chainFromPods     = "from_pods"

	// podDevices begins the names of the interfaces that the CNI plugin gives to pods (package wiring). Of what they send
	// it has checked all at the interface itself, but for what comes there by way of an ifb: a packet that a queueing discipline has redirected, such as
	// those of the bandwidth plugin, passes no ingress hook again (tc_skip_classify, net/core/dev.c).
	podDevices = "weft"
)

// A table is what there is, or shall be, in weft's table. Everything is ordered by name, but the rules of a chain.
type table struct {
	sets   []set
	chains []chain
}

type set struct {
	name     string
	keyType  nftables.SetDatatype
	interval bool
	elements []nftables.SetElement
}

type chain struct {
	name     string
	kind     nftables.ChainType // "" for a chain without a hook, where a packet comes from another one
	hook     nftables.ChainHook
	priority nftables.ChainPriority
	rules    []rule
}

type rule struct {
	comment string
	exprs   []expr.Any
}

// wantedTable is the table for s.
func wantedTable(s State) *table {
	t := &table{chains: []chain{prerouting(s), fromUnderlay(), fromPods(), output()}}
	if s.Masquerade {
		t.chains = append(t.chains, masquerade(s))
	}
	t.chains = append(t.chains, postrouting(s))
	for i := range families {
		f := &families[i]
		t.sets = append(t.sets, prefixSet(setNetworks, f, s.PodNetworks), prefixSet(setOwn, f, s.PodCIDRs),
			prefixSet(setDirect, f, s.Direct))
	}
	t.sets = append(t.sets, portSet(s.DataPorts))
	t.sort()
	return t
}

// prerouting is at priority raw, before connection tracking: what is dropped there, a forged reset say, has not
// touched the tracked state of the connection that it pretends to be of. Packets in a tunnel have nodes' addresses
// outside, which never lie in a pod network. Nobody else may send with the addresses of this node's pods, which are
// never among those of peers.
//
// A peer knows a node by the outer source address alone, and a pod's datagram that is masqueraded, by weft or another
// program, has the node's. So a pod reaches data ports of pods only: which addresses outside are those of nodes is not
// asked, and a datagram to such a port where no node is, that of another VXLAN say, is dropped as well. Connection
// tracking, without which there is no masquerade, has fragments joined before priority raw; else the first one, which
// holds the ports, is dropped.
//
// The kernel carries out rule after rule for each packet, so packets part first by where they come from: with all rules
// in one chain direct routes took 3 to 6 % more of the CPU.
func prerouting(s State) chain {
	c := chain{"prerouting", nftables.ChainTypeFilter, *nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw, []rule{
		{"what peers may send directly", append(inInterface(s.Underlay), &expr.Verdict{Kind: expr.VerdictGoto, Chain: chainFromUnderlay})},
		{"weftd has looked at what it hands over", append(inInterface(s.Tun), &expr.Verdict{Kind: expr.VerdictAccept})},
		{"what pods may send", append(inInterfaces(podDevices), &expr.Verdict{Kind: expr.VerdictJump, Chain: chainFromPods})},
	}}
	for i := range families {
		f := &families[i]
		c.rules = append(c.rules, rule{"pods do not reach data ports outside, where they would pass for their node",
			slices.Concat(f.is(), toDataPort(setPorts), f.inSet(f.src, setOwn), f.notInSet(f.dst, setNetworks), verdict(expr.VerdictDrop))})
	}
	return c
}

// fromUnderlay asks first what lets pods' packets go on.
func fromUnderlay() chain {
	c := chain{name: chainFromUnderlay}
	for i := range families {
		f := &families[i]
		c.rules = append(c.rules, rule{"forged: not from a peer that may send without encapsulation",
			slices.Concat(f.is(), f.notInSet(f.src, setDirect), f.inSet(f.src, setNetworks), verdict(expr.VerdictDrop))})
	}
	// From the underlay alone: what pods send to such a port of a pod stays tracked.
	c.rules = append(c.rules, rule{"tunnels: no connection tracking", slices.Concat(toDataPort(setPorts), []expr.Any{&expr.Notrack{}})})
	return c
}

// fromPods lets TCP go on after one rule, none of the others being about it but the first.
func fromPods() chain {
	c := chain{name: chainFromPods}
	for i := range families {
		f := &families[i]
		c.rules = append(c.rules, rule{"TCP, with an address that is behind its interface", slices.Concat(f.is(),
			compareMeta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_TCP}), sourceBehind(expr.CmpOpNeq), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})})
	}
	for i := range families {
		f := &families[i]
		c.rules = append(c.rules, rule{"forged: by a pod, with an address that is not behind its interface",
			slices.Concat(f.is(), f.fromElsewhere(), verdict(expr.VerdictDrop))})
	}
	for _, kind := range []byte{routerAdvertisement, redirect} {
		c.rules = append(c.rules, rule{"pods are no routers", append(icmpv6(kind), verdict(expr.VerdictDrop)...)})
	}
	return c
}

func output() chain {
	return chain{"output", nftables.ChainTypeFilter, *nftables.ChainHookOutput, *nftables.ChainPriorityRaw, []rule{
		{"tunnels: no connection tracking", slices.Concat(toDataPort(setPorts), []expr.Any{&expr.Notrack{}})},
	}}
}

// masquerade leaves alone what goes to pods, wherever they are. Ports are chosen at random, since two
// packets of one socket at the same moment, such as a resolver's A and AAAA queries, else race for one (fully-random in
// nft(8)).
func masquerade(s State) chain {
	c := chain{chainMasquerade, nftables.ChainTypeNAT, *nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource, nil}
	out := slices.Concat(outInterface(expr.CmpOpNeq, s.Tun), outInterface(expr.CmpOpNeq, "lo"))
	for i := range families {
		f := &families[i]
		c.rules = append(c.rules, rule{"pods to the outside: with the node's address", slices.Concat(out, f.is(),
			f.inSet(f.src, setOwn), f.notInSet(f.dst, setNetworks), f.inPrefix(f.dst, expr.CmpOpNeq, f.multicast),
			[]expr.Any{&expr.Counter{}, &expr.Masq{FullyRandom: true}})})
	}
	return c
}

// postrouting is behind source NAT, where the source is the one that the peer will see: what Kubernetes forwards from
// outside to a pod of another node, with this node's address, may pass. What the node itself sends has an address of
// its own. What this node's pods send goes on after the first lookup.
func postrouting(s State) chain {
	const behindNAT = 10
	c := chain{"postrouting", nftables.ChainTypeFilter, *nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource + behindNAT, nil}
	out := outInterface(expr.CmpOpEq, s.Underlay)
	for i := range families {
		f := &families[i]
		c.rules = append(c.rules, rule{"forged, or in transit: neither from this node nor from its pods", slices.Concat(f.is(),
			f.notInSet(f.src, setOwn), out, f.inSet(f.dst, setNetworks), fromOthers(), verdict(expr.VerdictDrop))})
	}
	return c
}

// dropped sums the counters of the rules that drop.
func (t *table) dropped() uint64 {
	var sum uint64
	for _, c := range t.chains {
		for _, r := range c.rules {
			var packets uint64
			for _, e := range r.exprs {
				switch e := e.(type) {
				case *expr.Counter:
					packets = e.Packets
				case *expr.Verdict:
					if e.Kind == expr.VerdictDrop {
						sum += packets
					}
				}
			}
		}
	}
	return sum
}
