package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/path"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/membership"
)

// saveInterval is how often the peers are made durable, where they changed: a disk
// is not written once for each of the nodes of a large cluster that starts.
const saveInterval = time.Second

// hostInterval is how often the kernel's state is compared with what it shall be,
// and brought back, where that was not announced: other programs flush routes and set links down.
const hostInterval = 10 * time.Second

// driftInterval is how often the sysctls are looked at, of whose changes the kernel tells few.
const driftInterval = time.Second

// rulesInterval is the least time between two looks at nftables' rules for changes of them:
// some programs change theirs all the time.
const rulesInterval = time.Second

// pause is the least time between two rounds: what changes meanwhile is dealt with
// together. Where a round takes longer, so does the pause, that a large cluster's start
// leaves half of a CPU.
const pause = 50 * time.Millisecond

// eventsInterval is the least time between two looks at the kernel's links, addresses and
// routes because of its events: a pod's start alone is a dozen, none of which concerns weftd,
// and where pods come one after the other they wait for what the looks take of the CPU.
const eventsInterval = 250 * time.Millisecond

// doubtInterval is how soon it is looked again where a way failed, and it is not known yet
// whether the others do.
const doubtInterval = 100 * time.Millisecond

// reconcile keeps the dataplane to what membership says and the prober finds out,
// until ctx is done. It is the single bridge between them.
func (d *daemon) reconcile(ctx context.Context) error {
	members, cancel := d.store.Subscribe()
	defer cancel()
	kernel, err := d.host.Watch(ctx)
	if err != nil {
		return err
	}
	rules, err := d.host.WatchRules(ctx)
	if err != nil {
		return err
	}
	said := newChronicle(d.log)
	save := time.NewTicker(saveInterval)
	defer save.Stop()
	check := time.NewTicker(hostInterval)
	defer check.Stop()
	drift := time.NewTicker(driftInterval)
	defer drift.Stop()
	var last time.Time // round
	round := newAlarm()
	defer round.Stop()
	look := newLookup(d.host)
	d.adopt()
	for free := time.Now(); ; { // free is when there may be another round
		select {
		case <-ctx.Done():
			d.trouble.say(d.log, troubleSave, d.store.Save())
			return nil
		case <-save.C:
			d.trouble.say(d.log, troubleSave, d.store.Save())
		case _, open := <-kernel:
			if !open && ctx.Err() == nil {
				d.log.Error("what other programs do to links and routes is noticed late from now on: the kernel's reports have ended")
			}
			if !open {
				kernel = nil
			}
			look.forget()
			round.within(max(time.Until(free), time.Until(last.Add(eventsInterval))))
		case _, open := <-rules:
			if !open {
				rules = nil // which kernel has said, or ctx
			}
			round.within(max(time.Until(free), time.Until(last.Add(rulesInterval))))
		case <-drift.C:
			if d.host.Drifted() {
				round.within(time.Until(free))
			}
		case now := <-check.C:
			view := d.store.View(now)
			d.forgetLapsed(&view, now)
			look.forget()
			d.conflist.forget()
			d.tended.forget()
			round.within(time.Until(free))
		case <-d.settings.changed:
			d.adopt()
			round.within(time.Until(free))
		case <-d.statics.changed:
			round.within(time.Until(free))
		case <-d.prober.changed:
			round.within(time.Until(free))
		case <-members:
			round.within(time.Until(free))
		case <-round.C:
			round.at = time.Time{}
			began := time.Now()
			last = began
			due := d.allot(began)
			view := d.store.View(began)
			said.tell(&view, began)
			again := d.settle(view, look.way)
			d.offer(&view)
			d.tend(claimed(view.Self))
			if due > 0 && (again == 0 || due < again) {
				again = due
			}
			free = time.Now().Add(max(pause, time.Since(began)))
			if !view.Next.IsZero() && (again == 0 || time.Until(view.Next) < again) {
				again = max(time.Until(free), time.Until(view.Next))
			}
			if again > 0 {
				round.within(again)
			}
		}
	}
}

// alarm is a timer that is set to the earliest of the times it is asked for.
type alarm struct {
	*time.Timer
	at time.Time // zero where it is not set
}

// newAlarm is due at once.
func newAlarm() *alarm { return &alarm{time.NewTimer(0), time.Now()} }

