package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/membership"
)

// modeDirect is how records spell that a node takes packets without encapsulation.
const modeDirect = "direct"

// remote is another node as the dataplane needs it: a member of the cluster that has
// blocks to be routed, or a static peer.
type remote struct {
	id, name  string
	prefixes  []netip.Prefix
	endpoints []netip.AddrPort // of plain UDP; the addresses are those of all codecs
	modes     []string         // that it takes, the preferred first
	vxlanPort uint16
	vni       uint32
	mac       encap.MAC // of its VTEP; zero where it has none
	mtu       int       // largest inner packet that it takes, bytes
	linkMTU   int       // of its underlay link; 0 where it does not say
	rco       bool
	whole     bool // it owns all the blocks that it claims
	static    bool
}

func (d *daemon) remoteOf(m *membership.Member) remote {
	r := remote{
		id: m.ID.String(), name: m.Name, prefixes: m.Prefixes, endpoints: m.Endpoints, modes: m.Modes,
		vxlanPort: m.VXLANPort, vni: m.VNI, mtu: m.MTU, linkMTU: m.LinkMTU, whole: len(m.Prefixes) == len(m.Claims),
		rco: d.wanted.Has(offload.RCO) && slices.Contains(m.Capabilities, offload.RCO.String()),
	}
	if mac, err := encap.ParseMAC(m.VTEPMAC); err == nil {
		r.mac = mac
	}
	return r
}

// staticRemote is a static peer, which runs Linux's own VXLAN device, or flannel.
func (d *daemon) staticRemote(p *config.StaticPeer) remote {
	r := remote{
		id: "static:" + p.Name, name: p.Name, prefixes: p.PodCIDRs, modes: []string{p.Mode},
		endpoints: []netip.AddrPort{netip.AddrPortFrom(p.Address, cmp.Or(p.Port, d.config.DataPort))},
		vxlanPort: p.Port, vni: p.VNI, mtu: cmp.Or(p.MTU, d.mtu), whole: true, static: true,
	}
	if mac, err := encap.ParseMAC(p.VTEPMAC); err == nil {
		r.mac = mac
	}
	return r
}

// remotes are all the nodes that packets can go to, none for a node without a block. A static peer that would take an
// address or a block from a member, or from this node, is left out, and said.
func (d *daemon) remotes(view membership.View) (all []remote, clashes error) {
	if len(view.Self.Prefixes) == 0 {
		return nil, nil
	}
	held := newHoldings(d.config.NodeName, view.Self.Prefixes, d.underlay.Addresses)
	for i := range view.Members {
		if m := &view.Members[i]; len(m.Prefixes) > 0 {
			r := d.remoteOf(m)
			held.add(r.name, r.prefixes, r.addrs())
			all = append(all, r)
		}
	}
	held.sort()
	var left []error
	peers := d.staticPeers()
	for i := range peers {
		r := d.staticRemote(&peers[i])
		if other, what := held.clash(&r); other != "" {
			left = append(left, fmt.Errorf("static peer %s and node %s both have %s, and the node keeps it: correct %s",
				r.name, other, what, cmp.Or(peers[i].Source, "staticPeers ("+d.current().Source("staticPeers")+")")))
			continue
		}
		all = append(all, r)
	}
	return all, firstOf(errors.Join(left...))
}

// holdings say which node has an address or a block. No two nodes have a part of one block.
type holdings struct {
	addrs  map[netip.Addr]string
	blocks []holding // by prefix, once sorted
}

type holding struct {
	netip.Prefix
	name string
}

// newHoldings are those of one node.
func newHoldings(name string, prefixes []netip.Prefix, addrs []netip.Addr) *holdings {
	h := &holdings{addrs: make(map[netip.Addr]string)}
	h.add(name, prefixes, addrs)
	return h
}

// add is followed by sort.
func (h *holdings) add(name string, prefixes []netip.Prefix, addrs []netip.Addr) {
	for _, p := range prefixes {
		h.blocks = append(h.blocks, holding{p, name})
	}
	for _, a := range addrs {
		h.addrs[a] = name
	}
}

func (h *holdings) sort() {
	slices.SortFunc(h.blocks, func(a, b holding) int { return a.Compare(b.Prefix) })
}

// clash returns a node that has an address or a part of a block of r. As blocks are apart,
// one that overlaps a prefix is next to where that would be.
func (h *holdings) clash(r *remote) (name, what string) {
	for _, p := range r.prefixes {
		at, _ := slices.BinarySearchFunc(h.blocks, p, func(b holding, p netip.Prefix) int { return b.Compare(p) })
		for _, b := range h.blocks[max(0, at-1):min(at+1, len(h.blocks))] {
			if b.Overlaps(p) {
				return b.name, "a part of " + p.String()
			}
		}
	}
	for _, a := range r.addrs() {
		if name := h.addrs[a]; name != "" {
			return name, "the address " + a.String()
		}
	}
	return "", ""
}

// addrs are the underlay addresses of r.
func (r *remote) addrs() []netip.Addr {
	all := make([]netip.Addr, len(r.endpoints))
	for i, e := range r.endpoints {
		all[i] = e.Addr()
	}
	return all
}

// at is where r takes codec at one of its endpoints.
func (r *remote) at(codec encap.Codec, endpoint netip.AddrPort) netip.AddrPort {
	if codec == encap.VXLAN {
		return netip.AddrPortFrom(endpoint.Addr(), r.vxlanPort)
	}
	return endpoint
}

// takes says whether r can be sent codec at all.
func (r *remote) takes(codec encap.Codec) bool {
	return slices.Contains(r.modes, codec.String()) && (codec != encap.VXLAN || r.mac != encap.MAC{} && r.vxlanPort != 0)
}

// tunAddresses are the TUN's addresses on a node that owns prefixes: the first address
// of its lowest block of each family.
func tunAddresses(prefixes []netip.Prefix) []netip.Addr {
	var all []netip.Addr
	for _, p := range slices.SortedFunc(slices.Values(prefixes), netip.Prefix.Compare) {
		if !slices.ContainsFunc(all, func(a netip.Addr) bool { return a.Is4() == p.Addr().Is4() }) {
			all = append(all, p.Addr())
		}
	}
	return all
}
