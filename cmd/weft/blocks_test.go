package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// rowsOf returns what `weft status` shows from the row called pods up to the one called device.
func rowsOf(s control.Status) string {
	shown := rendered(func(w io.Writer) { renderStatus(w, false, now, s) })
	_, shown, _ = strings.Cut(shown, "  pods")
	shown, _, _ = strings.Cut(shown, "  device")
	return "  pods" + shown
}

func TestBlocks(t *testing.T) {
	old, next := netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("10.244.9.0/24")
	six := netip.MustParsePrefix("fd00:10:244:1::/64")
	block := func(pods ...control.Pod) control.LostBlock {
		return control.LostBlock{Prefix: old, Winner: control.Node{ID: idB, Name: "node2"}, Pods: pods}
	}
	pod := func(n int) control.Pod {
		return control.Pod{Address: netip.AddrFrom4([4]byte{10, 244, 7, byte(n)}), Device: fmt.Sprintf("veth%d", n)}
	}
	var many []control.Pod
	for n := range 12 {
		many = append(many, pod(n+1))
	}
	for name, test := range map[string]struct {
		change func(*control.Status)
		want   string
	}{
		"taken by itself": {func(s *control.Status) { s.Allocation.Auto = true },
			"  pods      10.244.9.0/24 of 10.244.0.0/16 (auto)\n"},
		"none yet": {func(s *control.Status) {
			s.State, s.Reason, s.Settled, s.PodCIDRs = control.StateStarting, "no node answers", false, nil
			s.Allocation = control.Allocation{Auto: true, Waiting: "no node answers"}
		}, "  pods      no block of 10.244.0.0/16 (auto)\n"},
		"one of two yet": {func(s *control.Status) {
			s.Allocation = control.Allocation{Auto: true, Waiting: "all 4 blocks of fd00::/62 are taken"}
		}, "  pods      10.244.9.0/24 of 10.244.0.0/16 (auto)\n  waiting   all 4 blocks of fd00::/62 are taken\n"},
		"tentative": {func(s *control.Status) {
			s.PodCIDRs, s.Allocation = nil, control.Allocation{Auto: true, Tentative: []netip.Prefix{next, six}}
		}, "  pods       no block of 10.244.0.0/16 (auto)\n  tentative  10.244.9.0/24, fd00:10:244:1::/64, until nobody has objected\n"},
		"lost, with pods": {func(s *control.Status) {
			s.Allocation = control.Allocation{Auto: true, Lost: []control.LostBlock{block(pod(5), pod(6))}}
		}, `  pods      10.244.9.0/24 of 10.244.0.0/16 (auto)
  lost      10.244.7.0/24, which node2 (bbbbbbbb) has; cut off with it: 2 pods
              10.244.7.5 on veth5
              10.244.7.6 on veth6
            start them anew, and they get addresses of 10.244.9.0/24
`},
		"lost, with many pods, and no other block of the family": {func(s *control.Status) {
			s.PodCIDRs = []netip.Prefix{six}
			s.Allocation = control.Allocation{Auto: true, Lost: []control.LostBlock{block(many...)}}
		}, `  pods      fd00:10:244:1::/64 of 10.244.0.0/16 (auto)
  lost      10.244.7.0/24, which node2 (bbbbbbbb) has; cut off with it: 12 pods
              10.244.7.1 on veth1
              10.244.7.2 on veth2
              10.244.7.3 on veth3
              10.244.7.4 on veth4
              10.244.7.5 on veth5
              10.244.7.6 on veth6
              10.244.7.7 on veth7
              10.244.7.8 on veth8
              10.244.7.9 on veth9
              10.244.7.10 on veth10
              and 2 more, which ` + "`weft status --json`" + ` names
            start them anew once this node has another block
`},
		"lost, without pods": {func(s *control.Status) {
			s.Allocation = control.Allocation{Auto: true, Lost: []control.LostBlock{block()}}
		}, "  pods      10.244.9.0/24 of 10.244.0.0/16 (auto)\n  lost      10.244.7.0/24, which node2 (bbbbbbbb) has; no pod here uses it\n"},
		"lost, where blocks are chosen": {func(s *control.Status) {
			s.PodCIDRs, s.Allocation.Lost = []netip.Prefix{old}, []control.LostBlock{block(pod(5))}
		}, `  pods      no block of 10.244.0.0/16
  lost      10.244.7.0/24, which node2 (bbbbbbbb) has; cut off with it: 1 pod
              10.244.7.5 on veth5
            give this node another podCIDR, and start them anew
`},
		"lost to nobody any more": {func(s *control.Status) {
			s.Allocation.Lost = []control.LostBlock{{Prefix: old}}
		}, "  pods      10.244.9.0/24 of 10.244.0.0/16\n  lost      10.244.7.0/24, which another node had; no pod here uses it\n"},
		"unsettled": {func(s *control.Status) { s.Settled = false },
			"  pods       10.244.9.0/24 of 10.244.0.0/16\n  unsettled  this node has met none of an established cluster yet, and gives way to all that have\n"},
		"certified": {func(s *control.Status) { s.Certificate.Required = true },
			"  pods       10.244.9.0/24 of 10.244.0.0/16\n  certified  for any block\n"},
		"certified for some": {func(s *control.Status) {
			s.Certificate = control.Certificate{Required: true, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/20"), six}}
		}, "  pods       10.244.9.0/24 of 10.244.0.0/16\n  certified  for blocks inside 10.244.0.0/20, fd00:10:244:1::/64\n"},
	} {
		s := sampleStatus()
		s.PodNetworks, s.PodCIDRs = s.PodNetworks[:1], []netip.Prefix{next}
		test.change(&s)
		if got := rowsOf(s); got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, test.want)
		}
	}
}
