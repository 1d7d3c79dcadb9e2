package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/path"
)

// probe sends a marked packet, which is to leave by device, and says what became of it. c is nil where it stays on this node.
func (x *tracing) probe(ctx context.Context, c *choice, device string) error {
	var random [8]byte
	rand.Read(random[:]) // never fails: crypto/rand
	marker := binary.BigEndian.Uint64(random[:])
	tap, err := x.engine.Tap(dataplane.TapConfig{Filter: dataplane.Filter{Marker: markerBytes(marker)}})
	if err != nil {
		return fmt.Errorf("trace a probe: %w: end one of them first", err)
	}
	defer tap.Close()
	sniffer, err := openSniffer(markerBytes(marker))
	if err != nil {
		return fmt.Errorf("trace a probe: %w", err)
	}
	defer sniffer.close()
	var asked *path.Way
	if c != nil && !c.static {
		way := c.way()
		asked = &way
	}
	j, err := x.travel(ctx, tap, sniffer, asked, marker)
	if err != nil {
		x.step("probe", control.TraceFails, err.Error(), "see whether a firewall's output chain, or another program's route, refuses it")
		return nil
	}
	x.near(&j, c, device)
	if c != nil && x.Arrives != control.TraceFails {
		x.far(&j, c)
	}
	if x.Arrives != control.TraceFails {
		x.answer(&j)
	}
	return nil
}

// near says what this node did with the probe.
func (x *tracing) near(j *journey, c *choice, device string) {
	const kernel, weftd = "kernel, sending", "weftd, sending"
	switch {
	case len(j.left) == 0:
		x.step(kernel, control.TraceFails, "the probe did not leave by "+device, "see whether a firewall's output or postrouting chain drops it: `nft list ruleset`; or nobody answers for the next hop: `ip neigh`")
	case !slices.Contains(j.left, device):
		x.step(kernel, control.TraceFails, fmt.Sprintf("the probe left by %s, and its way is by %s", j.left[0], device), "see `ip rule`, and `ip route get "+x.Destination.Address.String()+"`")
	case c == nil:
		x.step(kernel, control.TraceOK, "handed the probe to "+device, "")
	case c.mode == modeDirect:
		x.step(kernel, control.TraceOK, fmt.Sprintf("sent the probe directly to %s by %s", c.to.Addr(), device), "")
	case j.dropped:
		x.step(weftd, control.TraceFails, fmt.Sprintf("drops the probe as %s: %s", j.reason, j.reason.Explanation()), "see `weft drops`, and `weft capture --drops="+j.reason.String()+"`")
	case !j.sent:
		x.step(weftd, control.TraceFails, "has not read the probe from "+device, "see `weft status`")
	default:
		x.step(weftd, control.TraceOK, fmt.Sprintf("read the probe from %s and sent it to %s", device, c.to), "")
	}
}

// far says what the other node did with it.
func (x *tracing) far(j *journey, c *choice) {
	s, answered := j.far, j.answered && j.answer.tells(x.Destination.Address)
	receiver, direct := "weftd, receiving", c.mode == modeDirect
	if direct {
		receiver = "kernel, receiving"
	}
	inKernel := direct || s.Has(path.Delivered)
	fails := func(what, detail, fix string) {
		if j.answered {
			detail += "; " + j.answer.String() + " came back"
		}
		x.stepAt(c.name, what, control.TraceFails, detail, fix)
	}
	switch {
	case c.static:
		x.stepAt(c.name, "other node", control.TraceUnknown, "does not run weft, and cannot be asked", "")
	case !j.heard, !s.Has(path.Watching), direct && !s.Has(path.Sniffing):
		x.stepAt(c.name, receiver, control.TraceUnknown, "does not say what it saw: it may be of an older version, lack CAP_NET_RAW, be busy with another trace, or not be reached", "see `weft ping "+c.name+"`")
	case s.Has(path.Dropped):
		name, why := "a reason that this version does not know", ""
		if r, ok := reasonNamed(s.Reason()); ok {
			name, why = r.String(), ": "+r.Explanation()
		}
		fails(receiver, "drops the probe as "+name+why, fmt.Sprintf("see `weft capture --peer %s` on %s", x.config.NodeName, c.name))
	case answered:
		x.stepAt(c.name, receiver, control.TraceOK, "received the probe, and handed it on", "")
	case !s.Has(path.Arrived):
		fails("underlay", fmt.Sprintf("the probe left for %s, and did not arrive, while questions did", c.to), x.between(c))
	case inKernel && !s.Has(path.Routed):
		fails("route on the receiving node", "its kernel has no route to a pod with "+x.Destination.Address.String(), "see whether the pod runs: `weft ipam list` on "+c.name)
	case inKernel && s.Has(path.Sniffing) && !s.Has(path.Forwarded):
		fails("forwarding on the receiving node", "the probe came in by the underlay, and the kernel did not hand it to the pod's device", "see whether a firewall's forward chain drops it: `nft list ruleset` on "+c.name+"; or the pod does not answer for its address: `ip neigh`")
	case !inKernel:
		x.stepAt(c.name, receiver, control.TraceUnknown, "received the probe, and has not handed it to its kernel", "see `weft status` on "+c.name)
	default:
		x.stepAt(c.name, receiver, control.TraceOK, "received the probe, and handed it to its kernel, which sent it to a pod's device", "")
	}
}

// between is where to look for what is lost between the nodes.
func (x *tracing) between(c *choice) string {
	if c.mode == modeDirect {
		return fmt.Sprintf("see whether a firewall between the nodes drops packets of pods' addresses; `tcpdump -ni any host %s` on both; `mode: udp` does without", x.Destination.Address)
	}
	return fmt.Sprintf("see whether a firewall between the nodes tells flows of UDP port %d apart; `tcpdump -ni any udp port %[1]d` on both", c.to.Port())
}

// answer says what the destination made of it, and whether that came back.
func (x *tracing) answer(j *journey) {
	const what, back = "destination", "answer"
	to := x.Destination
	reached := j.far.Has(path.Forwarded) || j.far.Has(path.Routed|path.Delivered) || to.Node == x.config.NodeName
	switch {
	case j.answered && !j.answer.tells(to.Address):
		x.stepAt(to.Node, what, control.TraceFails, "the answer is "+j.answer.String(), "see whether a firewall refuses it: `nft list ruleset` on "+to.Node)
	case j.answered && x.device != "" && !j.returned:
		x.step(back, control.TraceFails, "it came back to this node, whose kernel did not hand it to "+x.device, "see whether a firewall's forward chain drops it: `nft list ruleset`")
	case j.answered:
		said := "answered: nothing listens on its UDP port %d"
		if !j.answer.icmp {
			said = "answered from its UDP port %d"
		}
		x.stepAt(to.Node, what, control.TraceOK, fmt.Sprintf(said, tracePort), "")
		x.Arrives, x.Verdict = control.TraceOK, fmt.Sprintf("arrives at %s on %s, and answers come back", to.Address, to.Node)
	case j.far.Has(path.Answered):
		x.step(back, control.TraceFails, "the destination answered, and that did not get back to here", "see `weft trace` from there, and `weft drops` here")
	case reached:
		x.stepAt(to.Node, what, control.TraceUnknown, fmt.Sprintf("did not answer: a firewall of its own may drop the probe, something may listen on its UDP port %d, or it may have answered another a moment ago", tracePort), "see `weft doctor` on "+to.Node)
		x.Verdict = fmt.Sprintf("is handed to %s on %s, which says nothing", to.Address, to.Node)
	default:
		x.Verdict = fmt.Sprintf("leaves for %s, and nothing is heard of it after that", to.Node)
	}
}
