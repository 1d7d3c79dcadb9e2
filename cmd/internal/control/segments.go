package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/weft-net/weft/cmd/internal/config"
)

const pathSegments = "/v1/segments"

// States of a layer-2 segment on this node, beside StateReady and StateImpaired.
const (
	// SegmentBlocked: its bridge is connected with another node's elsewhere too, so that this node carries no frames of
	// the segment, which else would go round for ever: see Segment.Reason.
	SegmentBlocked = "blocked"
)

// SegmentList is the answer to /v1/segments: the layer-2 segments of this node, by name.
type SegmentList struct {
	Segments []Segment `json:"segments"`
}

// Segment is a layer-2 segment that this node is a member of. Counters are of this node, and start at zero with the
// daemon.
type Segment struct {
	Name    string          `json:"name"`
	VNI     uint32          `json:"vni"`
	Device  string          `json:"device"`           // the TAP
	Bridge  string          `json:"bridge,omitempty"` // that the TAP is a port of; "" for none
	MTU     int             `json:"mtu"`              // bytes of what follows the Ethernet header
	State   string          `json:"state"`            // StateReady, StateImpaired or SegmentBlocked
	Reason  string          `json:"reason,omitempty"` // why the state is not "ready"
	Members []SegmentMember `json:"members"`          // the others, by name, then ID
	Hosts   []SegmentHost   `json:"hosts"`            // known at present, by MAC

	Flooded      uint64   `json:"flooded"`      // frames to all members: broadcast, multicast and unknown unicast, counted once each
	FloodLimited uint64   `json:"floodLimited"` // such frames that were more than the segment's limit, and dropped
	Answered     uint64   `json:"answered"`     // ARP requests and neighbour solicitations that were answered here
	Duplicates   []string `json:"duplicates"`   // MACs that two places use at once; one line each, for people
}

// SegmentMember is another node that has a segment, or a VTEP that does not run weft.
type SegmentMember struct {
	Node     string         `json:"node"` // name
	ID       string         `json:"id"`
	Endpoint netip.AddrPort `json:"endpoint"` // where its frames are sent
	MTU      int            `json:"mtu"`      // of the largest frame that gets there, bytes of what follows the Ethernet header
	MACs     int            `json:"macs"`     // known to be there
}

// SegmentHost is an Ethernet address that is known in a segment.
type SegmentHost struct {
	MAC       string       `json:"mac"`  // "02:00:00:00:00:01"
	Node      string       `json:"node"` // name of the member that has it; "" where Local, or while that is not known
	Local     bool         `json:"local"`
	IPs       []netip.Addr `json:"ips"`        // heard in ARP and neighbour discovery, sorted
	Age       int          `json:"ageSeconds"` // since it was last heard of
	Announced bool         `json:"announced"`  // its node has told of it, and no frame has shown it yet
}

// Segments returns the layer-2 segments of the node.
func (c *Client) Segments(ctx context.Context) (SegmentList, error) {
	return ask[SegmentList](ctx, c, http.MethodGet, pathSegments, queryTimeout)
}

// Find returns the segment of that name. The error is one line for the user, with the nearest name.
func (l SegmentList) Find(name string) (Segment, error) {
	var names []string
	for _, s := range l.Segments {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return Segment{}, errors.New("this node has no layer-2 segments; the key `segments` of the configuration makes them")
	}
	if near := config.Suggest(name, names); near != "" {
		return Segment{}, fmt.Errorf("this node has no segment %q; did you mean %s?", name, near)
	}
	return Segment{}, fmt.Errorf("this node has no segment %q; `weft segments` lists them all", name)
}

func (l SegmentList) complete() SegmentList {
	segments := make([]Segment, len(l.Segments))
	for i, s := range l.Segments {
		s.Members = list(s.Members)
		s.Duplicates = list(s.Duplicates)
		hosts := make([]SegmentHost, len(s.Hosts))
		for j, h := range s.Hosts {
			h.IPs = list(h.IPs)
			hosts[j] = h
		}
		s.Hosts = hosts
		segments[i] = s
	}
	return SegmentList{Segments: segments}
}
