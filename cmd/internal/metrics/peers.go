package metrics

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weft-net/weft/cmd/internal/control"
)

// maxPeers is how many peers have series of their own, some 10 each. In a cluster of more nodes, where each is to
// show all others, the sum over the cluster is what a Prometheus server holds.
const maxPeers = 1000

// Immutable.
var (
	peers      = desc("peers", "Other nodes, by the state they are in.", "state")
	dataPaths  = desc("peers_data_path", "Other nodes that are up, by whether the way to them works: works, unknown or fails.", "data_path")
	modes      = desc("peers_mode", "Other nodes, by how packets travel to them: direct, udp, vxlan or none.", "mode")
	withoutOwn = desc("peers_without_series", "Other nodes that have no series of their own, since there are more than 1000. What peers, peers_data_path and peers_mode count has them too.")
)

// Immutable.
var (
	peerInfo     = ofPeer("info", "How it stands with a peer; always 1.", "state", "mode", "data_path", "endpoint")
	peerUp       = ofPeer("up", "Whether the peer is up by gossip; a static peer always is.")
	peerReach    = ofPeer("reachable", "Whether probes on the way to the peer are answered; without a value where none could be answered yet.")
	peerRTT      = ofPeer("rtt_seconds", "Round trip of probes on the data port, smoothed.")
	peerLoss     = ofPeer("loss_ratio", "Share of the last probes that were lost, 0 to 1.")
	peerPathMTU  = ofPeer("path_mtu_bytes", "Largest outer packet that the path to the peer takes.")
	peerMTU      = ofPeer("mtu_bytes", "Largest inner packet that is sent to the peer whole.")
	peerSent     = ofPeer("transmit_packets_total", "Inner packets that weftd sent to the peer; the kernel's own direct routes pass it by.")
	peerSentB    = ofPeer("transmit_bytes_total", "Bytes of these.")
	peerReceived = ofPeer("receive_packets_total", "Inner packets of the peer that weftd took.")
	peerReceivB  = ofPeer("receive_bytes_total", "Bytes of these.")
)

// Immutable. The values of labels, each of which has a series.
var (
	peerStates    = []string{control.PeerUp, control.PeerGrace, control.PeerDown, control.PeerRefused, control.PeerReplaced, control.PeerLeft}
	peerDataPaths = []string{control.DataWorks, control.DataUnknown, control.DataFails}
	peerModes     = []string{"direct", "udp", "vxlan", noMode}
)

// noMode is the label of a peer to which nothing is sent.
const noMode = "none"

// ofPeer describes a family with a series for each peer. A name need not be unique, an ID is.
func ofPeer(name, help string, labels ...string) *prometheus.Desc {
	return desc("peer_"+name, help, append([]string{"peer", "peer_id"}, labels...)...)
}

// peers shows the other nodes, all in sums, and of the first maxPeers by their IDs each.
func (s sink) peers(all []control.Peer) {
	states, paths, ways := tally(peerStates), tally(peerDataPaths), tally(peerModes)
	for i := range all {
		states[all[i].State]++
		ways[mode(&all[i])]++
		if all[i].State == control.PeerUp && !all[i].Static {
			paths[all[i].DataPath]++
		}
	}
	s.tally(peers, states)
	s.tally(dataPaths, paths)
	s.tally(modes, ways)

	own := all
	if len(all) > maxPeers {
		own = slices.Clone(all)
		slices.SortFunc(own, func(a, b control.Peer) int { return strings.Compare(a.ID, b.ID) })
		own = own[:maxPeers]
	}
	s.gauge(withoutOwn, float64(len(all)-len(own)))
	for i := range own {
		s.peer(&own[i])
	}
}

// peer shows one peer. What is not known has no series.
func (s sink) peer(p *control.Peer) {
	endpoint := ""
	if p.Endpoint.IsValid() {
		endpoint = p.Endpoint.String()
	}
	s.gauge(peerInfo, 1, p.Name, p.ID, p.State, mode(p), p.DataPath, endpoint)
	s.gauge(peerUp, flag(p.State == control.PeerUp), p.Name, p.ID)
	if p.DataPath != control.DataUnknown {
		s.gauge(peerReach, flag(p.DataPath == control.DataWorks), p.Name, p.ID)
		s.gauge(peerLoss, p.Loss, p.Name, p.ID)
	}
	if p.RTT > 0 {
		s.gauge(peerRTT, time.Duration(p.RTT).Seconds(), p.Name, p.ID)
	}
	if p.Mode != "" {
		s.gauge(peerMTU, float64(p.MTU), p.Name, p.ID)
		if p.PathMTU > 0 {
			s.gauge(peerPathMTU, float64(p.PathMTU), p.Name, p.ID)
		}
	}
	s.counter(peerSent, p.Tx.Packets, p.Name, p.ID)
	s.counter(peerSentB, p.Tx.Bytes, p.Name, p.ID)
	s.counter(peerReceived, p.Rx.Packets, p.Name, p.ID)
	s.counter(peerReceivB, p.Rx.Bytes, p.Name, p.ID)
}

func mode(p *control.Peer) string {
	if p.Mode == "" {
		return noMode
	}
	return p.Mode
}

// tally begins a count of each of values, and of what else may come.
func tally(values []string) map[string]int {
	counts := make(map[string]int, len(values))
	for _, v := range values {
		counts[v] = 0
	}
	return counts
}

func (s sink) tally(d *prometheus.Desc, counts map[string]int) {
	for value, n := range counts {
		s.gauge(d, float64(n), value)
	}
}
