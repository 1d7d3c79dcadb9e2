package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/membership"
)

// saveInterval is how often the peers are made durable, where they changed: a disk
// is not written once for each of the nodes of a large cluster that starts.
const saveInterval = time.Second

// hostInterval is how often the kernel's state is compared with what it shall be,
// and brought back: other programs flush routes and set links down.
const hostInterval = 10 * time.Second

// reconcile keeps the dataplane to what membership says, until ctx is done. It is
// the single bridge between the two.
func (d *daemon) reconcile(ctx context.Context) error {
	changed, cancel := d.store.Subscribe()
	defer cancel()
	said := make(map[membership.ID]string)
	next := time.NewTimer(0) // when the view changes by itself
	defer next.Stop()
	save := time.NewTicker(saveInterval)
	defer save.Stop()
	check := time.NewTicker(hostInterval)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			d.trouble.say(d.log, troubleSave, d.store.Save())
			return nil
		case <-save.C:
			d.trouble.say(d.log, troubleSave, d.store.Save())
			continue
		case <-check.C:
			d.trouble.say(d.log, troubleHost, d.host.Apply(d.hostState()))
			continue
		case <-changed:
		case <-next.C:
		}
		view := d.store.View(time.Now())
		d.say(view, said)
		if err := d.engine.Apply(desired(d, view)); err != nil {
			d.log.Error("the dataplane keeps its former peers", "reason", err)
		}
		if !view.Next.IsZero() {
			next.Reset(time.Until(view.Next))
		}
	}
}

// desired is the dataplane that view asks for. A node whose own claim lost a
// conflict owns nothing, so that it neither sends from nor takes for the block.
func desired(d *daemon, view membership.View) dataplane.Config {
	c := dataplane.Config{
		PodCIDRs:  view.Self.Prefixes,
		Address:   d.config.PodCIDR.Addr(),
		Endpoints: []netip.Addr{d.underlay.Address},
		MTU:       d.mtu,
	}
	for _, m := range view.Members {
		endpoint, reason := reachable(m)
		if len(m.Prefixes) == 0 || reason != "" {
			continue
		}
		c.Peers = append(c.Peers, dataplane.Peer{
			ID:       m.ID.String(),
			Endpoint: endpoint,
			PodCIDRs: m.Prefixes,
			MTU:      m.MTU,
			Codec:    encap.UDP,
			RCO:      d.wanted.Has(offload.RCO) && slices.Contains(m.Capabilities, offload.RCO.String()),
		})
	}
	return c
}

// reachable returns where m takes what this node can send: plain UDP over IPv4. A
// reason says why it takes none of that.
func reachable(m membership.Member) (endpoint netip.AddrPort, reason string) {
	if !slices.Contains(m.Modes, encap.UDP.String()) {
		return netip.AddrPort{}, fmt.Sprintf("takes %v, and this node sends %s only", m.Modes, encap.UDP)
	}
	for _, e := range m.Endpoints {
		if e.Addr().Is4() {
			return e, ""
		}
	}
	return netip.AddrPort{}, "has no IPv4 endpoint"
}

// say logs what became of each member since said, once.
func (d *daemon) say(view membership.View, said map[membership.ID]string) {
	for _, m := range append([]membership.Member{view.Self}, view.Members...) {
		now := fmt.Sprint(m.State, " ", m.Reason)
		if said[m.ID] == now {
			continue
		}
		said[m.ID] = now
		level := slog.LevelInfo
		switch m.State {
		case membership.StateFenced, membership.StateRefused, membership.StateReplaced:
			level = slog.LevelWarn
		}
		args := []any{"node", m.Name, "state", m.State, "blocks", m.Prefixes}
		if m.Reason != "" {
			args = append(args, "reason", m.Reason)
		}
		d.log.Log(context.Background(), level, "member", args...)
	}
}
