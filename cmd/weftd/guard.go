package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/dataplane/firewall"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/encap"
)

// inherit finds the direct routes that a run which was killed has left: packets go on
// that way meanwhile, and until probes say that they should not.
func (d *daemon) inherit() error {
	if d.current().Mode != config.ModeAuto && d.current().Mode != config.ModeDirect {
		return nil
	}
	routes, err := d.host.Direct(d.underlay.Interface)
	if err != nil {
		return err
	}
	view := d.store.View(time.Now())
	own := d.blocks(&view)
	d.routed = make(map[netip.Prefix]netip.Addr)
	for _, r := range routes {
		within := func(p netip.Prefix) bool { return p.Contains(r.Prefix.Addr()) && p.Bits() < r.Prefix.Bits() }
		if slices.ContainsFunc(d.config.PodNetworks, within) && !slices.ContainsFunc(own, r.Prefix.Overlaps) {
			d.routed[r.Prefix] = r.Via
		}
	}
	return nil
}

// nextHops are those of the blocks that packets go to directly.
func nextHops(choices []choice) map[netip.Prefix]netip.Addr {
	hops := make(map[netip.Prefix]netip.Addr)
	for i := range choices {
		if choices[i].mode != modeDirect {
			continue
		}
		for _, w := range choices[i].direct {
			for _, p := range w.prefixes {
				hops[p] = w.via
			}
		}
	}
	return hops
}

// openFirewall puts this node's own rules in place. Where the kernel cannot have them,
// packets of other nodes are not taken without encapsulation, since nobody would check
// whose they are.
func (d *daemon) openFirewall() (err error) {
	if d.firewall, err = firewall.Open(); err != nil {
		return err
	}
	d.keep(d.firewall.Close)
	view := d.store.View(time.Now())
	own := d.blocks(&view)
	if err = d.applyFirewall(own, nil); err == nil {
		d.keep(d.unlessItStays(func() error { return second(d.firewall.Remove()) }))
		return nil
	}
	d.guarded = fmt.Errorf("no rules against forged packets could be put in place: %w", err)
	if d.current().Mode == config.ModeDirect {
		return fmt.Errorf("mode is direct (%s): %w", d.current().Source("mode"), d.guarded)
	}
	warning := fmt.Sprintf("neither masquerade nor direct routes: %v", err)
	d.warnings, d.standing = append(d.warnings, warning), append(d.standing, warning)
	return nil
}

// applyFirewall has the rules be what they shall be, without masquerade where the kernel cannot do it.
func (d *daemon) applyFirewall(own []netip.Prefix, choices []choice) error {
	repaired, err := d.firewall.Apply(d.firewallState(own, choices))
	if errors.Is(err, firewall.ErrNoMasquerade) {
		d.noMasquerade.Store(true)
		d.trouble.say(d.log, troubleMasquerade, err)
		repaired, err = d.firewall.Apply(d.firewallState(own, choices))
	}
	if repaired {
		d.repairs.add(d.log, time.Now(), repair{kindFirewall, "nftables table inet weft"})
	}
	return err
}

// masquerades says whether pods leave the pod network under this node's address.
func (d *daemon) masquerades() bool { return d.current().Masquerade && !d.noMasquerade.Load() }

// firewallState is what of the others may come in without encapsulation, and how the pods
// in own, the blocks that this node has, get out.
func (d *daemon) firewallState(own []netip.Prefix, choices []choice) firewall.State {
	s := firewall.State{
		Tun: d.device.Name(), Underlay: d.underlay.Interface,
		PodNetworks: d.config.PodNetworks, PodCIDRs: own,
		Masquerade: d.masquerades(), Manage: d.current().Firewall == config.FirewallManage, Keep: choices == nil,
		Endpoints: d.underlay.Addresses, GossipPort: d.config.GossipPort,
	}
	for _, codec := range encap.Codecs() {
		if number, open := d.port.Number(codec); open {
			s.DataPorts = append(s.DataPorts, number)
		}
	}
	if choices == nil {
		s.Direct = slices.Collect(maps.Keys(d.routed))
	}
	for i := range choices {
		// A peer may come directly before this node has found out that it can go so.
		if len(choices[i].direct) > 0 {
			s.Direct = append(s.Direct, choices[i].prefixes...)
		}
	}
	return s
}

// hostState is what the kernel shall know: the way into the pod network, and to whom
// there is a shorter one; and that nobody else answers for this node's own blocks.
func (d *daemon) hostState(blocks []netip.Prefix, choices []choice) host.State {
	own := tunAddresses(blocks)
	source := func(to netip.Addr) netip.Addr {
		i := slices.IndexFunc(own, func(a netip.Addr) bool { return a.Is4() == to.Is4() })
		if i < 0 {
			return netip.Addr{}
		}
		return own[i]
	}
	s := host.State{Link: d.device.Name(), MTU: d.mtu, Queues: len(d.device.Queues()), Underlay: d.underlay.Interface}
	for _, a := range own {
		s.Addresses = append(s.Addresses, netip.PrefixFrom(a, a.BitLen()))
	}
	for _, p := range d.config.PodNetworks {
		if from := source(p.Addr()); from.IsValid() { // a node without blocks of a family has no pods of it
			s.Routes = append(s.Routes, host.Route{Prefix: p, Source: from})
		}
	}
	for _, p := range blocks {
		s.Routes = append(s.Routes, host.Route{Prefix: p, Unreachable: true})
	}
	if choices == nil {
		for p, via := range d.routed {
			s.Routes = append(s.Routes, host.Route{Prefix: p, Via: via, Device: d.underlay.Interface})
		}
	}
	for i := range choices {
		c := &choices[i]
		if c.cutOutside() {
			s.Routes = append(s.Routes, c.tunnel.narrowRoute())
		}
		for _, w := range c.direct {
			if from := source(w.To.Addr()); from.IsValid() {
				s.Routes = append(s.Routes, d.directRoutes(&w, from, c.mode == modeDirect)...)
			}
		}
	}
	return s
}

// directRoutes are those that w is probed by from an address of the TUN, and where w is
// taken those of its blocks. What is not bound to the underlay goes by the TUN meanwhile.
func (d *daemon) directRoutes(w *directWay, from netip.Addr, taken bool) (routes []host.Route) {
	to := netip.PrefixFrom(w.To.Addr(), w.To.Addr().BitLen())
	probe := host.Route{Prefix: to, Source: from, Via: w.via, Device: d.underlay.Interface, Probe: true}
	switch {
	case !taken && w.Mute:
		return nil
	case !taken:
		return []host.Route{{Prefix: to, Source: from}, probe}
	case !w.Mute:
		routes = append(routes, probe)
	}
	for _, p := range w.prefixes {
		// Without a source, since the kernel removes an IPv4 route with the address
		// that it names as one (fib_sync_down_addr, net/ipv4/fib_semantics.c), and the
		// TUN's goes when weftd is killed.
		routes = append(routes, host.Route{Prefix: p, Via: w.via, Device: d.underlay.Interface})
	}
	return routes
}

// narrowRoute is how the kernel sends to t's endpoint already, with the size that every
// IPv6 path takes: what may be fragmented goes by it.
func (t *tunnelWay) narrowRoute() host.Route {
	to := t.To.Addr()
	return host.Route{Prefix: netip.PrefixFrom(to, to.BitLen()), Via: t.out.Via, Device: t.out.Interface, MTU: minMTU, Marked: true}
}
