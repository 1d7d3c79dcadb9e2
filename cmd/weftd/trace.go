package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/membership"
)

/* What `weft trace` shows, in the order in which a packet comes there:
 *
 * 1. whose the two addresses are
 * 2. the pod's guard, and the route from its device
 * 3. what other programs' firewalls do to it
 * 4. the node that owns the destination, and the way to it
 * 5. a marked probe, sent in the pod's name by this node's kernel: what this node, the
 *    other one, and the destination make of it, as taps of weftd and sniffers of the
 *    two hosts' devices see it
 */

// tracing is one trace.
type tracing struct {
	*daemon
	control.Trace
	tun    string
	device string // of the pod that sends; "" where that is this node itself
}

// Trace follows a packet from source to destination. One is made at a time.
func (d *daemon) Trace(ctx context.Context, source, destination string) (control.Trace, error) {
	if !d.tracing.CompareAndSwap(false, true) {
		return control.Trace{}, errors.New("another trace is under way: try again in some seconds")
	}
	defer d.tracing.Store(false)
	x := tracing{daemon: d, tun: d.device.Name()}
	x.Arrives = control.TraceUnknown
	if err := x.ends(source, destination); err != nil {
		return control.Trace{}, err
	}
	return x.Trace, x.follow(ctx)
}

func (x *tracing) follow(ctx context.Context) error {
	x.guard()
	out, ok := x.leave()
	x.firewalls()
	if !ok {
		return nil
	}
	if x.Destination.Node == x.config.NodeName {
		return x.stay(ctx, out)
	}
	c, ok := x.way()
	if !ok {
		return nil
	}
	x.Mode, x.MTU = c.mode, c.mtu
	device := x.tun
	if c.mode == modeDirect {
		device = x.underlay.Interface
	}
	if out.Interface != device {
		x.step("way", control.TraceFails, fmt.Sprintf("the kernel sends it by %s, and the way is by %s", out.Interface, device), "see `ip route show proto 119`, and which program changes it")
		return nil
	}
	return x.probe(ctx, c, device)
}

// step adds one, of this node.
func (x *tracing) step(what, outcome, detail, fix string) {
	x.stepAt(x.config.NodeName, what, outcome, detail, fix)
}

// stepAt adds one of a node. The first that fails is where the packet ends.
func (x *tracing) stepAt(node, what, outcome, detail, fix string) {
	x.Steps = append(x.Steps, control.TraceStep{Node: node, What: what, Outcome: outcome, Detail: detail, Fix: fix})
	if outcome == control.TraceFails && x.Arrives != control.TraceFails {
		x.Arrives, x.Verdict = control.TraceFails, fmt.Sprintf("ends on %s, at %s: %s", node, what, detail)
	}
}

// ends finds the two addresses, of one family.
func (x *tracing) ends(source, destination string) error {
	view := x.store.View(time.Now())
	from, err := x.end(&view, source)
	if err != nil {
		return err
	}
	to, err := x.end(&view, destination)
	if err != nil {
		return err
	}
	for _, a := range from {
		for _, b := range to {
			if a.Address.Is4() == b.Address.Is4() && x.Source.Address != a.Address && !x.Source.Address.IsValid() {
				x.Source, x.Destination = a, b
			}
		}
	}
	switch {
	case !x.Source.Address.IsValid():
		return fmt.Errorf("%s and %s have no addresses of one family", source, destination)
	case x.Source.Node == "":
		return fmt.Errorf("%s is in no node's block: `weft routes` lists them", x.Source.Address)
	case x.Source.Node != x.config.NodeName:
		return fmt.Errorf("%s is on node %s: run weft trace there", x.Source.Address, x.Source.Node)
	}
	return nil
}

// end is what name stands for: an address, a node, or a pod of this node.
func (x *tracing) end(view *membership.View, name string) (ends []control.TraceEnd, err error) {
	var addrs []netip.Addr
	label := name
	if a, err := netip.ParseAddr(name); err == nil {
		addrs, label = []netip.Addr{a.Unmap()}, ""
	} else if name == x.config.NodeName || name == x.id.String() {
		addrs = tunAddresses(view.Self.Prefixes)
	} else if p, err := x.Peers().Find(name); err == nil {
		addrs = tunAddresses(p.PodCIDRs)
	} else if addrs, err = x.podAddresses(name); err != nil {
		return nil, err
	}
	for _, a := range addrs {
		ends = append(ends, control.TraceEnd{Address: a, Name: label, Node: x.owner(view, a)})
	}
	return ends, nil
}

// owner is the name of the node that has addr in one of its blocks; "" for none.
func (x *tracing) owner(view *membership.View, addr netip.Addr) string {
	within := func(p netip.Prefix) bool { return p.Contains(addr) }
	if slices.ContainsFunc(view.Self.Prefixes, within) {
		return x.config.NodeName
	}
	for i := range view.Members {
		if slices.ContainsFunc(view.Members[i].Prefixes, within) {
			return view.Members[i].Name
		}
	}
	for _, p := range x.staticPeers() {
		if slices.ContainsFunc(p.PodCIDRs, within) {
			return p.Name
		}
	}
	return ""
}

