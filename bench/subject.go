//go:build linux

package main

import "context"

// A subject is a way to join two nodes' pods that is measured. One file each, and a line in
// subjects.
type subject struct {
	name  string
	about string
	// binaries are the programs it needs in the folder of the release binaries.
	binaries []string
	// join makes the network carry packets between the pods, and sets the pods' MTU. What it
	// starts inside the topology ends with that. It may return before the first packet passes.
	join func(ctx context.Context, n *network) error
}

// subjects returns all there are, in the order of the report.
func subjects() []subject {
	return []subject{
		rawSubject("raw", "no overlay: plain routes between the nodes, the limit", jumboMTU),
		rawSubject("raw-1444", "the same with the MTU that weft gives to pods of an Ethernet", podMTU),
		vxlanSubject(),
		vxlanBridgeSubject(),
		weftSubject("weft-udp", "weftd as shipped, plain UDP encapsulation", "udp", nil),
		weftSubject("weft-vxlan", "weftd with mode: vxlan", "vxlan", nil),
		weftSubject("weft-direct", "weftd with mode: direct, routes without encapsulation", "direct", nil),
		weftSubject("weft-portable", "weft-udp with offload: off, packet by packet", "udp", map[string]any{"offload": "off"}),
		segmentSubject(),
		wireguardSubject(),
	}
}

// quickSubjects leave out those that are others with one thing changed.
// Immutable.
var quickSubjects = []string{
	"raw", "kernel-vxlan", "kernel-vxlan-bridge", "weft-udp", "weft-vxlan", "weft-direct", "weft-segment", "wireguard-go",
}
