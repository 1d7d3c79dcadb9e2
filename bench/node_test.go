//go:build linux

package main

import (
	"net/netip"
	"testing"

	"github.com/weft-net/weft/dataplane"
)

func TestNodeConfig(t *testing.T) {
	want := nodeConfig{
		addr: netip.MustParseAddr("198.51.100.1"), peerAddr: netip.MustParseAddr("198.51.100.2"),
		cidr: netip.MustParsePrefix("10.244.1.0/24"), peerCIDR: netip.MustParsePrefix("10.244.2.0/24"),
		peers: 10_000, mtu: 1460,
	}
	args := want.args()
	got, err := parseNode(args[1:])
	if err != nil || args[0] != nodeMode || got != want {
		t.Errorf("parseNode(%q) = %+v, %v", args, got, err)
	}
	// The engine itself says whether blocks overlap, or two peers have one address.
	config := got.dataplane()
	if err := dataplane.New(nil, 0).Apply(config); err != nil || len(config.Peers) != want.peers {
		t.Errorf("%d peers, %v", len(config.Peers), err)
	}
	if first := config.Peers[0]; first.To.Addr() != want.peerAddr || first.PodCIDRs[0] != want.peerCIDR {
		t.Errorf("first peer: %+v", first)
	}
}
