package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSegments(t *testing.T) {
	c, problems := load(t, source{yaml: ok + `vxlanPort: 4790
segments:
  - name: office
    vni: 100
    bridge: br0
    mtu: 1450
    flood: 500
    peers: [198.51.100.9, "[2001:db8::9]:4789", "2001:db8::10"]
  - {name: lab, vni: 101, peers: 198.51.100.9}
  - name=plain vni=102
`})
	if problems != "" {
		t.Fatal(problems)
	}
	addrs := func(texts ...string) (all []netip.AddrPort) {
		for _, text := range texts {
			all = append(all, netip.MustParseAddrPort(text))
		}
		return all
	}
	want := []Segment{
		{Name: "office", VNI: 100, Bridge: "br0", MTU: 1450, Flood: 500, Peers: addrs("198.51.100.9:4790", "[2001:db8::9]:4789", "[2001:db8::10]:4790")},
		{Name: "lab", VNI: 101, Flood: defaultFlood, Peers: addrs("198.51.100.9:4790")},
		{Name: "plain", VNI: 102, Flood: defaultFlood},
	}
	if diff := cmp.Diff(want, c.Segments, compare); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := c.Segments[0].Device(); got != "seg-office" {
		t.Errorf("device %q", got)
	}
}

// The longest name still makes the name of a device.
func TestSegmentDevice(t *testing.T) {
	s := Segment{Name: strings.Repeat("a", maxSegmentName)}
	if _, err := parseLinkName(s.Device()); err != nil {
		t.Error(err)
	}
}

