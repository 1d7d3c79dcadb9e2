package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/dataplane/firewall"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/encap"
)

// openFirewall puts this node's own rules in place. Where the kernel cannot have them,
// packets of other nodes are not taken without encapsulation, since nobody would check
// whose they are.
func (d *daemon) openFirewall() (err error) {
	if d.firewall, err = firewall.Open(); err != nil {
		return err
	}
	d.own(d.firewall.Close)
	err = d.firewall.Apply(d.firewallState(nil))
	if err == nil {
		d.own(d.firewall.Remove)
		return nil
	}
	d.guarded = fmt.Errorf("no rules against forged packets could be put in place: %w", err)
	if d.config.Mode == config.ModeDirect {
		return fmt.Errorf("mode is direct (%s): %w", d.config.Source("mode"), d.guarded)
	}
	d.warnings = append(d.warnings, fmt.Sprintf("neither masquerade nor direct routes: %v", err))
	return nil
}

// firewallState is what of the others may come in without encapsulation, and how this
// node's pods get out.
func (d *daemon) firewallState(choices []choice) firewall.State {
	s := firewall.State{
		Tun: d.device.Name(), Underlay: d.underlay.Interface,
		PodNetworks: d.config.PodNetworks, PodCIDRs: d.config.PodCIDRs,
		Masquerade: d.config.Masquerade, Manage: d.config.Firewall == config.FirewallManage,
	}
	for _, codec := range encap.Codecs() {
		if number, open := d.port.Number(codec); open {
			s.DataPorts = append(s.DataPorts, number)
		}
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
func (d *daemon) hostState(choices []choice) host.State {
	own := tunAddresses(d.config.PodCIDRs)
	source := func(p netip.Prefix) netip.Addr {
		i := slices.IndexFunc(own, func(a netip.Addr) bool { return a.Is4() == p.Addr().Is4() })
		if i < 0 {
			return netip.Addr{}
		}
		return own[i]
	}
	s := host.State{Link: d.device.Name(), MTU: d.mtu, Underlay: d.underlay.Interface}
	for _, a := range own {
		s.Addresses = append(s.Addresses, netip.PrefixFrom(a, a.BitLen()))
	}
	for _, p := range d.config.PodNetworks {
		if source(p).IsValid() { // a node without blocks of a family has no pods of it
			s.Routes = append(s.Routes, host.Route{Prefix: p, Source: source(p)})
		}
	}
	for _, p := range d.config.PodCIDRs {
		s.Routes = append(s.Routes, host.Route{Prefix: p, Unreachable: true})
	}
	for i := range choices {
		for _, w := range choices[i].direct {
			to := netip.PrefixFrom(w.To.Addr(), w.To.Addr().BitLen())
			if !source(to).IsValid() {
				continue
			}
			if !w.Mute {
				s.Routes = append(s.Routes, host.Route{Prefix: to, Source: source(to), Via: w.via, Device: d.underlay.Interface, Probe: true})
			}
			if choices[i].mode != modeDirect {
				continue
			}
			for _, p := range w.prefixes {
				s.Routes = append(s.Routes, host.Route{Prefix: p, Source: source(p), Via: w.via, Device: d.underlay.Interface})
			}
		}
	}
	return s
}

// listenDirect opens a socket on each of the TUN's addresses, for probes without
// encapsulation. They have the data port's number.
func (d *daemon) listenDirect() (conns []*net.UDPConn, err error) {
	for _, a := range tunAddresses(d.config.PodCIDRs) {
		c, err := host.ListenProbe(netip.AddrPortFrom(a, d.config.DataPort))
		if err != nil {
			for _, c := range conns {
				_ = c.Close()
			}
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}
