package main

import (
	"context"
	"fmt"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/packet"
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
	p.watches = watches{engine: p.engine, host: h, tun: tun, all: make(map[uint64]*watch)}
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
	read, sent bool // from the TUN, to the underlay
	dropped    bool // by this node, for reason
	reason     dataplane.Reason
	far        path.Sighting // what the far node saw
	heard      bool          // it says something
	answer     string        // what came back from where the probe went: "" for nothing
}

// over says that nothing more is to be learnt.
func (j *journey) over() bool { return j.dropped || j.answer != "" || j.far.Has(path.Dropped) }

// look enters what passed this node.
func (j *journey) look(tap *dataplane.Tap) {
	_ = tap.Drain(func(c *dataplane.Captured) error {
		switch {
		case c.Dropped && c.Direction == dataplane.Out:
			j.dropped, j.reason = true, c.Reason
		case c.Direction == dataplane.Out && c.Layer == dataplane.Inner:
			j.read = true
		case c.Direction == dataplane.Out:
			j.sent = true
		case c.Layer == dataplane.Inner && !c.Dropped:
			j.answer = icmpName(c)
		}
		return nil
	})
}

// icmpName says what c, which quotes a probe, tells of it.
func icmpName(c *dataplane.Captured) string {
	const (
		protocolICMP, unreachable, portUnreachable    = 1, 3, 3
		protocolICMP6, unreachable6, portUnreachable6 = 58, 1, 4
	)
	var kind, code, protocol byte
	var h packet.Header
	if len(c.Data) == c.Length && packet.ParseInto(c.Data, &h) && len(c.Data) >= h.Transport+2 {
		protocol, kind, code = h.Protocol, c.Data[h.Transport], c.Data[h.Transport+1]
	}
	switch {
	case protocol == protocolICMP && kind == unreachable && code == portUnreachable,
		protocol == protocolICMP6 && kind == unreachable6 && code == portUnreachable6:
		return answerPort
	case protocol == protocolICMP || protocol == protocolICMP6:
		return fmt.Sprintf("an ICMP error (type %d, code %d) from %s", kind, code, c.Src)
	}
	return "a packet from " + c.Src.String()
}

// answerPort says that the probe has arrived: its destination has no such port.
const answerPort = "port unreachable"

// travel sends probes marked so, and finds out what becomes of them; there is a far node to be asked where w is not nil.
func (d *daemon) travel(ctx context.Context, probe func() error, tap *dataplane.Tap, w *path.Way, marker uint64) (j journey, err error) {
	ctx, cancel := context.WithTimeout(ctx, traceFor)
	defer cancel()
	tick := time.NewTicker(askInterval)
	defer tick.Stop()
	var sent time.Time
	ask := func() {
		if w != nil {
			if seen, heard := d.prober.ask(*w, marker); heard {
				j.far, j.heard = seen, true
			}
		}
	}
	if w != nil {
		defer d.prober.unask(marker)
	}
	ask() // so that it looks before the probe comes
	for begun := time.Now(); ; {
		// A node that does not say that it looks is waited for once.
		ready := w == nil || j.heard || time.Since(begun) > probeInterval
		if ready && time.Since(sent) > probeInterval && !j.far.Has(path.Delivered) {
			if err := probe(); err != nil {
				return j, err
			}
			sent = time.Now()
		}
		select {
		case <-ctx.Done():
			return j, nil
		case <-tick.C:
		}
		j.look(tap)
		ask()
		if j.over() && (w == nil || j.far.Has(path.Delivered) || j.dropped || j.far.Has(path.Dropped)) {
			return j, nil
		}
	}
}
