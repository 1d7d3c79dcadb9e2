package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/membership"
)

// vlanTag is how many bytes of a segment's default MTU are left to a VLAN tag.
const vlanTag = 4

// ethernetHeader is that of a frame without tags, in bytes.
const ethernetHeader = 14

// tapped is a segment of the configuration, with its TAP.
type tapped struct {
	config.Segment
	tap *device.TAP
}

func (t *tapped) part() string    { return partTAP + t.Name }
func (t *tapped) trouble() string { return "segment " + t.Name + " is not as it should be" }

// openTAPs makes the TAPs of all segments, or takes over those of the process before. Those of segments
// that are none any more are deleted.
func (d *daemon) openTAPs(queues int) error {
	if d.taps != nil { // of the life before
		return nil
	}
	left, err := d.host.SegmentsLeft()
	if err != nil {
		return err
	}
	for _, s := range d.config.Segments {
		t := &tapped{Segment: s}
		if err := d.openTAP(t, queues, slices.Contains(left, s.Device())); err != nil {
			return fmt.Errorf("segment %s (%s): %w", s.Name, d.config.Source("segments"), err)
		}
		d.taps = append(d.taps, t)
	}
	for _, name := range left {
		if !slices.ContainsFunc(d.config.Segments, func(s config.Segment) bool { return s.Device() == name }) {
			if err := d.host.Discard(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *daemon) openTAP(t *tapped, queues int, left bool) (err error) {
	fresh := true
	if given := d.succession.left.Take(t.part()); len(given) > 0 {
		if t.tap, err = device.AdoptTAP(given, t.Device(), queues, d.wanted); err != nil {
			if err := d.unfit("the TAP of segment "+t.Name, t.part(), err); err != nil {
				return err
			}
		}
		fresh = err != nil
	} else if left {
		if t.tap, err = device.ReopenTAP(t.Device(), queues, d.wanted); err == nil {
			fresh = false
			d.bequeath(t.part(), t.tap.Descriptors(), true)
		}
	}
	if fresh {
		if err := d.host.Discard(t.Device()); err != nil { // what was unfit
			return err
		}
		if t.tap, err = device.OpenTAP(t.Device(), queues, d.wanted); err != nil {
			return err
		}
		d.bequeath(t.part(), t.tap.Descriptors(), true)
	}
	return t.tap.Persist()
}

// closeTAPs closes them when the daemon ends.
func (m *machine) closeTAPs() error {
	var errs []error
	for _, t := range m.taps {
		if m.succession.stays {
			errs = append(errs, t.tap.Leave())
		} else {
			errs = append(errs, t.tap.Close())
		}
	}
	m.taps = nil
	return errors.Join(errs...)
}

// tapQueues are the queues of all TAPs for worker i.
func (d *daemon) tapQueues(i int) (all []dataplane.Tapped) {
	for _, t := range d.taps {
		all = append(all, dataplane.Tapped{VNI: t.VNI, Queue: t.tap.Queues()[i]})
	}
	return all
}

// frameMTU is what is left of a path for what follows a frame's Ethernet header, in bytes.
func frameMTU(path int, to netip.Addr) int {
	return min(path, encap.MaxPayload) - outerHeaders(to) - encap.FrameOverhead - ethernetHeader
}

// segmentMTU is that of a segment's TAP.
func (d *daemon) segmentMTU(s *config.Segment) int {
	if s.MTU != 0 {
		return s.MTU
	}
	mtu := d.underlay.MTU
	for _, a := range d.underlay.Addresses {
		mtu = min(mtu, frameMTU(d.underlay.MTU, a)-vlanTag)
	}
	return max(alignedMTU(mtu), minMTU)
}

// keepSegments brings the kernel's part of the segments to the configuration.
func (d *daemon) keepSegments() {
	for _, t := range d.taps {
		changed, err := d.keepSegment(t)
		if d.wired[t.Name] && len(changed) > 0 {
			var all []repair
			for _, what := range changed {
				all = append(all, repair{kindLink, what})
			}
			d.repairs.add(d.log, time.Now(), all...)
		}
		d.trouble.say(d.log, t.trouble(), err)
		d.wired[t.Name] = err == nil
	}
}

func (d *daemon) keepSegment(t *tapped) (changed []string, err error) {
	s := host.Segment{Device: t.Device(), Bridge: t.Bridge, MTU: d.segmentMTU(&t.Segment), Alias: "segment " + t.Name}
	if t.Bridge == d.underlay.Interface {
		s.Bridge = ""
		err = fmt.Errorf("bridge %s is this node's underlay, which nodes meet on already: give the segment a bridge of its own", t.Bridge)
	}
	changed, failed := d.host.KeepSegment(s)
	return changed, errors.Join(err, failed)
}

// segmentsOf is what the engine is told of the segments.
func (d *daemon) segmentsOf(view *membership.View, choices []choice) (all []dataplane.Segment) {
	for _, t := range d.taps {
		s := dataplane.Segment{VNI: t.VNI, MTU: d.segmentMTU(&t.Segment), Flood: t.Flood, Blocked: d.loops.blocked(t.VNI) != ""}
		for _, m := range d.segmentMembers(view, choices, t) {
			s.Members = append(s.Members, m.Peer)
		}
		all = append(all, s)
	}
	return all
}

// segmentMember is another node in a segment.
type segmentMember struct {
	dataplane.Peer
	name string
}

// segmentMembers are the others in a segment: members that are alive, or may be again in a moment, and the VTEPs of
// the configuration.
func (d *daemon) segmentMembers(view *membership.View, choices []choice, t *tapped) (all []segmentMember) {
	for i := range view.Members {
		m := &view.Members[i]
		if _, in := m.Segments.Find(t.VNI); !in || m.State != membership.StateUp && m.State != membership.StateGrace {
			continue
		}
		r := d.remoteOf(m)
		p := dataplane.Peer{ID: r.id, Endpoints: r.addrs(), Tunnel: encap.Tunnel{Codec: encap.VXLAN, VNI: t.VNI}, RCO: r.rco}
		path := min(d.underlay.MTU, max(r.linkMTU, minMTU))
		if to, ok := d.preferred(&r, choices, &path); ok && r.vxlanPort != 0 {
			p.To, p.MTU = netip.AddrPortFrom(to, r.vxlanPort), frameMTU(path, to)
		}
		all = append(all, segmentMember{p, r.name})
	}
	for _, to := range t.Peers {
		all = append(all, segmentMember{dataplane.Peer{
			ID: "vtep:" + to.String(), Endpoints: []netip.Addr{to.Addr()}, To: to, Foreign: true,
			Tunnel: encap.Tunnel{Codec: encap.VXLAN, VNI: t.VNI}, MTU: frameMTU(d.underlay.MTU, to.Addr()),
		}, to.String()})
	}
	return all
}

// preferred is the endpoint of r that packets go to, with what is known of the path, or else its first that this
// node can send to.
func (d *daemon) preferred(r *remote, choices []choice, path *int) (to netip.Addr, ok bool) {
	for i := range choices {
		if c := &choices[i]; c.id == r.id && c.tunnel != nil {
			if c.state.MTU > 0 && c.mode != modeDirect {
				*path = c.state.MTU
			}
			return c.tunnel.To.Addr(), true
		}
	}
	for _, a := range r.addrs() {
		if slices.ContainsFunc(d.underlay.Addresses, func(own netip.Addr) bool { return own.Is4() == a.Is4() }) {
			return a, true
		}
	}
	return to, false
}

// hear tells the engine what members have announced of their hosts, again and again, since what is not confirmed is
// forgotten.
func (d *daemon) hear(view *membership.View) {
	now := time.Now()
	for i := range view.Members {
		m := &view.Members[i]
		if m.State != membership.StateUp && m.State != membership.StateGrace { // after a restart all are of the latter
			continue
		}
		told := d.heard[m.ID]
		if told.version == m.Version && now.Sub(told.at) < hearInterval {
			continue
		}
		for _, t := range d.taps {
			claim, _ := m.Segments.Find(t.VNI)
			for _, h := range claim.Hosts {
				d.engine.Announce(t.VNI, m.ID.String(), packet.MAC(h.MAC), h.IPs)
			}
		}
		if d.heard == nil {
			d.heard = make(map[membership.ID]hearing)
		}
		d.heard[m.ID] = hearing{m.Version, now}
	}
}

// hearing is when the hosts of a member were entered, and by which of its records.
type hearing struct {
	version uint64
	at      time.Time
}

// hearInterval is less than what a FDB and those that answer for others remember.
const hearInterval = 20 * time.Second
