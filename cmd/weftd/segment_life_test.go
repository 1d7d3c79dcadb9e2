//go:build netns

package main

import (
	"fmt"
	"strings"
	"testing"
)

// tap is which interface the segment's TAP is, and of which bridge.
func (m *member) tap() string {
	m.c.t.Helper()
	out := m.c.command(m.Namespace, "ip", "-o", "link", "show", officeTAP)
	number, rest, _ := strings.Cut(out, ":")
	_, rest, found := strings.Cut(rest, " master ")
	if !found {
		m.c.t.Errorf("%s: the TAP is in no bridge: %s", m, out)
	}
	bridge, _, _ := strings.Cut(rest, " ")
	return number + " of " + bridge
}

// Killed, the daemon leaves its TAP in the bridge, and the next one goes on with it.
func TestSegmentKilled(t *testing.T) {
	t.Parallel()
	c := segmented(t, 2, office)
	c.startSegments()
	a, b := c.members[0], c.members[1]
	v11, v21 := c.vm(a.Node, officeBridge, 11), c.vm(b.Node, officeBridge, 21)
	v11.reaches(c, v21)
	tcp := c.stream(v11.Pod, v21.Pod)
	before := a.tap()
	if err := a.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	if between := a.tap(); between != before {
		t.Errorf("the TAP of the killed daemon is interface %s, and was %s", between, before)
	}
	a.start()
	c.joined(a, b)
	tcp.goesOn("a kill")
	if after := a.tap(); after != before {
		t.Errorf("the TAP is interface %s, and was %s", after, before)
	}

	// A segment that is no more in the configuration leaves nothing.
	if err := a.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	b.stop()
	a.set("segments", "[]")
	a.start()
	a.ready()
	for _, m := range []*member{a, b} {
		if out, err := m.Run(t.Context(), "ip", "link", "show", officeTAP); err == nil {
			t.Errorf("%s: the TAP is still there: %s", m, out)
		}
		c.command(m.Namespace, "ip", "link", "show", officeBridge)
	}
}

// Where systemd keeps the descriptors, connections between machines live through restarts and kills.
func TestSegmentRestart(t *testing.T) {
	t.Parallel()
	c := segmented(t, 2, office)
	managers := c.manage()
	c.joined(c.members...)
	a, b := c.members[0], c.members[1]
	v11, v21 := c.vm(a.Node, officeBridge, 11), c.vm(b.Node, officeBridge, 21)
	v11.reaches(c, v21)
	tcp := c.stream(v11.Pod, v21.Pod)
	udp := newPump(t, v11.Pod, v21.Pod, light())
	for i, m := range c.members {
		before, tap := m.state(), m.tap()
		if err := managers[i].Restart(); err != nil {
			t.Fatal(err)
		}
		m.replaced(before)
		if after := m.tap(); after != tap {
			t.Errorf("%s: the TAP is interface %s, and was %s", m, after, tap)
		}
		tcp.goesOn(fmt.Sprintf("a restart of %s", m))
	}
	udp.check(t, "two restarts")
	before, tap := b.state(), b.tap()
	if err := managers[1].Replace(); err != nil {
		t.Fatal(err)
	}
	b.replaced(before)
	if after := b.tap(); after != tap {
		t.Errorf("%s: the TAP is interface %s, and was %s", b, after, tap)
	}
	tcp.goesOn("a kill")
	c.joined(c.members...)
	v21.reaches(c, v11)
}

// A takeover keeps the TAP, and where hosts are, and loses nothing between them.
func TestSegmentTakeover(t *testing.T) {
	t.Parallel()
	c := segmented(t, 2, office)
	for _, m := range c.members {
		m.start()
	}
	c.joined(c.members...)
	a, b := c.members[0], c.members[1]
	v11, v21 := c.vm(a.Node, officeBridge, 11), c.vm(b.Node, officeBridge, 21)
	v11.reaches(c, v21)
	tcp := c.stream(v11.Pod, v21.Pod)
	udp := newPump(t, v11.Pod, v21.Pod, light())
	for _, m := range c.members {
		before, tap, old := m.state(), m.tap(), m.daemon
		m.start("--takeover")
		m.replaced(before)
		if err := old.Wait(); err != nil {
			t.Errorf("the weftd before ended: %v", err)
		}
		if after := m.tap(); after != tap {
			t.Errorf("%s: the TAP is interface %s, and was %s", m, after, tap)
		}
	}
	udp.check(t, "two takeovers")
	tcp.goesOn("two takeovers")
}
