package main

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/path"
	"github.com/weft-net/weft/encap"
)

// site is what decides about ways on this node's side.
type site struct {
	mode      string       // of the configuration
	addresses []netip.Addr // of the underlay, one of a family
	tun       string
	underlay  string // interface
	mtu       int    // of pods
	guarded   error  // why the kernel does not guard direct routes; nil where it does
	whole     bool   // this node owns all the blocks that it claims

	// closed says of codecs why this node takes none of them: what it sends by one would
	// be answered by the same, and nothing comes in.
	closed map[encap.Codec]error

	// routed are the next hops of the direct routes that are in place, by block.
	routed map[netip.Prefix]netip.Addr

	// look says how the kernel sends to an underlay address.
	look func(netip.Addr) (host.Way, error)
}

// ways are all ways to one remote.
type ways struct {
	remote
	tunnels   []tunnelWay // the preferred first
	noTunnel  string      // why there is none
	direct    []directWay // one for each family of its blocks, or none at all
	notDirect string      // why there is none
}

type tunnelWay struct {
	path.Candidate
	codec encap.Codec
	out   host.Way // to its endpoint
}

// directWay is a next hop for the blocks of one family. It is probed from TUN to TUN,
// since a network may carry packets of node addresses and drop those of pods.
type directWay struct {
	path.Candidate
	via      netip.Addr
	prefixes []netip.Prefix
	routed   bool // its routes are in place, of this run or an earlier one
}

// waysTo finds the ways to r.
func (s *site) waysTo(r remote) ways {
	w := ways{remote: r}
	w.tunnels, w.noTunnel = s.tunnels(&r)
	w.direct, w.notDirect = s.directs(&r)
	return w
}

// tunnels are the ways with encapsulation: what the peer prefers comes first, and over
// IPv4 before IPv6.
func (s *site) tunnels(r *remote) (all []tunnelWay, why string) {
	if s.mode == config.ModeDirect {
		return nil, "mode is direct, and nothing is encapsulated"
	}
	why = fmt.Sprintf("it takes %v, and this node sends %v", r.modes, encap.Codecs())
	for _, mode := range r.modes {
		codec, known := encap.ParseCodec(mode)
		if !known || !r.takes(codec) {
			continue
		}
		if shut := s.closed[codec]; shut != nil {
			why = fmt.Sprintf("this node does not take %s: %v", codec, shut)
			continue
		}
		for _, e := range r.endpoints {
			out, err := s.reach(e.Addr())
			if err != nil {
				why = err.Error()
				continue
			}
			all = append(all, tunnelWay{codec: codec, out: out, Candidate: path.Candidate{
				Way:     path.Way{Peer: r.id, Mode: mode, To: r.at(codec, e)},
				Ceiling: r.ceiling(&out), Mute: r.static,
			}})
		}
	}
	return all, why
}

// reach is how the kernel sends to an endpoint.
func (s *site) reach(endpoint netip.Addr) (out host.Way, err error) {
	if !s.has(endpoint) {
		return out, fmt.Errorf("its endpoint %s is of a family that the underlay of this node does not have", endpoint)
	}
	if out, err = s.look(endpoint); err == nil && out.Interface == s.tun {
		err = fmt.Errorf("its endpoint %s is routed into the pod network, where packets to it would go round in circles: `ip route get %[1]s` names the route", endpoint)
	}
	return out, err
}

// ceiling is the size of the largest packet that leaves by out and that r's link takes.
func (r *remote) ceiling(out *host.Way) int {
	if r.linkMTU > 0 {
		return min(out.MTU, r.linkMTU)
	}
	return out.MTU
}

// has says whether the node has an underlay address of a's family.
func (s *site) has(a netip.Addr) bool {
	return slices.ContainsFunc(s.addresses, func(own netip.Addr) bool { return own.Is4() == a.Is4() })
}

// choice is the way that is taken to a remote.
type choice struct {
	ways
	mode  string // "direct", or a codec's name; "" where there is no way
	why   string // for people
	state path.State
	to    netip.AddrPort // where packets go on the underlay
	mtu   int            // largest inner packet that goes uncut, bytes

	// again is when to choose again, though nothing changes by then; 0 for never.
	again time.Duration

	// What the engine sends by: of a direct peer what comes before its route is in
	// place, and where it is none, nil.
	tunnel *tunnelWay
}

