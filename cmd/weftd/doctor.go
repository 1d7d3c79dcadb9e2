package main

import (
	"context"
	"fmt"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/dataplane"
)

// Ping sends one probe to the node of that ID, the way its packets go.
func (d *daemon) Ping(ctx context.Context, id string) (control.Ping, error) {
	peer, err := d.Peers().Find(id)
	if err != nil {
		return control.Ping{}, err
	}
	ping := control.Ping{
		Node: peer.Name, ID: peer.ID, Endpoint: peer.Endpoint, Mode: peer.Mode, MTU: peer.MTU, PathMTU: peer.PathMTU,
	}
	c := d.chosen()[peer.ID]
	switch {
	case peer.Static:
		return ping, fmt.Errorf("%s does not run weft (it is a static peer), and answers no probes: ping one of its pods", peer.Name)
	case c == nil:
		return ping, fmt.Errorf("nothing is sent to %s: it is %s %s", peer.Name, peer.State, peer.Reason)
	case c.mode == "":
		return ping, fmt.Errorf("there is no way to %s: %s", peer.Name, c.why)
	}
	rtt, err := d.prober.ping(ctx, c.way())
	if err != nil {
		ping.Lost, ping.Reason = true, err.Error()
		return ping, nil
	}
	ping.RTT = control.Microseconds(rtt)
	return ping, nil
}

// Doctor looks for what keeps pods' packets from arriving.
func (d *daemon) Doctor(context.Context) (control.Diagnosis, error) {
	x := examination{Diagnosis: control.Diagnosis{Findings: []control.Finding{}}}
	x.firewalls(d)
	x.peers(d.Peers())
	x.drops(d.engine.Stats())
	x.warnings(d.Status().Warnings)
	return x.Diagnosis, nil
}

// examination is a Diagnosis being made.
type examination struct{ control.Diagnosis }

func (x *examination) find(level, what, fix string) {
	x.Findings = append(x.Findings, control.Finding{Level: level, What: what, Fix: fix})
}

func (x *examination) firewalls(d *daemon) {
	x.Checked = append(x.Checked, "this host's firewall")
	if d.guarded != nil {
		x.find(control.LevelWarning, d.guarded.Error(), "load the kernel module nf_tables: direct routes and masquerade need it")
		return
	}
	found, err := d.firewall.Findings()
	if err != nil {
		x.find(control.LevelWarning, "the host's firewall could not be looked at: "+err.Error(), "run `nft list ruleset` and look for forward chains with policy drop")
	}
	for _, f := range found {
		x.find(control.LevelProblem, f.What, f.Fix)
	}
}

func (x *examination) peers(l control.PeerList) {
	x.Checked = append(x.Checked, "the data path to each node")
	for _, p := range l.Peers {
		switch {
		case p.State == control.PeerUp && p.DataPath == control.DataFails && p.Mode == modeDirect:
			x.find(control.LevelProblem, fmt.Sprintf("%s answers gossip, but no probe, neither directly nor by a tunnel", p.Name),
				"see whether weftd runs there, and whether a firewall drops its data ports and pods' addresses")
		case p.State == control.PeerUp && p.DataPath == control.DataFails:
			x.find(control.LevelProblem, fmt.Sprintf("%s answers gossip, but no probe on its data port: %s to %s does not get through", p.Name, p.Mode, p.Endpoint),
				fmt.Sprintf("open UDP port %d between the nodes, both ways, in host firewalls and the cloud's security groups", p.Endpoint.Port()))
		case p.State == control.PeerUp && p.Mode == "":
			x.find(control.LevelProblem, fmt.Sprintf("nothing can be sent to %s: %s", p.Name, p.Why), "let the modes of the two nodes have one in common, or give them endpoints of one family")
		case p.PathProven && p.PathMTU < minMTU+100 && !p.Static:
			x.find(control.LevelWarning, fmt.Sprintf("the path to %s takes packets of %d bytes only", p.Name, p.PathMTU), "look for a tunnel or VPN on the way; larger packets are cut, which costs throughput")
		}
	}
}

// telling are the drops that somebody should do something about. A VXLAN device that
// learns sends multicast for ever, therefore wrong-vtep is none of them.
// Immutable.
var telling = []dataplane.Reason{dataplane.WrongVNI, dataplane.Unsegmented, dataplane.UnderlayRefused, dataplane.Fenced}

func (x *examination) drops(s dataplane.Stats) {
	x.Checked = append(x.Checked, "the account of dropped packets")
	for _, r := range telling {
		if n := s.Egress.Drops[r] + s.Ingress.Drops[r]; n > 0 {
			x.find(control.LevelWarning, fmt.Sprintf("%d packets were dropped as %s since weftd started", n, r), r.Explanation())
		}
	}
}

func (x *examination) warnings(lines []string) {
	x.Checked = append(x.Checked, "what weftd itself warns of")
	for _, w := range lines {
		x.find(control.LevelWarning, w, "see `journalctl -u weftd`")
	}
}