func (a *alarm) within(d time.Duration) {
	d = max(d, 0)
	if at := time.Now().Add(d); a.at.IsZero() || at.Before(a.at) {
		a.at = at
		a.Reset(d)
	}
}

// settle chooses the way to each of the others, and brings the engine, the kernel's
// routes and the firewall to that. Before the kernel sends directly its rules let the
// answers in. It is to be done again after that time, where that is not 0.
func (d *daemon) settle(view membership.View, look func(netip.Addr) (host.Way, error)) (again time.Duration) {
	choices, again := d.decide(view, look)
	blocks := d.blocks(&view)
	if d.guarded == nil {
		d.trouble.say(d.log, troubleFirewall, d.applyFirewall(view.Self.Prefixes, choices))
	}
	repaired, err := d.host.Apply(d.hostState(blocks, choices))
	d.repairs.addHost(d.log, repaired, time.Now())
	d.trouble.say(d.log, troubleHost, err)
	d.keepSegments()
	d.hear(&view)
	d.prober.at(tunAddresses(blocks))
	d.bench.at(tunAddresses(blocks))
	d.routed = nil
	if err == nil {
		d.routed = nextHops(choices)
		d.carried.Store(&blocks)
	}
	d.remember()
	return again
}

// decide chooses the way to each of the others, and brings the engine to that.
func (d *daemon) decide(view membership.View, look func(netip.Addr) (host.Way, error)) (choices []choice, again time.Duration) {
	remotes, clashes := d.remotes(view)
	d.trouble.say(d.log, troubleStatic, clashes)
	here := site{
		mode: d.current().Mode, addresses: d.underlay.Addresses, tun: d.device.Name(), underlay: d.underlay.Interface,
		mtu: d.mtu, guarded: d.guarded, whole: d.whole(&view),
		closed: d.port.Closed(), routed: d.routed, look: look,
	}
	all := make([]ways, len(remotes))
	choices = make([]choice, len(remotes))
	for i, r := range remotes {
		all[i] = here.waysTo(r)
	}
	d.prober.plan(d.station, all, d.tunnel)
	known := &knowledge{now: time.Now(), state: d.prober.state, left: d.left}
	for i := range all {
		choices[i] = all[i].choose(d.mtu, known)
		if next := choices[i].again; next > 0 && (again == 0 || next < again) {
			again = next
		}
	}
	d.prober.took(choices)
	d.note(choices)

	if err := d.engine.Apply(d.desired(view, choices)); err != nil {
		d.log.Error("the dataplane keeps its former peers", "reason", err)
	}
	d.choices.Store(&choices)
	return choices, again
}

// desired is the dataplane for a view and the ways that were chosen. A node whose own
// claim lost a conflict owns nothing, so that it neither sends from nor takes for the block.
func (d *daemon) desired(view membership.View, choices []choice) dataplane.Config {
	c := dataplane.Config{
		PodCIDRs:  view.Self.Prefixes,
		Addresses: tunAddresses(d.blocks(&view)),
		Endpoints: d.underlay.Addresses,
		Station:   d.station,
		MTU:       d.mtu,
		ClampMSS:  d.current().ClampMSS,
		Segments:  d.segmentsOf(&view, choices),
	}
	for i := range choices {
		w := &choices[i]
		p := dataplane.Peer{
			ID: w.id, Endpoints: w.addrs(), PodCIDRs: w.prefixes, MTU: w.mtu, Fragment: w.narrow(), RCO: w.rco, Foreign: w.static,
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

// note logs each way that is another than before, and remembers those that were left
// because they fail.
func (d *daemon) note(choices []choice) {
	before, left := d.chosen(), make(map[path.Way]bool)
	for i := range choices {
		c := &choices[i]
		was := before[c.id]
		if was == nil || was.mode != c.mode || was.to != c.to || was.mtu != c.mtu {
			d.log.Info("way", "node", c.name, "mode", c.mode, "to", c.to, "mtu", c.mtu, "why", c.why)
		}
		for _, w := range c.candidates() {
			s := d.prober.state(w)
			fails := s.Known && !s.Works
			taken := was != nil && was.mode != "" && was.way() == w
			if c.mode != "" && c.way() != w && (d.left[w] || taken && fails) {
				left[w] = true
			}
		}
	}
	d.left = left
}