// guard says whether the rules for the pod let it send from this address.
func (x *tracing) guard() {
	const what = "anti-spoof guard"
	all, _, err := ipam.Open(x.attachments).List()
	if err != nil {
		x.step(what, control.TraceUnknown, err.Error(), "")
		return
	}
	i := slices.IndexFunc(all, func(a ipam.Attachment) bool { return slices.Contains(a.Addresses, x.Source.Address) })
	if i < 0 {
		x.step(what, control.TraceOK, fmt.Sprintf("no pod on record has %s, and no guard of a pod's is in the way", x.Source.Address), "")
		return
	}
	x.Source.Name = podName(&all[i])
	x.step(what, control.TraceOK, fmt.Sprintf("%s is %s's own, on %s", x.Source.Address, x.Source.Name, all[i].Device), "")
}

// leave asks the kernel where it sends the packet. ok is false where that is nowhere.
func (x *tracing) leave() (out host.Way, ok bool) {
	const what = "route on the sending node"
	from, to := x.Source.Address, x.Destination.Address
	back, err := x.host.Way(from)
	if err != nil || back.Interface == x.tun {
		x.step("route to the source", control.TraceFails, fmt.Sprintf("the kernel has none to %s but into the pod network: no pod has that address now, and no answer would come back", from),
			"see `weft ipam list` for the pods that are there")
		return out, false
	}
	if back.Interface != "lo" {
		x.device = back.Interface
	}
	out, err = x.host.Passage(from, to, x.device)
	switch {
	case errors.Is(err, syscall.EXDEV):
		x.step(what, control.TraceFails, fmt.Sprintf("rp_filter on %s refuses it: the kernel would send answers another way", x.device), fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2", x.device))
	case err != nil:
		x.step(what, control.TraceFails, err.Error(), "see `ip route get "+to.String()+"` and net.ipv4.ip_forward")
	case x.Destination.Node == "":
		x.step(what, control.TraceFails, fmt.Sprintf("%s is in no node's block, and goes by %s", to, out.Interface), "see `weft routes` for the blocks that there are")
	default:
		x.step(what, control.TraceOK, fmt.Sprintf("from %s to %s", back.Interface, describeWay(out)), "")
		return out, true
	}
	return out, false
}

func describeWay(w host.Way) string {
	if w.OnLink {
		return fmt.Sprintf("%s, MTU %d", w.Interface, w.MTU)
	}
	return fmt.Sprintf("%s via %s, MTU %d", w.Interface, w.Via, w.MTU)
}

// firewalls says what other programs' rules are in the way.
func (x *tracing) firewalls() {
	const what = "this host's firewall"
	if x.guarded != nil {
		return
	}
	found, err := x.firewall.Findings()
	if err != nil {
		x.step(what, control.TraceUnknown, err.Error(), "")
		return
	}
	for _, f := range found {
		x.step(what, control.TraceUnknown, f.What, f.Fix)
	}
	if len(found) == 0 {
		x.step(what, control.TraceOK, "no chain of another program drops forwarded packets", "")
	}
}

// stay traces a packet that does not leave this node.
func (x *tracing) stay(ctx context.Context, out host.Way) error {
	if out.Interface == x.tun {
		x.step("route to the destination", control.TraceFails, fmt.Sprintf("%s is in this node's block, and no pod has it", x.Destination.Address), "see `weft ipam list` for the pods that are there")
		return nil
	}
	x.MTU = out.MTU
	return x.probe(ctx, nil, out.Interface)
}

// way says which node has the destination, and how packets go there.
func (x *tracing) way() (c *choice, ok bool) {
	var peer control.Peer
	for _, p := range x.Peers().Peers {
		if p.Name == x.Destination.Node && slices.ContainsFunc(p.PodCIDRs, func(b netip.Prefix) bool { return b.Contains(x.Destination.Address) }) {
			peer = p
		}
	}
	c = x.chosen()[peer.ID]
	switch {
	case c == nil:
		x.step("owner", control.TraceFails, fmt.Sprintf("%s has the block, and is %s %s", x.Destination.Node, peer.State, peer.Reason), "start weftd there; `weft peers` shows when it is up")
		return nil, false
	case c.mode == "":
		x.step("way", control.TraceFails, fmt.Sprintf("there is none to %s: %s", peer.Name, c.why), "let the modes of the two nodes have one in common, or give them endpoints of one family")
		return nil, false
	}
	x.step("owner", control.TraceOK, fmt.Sprintf("%s has the block, and is %s", peer.Name, peer.State), "")
	way := fmt.Sprintf("%s to %s, MTU %d: %s", c.mode, c.to, c.mtu, c.why)
	if c.mode == modeDirect {
		way = fmt.Sprintf("direct via %s, MTU %d: %s", c.to.Addr(), c.mtu, c.why)
	}
	if peer.DataPath == control.DataFails {
		x.step("way", control.TraceUnknown, way+"; probes on it are not answered", fmt.Sprintf("open UDP port %d between the nodes, both ways", c.to.Port()))
	} else {
		x.step("way", control.TraceOK, way, "")
	}
	return c, true
}
