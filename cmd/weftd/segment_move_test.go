//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// A machine takes its address with it to another node, and its connections too; one that is at two nodes at once is
// told of.
func TestSegmentMove(t *testing.T) {
	t.Parallel()
	c := segmented(t, 3, office)
	c.startSegments()
	a, b, far := c.members[0], c.members[1], c.members[2]
	moving, fixed := c.vm(a.Node, officeBridge, 11), c.vm(far.Node, officeBridge, 31)
	moving.reaches(c, fixed)
	out, in := c.stream(moving.Pod, fixed.Pod), c.stream(fixed.Pod, moving.Pod)
	for _, way := range [][2]*member{{a, b}, {b, a}, {a, b}} {
		c.move(moving, way[0].Node, way[1].Node)
		moving.listen(t).send(t, moving.announcement()) // as hypervisors do
		for _, m := range c.members {
			m.hosts(moving, way[1].String())
		}
		out.goesOn("it has moved to " + way[1].String())
		in.goesOn("it has moved to " + way[1].String())
	}
	if s, err := far.segment(t.Context()); err != nil || len(s.Duplicates) > 0 {
		t.Errorf("after three moves there are duplicates: %q, %v", s.Duplicates, err)
	}

	twin := c.bareVM(a.Node, officeBridge, 12)
	c.run(twin.Namespace, "ip link set eth0 address "+moving.mac.String())
	second := twin.listen(t)
	for _, m := range c.members {
		c.eventually(fmt.Sprintf("%s to say that %s is twice there", m, moving.mac), func(ctx context.Context) error {
			second.send(t, frame(broadcast(), moving.mac, sized(64), etherLocal)) // between those of the connections
			s, err := m.segment(ctx)
			if err == nil && !slices.ContainsFunc(s.Duplicates, func(line string) bool {
				return strings.Contains(line, moving.mac.String()) && strings.Contains(line, a.String()) && strings.Contains(line, b.String())
			}) {
				err = fmt.Errorf("of duplicates it says %q", s.Duplicates)
			}
			return err
		})
	}
	for _, m := range c.members {
		m.warns(moving.mac.String())
		if said, err := m.weft("status"); err != nil || !strings.Contains(said, moving.mac.String()) {
			t.Errorf("weft status of %s says nothing of %s: %v\n%s", m, moving.mac, err, said)
		}
	}
}

// A segment's members are those that have it and live, and with a node that has gone the machines on it have.
func TestSegmentMembers(t *testing.T) {
	t.Parallel()
	c := segmented(t, 3, office)
	a, b, late := c.members[0], c.members[1], c.members[2]
	a.start()
	b.start()
	c.joined(a, b)
	v11, v21, v31 := c.vm(a.Node, officeBridge, 11), c.vm(b.Node, officeBridge, 21), c.vm(late.Node, officeBridge, 31)
	v11.reaches(c, v21)

	late.start()
	c.joined(c.members...)
	v31.reaches(c, v11, v21)
	a.hosts(v31, late.String())
	a.counts(late, 1)

	if out, err := late.weft("leave"); err != nil {
		t.Fatalf("weft leave: %v\n%s", err, out)
	}
	if err := late.daemon.Wait(); err != nil {
		t.Errorf("%s ended: %v", late, err)
	}
	c.joined(a, b)
	for _, m := range []*member{a, b} {
		m.hosts(v31, "")
	}
	late.leftNothing()
	c.command(late.Namespace, "ip", "link", "show", officeBridge) // is not weft's to remove
	v11.reaches(c, v21)

	late.start()
	c.joined(c.members...)
	v31.reaches(c, v21)
	if err := late.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	c.joined(a, b)
	for _, m := range []*member{a, b} {
		m.waitFor(late, control.PeerDown)
		m.hosts(v31, "")
	}
	v11.reaches(c, v21)
}

// counts waits until m says that so many machines are at another node.
func (m *member) counts(other *member, machines int) {
	m.c.t.Helper()
	m.saysOf(other, fmt.Sprintf("%d machines", machines), func(p control.SegmentMember) bool { return p.MACs == machines })
}

// saysOf waits until what m says of another member of the segment is right.
func (m *member) saysOf(other *member, what string, right func(control.SegmentMember) bool) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("%s to see %s at %s", m, what, other), func(ctx context.Context) error {
		s, err := m.segment(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.Members, func(p control.SegmentMember) bool { return p.Node == other.String() })
		if i < 0 {
			return errors.New("it is no member")
		}
		if !right(s.Members[i]) {
			return fmt.Errorf("it sees %+v", s.Members[i])
		}
		return nil
	})
}
