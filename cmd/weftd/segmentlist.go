package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/dataplane"
)

// Segments are the layer-2 segments of this node.
func (d *daemon) Segments() control.SegmentList {
	list := control.SegmentList{Segments: []control.Segment{}}
	if len(d.taps) == 0 {
		return list
	}
	view, choices := d.store.View(time.Now()), d.choices.Load()
	waits := ""
	if choices == nil {
		choices, waits = new([]choice), "weftd does not carry packets yet"
	}
	stats := d.engine.Segments()
	for _, t := range d.taps {
		s := control.Segment{
			Name: t.Name, VNI: t.VNI, Device: t.Device(), Bridge: t.Bridge, MTU: d.segmentMTU(&t.Segment), State: control.StateReady,
			Members: []control.SegmentMember{}, Hosts: []control.SegmentHost{}, Duplicates: []string{},
		}
		if s.Reason = d.loops.blocked(t.VNI); s.Reason != "" {
			s.State = control.SegmentBlocked
		} else if s.Reason = cmp.Or(waits, d.trouble.of(t.trouble())); s.Reason != "" {
			s.State = control.StateImpaired
		}
		i := slices.IndexFunc(stats, func(s dataplane.SegmentStats) bool { return s.VNI == t.VNI })
		known := &stats[i]
		s.Flooded, s.FloodLimited, s.Answered = known.Flooded, known.Limited, known.Answered
		names := make(map[string]string)
		for _, m := range d.segmentMembers(&view, *choices, t) {
			names[m.ID] = m.name
			s.Members = append(s.Members, control.SegmentMember{Node: m.name, ID: m.ID, Endpoint: m.To, MTU: m.MTU, MACs: hostsOf(known, m.ID)})
		}
		slices.SortFunc(s.Members, func(a, b control.SegmentMember) int {
			return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
		})
		for _, h := range known.Hosts {
			s.Hosts = append(s.Hosts, control.SegmentHost{
				MAC: h.MAC.String(), Node: names[h.Member], Local: h.Member == "", IPs: h.IPs, Age: int(h.Age.Seconds()), Announced: h.Announced,
			})
		}
		for _, twice := range known.Twice {
			s.Duplicates = append(s.Duplicates, duplicate(&twice, d.config.NodeName, names))
		}
		list.Segments = append(list.Segments, s)
	}
	slices.SortFunc(list.Segments, func(a, b control.Segment) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// hostsOf is how many hosts a member has.
func hostsOf(s *dataplane.SegmentStats, id string) (n int) {
	for i := range s.Hosts {
		if s.Hosts[i].Member == id {
			n++
		}
	}
	return n
}

// duplicate says in a line that a MAC turns up in two places.
func duplicate(t *dataplane.Twice, own string, names map[string]string) string {
	var at [2]string
	for i, id := range t.Nodes {
		switch name := names[id]; {
		case id == "":
			at[i] = own
		case name == "":
			at[i] = "a node that has left"
		default:
			at[i] = name
		}
	}
	return fmt.Sprintf("%s turns up at %s and at %s, again and again: two hosts have that address, or frames go round in a loop", t.MAC, at[0], at[1])
}

// segmentWarnings are what the status says of the segments.
func (d *daemon) segmentWarnings() (lines []string) {
	for _, s := range d.Segments().Segments {
		if s.State == control.SegmentBlocked {
			lines = append(lines, fmt.Sprintf("segment %s is blocked: %s", s.Name, s.Reason))
		}
		for _, line := range s.Duplicates {
			lines = append(lines, fmt.Sprintf("segment %s: %s", s.Name, line))
		}
	}
	return lines
}
