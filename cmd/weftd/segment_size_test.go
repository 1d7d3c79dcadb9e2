//go:build netns

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// jumbo is how many bytes a large frame has behind its Ethernet header.
const jumbo = 8900

// Large frames get where the underlay takes them, and nowhere else: what is too large for one node's way is dropped there, and
// counted.
func TestSegmentJumbo(t *testing.T) {
	t.Parallel()
	c := segmented(t, 3, fmt.Sprintf("{name: office, vni: 100, bridge: br0, mtu: %d}", jumbo))
	a, b, small := c.members[0], c.members[1], c.members[2]
	for _, m := range []*member{a, b} {
		if err := m.SetMTU(9000); err != nil {
			t.Fatal(err)
		}
	}
	small.set("segments", "["+office+"]")
	c.startSegments()
	v11, v21, v31 := c.vm(a.Node, officeBridge, 11), c.vm(b.Node, officeBridge, 21), c.vm(small.Node, officeBridge, 31)
	c.resize(a.Node, v11, jumbo)
	c.resize(b.Node, v21, jumbo)
	for _, device := range []string{officeTAP, officeBridge} {
		if out := c.command(a.Namespace, "ip", "link", "show", device); !strings.Contains(out, fmt.Sprintf(" mtu %d ", jumbo)) {
			t.Errorf("want an MTU of %d: %s", jumbo, out)
		}
	}
	v11.reaches(c, v21, v31)
	a.takes(b, 9000)
	a.takes(small, 1500)

	sender, there := v11.listen(t), v21.listen(t)
	for _, size := range []int{jumbo, jumbo - 4, 4000} {
		for _, f := range [][]byte{frame(v21.mac, v11.mac, sized(size), etherLocal), frame(v21.mac, v11.mac, sized(size-4), etherVLAN, etherLocal)} {
			sender.send(t, f)
			there.gets(c, fmt.Sprintf("a frame of %d bytes", len(f)), 1, sameFrame(f))
		}
	}
	if err := exchange(t, v11.Pod, v21.Pod, []int{jumbo - 28, jumbo - 29, 3 * jumbo}); err != nil {
		t.Error(err)
	}
	bothWays(t, v11.Pod, v21.Pod, true)

	far := v31.listen(t)
	before := a.drops()
	const rounds = 20
	for range rounds {
		sender.send(t, frame(v31.mac, v11.mac, sized(4000), etherLocal))
	}
	a.dropped(before, "too-big", rounds)
	last := frame(v31.mac, v11.mac, sized(segmentMTU), etherLocal)
	sender.send(t, last)
	far.gets(c, "a frame that fits", 1, sameFrame(last))
	if n := far.count(t, func(f []byte) bool { return len(f) > segmentMTU+18 }); n > 0 {
		t.Errorf("%d frames came that are too large", n)
	}
	// To all goes as far as it may.
	all := frame(broadcast(), v11.mac, sized(4000), etherLocal)
	sender.send(t, all)
	there.gets(c, "a large broadcast", 1, sameFrame(all))
	v11.reaches(c, v31)
}

// takes waits until m knows what frames get to another member over an underlay of this MTU.
func (m *member) takes(other *member, underlay int) {
	m.c.t.Helper()
	m.saysOf(other, fmt.Sprintf("an underlay of %d bytes", underlay), func(p control.SegmentMember) bool { return p.MTU == underlay-20-8-8-14 })
}
