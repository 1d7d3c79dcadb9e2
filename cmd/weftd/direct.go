package main

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/dataplane/path"
)

// directs are the next hops for r's blocks.
func (s *site) directs(r *remote) (all []directWay, why string) {
	switch {
	case s.mode == config.ModeUDP || s.mode == config.ModeVXLAN:
		return nil, "mode is " + s.mode
	case s.guarded != nil:
		return nil, s.guarded.Error()
	case !s.whole, !r.whole:
		// The TUN's address, by which direct ways are proven, may be another node's.
		return nil, "one of the two nodes has lost a block to another, see `weft status` there"
	case !slices.Contains(r.modes, modeDirect):
		return nil, "it takes no packets without encapsulation"
	}
	for _, tun := range tunAddresses(r.prefixes) {
		via, ceiling, why := s.nextHop(r, tun.Is4())
		if why != "" {
			return nil, why
		}
		w := directWay{via: via, Candidate: path.Candidate{
			// The probe's port is that of the data port: one number to open in a firewall.
			Way:     path.Way{Peer: r.id, Mode: modeDirect, To: netip.AddrPortFrom(tun, r.endpoints[0].Port())},
			Ceiling: ceiling, Mute: r.static,
		}}
		for _, p := range r.prefixes {
			if p.Addr().Is4() == tun.Is4() {
				w.prefixes = append(w.prefixes, p)
			}
		}
		w.routed = !slices.ContainsFunc(w.prefixes, func(p netip.Prefix) bool { return s.routed[p] != via })
		all = append(all, w)
	}
	return all, ""
}

// nextHop is an on-link endpoint of r for packets of one family: of the same family, or
// else for IPv4 of IPv6 (RFC 5549). Linux has no IPv6 route with an IPv4 next hop.
func (s *site) nextHop(r *remote, v4 bool) (via netip.Addr, mtu int, why string) {
	why = "no endpoint of it is of a family that this node could route by"
	for _, same := range []bool{true, false} {
		for _, e := range r.addrs() {
			if (e.Is4() == v4) != same || !same && !v4 || !s.has(e) {
				continue
			}
			w, err := s.look(e)
			switch {
			case err != nil:
				why = err.Error()
			case w.Interface != s.underlay || !w.OnLink:
				why = "not on-link"
			default:
				return e, r.ceiling(&w), ""
			}
		}
	}
	return netip.Addr{}, 0, why
}

// provenDirect says whether packets of every family get to w without encapsulation, and
// why it is so. What is routed so already was proven, perhaps by an earlier run.
func (w *ways) provenDirect(podMTU int, state func(path.Way) path.State) (worst path.State, ok bool, why string) {
	if len(w.direct) == 0 {
		return path.State{}, false, w.notDirect
	}
	why = "on-link, and a probe came through"
	for i, dw := range w.direct {
		s := state(dw.Way)
		if i == 0 || s.RTT > worst.RTT {
			worst = s
		}
		switch {
		case !s.Known && dw.routed:
			why = "on-link, and routed so by an earlier run of weftd"
		case !s.Known:
			return s, false, "on-link, no probe answered yet"
		case !s.Works:
			return s, false, fmt.Sprintf("on-link, but probes to %s get lost: the network between drops pods' addresses, or the peer has no direct way back", dw.To.Addr())
		case s.MTU < podMTU:
			return s, false, fmt.Sprintf("on-link, but packets larger than %d bytes get lost", s.MTU)
		case !s.Proven && !dw.Mute && !dw.routed:
			return s, false, "on-link, no probe of full size answered yet"
		}
	}
	return worst, true, why
}

// rest is the longest of the direct ways' rests.
func (w *ways) rest(known *knowledge) (longest time.Duration) {
	for _, dw := range w.direct {
		longest = max(longest, known.rest(dw.Way, known.state(dw.Way)))
	}
	return longest
}

// kept says that packets go directly although no probe says so now, because they could
// before, and the tunnel of c is no better. So it is where the peer's weftd has ended, while
// its kernel goes on forwarding: the probes of all ways are then missed at about the same time.
func (w *ways) kept(c *choice, state func(path.Way) path.State) bool {
	routed := true
	for _, dw := range w.direct {
		if !dw.routed && !state(dw.Way).Proven {
			return false
		}
		routed = routed && dw.routed
	}
	return len(w.direct) > 0 && (c.tunnel == nil || c.state.Known && !c.state.Works || routed && c.state.Missed)
}
