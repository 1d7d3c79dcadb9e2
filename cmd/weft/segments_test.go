package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

func sampleSegments() control.SegmentList {
	ips := func(texts ...string) (all []netip.Addr) {
		for _, text := range texts {
			all = append(all, netip.MustParseAddr(text))
		}
		return all
	}
	return control.SegmentList{Segments: []control.Segment{
		{
			Name: "office", VNI: 100, Device: "seg-office", Bridge: "br0", MTU: 1450, State: control.StateReady,
			Members: []control.SegmentMember{
				{Node: "node3", ID: idB, Endpoint: netip.MustParseAddrPort("[2001:db8::3]:4789"), MTU: 8950},
				{Node: "node2", ID: idA, Endpoint: netip.MustParseAddrPort("192.0.2.2:4789"), MTU: 1450, MACs: 12},
			},
			Hosts: []control.SegmentHost{
				{MAC: "02:00:00:00:00:03", Age: 3700},
				{MAC: "02:00:00:00:00:02", Node: "ev\x1b[2Jil", IPs: ips("192.168.0.2", "fe80::2"), Age: 62, Announced: true},
				{MAC: "02:00:00:00:00:01", Local: true, IPs: ips("192.168.0.1")},
			},
			Flooded: 1234, FloodLimited: 5, Answered: 678,
		},
		{Name: "lab", VNI: 16777215, Device: "seg-lab", MTU: 1432, State: control.SegmentBlocked, Reason: "its bridge is connected with that of node2 elsewhere too",
			Duplicates: []string{"02:00:00:00:00:09 is at node2 and at node3"}},
	}}
}

func TestSegments(t *testing.T) {
	same(t, rendered(func(w io.Writer) { renderSegments(w, false, sampleSegments()) }),
		`SEGMENT       VNI  STATE    DEVICE      BRIDGE   MTU  MEMBERS  HOSTS  FLOODED  LIMITED  ANSWERED  WHY
lab      16777215  blocked  seg-lab             1432        0      0        0        0         0  its bridge is connected with that of node2 elsewhere too
office        100  ready    seg-office  br0     1450        2      3     1234        5       678
lab: 02:00:00:00:00:09 is at node2 and at node3
`)
	same(t, rendered(func(w io.Writer) { renderSegments(w, true, control.SegmentList{}) }),
		"This node has no layer-2 segments. The key `segments` of the configuration makes them.\n")
	for state, c := range map[string]colour{control.StateReady: green, control.SegmentBlocked: red, control.StateImpaired: red} {
		l := control.SegmentList{Segments: []control.Segment{{Name: "a", State: state}}}
		if got := rendered(func(w io.Writer) { renderSegments(w, true, l) }); !strings.Contains(got, "\x1b["+string(c)+"m"+state) {
			t.Errorf("%s is not painted as it should be: %q", state, got)
		}
	}
}

func TestSegment(t *testing.T) {
	l := sampleSegments().Segments
	same(t, rendered(func(w io.Writer) { renderSegment(w, false, l[0]) }),
		`SEGMENT  VNI  STATE  DEVICE      BRIDGE   MTU  MEMBERS  HOSTS  FLOODED  LIMITED  ANSWERED
office   100  ready  seg-office  br0     1450        2      3     1234        5       678

MEMBER  ID        ENDPOINT             MTU  HOSTS
node2   aaaaaaaa  192.0.2.2:4789      1450     12
node3   bbbbbbbb  [2001:db8::3]:4789  8950      0

HOST               NODE       ADDRESSES            HEARD  HOW
02:00:00:00:00:01  this node  192.168.0.1             0s  seen
02:00:00:00:00:02  ev`+"\ufffd"+`[2Jil   192.168.0.2,fe80::2   1m2s  announced
02:00:00:00:00:03  not known                        1h1m  seen
`)
	got := rendered(func(w io.Writer) { renderSegment(w, false, l[1]) })
	for _, want := range []string{"\nlab: 02:00:00:00:00:09 is at", "\nNo other member is known. Does another node have a segment of VNI 16777215?\n", "\nNo host is known."} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestManyDuplicates(t *testing.T) {
	s := control.Segment{Name: "a"}
	for i := range 1000 {
		s.Duplicates = append(s.Duplicates, fmt.Sprintf("duplicate %d", i))
	}
	got := rendered(func(w io.Writer) { duplicates(w, false, s) })
	if strings.Count(got, "\n") != maxDuplicates+1 || !strings.HasSuffix(got, "a: and 990 more\n") {
		t.Errorf("got %s", got)
	}
}

func TestSegmentsCommand(t *testing.T) {
	socket, _ := daemon(t, &backend{})
	if got := run(t, socket, "segments"); got.status != 0 || !strings.Contains(got.out, "\noffice ") {
		t.Errorf("got %+v", got)
	}
	if got := run(t, socket, "segments", "lab"); got.status != 0 || !strings.Contains(got.out, "\nlab ") || strings.Contains(got.out, "office") {
		t.Errorf("lab: got %+v", got)
	}
	want := "weft: this node has no segment \"ofice\"; did you mean office?\n"
	if got := run(t, socket, "segments", "ofice"); got != (result{1, "", want}) {
		t.Errorf("got %+v", got)
	}
	var l control.SegmentList
	if got := run(t, socket, "segments", "--json"); json.Unmarshal([]byte(got.out), &l) != nil || len(l.Segments) != 2 {
		t.Errorf("--json: got %+v", got)
	}
	var s control.Segment
	if got := run(t, socket, "segments", "office", "--json"); json.Unmarshal([]byte(got.out), &s) != nil || s.VNI != 100 || len(s.Hosts) != 3 {
		t.Errorf("office --json: got %+v", got)
	}
}
