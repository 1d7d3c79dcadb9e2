package main

import (
	"context"
	"slices"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/path"
)

const (
	// traceFor is how long what became of a probe is waited for, and askInterval how often the far node is asked.
	traceFor    = 2 * time.Second
	askInterval = 100 * time.Millisecond

	// probeInterval is how long after a probe of which nothing was heard the next is sent: one may be lost.
	probeInterval = 500 * time.Millisecond
)

// testify has p answer peers that trace a packet to here. It is called before run.
func (p *prober) testify(h *host.Host, tun string) {
	p.watches = watches{engine: p.engine, host: h, tun: tun, underlay: p.underlay, all: make(map[uint64]*watch)}
	p.tracker.Observe(p.watches.observe)
}

func (p *prober) unwatch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watches.close()
}

// ask asks the peer of w what it has seen of marker, and returns what it last said; ok is false where it has not. Any
// goroutine may call it, and unask after the last.
func (p *prober) ask(w path.Way, marker uint64) (seen path.Sighting, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.send(w, p.tracker.Ask(w.Peer, marker), 0) // it is asked again
	return p.tracker.Heard(marker)
}

func (p *prober) unask(marker uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker.Unask(marker)
}

// journey is what both nodes saw of a probe.
type journey struct {
	left     []string // devices of this node's that it went out by
	sent     bool     // by weftd, to the underlay
	dropped  bool     // by weftd, for reason
	reason   dataplane.Reason
	far      path.Sighting // what the far node saw
	heard    bool          // it says something
	answered bool
	answer   marked // what came of it
	returned bool   // the answer went out to the device of the pod that sent the probe
}

// over says that nothing more is to be learnt; local is a source that is this node itself.
func (j *journey) over(local bool) bool {
	return j.dropped || j.far.Has(path.Dropped) || j.answered && (j.returned || local)
}

// look enters what passed this node.
func (j *journey) look(tap *dataplane.Tap, sniffer *sniffer) {
	_ = tap.Drain(func(c *dataplane.Captured) error {
		switch {
		case c.Direction != dataplane.Out:
		case c.Dropped:
			j.dropped, j.reason = true, c.Reason
		case c.Layer == dataplane.Outer:
			j.sent = true
		}
		return nil
	})
	sniffer.drain(func(s sniffed) {
		switch {
		case !s.probe:
			j.answered, j.answer = true, s.marked
			j.returned = j.returned || s.out
		case s.out && !slices.Contains(j.left, s.device):
			j.left = append(j.left, s.device)
		}
	})
}

// travel sends probes with marker, and finds out what becomes of them; there is a far node to be asked where w is not nil.
func (x *tracing) travel(ctx context.Context, tap *dataplane.Tap, sniffer *sniffer, w *path.Way, marker uint64) (j journey, err error) {
	tick := time.NewTicker(askInterval)
	defer tick.Stop()
	ask := func() {
		if w != nil {
			j.far, j.heard = x.prober.ask(*w, marker)
		}
	}
	if w != nil {
		defer x.prober.unask(marker)
		ask()
		for begun := time.Now(); !j.ready(time.Since(begun)) && ctx.Err() == nil; ask() {
			<-tick.C
		}
	}
	var sent time.Time
	for begun, over := time.Now(), false; time.Since(begun) < traceFor && ctx.Err() == nil; {
		if !over && time.Since(sent) > probeInterval && !j.far.Has(path.Forwarded) {
			if err := sendProbe(ctx, x.Source.Address, x.Destination.Address, markerBytes(marker)); err != nil {
				return j, err
			}
			sent = time.Now()
		}
		<-tick.C
		j.look(tap, sniffer)
		ask()
		if over { // and the far node was asked once more since
			break
		}
		over = j.over(x.device == "")
	}
	return j, ctx.Err()
}

// ready says whether the probe can be sent, so long after the far node was first asked to look: it does, or is not waited for
// any longer. One that has just looked for another marker of this node's says that it cannot yet.
func (j *journey) ready(after time.Duration) bool {
	return j.far.Has(path.Watching) || after > probeInterval && !j.heard || after > watchFor+probeInterval
}
