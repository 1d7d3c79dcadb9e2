package metrics

import "github.com/weft-net/weft/cmd/internal/control"

// Immutable. A node has 64 segments at the most.
var (
	segments = desc("segments", "Layer-2 segments of this node, by the state that they are in: ready, impaired, or blocked (a loop was found).", "state")

	segmentMembers    = desc("segment_members", "Other members of the segment that this node knows.", "segment")
	segmentHosts      = desc("segment_hosts", "Ethernet addresses that are known in the segment: at this node (local), at a member (remote) or where is not known (unknown).", "segment", "where")
	segmentDuplicates = desc("segment_duplicates", "Ethernet addresses of the segment that two places use at once.", "segment")
	segmentFlooded    = desc("segment_flooded_frames_total", "Frames that this node sent to all members of the segment, counted once each: broadcast, multicast and unknown unicast.", "segment")
	segmentLimited    = desc("segment_flood_limited_frames_total", "Such frames that were more than the segment's limit, and dropped.", "segment")
	segmentAnswered   = desc("segment_answered_total", "ARP requests and neighbour solicitations that this node answered in place of the segment's members.", "segment")
)

// Immutable. The values of labels, each of which has a series.
var (
	segmentStates = []string{control.StateReady, control.StateImpaired, control.SegmentBlocked}
	segmentWheres = []string{"local", "remote", "unknown"}
)

// segments shows the layer-2 segments.
func (s sink) segments(all []control.Segment) {
	states := tally(segmentStates)
	for i := range all {
		states[all[i].State]++
		s.segment(&all[i])
	}
	s.tally(segments, states)
}

func (s sink) segment(g *control.Segment) {
	wheres := tally(segmentWheres)
	for _, h := range g.Hosts {
		switch {
		case h.Local:
			wheres["local"]++
		case h.Node == "":
			wheres["unknown"]++
		default:
			wheres["remote"]++
		}
	}
	for where, n := range wheres {
		s.gauge(segmentHosts, float64(n), g.Name, where)
	}
	s.gauge(segmentMembers, float64(len(g.Members)), g.Name)
	s.gauge(segmentDuplicates, float64(len(g.Duplicates)), g.Name)
	s.counter(segmentFlooded, g.Flooded, g.Name)
	s.counter(segmentLimited, g.FloodLimited, g.Name)
	s.counter(segmentAnswered, g.Answered, g.Name)
}