// way is what is probed to find out about c, which has a mode.
func (c *choice) way() path.Way {
	if c.mode == modeDirect {
		return c.direct[0].Way
	}
	return c.tunnel.Way
}

// candidates are all ways to w.
func (w *ways) candidates() (all []path.Way) {
	for _, t := range w.tunnels {
		all = append(all, t.Way)
	}
	for _, dw := range w.direct {
		all = append(all, dw.Way)
	}
	return all
}

// returnAfter is how long a way that was left must have worked before it is taken
// again, while another works: on a lossy one probes come through now and then.
const returnAfter = 10 * time.Second

// knowledge is what is known of ways at a time.
type knowledge struct {
	now   time.Time
	state func(path.Way) path.State
	left  map[path.Way]bool // ways that were taken once, and then failed
}

// rest is how long w has still to work before it is taken again; 0 where it may be.
func (k *knowledge) rest(w path.Way, s path.State) time.Duration {
	if !k.left[w] {
		return 0
	}
	return max(0, returnAfter-k.now.Sub(s.Since))
}

// choose takes the first way that works: direct where that is proven, and else the
// first tunnel that is not known to fail, since most do work.
func (w *ways) choose(podMTU int, known *knowledge) choice {
	c := choice{ways: *w, why: w.noTunnel}
	c.takeTunnel(known)
	direct, proven, why := w.provenDirect(podMTU, known.state)
	if rest := w.rest(known); proven && rest > 0 && c.tunnel != nil && c.state.Works {
		proven, why, c.again = false, "on-link, and works again, which it has yet to do for some seconds", rest
	}
	if !proven && w.kept(&c, known.state) {
		proven, why = true, why+"; kept, as nothing else works"
		if c.state.Works {
			c.again = doubtInterval
		}
	}
	switch {
	case proven:
		c.mode, c.state, c.why = modeDirect, direct, why
		c.to = netip.AddrPortFrom(w.direct[0].via, 0)
		c.mtu = min(w.mtu, podMTU)
	case c.tunnel == nil && w.notDirect == "":
		c.state, c.why = direct, why
	case c.tunnel == nil:
		c.why = w.notDirect + ", and " + w.noTunnel
	default:
		c.why += "; not direct: " + why
	}
	return c
}

// takeTunnel takes the first tunnel that is not known to fail, nor has yet to rest. Where
// there is none it takes the first that works, and where none does, the first.
func (c *choice) takeTunnel(known *knowledge) {
	for i := range c.tunnels {
		t := &c.tunnels[i]
		s := known.state(t.Way)
		rest := known.rest(t.Way, s)
		fails := s.Known && !s.Works || rest > 0
		if c.tunnel == nil || !fails || s.Works && !c.state.Works {
			c.tunnel, c.state = t, s
			if !fails {
				break
			}
		}
		if rest > 0 && s.Works {
			c.again = rest
		}
	}
	if t := c.tunnel; t != nil {
		c.mode, c.to = t.Mode, t.To
		c.mtu = min(c.ways.mtu, c.state.MTU-outerHeaders(t.To.Addr())-t.codec.Overhead())
		c.why = c.tunnelWhy(t)
	}
}

// narrow says that not even the least that IPv6 asks of a path gets through whole.
func (c *choice) narrow() bool {
	return c.tunnel != nil && c.mode != modeDirect && !c.static && c.state.Known && !c.state.Proven && c.state.MTU <= minMTU
}

// cutOutside says that IPv6 packets of up to 1280 bytes go in fragments of an outer
// IPv6 packet.
func (c *choice) cutOutside() bool {
	return c.tunnel != nil && c.mode != modeDirect && c.to.Addr().Is6() && c.mtu < minMTU
}

// tunnelWhy says why it is t, where that is not the first choice.
func (w *ways) tunnelWhy(t *tunnelWay) string {
	if first := &w.tunnels[0]; first != t {
		return fmt.Sprintf("%s to %s does not work", first.Mode, first.To)
	}
	return "the peer asks for " + t.Mode
}

// outerHeaders is what the underlay adds in front of a codec's own header: IP without
// options, and UDP, in bytes.
func outerHeaders(to netip.Addr) int {
	if to.Is4() {
		return 20 + 8
	}
	return 40 + 8
}
