package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/membership"
)

// saveInterval is how often the peers are made durable, where they changed: a disk
// is not written once for each of the nodes of a large cluster that starts.
const saveInterval = time.Second

// hostInterval is how often the kernel's state is compared with what it shall be,
// and brought back: other programs flush routes and set links down.
const hostInterval = 10 * time.Second

// kernelDelay is how long what the kernel reports is collected: a pod's start alone is
// a dozen events.
const kernelDelay = 50 * time.Millisecond

// reconcile keeps the dataplane to what membership says and the prober finds out,
// until ctx is done. It is the single bridge between them.
func (d *daemon) reconcile(ctx context.Context) error {
	members, cancel := d.store.Subscribe()
	defer cancel()
	kernel, err := d.host.Watch(ctx)
	if err != nil {
		return err
	}
	said := make(map[membership.ID]string)
	next := time.NewTimer(0) // when the view changes by itself
	defer next.Stop()
	save := time.NewTicker(saveInterval)
	defer save.Stop()
	check := time.NewTicker(hostInterval)
	defer check.Stop()
	soon := time.NewTimer(0)
	defer soon.Stop()
	look, pending := newLookup(d.host), false
	for {
		select {
		case <-ctx.Done():
			d.trouble.say(d.log, troubleSave, d.store.Save())
			return nil
		case <-save.C:
			d.trouble.say(d.log, troubleSave, d.store.Save())
			continue
		case <-check.C:
			look.forget()
		case <-kernel:
			if !pending {
				pending = true
				soon.Reset(kernelDelay)
			}
			continue
		case <-soon.C:
			pending = false
			look.forget()
		case <-d.prober.changed:
		case <-members:
		case <-next.C:
		}
		view := d.store.View(time.Now())
		d.say(view, said)
		d.settle(view, look.way)
		if !view.Next.IsZero() {
			next.Reset(time.Until(view.Next))
		}
	}
}

// settle chooses the way to each of the others, and brings the engine, the kernel's
// routes and the firewall to that. Before the kernel sends directly its rules let the
// answers in.
func (d *daemon) settle(view membership.View, look func(netip.Addr) (host.Way, error)) {
	remotes, clashes := d.remotes(view)
	d.trouble.say(d.log, troubleStatic, clashes)
	here := site{
		mode: d.config.Mode, addresses: d.underlay.Addresses, tun: d.device.Name(), underlay: d.underlay.Interface,
		mtu: d.mtu, guarded: d.guarded, closed: d.port.Closed(), look: look,
	}
	all, choices := make([]ways, len(remotes)), make([]choice, len(remotes))
	for i, r := range remotes {
		all[i] = here.waysTo(r)
	}
	d.prober.plan(d.station, tunAddresses(d.config.PodCIDRs), all, d.tunnel)
	for i := range all {
		choices[i] = all[i].choose(d.mtu, d.prober.state)
	}
	d.prober.took(choices)
	d.sayChoices(choices)
	d.choices.Store(&choices)

	if err := d.engine.Apply(d.desired(view, choices)); err != nil {
		d.log.Error("the dataplane keeps its former peers", "reason", err)
	}
	if d.guarded == nil {
		d.trouble.say(d.log, troubleFirewall, d.firewall.Apply(d.firewallState(choices)))
	}
	repaired, err := d.host.Apply(d.hostState(choices))
	for _, what := range repaired {
		d.log.Warn("another program changed what is weft's; it is put back", "what", what)
	}
	d.trouble.say(d.log, troubleHost, err)
}

// desired is the dataplane for a view and the ways that were chosen. A node whose own
// claim lost a conflict owns nothing, so that it neither sends from nor takes for the block.
func (d *daemon) desired(view membership.View, choices []choice) dataplane.Config {
	c := dataplane.Config{
		PodCIDRs:  view.Self.Prefixes,
		Addresses: tunAddresses(d.config.PodCIDRs),
		Endpoints: d.underlay.Addresses,
		Station:   d.station,
		MTU:       d.mtu,
		ClampMSS:  d.config.ClampMSS,
	}
	for i := range choices {
		w := &choices[i]
		p := dataplane.Peer{
			ID: w.id, Endpoints: w.addrs(), PodCIDRs: w.prefixes, MTU: w.mtu, RCO: w.rco, Foreign: w.static,
		}
		if w.tunnel != nil {
			p.To, p.Tunnel = w.tunnel.To, *d.tunnel(&w.remote, w.tunnel.codec)
		}
		c.Peers = append(c.Peers, p)
	}
	return c
}

// tunnel is how r takes codec.
func (d *daemon) tunnel(r *remote, codec encap.Codec) *encap.Tunnel {
	return &encap.Tunnel{Codec: codec, VNI: r.vni, Local: d.station.MAC, Remote: r.mac}
}

// lookup remembers how the kernel sends to underlay addresses, until something changes.
type lookup struct {
	host *host.Host
	ways map[netip.Addr]host.Way
}

func newLookup(h *host.Host) *lookup { return &lookup{h, make(map[netip.Addr]host.Way)} }

func (l *lookup) forget() { clear(l.ways) }

func (l *lookup) way(to netip.Addr) (w host.Way, err error) {
	w, known := l.ways[to]
	if !known {
		if w, err = l.host.Way(to); err == nil {
			l.ways[to] = w
		}
	}
	return w, err
}

// sayChoices logs each way that is another than before.
func (d *daemon) sayChoices(choices []choice) {
	before := make(map[string]*choice)
	if last := d.choices.Load(); last != nil {
		for i := range *last {
			before[(*last)[i].id] = &(*last)[i]
		}
	}
	for i := range choices {
		c := &choices[i]
		if was := before[c.id]; was == nil || was.mode != c.mode || was.to != c.to || was.mtu != c.mtu {
			d.log.Info("way", "node", c.name, "mode", c.mode, "to", c.to, "mtu", c.mtu, "why", c.why)
		}
	}
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
