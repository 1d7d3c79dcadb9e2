package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/cmd/internal/version"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/membership"
)

const (
	// syncPatience is how long a node looks for the others before it takes its
	// block all the same. A seed that is there answers within a round trip; a
	// silent one is given up, and named, after 5 s.
	syncPatience = 6 * time.Second

	// successionPatience is how long a node waits for the one that had its
	// address before: membership/gossip finds a dead one within 10 s, and
	// within 15 s in a cluster of 1,000.
	successionPatience = 20 * time.Second
)

// join meets the other nodes, as far as any can be found, and then takes this
// node's blocks where they are configured, unless they are somebody else's. Others
// are taken by and by: see allot.
func (d *daemon) join(ctx context.Context) error {
	d.log.Info("starting", "version", version.String(), "node", d.config.NodeName, "id", d.id)
	syncing, cancel := context.WithTimeout(ctx, syncPatience)
	defer cancel()
	if err := d.gossip.Sync(syncing); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.log.Warn("no other node found yet; going on, and trying for ever; is the gossip port open between the nodes, TCP and UDP?", "reason", err)
	}
	d.begin()
	if err := d.admitted(ctx); err != nil {
		return err
	}
	view := d.store.View(time.Now())
	_, err := d.host.Apply(d.hostState(d.blocks(&view), nil))
	if !errors.Is(err, host.ErrAnother) {
		d.keepHost()
	}
	if err != nil {
		return err
	}
	// Only where it has its mark by now, so that nothing unmarked outlives this process.
	if err := d.device.Persist(); err != nil {
		return err
	}
	if err := d.store.Publish(d.description()); err != nil || d.allotter != nil {
		return err
	}
	return d.store.Claim(d.config.PodCIDRs...)
}

// admitted returns nil once this node may have its address and its block; until
// then nobody hears of it. A machine that was installed anew meets its own former
// ID at its address, which looks alive until the others have found it dead, so it
// waits for that.
func (d *daemon) admitted(ctx context.Context) error {
	changed, cancel := d.store.Subscribe()
	defer cancel()
	patience := time.NewTimer(successionPatience)
	defer patience.Stop()
	for waiting := false; ; waiting = true {
		err := d.store.Check(d.description(), d.config.PodCIDRs...)
		conflict, ok := errors.AsType[*membership.ConflictError](err)
		switch {
		case err == nil:
			return nil
		case ok && conflict.Prefix.IsValid(), errors.Is(err, membership.ErrOutside):
			return fmt.Errorf("podCIDR (%s): %w", d.config.Source("podCIDR"), err)
		case !ok:
			return err
		case !waiting:
			d.log.Warn("waiting for the former node at this address to be found dead", "reason", err)
		}
		select {
		case <-changed:
		case <-patience.C:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// description is what the other nodes hear of this one.
func (d *daemon) description() membership.Description {
	m := membership.Description{
		Name:         d.config.NodeName,
		Gossip:       d.gossip.Addr(),
		Modes:        d.modes(),
		Capabilities: d.capabilities(),
		VTEPMAC:      d.station.MAC.String(),
		VNI:          d.config.VNI,
		MTU:          d.mtu,
		LinkMTU:      max(d.underlay.MTU, minMTU),
		Segments:     d.segmentClaims(),
		Keys:         d.keys.fingerprints(),
		Cert:         d.cert,
	}
	for _, a := range d.underlay.Addresses {
		m.Endpoints = append(m.Endpoints, netip.AddrPortFrom(a, d.config.DataPort))
	}
	if number, open := d.port.Number(encap.VXLAN); open {
		m.VXLANPort = number
	}
	return m
}
