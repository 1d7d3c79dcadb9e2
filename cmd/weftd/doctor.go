package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cmd/internal/doctor"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/offload"
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

// Doctor looks for what keeps pods' packets from arriving: on this machine, in weftd, and on the ways to the others.
func (d *daemon) Doctor(context.Context) (control.Diagnosis, error) {
	status, peers := d.Status(), d.Peers()
	x := examination{}
	x.state(&status)
	x.firewalls(d)
	x.peers(peers)
	x.drops(d.tally().Stats)
	x.refused(d)
	n := d.node(&status, peers)
	x.Add(doctor.Examine(n, doctor.Look(n, true)))
	return x.Diagnosis, nil
}

// node is what the machine is checked against.
func (d *daemon) node(s *control.Status, peers control.PeerList) doctor.Node {
	n := doctor.Node{
		Running: true, Tun: s.Tun.Name, MTU: s.Tun.MTU,
		Underlay: s.Underlay.Interface, UnderlayMTU: s.Underlay.MTU, UnderlayWhy: s.Underlay.Why, Named: d.config.Underlay != config.Underlay{},
		PodNetworks: s.PodNetworks, PodCIDRs: s.PodCIDRs,
		Bridge: d.config.CNIWiring == config.WiringBridge, CNIConfDir: d.config.CNIConfDir, Conflist: conflistName,
	}
	for _, p := range peers.Peers {
		if p.State == control.PeerUp && p.Endpoint.IsValid() {
			n.Peers = append(n.Peers, doctor.Peer{Name: p.Name, Endpoint: p.Endpoint.Addr()})
		}
	}
	return n
}

// examination is a Diagnosis being made, by what the daemon knows.
type examination struct{ doctor.Examination }

// state passes on what the daemon says of itself.
func (x *examination) state(s *control.Status) {
	x.Looked("what weftd itself warns of")
	switch s.State {
	case control.StateReady:
	case control.StateStarting:
		x.Find(control.LevelWarning, "W005", "this node carries no packets yet: "+s.Reason, "see `journalctl -u weftd` if it stays so")
	default:
		x.Find(control.LevelProblem, "W005", fmt.Sprintf("this node is %s: %s", s.State, s.Reason), "see `weft status` and `journalctl -u weftd`")
	}
	for _, w := range s.Warnings {
		if !strings.HasPrefix(w, troubleShadowed) { // the networks of runtimes are a check of their own
			x.Find(control.LevelWarning, "W004", w, "see `journalctl -u weftd`")
		}
	}
	if n := s.Gossip.KeyMismatches; n > 0 {
		x.Find(control.LevelWarning, "W506", fmt.Sprintf("%d messages came whose gossip key is not this cluster's", n),
			"give each node the key that `weft key export` prints on one that is in the cluster")
	}
	if s.VXLAN.Closed != "" {
		x.Find(control.LevelWarning, "W602", "this node takes no VXLAN: "+s.VXLAN.Closed,
			fmt.Sprintf("see who has the port with `ss -ulnp 'sport = :%d'`, and end that, or set vxlanPort to another", s.VXLAN.Port))
	}
}

func (x *examination) firewalls(d *daemon) {
	x.Looked("this host's firewall")
	if d.guarded != nil {
		x.Find(control.LevelWarning, "W403", d.guarded.Error(), "load the kernel module nf_tables: direct routes and masquerade need it")
		return
	}
	found, err := d.firewall.Findings()
	if err != nil {
		x.Find(control.LevelWarning, "W402", "the host's firewall could not be looked at: "+err.Error(), "run `nft list ruleset` and look for forward chains with policy drop")
	}
	for _, f := range found {
		x.Find(control.LevelProblem, "W401", f.What, f.Fix)
	}
}

// lossy is what probes lose on a bad way, and hardly by chance.
const lossy = 0.1

func (x *examination) peers(l control.PeerList) {
	x.Looked("the data path to each node")
	for _, p := range l.Peers {
		switch {
		case p.State == control.PeerUp && p.DataPath == control.DataFails && p.Mode == modeDirect:
			x.Find(control.LevelProblem, "W501", fmt.Sprintf("%s answers gossip, but no probe, neither directly nor by a tunnel", p.Name),
				"see whether weftd runs there, and whether a firewall drops its data ports and pods' addresses")
		case p.State == control.PeerUp && p.DataPath == control.DataFails:
			x.Find(control.LevelProblem, "W502", fmt.Sprintf("%s answers gossip, but no probe on its data port: %s to %s does not get through", p.Name, p.Mode, p.Endpoint),
				fmt.Sprintf("open UDP port %d between the nodes, both ways, in host firewalls and the cloud's security groups", p.Endpoint.Port()))
		case p.State == control.PeerUp && p.Mode == "":
			x.Find(control.LevelProblem, "W503", fmt.Sprintf("nothing can be sent to %s: %s", p.Name, p.Why), "let the modes of the two nodes have one in common, or give them endpoints of one family")
		case p.PathProven && p.PathMTU < minMTU+100 && !p.Static:
			x.Find(control.LevelWarning, "W504", fmt.Sprintf("the path to %s takes packets of %d bytes only", p.Name, p.PathMTU), "look for a tunnel or VPN on the way; larger packets are cut, which costs throughput")
		case p.DataPath == control.DataWorks && p.Loss >= lossy:
			x.Find(control.LevelWarning, "W507", fmt.Sprintf("of the last probes to %s %.0f%% were lost", p.Name, 100*p.Loss),
				fmt.Sprintf("look for congestion and bad links between the nodes: `weft ping %s` and `ping %s`", p.Name, p.Endpoint.Addr()))
		}
	}
}

// telling are the drops that somebody should do something about. A VXLAN device that
// learns sends multicast for ever, therefore wrong-vtep is none of them.
// Immutable.
var telling = []dataplane.Reason{dataplane.WrongVNI, dataplane.Unsegmented, dataplane.UnderlayRefused, dataplane.Fenced}

func (x *examination) drops(s dataplane.Stats) {
	x.Looked("the account of dropped packets")
	for _, r := range telling {
		if n := s.Egress.Drops[r] + s.Ingress.Drops[r]; n > 0 {
			x.Find(control.LevelWarning, "W505", fmt.Sprintf("%d packets were dropped as %s since weftd started", n, r), r.Explanation())
		}
	}
}

// refused are the offloads that the configuration allows, and the kernel does not do.
func (x *examination) refused(d *daemon) {
	x.Looked("what the kernel does for the packet path")
	for _, f := range offload.Features() {
		if why := d.refused(f); why != nil && d.wanted.Has(f) {
			x.Find(control.LevelWarning, "W204", fmt.Sprintf("packets go without %s, and slower: %v", f, why),
				fmt.Sprintf("a later kernel may do it; `offloadExcept: [%s]` says that it is to be so", f))
		}
	}
}
