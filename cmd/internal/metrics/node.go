package metrics

import (
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/membership"
)

// Immutable.
var (
	buildInfo = desc("build_info", "Which weftd this is; always 1.", "version", "goversion")
	nodeInfo  = desc("node_info", "Which node this is, and how it is set up; always 1.", "node", "node_id", "mode", "tunnel", "interface")
	state     = desc("state", "1 for the state that the node is in, 0 for all others; it carries packets as it should in the state ready.", "state")
	warnings  = desc("warnings", "Warnings that `weft status` shows.")

	underlayMTU = desc("underlay_mtu_bytes", "MTU of the underlay's interface.")
	tunMTU      = desc("tun_mtu_bytes", "MTU of the TUN device, and of the pods.")
	offloads    = desc("offload_enabled", "Whether the kernel does this part of the work for the packet path; `weft status` says why not.", "feature")
	workers     = desc("workers", "Threads that carry packets.")
	stuck       = desc("workers_stuck", "Threads that carry packets and do not go on, though they were woken.")
)

// Immutable. The states of a node.
var states = []string{control.StateStarting, control.StateReady, control.StateImpaired, control.StateFenced, control.StateLeaving}

// node shows how this node is set up, and whether it works.
func (s sink) node(n control.Status, in Internals) {
	s.gauge(buildInfo, 1, n.Version, runtime.Version())
	s.gauge(nodeInfo, 1, n.Node.Name, n.Node.ID, n.Mode, n.Tunnel, n.Underlay.Interface)
	is := tally(states)
	is[n.State] = 1
	s.tally(state, is)
	s.gauge(warnings, float64(len(n.Warnings)))

	s.gauge(underlayMTU, float64(n.Underlay.MTU))
	s.gauge(tunMTU, float64(n.Tun.MTU))
	for _, feature := range n.Offload.On {
		s.gauge(offloads, 1, feature)
	}
	for feature := range n.Offload.Off {
		s.gauge(offloads, 0, feature)
	}
	s.gauge(workers, float64(n.Offload.Workers))
	s.gauge(stuck, float64(in.Stuck))
}

// Immutable.
var (
	blocks      = desc("blocks", "Blocks of the pod network that this node claims: held, tentative (announced and not held yet) or lost (another node has them).", "state")
	lostPods    = desc("lost_block_pods", "Pods of this node whose addresses are in lost blocks, and which nobody reaches.")
	blockWanted = desc("block_missing", "Whether this node waits for a block of the pod network.")
	settled     = desc("settled", "Whether this node has part in the cluster's history.")

	members       = desc("gossip_members", "Nodes that are alive by gossip, this one included.")
	keyMismatches = desc("gossip_key_mismatches_total", "Messages that no gossip key of this node opens.")
	rejected      = desc("gossip_rejected_records_total", "Records of other nodes that were refused, by why.", "reason")
)

// Immutable. Each has a series from the start, so that the first record of a kind is an increase.
var rejects = []membership.Reject{
	membership.RejectFraming, membership.RejectSize, membership.RejectSignature, membership.RejectFormat,
	membership.RejectIdentity, membership.RejectFields, membership.RejectFull, membership.RejectAuthority,
}

// membership shows what this node owns, and how it finds the others.
func (s sink) membership(n control.Status) {
	lost := 0
	for _, b := range n.Allocation.Lost {
		lost += len(b.Pods)
	}
	s.gauge(blocks, float64(len(n.PodCIDRs)), "held")
	s.gauge(blocks, float64(len(n.Allocation.Tentative)), "tentative")
	s.gauge(blocks, float64(len(n.Allocation.Lost)), "lost")
	s.gauge(lostPods, float64(lost))
	s.gauge(blockWanted, flag(n.Allocation.Waiting != ""))
	s.gauge(settled, flag(n.Settled))

	s.gauge(members, float64(n.Gossip.Members))
	s.counter(keyMismatches, n.Gossip.KeyMismatches)
	counts := make(map[string]uint64)
	for _, reason := range rejects {
		counts[string(reason)] = 0
	}
	maps.Copy(counts, n.Gossip.Rejected)
	for reason, count := range counts {
		s.counter(rejected, count, reason)
	}
}

// Immutable.
var (
	repairs     = desc("repairs_total", "What other programs had changed of weft's in the kernel, and weft put back, by what it was.", "kind")
	takeovers   = desc("takeovers_total", "How often a weftd went on with the TUN and the sockets that another left, by who kept them and how it went.", "from", "result")
	takeoverGap = desc("takeover_gap_seconds", "How long packets waited in the kernel during the last hand-over; 0 where there was none.")
)

// upkeep shows what was done to keep things as they are.
func (s sink) upkeep(in Internals) {
	for kind, count := range in.Repairs {
		s.counter(repairs, count, kind)
	}
	byKind := func(a, b Takeover) int { return strings.Compare(a.From+a.Result, b.From+b.Result) }
	for _, t := range slices.SortedFunc(maps.Keys(in.Takeovers), byKind) {
		s.counter(takeovers, in.Takeovers[t], t.From, t.Result)
	}
	s.gauge(takeoverGap, in.TakeoverGap.Seconds())
}
