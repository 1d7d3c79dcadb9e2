package report

import "strings"

// A Goal is a comparison that weft wants to come out well.
type Goal struct {
	Name   string
	Value  float64
	AtMost bool    // less is better
	Floor  float64 // what is wanted at least (or, if AtMost, at most)
	Target float64 // what is hoped for; 0 for nothing beyond the floor
}

// Verdict is "reached", "above the floor" or "missed".
func (g Goal) Verdict() string {
	reaches := func(bound float64) bool {
		if g.AtMost {
			return g.Value <= bound
		}
		return g.Value >= bound
	}
	switch {
	case g.Target != 0 && reaches(g.Target), g.Target == 0 && reaches(g.Floor):
		return reached
	case reaches(g.Floor):
		return aboveFloor
	}
	return missed
}

const (
	reached    = "reached"
	aboveFloor = "above the floor"
	missed     = "missed"
)

// Goals returns those whose scenarios and subjects have run.
func (r *Report) Goals() []Goal {
	between := func(scenario, metric, subject, other string) func() (float64, bool) {
		return func() (float64, bool) { return r.ratio(scenario, metric, subject, other) }
	}
	against := func(scenario, metric, other string) func() (float64, bool) {
		return between(scenario, metric, Own, other)
	}
	var goals []Goal
	for _, g := range []struct {
		Goal
		value func() (float64, bool)
	}{
		{Goal{Name: "TCP, 1 stream, to kernel-vxlan", Floor: 0.75, Target: 1.0}, against("tcp-1", "gbps", Baseline)},
		{Goal{Name: "TCP, 4 streams, to kernel-vxlan", Floor: 0.85, Target: 1.05}, against("tcp-4", "gbps", Baseline)},
		{Goal{Name: "TCP, 1 stream, to wireguard-go", Floor: 3.5, Target: 5}, against("tcp-1", "gbps", Rival)},
		{Goal{Name: "TCP, 1 stream, weft-vxlan to weft-udp", Floor: 0.95}, between("tcp-1", "gbps", OwnVXLAN, Own)},
		{Goal{Name: "TCP, 4 streams, weft-vxlan to weft-udp", Floor: 0.95}, between("tcp-4", "gbps", OwnVXLAN, Own)},
		{Goal{Name: "TCP, 1 stream, weft-direct to raw", Floor: 0.97}, between("tcp-1", "gbps", OwnDirect, Limit)},
		{Goal{Name: "TCP, 4 streams, weft-direct to raw", Floor: 0.97}, between("tcp-4", "gbps", OwnDirect, Limit)},
		{Goal{Name: "TCP, 1 stream, weft-segment to kernel-vxlan-bridge", Floor: 0.5}, between("tcp-1", "gbps", OwnSegment, BridgeBaseline)},
		{Goal{Name: "TCP, 1 stream, IPv6 to IPv4", Floor: 0.95}, r.ipv6ToIPv4},
		{Goal{Name: "UDP 64, 200k offered, to kernel-vxlan", Floor: 0.98}, against("udp-64", "pps@200k", Baseline)},
		{Goal{Name: "UDP 64, unlimited, to kernel-vxlan", Floor: 0.85, Target: 1.2}, against("udp-64", "pps@max", Baseline)},
		{Goal{Name: "UDP 64, unlimited, to own best at any rate", Floor: 0.8, Target: 0.95}, r.unlimitedToBest},
		{Goal{Name: "Ping-pong p50, to kernel-vxlan", AtMost: true, Floor: 1.3}, against("rr", "p50", Baseline)},
		{Goal{Name: "Ping-pong p99, to kernel-vxlan", AtMost: true, Floor: 1.5, Target: 1.1}, against("rr", "p99", Baseline)},
	} {
		if value, ok := g.value(); ok {
			g.Value = value
			goals = append(goals, g.Goal)
		}
	}
	return goals
}

// unlimitedToBest shows whether overload costs throughput (receive livelock).
func (r *Report) unlimitedToBest() (float64, bool) {
	const scenario, unlimited = "udp-64", "pps@max"
	best := 0.0
	for _, row := range r.Rows {
		if row.Scenario == scenario && row.Subject == Own && strings.HasPrefix(row.Metric, "pps@") {
			best = max(best, row.Median)
		}
	}
	return quotient(r.find(scenario, Own, unlimited), &Row{Median: best})
}

// ipv6ToIPv4 compares two scenarios, which run one after the other.
func (r *Report) ipv6ToIPv4() (float64, bool) {
	return quotient(r.find("tcp-1-v6", Own, "gbps"), r.find("tcp-1", Own, "gbps"))
}