func TestSegmentProblems(t *testing.T) {
	const office = "name=office vni=100"
	segments := func(items ...string) source {
		return source{yaml: ok + "segments:\n- " + strings.Join(items, "\n- ") + "\n"}
	}
	for name, test := range map[string]struct {
		source
		want string
	}{
		"misspelt key": {source{yaml: ok + "segment: []\n"}, `FILE:2: unknown key "segment"; did you mean segments?`},
		"misspelt inner key": {source{yaml: ok + "segments:\n- name: office\n  vni: 100\n- name: lab\n  vni: 7\n  brigde: br0\n"},
			`FILE:5: segments: brigde=br0: unknown key "brigde"; did you mean bridge?`},
		"foreign inner key": {segments(office + " colour=blue"), `FILE:3: segments: colour=blue: unknown key "colour"; there are name, vni, bridge, mtu, flood, peers`},
		"no list": {source{yaml: ok + "segments:\n  name: office\n  vni: 1\n"},
			"FILE:2: segments: wants a list; begin each of its items with -, or write segments: [{name: office, vni: 100, bridge: br0}]"},
		"list in list":   {source{yaml: ok + "segments: [[a]]\n"}, "FILE:2: segments: wants a list of single values, not of a list"},
		"group in group": {source{yaml: ok + "segments: [{name: {a: b}}]\n"}, "FILE:2: segments: name wants a single value, or a list of such, not a group of keys"},
		"no value":       {source{yaml: ok + "segments: [{name: a, vni: 2, bridge: }]\n"}, "FILE:2: segments: bridge has no value; give one, or remove the line"},
		"space in value": {source{yaml: ok + "segments: [{name: a vni=2}]\n"}, `FILE:2: segments: name: "a vni=2" has a space or a = in it, as no value here may`},
		"= in value":     {source{yaml: ok + "segments: [{name: a, vni: 2, peers: [192.0.2.9, vni=7]}]\n"}, `FILE:2: segments: peers: "192.0.2.9,vni=7" has a space or a = in it, as no value here may`},
		"key twice":      {source{yaml: ok + "segments: [{name: a, name: b, vni: 2}]\n"}, `FILE:2: segments: "name=a name=b vni=2" gives name twice`},
		"no name":        {segments("vni=100"), `FILE:3: segments: "vni=100" gives no name; write for instance name=office vni=100 bridge=br0`},
		"no vni":         {segments("name=office"), `FILE:3: segments: "name=office" gives no vni; write for instance name=office vni=100 bridge=br0`},
		"long name":      {segments("vni=1 name=headquarters"), `FILE:3: segments: name=headquarters: "headquarters" cannot name a segment: 1 to 11 small letters, digits and '-', since its device is called seg-NAME`},
		"capital":        {segments("vni=1 name=Office"), `FILE:3: segments: name=Office: "Office" cannot name a segment: 1 to 11 small letters, digits and '-', since its device is called seg-NAME`},
		"vni 0":          {segments("name=a vni=0"), "FILE:3: segments: vni=0: 0 is no segment's; give a number from 1 to 16777215"},
		"vni of 25 bits": {segments("name=a vni=16777216"), `FILE:3: segments: vni=16777216: "16777216" is not a VNI; give a number from 0 to 16777215`},
		"flood 0":        {segments(office + " flood=0"), `FILE:3: segments: flood=0: "0" is not a number of frames a second; give a number from 1 to 1000000`},
		"mtu":            {segments(office + " mtu=500"), `FILE:3: segments: mtu=500: "500" is not an MTU; give 0 or a number from 1280 to 65507`},
		"bridge":         {segments(office + " bridge=a/b"), `FILE:3: segments: bridge=a/b: "a/b" cannot name an interface: no spaces, slashes, colons or unprintable characters`},
		"two bridges":    {segments(office + " bridge=br0,br1"), "FILE:3: segments: bridge=br0,br1: a segment joins one bridge, whose name has no comma"},
		"peer's name":    {segments(office + " peers=linux1"), `FILE:3: segments: peers=linux1: "linux1" is neither an address nor address:port; write for instance 198.51.100.9 or [2001:db8::9]:4789`},
		"peer's port":    {segments(office + " peers=192.0.2.9:0"), `FILE:3: segments: peers=192.0.2.9:0: "192.0.2.9:0" has port 0; give a number from 1 to 65535`},
		"peer twice":     {segments(office + " peers=192.0.2.9,192.0.2.9:1"), `FILE:3: segments: peers=192.0.2.9,192.0.2.9:1: 192.0.2.9 is listed twice; keep one of them`},
		"group's peer":   {segments(office + " peers=239.0.0.1"), `FILE:3: segments: peers=239.0.0.1: 239.0.0.1 is no address that other nodes can reach; give one of a node's own`},

		"one name":   {segments(office, "name=office vni=101"), "FILE:2: segments: office: two segments have this name; give each its own"},
		"one vni":    {segments(office, "name=lab vni=100"), "FILE:2: segments: lab: vni 100 is also that of office; each needs its own"},
		"one bridge": {segments(office+" bridge=br0", "name=lab vni=101 bridge=br0"), "FILE:2: segments: lab: bridge br0 is also that of office, and would join the two; each needs its own"},
		"pods' vni":  {segments("name=a vni=1"), "FILE:2: segments: a: vni 1 is the pod network's (default); give the segment another"},
		"pods' vni, set": {source{yaml: ok + "vni: 100\nsegments: [{name: a, vni: 100}]\n"},
			"FILE:3: segments: a: vni 100 is the pod network's (FILE:2); give the segment another"},
		"the TUN": {source{yaml: ok + "tun: seg-a\nsegments: [{name: a, vni: 100}]\n"},
			"FILE:3: segments: a: its device seg-a is called as the TUN is (FILE:2); give one of the two another name"},
		"pods' bridge": {segments(office + " bridge=cni0"),
			"FILE:2: segments: office: bridge cni0 is that of pods with cniWiring bridge, which no segment may leak into; take another bridge"},
		"a TAP for bridge": {segments(office, "name=lab vni=101 bridge=seg-office"), "FILE:2: segments: lab: bridge seg-office is the device of segment office, and no bridge"},
		"static peer's vni": {source{yaml: ok + "segments: [{name: a, vni: 100}]\nstaticPeers: [" + linux1 + " vni=100]\n"},
			"FILE:2: segments: a: vni 100 is that of static peer linux1 (FILE:3), which carries pods' packets in it; give the segment another"},
		"this node":   {source{yaml: ok + "underlay: 192.0.2.9\nsegments: [{name: a, vni: 100, peers: 192.0.2.9}]\n"}, "FILE:3: segments: a: peer 192.0.2.9 is this node (FILE:2)"},
		"peer is pod": {segments(office + " peers=10.244.9.9"), "FILE:2: segments: office: peer 10.244.9.9 lies inside podNetwork 10.244.0.0/16 (default); pods and nodes need networks of their own"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, problems := load(t, test.source); problems != test.want {
				t.Errorf("got  %s\nwant %s", problems, test.want)
			}
		})
	}
}

func TestSegmentsAtMost(t *testing.T) {
	var texts []string
	for i := range maxSegments + 1 {
		texts = append(texts, fmt.Sprintf("name=s%d vni=%d", i, 100+i))
	}
	if _, err := parseSegments(strings.Join(texts[1:], ",")); err != nil {
		t.Error(err)
	}
	if _, err := parseSegments(strings.Join(texts, ",")); err == nil {
		t.Error("one too many is taken")
	}
}

// Segments have devices and workers of their own: they change by a restart.
func TestSegmentsWait(t *testing.T) {
	before, next := loadText(t, "segments: [{name: a, vni: 2}]\n"), loadText(t, "segments: [{name: a, vni: 3, peers: 192.0.2.9}]\n")
	live, applied, waiting := before.Reload(next)
	want := []Change{{"segments", "name=a vni=2 flood=2000", "name=a vni=3 flood=2000 peers=192.0.2.9:4789"}}
	if diff := cmp.Diff(want, waiting); diff != "" || len(applied) > 0 || live.Segments[0].VNI != 2 {
		t.Errorf("waiting, -want +got\n%s\napplied %v, live %v", diff, applied, live.Segments)
	}
}
