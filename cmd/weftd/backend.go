package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
		Version:    version.String(),
		Node:       control.Node{ID: d.id.String(), Name: d.config.NodeName},
		State:      control.StateReady,
		Reason:     view.Self.Reason,
		Started:    d.started,
		PodNetwork: d.config.PodNetwork,
		PodCIDR:    d.config.PodCIDR,
		Tun:        control.Tun{Name: d.device.Name(), Address: d.config.PodCIDR.Addr(), MTU: d.mtu},
		Underlay: control.Underlay{
			Interface: d.underlay.Interface, Address: d.underlay.Address, MTU: d.underlay.MTU, Why: d.underlay.Why,
		},
		DataPort: d.config.DataPort,
		Offload:  d.offloads(),
		Gossip: control.Gossip{
			Address: d.gossip.Addr(), Encrypted: !d.config.Insecure, Members: gossiped.Alive + 1,
			KeyMismatches: gossiped.KeyMismatches, Rejected: gossiped.Rejected,
		},
		Peers:    control.PeerCount{Known: len(view.Members)},
		Warnings: slices.Clone(d.warnings),
	}
	switch {
	case view.Self.State == membership.StateLeft:
		s.State = control.StateLeaving
	case !d.joined.Load():
		s.State, s.Reason = control.StateStarting, "looking for the other nodes"
	case view.Self.State == membership.StateFenced:
		s.State = control.StateFenced
	}
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
	for _, c := range view.Conflicts {
		s.Warnings = append(s.Warnings, c.String())
	}
	if gossiped.Conflicts > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("one node ID was seen at two addresses, %d times: if it goes on, a machine was cloned with its state directory; "+
			"the log names it, and stateDir is to be removed on the copy", gossiped.Conflicts))
	}
	return s
}

// Peers are the other nodes.
func (d *daemon) Peers() control.PeerList {
	view, stats := d.store.View(time.Now()), d.engine.Stats()
	list := control.PeerList{Peers: []control.Peer{}}
	for _, m := range view.Members {
		traffic := stats.Peers[m.ID.String()]
		endpoint, reason := reachable(m)
		if m.Reason != "" {
			reason = m.Reason
		}
		list.Peers = append(list.Peers, control.Peer{
			ID: m.ID.String(), Name: m.Name,
			State: string(m.State), Reason: reason, Since: m.Since,
			Endpoint: endpoint, PodCIDRs: claimed(m), Mode: encap.UDP.String(), MTU: m.MTU,
			Tx: control.Traffic{Packets: traffic.TxPackets, Bytes: traffic.TxBytes},
			Rx: control.Traffic{Packets: traffic.RxPackets, Bytes: traffic.RxBytes},
		})
	}
	return list
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
	for _, m := range view.Members {
		endpoint, reason := reachable(m)
		if reason != "" {
			continue
		}
		for _, p := range m.Prefixes {
			list.Routes = append(list.Routes, control.Route{
				Prefix: p, Node: m.Name, ID: m.ID.String(), Endpoint: endpoint, Mode: encap.UDP.String(), MTU: m.MTU,
			})
		}
	}
	slices.SortFunc(list.Routes, func(a, b control.Route) int { return a.Prefix.Compare(b.Prefix) })
	return list
}

// Drops is the account of every packet.
func (d *daemon) Drops() control.Drops {
	stats := d.engine.Stats()
	drops := control.Drops{
		Egress: direction(stats.Egress), Ingress: direction(stats.Ingress), ICMPSent: stats.ICMPSent,
		Reasons: make(map[string]string),
	}
	for _, r := range dataplane.Reasons() {
		drops.Reasons[r.String()] = r.Explanation()
	}
	// While the daemon ends, its descriptors are gone before its API is.
	if n, err := d.port.Overflows(); err == nil {
		drops.Kernel.SocketOverflow = n
	}
	if n, err := d.host.TxDropped(d.device.Name()); err == nil {
		drops.Kernel.TunTxDropped = n
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
	err := d.gossip.Leave(context.WithoutCancel(ctx))
	if err != nil && !errors.Is(err, gossip.ErrUnheard) {
		return err
	}
	d.log.Info("this node departs", "heard", err == nil)
	d.leave(errLeft)
	if err != nil {
		return fmt.Errorf("this node has left, and weftd ends, but the others keep %s reserved for it until it is started again and leaves in their reach: %w", d.config.PodCIDR, err)
	}
	return nil
}
