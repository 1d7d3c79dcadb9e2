package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cmd/internal/version"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/membership"
	"github.com/weft-net/weft/membership/gossip"
)

// The daemon answers the control API: what follows is control.Backend.
var _ control.Backend = (*daemon)(nil)

// Status is this node.
func (d *daemon) Status() control.Status {
	view := d.store.View(time.Now())
	gossiped := d.gossip.Stats()
	s := control.Status{
		Version:     version.String(),
		Node:        control.Node{ID: d.id.String(), Name: d.config.NodeName},
		Started:     d.started,
		PodNetworks: d.config.PodNetworks,
		PodCIDRs:    d.blocks(&view),
		Allocation:  d.allocation(&view),
		Settled:     view.Self.Settled,
		Certificate: d.certificate(),
		Attachments: d.attachments,
		Tun:         control.Tun{Name: d.device.Name(), Addresses: tunAddresses(d.blocks(&view)), MTU: d.mtu},
		Underlay: control.Underlay{
			Interface: d.underlay.Interface, Addresses: d.underlay.Addresses, MTU: d.underlay.MTU, Why: d.underlay.Why,
		},
		Mode:       d.current().Mode,
		Tunnel:     d.current().Tunnel,
		DataPort:   d.config.DataPort,
		VXLAN:      d.vxlan(),
		Masquerade: d.masquerades() && d.guarded == nil,
		Firewall:   d.current().Firewall,
		Offload:    d.offloads(),
		Gossip: control.Gossip{
			Address: d.gossip.Addr(), Encrypted: !d.config.Insecure, Members: gossiped.Alive + 1,
			KeyMismatches: gossiped.KeyMismatches, Rejected: gossiped.Rejected,
		},
		Peers:    control.PeerCount{Known: len(view.Members)},
		Repairs:  d.repairs.counts(),
		Warnings: slices.Clone(d.warnings),
	}
	s.State, s.Reason = d.state(&view, s.Allocation.Waiting)
	for _, m := range view.Members {
		switch m.State {
		case membership.StateUp:
			s.Peers.Up++
		case membership.StateRefused:
			if !slices.ContainsFunc(view.Conflicts, func(c membership.Conflict) bool { return c.Loser == m.ID }) {
				s.Warnings = append(s.Warnings, fmt.Sprintf("node %s is refused: %s", m.Name, m.Reason))
			}
		}
	}
	s.Warnings = append(s.Warnings, d.trouble.list()...)
	s.Warnings = append(s.Warnings, d.segmentWarnings()...)
	s.Warnings = append(s.Warnings, d.repairs.fights(time.Now())...)
	for _, c := range view.Conflicts {
		s.Warnings = append(s.Warnings, c.String())
	}
	s.Warnings = append(s.Warnings, view.SameNames()...)
	if at, cloned := d.store.Clone(); cloned {
		s.Warnings = append(s.Warnings, fmt.Sprintf("the machine at %s uses this node's key: one of the two is a copy; stop weftd on the copy, remove its stateDir (%s here), and start it again", at, d.config.StateDir))
	}
	if gossiped.Conflicts > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("one node ID was seen at two addresses, %d times: if it goes on, a machine was cloned with its state directory; "+
			"the log names it, and stateDir is to be removed on the copy", gossiped.Conflicts))
	}
	return s
}

// state is how this node stands, and why; waiting says why a block is missing, "" where none is.
func (d *daemon) state(view *membership.View, waiting string) (state, reason string) {
	trouble, nowhere := d.trouble.of(troubleHost), d.trouble.of(troubleUnderlay)
	switch {
	case view.Self.State == membership.StateLeft:
		return control.StateLeaving, view.Self.Reason
	case !d.joined.Load():
		return control.StateStarting, "looking for the other nodes"
	case view.Self.State == membership.StateFenced:
		return control.StateFenced, view.Self.Reason
	case waiting != "":
		return control.StateStarting, waiting
	case nowhere != "":
		return control.StateImpaired, troubleUnderlay + ": " + nowhere
	case trouble != "":
		return control.StateImpaired, troubleHost + ": " + trouble
	case !d.carries(d.blocks(view)):
		return control.StateStarting, "its routes are not in place yet"
	}
	return control.StateReady, view.Self.Reason
}

// carries says whether the kernel has the routes of all blocks, and there are any: for a moment a node that may
// claim one has not done so.
func (d *daemon) carries(blocks []netip.Prefix) bool {
	carried := d.carried.Load()
	return carried != nil && len(blocks) > 0 && !slices.ContainsFunc(blocks, func(p netip.Prefix) bool { return !slices.Contains(*carried, p) })
}

func (d *daemon) certificate() control.Certificate {
	c := control.Certificate{Required: d.cert != nil}
	if d.cert != nil {
		c.CIDRs = d.cert.CIDRs
	}
	return c
}

func (d *daemon) vxlan() control.VXLAN {
	v := control.VXLAN{Port: d.config.VXLANPort, VNI: d.config.VNI, VTEPMAC: d.station.MAC.String()}
	if why := d.port.Closed()[encap.VXLAN]; why != nil {
		v.Closed = why.Error()
	}
	return v
}

