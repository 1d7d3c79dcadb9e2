package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/path"
)

// probe sends a marked packet, and says what became of it.
func (x *tracing) probe(ctx context.Context, c *choice) error {
	var random [8]byte
	rand.Read(random[:]) // never fails: crypto/rand
	marker := binary.BigEndian.Uint64(random[:])
	tap, err := x.engine.Tap(dataplane.TapConfig{Filter: dataplane.Filter{Marker: markerBytes(marker)}, Snaplen: 512})
	if err != nil {
		return fmt.Errorf("trace a probe: %w: end one of them first", err)
	}
	defer tap.Close()
	way := c.way()
	asked := &way
	if c.static {
		asked = nil
	}
	j, err := x.travel(ctx, func() error {
		return sendProbe(ctx, x.Source.Address, x.Destination.Address, markerBytes(marker))
	}, tap, asked, marker)
	if err != nil {
		x.step("probe", control.TraceFails, err.Error(), "see whether a firewall's output chain, or another program's route, refuses it")
		return nil
	}
	x.near(&j, c)
	if x.Arrives != control.TraceFails {
		x.far(&j, c)
	}
	return nil
}

// near says what this node did with the probe.
func (x *tracing) near(j *journey, c *choice) {
	switch {
	case j.dropped:
		x.step("weftd, sending", control.TraceFails, fmt.Sprintf("drops the probe as %s: %s", j.reason, j.reason.Explanation()), "see `weft drops`, and `weft capture --drops="+j.reason.String()+"`")
	case !j.read:
		x.step("TUN", control.TraceFails, "the probe did not come out of "+x.tun, "see whether a firewall's output or postrouting chain drops it: `nft list ruleset`")
	case j.sent:
		x.step("weftd, sending", control.TraceOK, fmt.Sprintf("read the probe from %s and sent it to %s", x.tun, c.to), "")
	}
}

// far says what the other node, and the destination, did with it.
func (x *tracing) far(j *journey, c *choice) {
	s, answered := j.far, j.answer == answerPort
	capture := fmt.Sprintf("see `weft capture --peer %s` on %s", x.config.NodeName, c.name)
	switch {
	case c.static:
		x.stepAt(c.name, "other node", control.TraceUnknown, "does not run weft, and cannot be asked", "")
	case !j.heard, !s.Has(path.Watching):
		x.stepAt(c.name, "weftd, receiving", control.TraceUnknown, "does not say what it saw: it may be of an older version, be busy with another trace, or not be reached", "see `weft ping "+c.name+"`")
	case s.Has(path.Dropped):
		name, why := "a reason that this version does not know", ""
		if r, ok := reasonNamed(s.Reason()); ok {
			name, why = r.String(), ": "+r.Explanation()
		}
		x.stepAt(c.name, "weftd, receiving", control.TraceFails, "drops the probe as "+name+why, capture)
	case !s.Has(path.Arrived) && !answered:
		x.stepAt(c.name, "underlay", control.TraceFails, fmt.Sprintf("the probe left for %s, and did not arrive, while questions did", c.to), fmt.Sprintf("see whether a firewall between the nodes tells flows of UDP port %d apart; `tcpdump -ni any udp port %[1]d` on both", c.to.Port()))
	case s.Has(path.Delivered) && !s.Has(path.Routed):
		x.stepAt(c.name, "route on the receiving node", control.TraceFails, fmt.Sprintf("its kernel has no route to a pod with %s", x.Destination.Address), "see whether the pod runs: `weft ipam list` on "+c.name)
	default:
		x.stepAt(c.name, "weftd, receiving", control.TraceOK, "received the probe, and handed it to its kernel, which has a route to a pod's device", "")
	}
	if x.Arrives == control.TraceFails {
		return
	}
	switch {
	case answered:
		x.stepAt(c.name, "destination", control.TraceOK, fmt.Sprintf("answered: nothing listens on its UDP port %d", tracePort), "")
		x.Arrives, x.Verdict = control.TraceOK, fmt.Sprintf("arrives at %s on %s, and answers come back", x.Destination.Address, c.name)
	case j.answer != "":
		x.stepAt(c.name, "destination", control.TraceFails, "answered with "+j.answer, capture)
	case s.Has(path.Answered):
		x.step("answer", control.TraceFails, "the destination answered, and that did not get back to here", "see `weft trace` from there, and `weft drops` here")
	case s.Has(path.Delivered):
		x.stepAt(c.name, "destination", control.TraceUnknown, "did not answer: a firewall of its own may drop the probe, something may listen on its UDP port 33434, or it may have answered another a moment ago", "see `weft doctor` on "+c.name)
		x.Verdict = fmt.Sprintf("reaches the kernel of %s, and the destination says nothing", c.name)
	default:
		x.Verdict = fmt.Sprintf("leaves for %s, and nothing is heard of it after that", c.name)
	}
}