// chosen are the ways that are taken to the others, by their IDs.
func (d *daemon) chosen() map[string]*choice {
	all := make(map[string]*choice)
	if choices := d.choices.Load(); choices != nil {
		for i := range *choices {
			all[(*choices)[i].id] = &(*choices)[i]
		}
	}
	return all
}

// Peers are the other nodes.
func (d *daemon) Peers() control.PeerList {
	view, counted, chosen := d.store.View(time.Now()), d.tally(), d.chosen()
	list := control.PeerList{Peers: []control.Peer{}}
	for _, m := range view.Members {
		p := control.Peer{
			ID: m.ID.String(), Name: m.Name, State: string(m.State), Reason: m.Reason, Since: m.Since,
			PodCIDRs: claimed(m), MTU: m.MTU,
		}
		if len(m.Endpoints) > 0 {
			p.Endpoint = m.Endpoints[0]
		}
		list.Peers = append(list.Peers, p)
	}
	for _, c := range d.staticPeers() {
		r := d.staticRemote(&c)
		list.Peers = append(list.Peers, control.Peer{
			ID: r.id, Name: r.name, State: control.PeerUp, Static: true, PodCIDRs: r.prefixes, Endpoint: r.endpoints[0], MTU: r.mtu,
		})
	}
	for i := range list.Peers {
		p := &list.Peers[i]
		traffic := counted.Peers[p.ID]
		p.Tx = control.Traffic{Packets: traffic.TxPackets, Bytes: traffic.TxBytes}
		p.Rx = control.Traffic{Packets: traffic.RxPackets, Bytes: traffic.RxBytes}
		p.DataPath = control.DataUnknown
		if c := chosen[p.ID]; c != nil {
			d.describe(p, c)
		}
	}
	return list
}

// describe adds what is known of the way that is taken to p.
func (d *daemon) describe(p *control.Peer, c *choice) {
	p.Mode, p.Why, p.MTU = c.mode, c.why, c.mtu
	if c.mode == "" {
		return
	}
	p.Endpoint = c.to
	s := d.prober.state(c.way())
	p.PathMTU, p.PathProven, p.RTT, p.Loss = s.MTU, s.Proven, control.Microseconds(s.RTT), s.Loss
	switch {
	case p.Static:
	case s.Works:
		p.DataPath = control.DataWorks
	case s.Known:
		p.DataPath = control.DataFails
	}
}

func claimed(m membership.Member) []netip.Prefix {
	prefixes := []netip.Prefix{}
	for _, c := range m.Claims {
		prefixes = append(prefixes, c.Prefix)
	}
	return prefixes
}

// Routes are the blocks that packets are carried to, by prefix.
func (d *daemon) Routes() control.RouteList {
	view := d.store.View(time.Now())
	list := control.RouteList{Routes: []control.Route{}}
	for _, p := range view.Self.Prefixes {
		list.Routes = append(list.Routes, control.Route{Prefix: p, Node: d.config.NodeName, ID: d.id.String(), Local: true})
	}
	for _, c := range d.chosen() {
		if c.mode == "" {
			continue
		}
		for _, p := range c.prefixes {
			list.Routes = append(list.Routes, control.Route{
				Prefix: p, Node: c.name, ID: c.id, Endpoint: c.to, Mode: c.mode, MTU: c.mtu,
			})
		}
	}
	slices.SortFunc(list.Routes, func(a, b control.Route) int { return a.Prefix.Compare(b.Prefix) })
	return list
}

// Drops is the account of every packet.
func (d *daemon) Drops() control.Drops {
	counted := d.tally()
	drops := control.Drops{
		Egress: direction(counted.Egress), Ingress: direction(counted.Ingress), ICMPSent: counted.ICMPSent,
		Reasons: make(map[string]string),
	}
	drops.Kernel.SocketOverflow = counted.overflow
	for _, r := range dataplane.Reasons() {
		drops.Reasons[r.String()] = r.Explanation()
	}
	// While the daemon ends, its descriptors are gone before its API is.
	if n, err := d.host.TxDropped(d.device.Name()); err == nil {
		drops.Kernel.TunTxDropped = n
	}
	if n, err := d.firewall.Spoofed(); err == nil && d.guarded == nil {
		drops.Kernel.Spoofed = n
	}
	return drops
}

func direction(a dataplane.Account) control.Direction {
	out := control.Direction{Received: a.Received, Forwarded: a.Forwarded, Drops: make(map[string]uint64)}
	for _, r := range dataplane.Reasons() {
		out.Drops[r.String()] = a.Drops[r]
	}
	return out
}

// Leave announces that this node departs, and then ends the daemon, also if
// nobody heard: its block is given up in its own state by then.
func (d *daemon) Leave(ctx context.Context) error {
	if !d.joined.Load() {
		return errors.New("weftd is still looking for the other nodes and holds no block: ask again in a few seconds, or stop it")
	}
	// Who asked may go away; a departure that has begun is not called off.
	view := d.store.View(time.Now())
	err := d.gossip.Leave(context.WithoutCancel(ctx))
	if err != nil && !errors.Is(err, gossip.ErrUnheard) {
		return err
	}
	d.log.Info("this node departs", "heard", err == nil)
	d.leave(errLeft)
	if err != nil {
		return fmt.Errorf("this node has left, and weftd ends, but the others keep %s reserved for it until it is started again and leaves in their reach: %w", joined(d.blocks(&view)), err)
	}
	return nil
}

func joined(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}
