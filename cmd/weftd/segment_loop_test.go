//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// loopFound is within when a loop must have been found and broken.
const loopFound = 10 * time.Second

// floodDefault is how many frames a second a node floods at the most.
const floodDefault = 2000

// A cable between the bridges of two nodes makes a ring of them and the segment. It is broken at one node until the
// cable is gone, and everybody reaches everybody all the time.
func TestSegmentLoop(t *testing.T) {
	t.Parallel()
	c := segmented(t, 3, office)
	c.startSegments()
	a, b, far := c.members[0], c.members[1], c.members[2]
	v11, v21, v31 := c.vm(a.Node, officeBridge, 11), c.vm(b.Node, officeBridge, 21), c.vm(far.Node, officeBridge, 31)
	v11.reaches(c, v21, v31)
	before := c.onUnderlay()

	c.run(a.Namespace, fmt.Sprintf("ip link add cable type veth peer name cable netns %s", b.Name()))
	c.run(b.Namespace, "ip link set cable master br0 up")
	c.run(a.Namespace, "ip link set cable master br0 up")
	begin := time.Now()
	v11.listen(t).send(t, frame(broadcast(), v11.mac, sized(64), etherLocal)) // goes round and round
	var blocked *member
	c.within(loopFound, "a node to break the loop", func(ctx context.Context) (err error) {
		blocked, err = c.blocked(ctx)
		return err
	})
	took, sent := time.Since(begin), c.onUnderlay()-before
	t.Logf("%s broke the loop after %s and %d packets on the underlay", blocked, took.Round(time.Millisecond), sent)
	// Two nodes flood to two others each. As much again is for what is not the loop's.
	if most := uint64(2 * 2 * 2 * floodDefault * (took.Seconds() + 1)); sent > most {
		t.Errorf("%d packets went over the underlay, want %d at the most", sent, most)
	}
	if said, err := blocked.weft("segments"); err != nil || !strings.Contains(said, control.SegmentBlocked) {
		t.Errorf("weft segments says %v\n%s", err, said)
	}
	blocked.warns("segment office is blocked")

	// What went round has ended: there are no more packets than a quiet cluster has.
	last, quiet := c.onUnderlay(), 0
	c.eventually("the underlay to be quiet", func(context.Context) error {
		now := c.onUnderlay()
		n := now - last
		if quiet++; n > 25 {
			quiet = 0
		}
		if last = now; quiet < 4 {
			return fmt.Errorf("%d packets since the last look", n)
		}
		return nil
	})
	v11.reaches(c, v21, v31)
	v21.reaches(c, v31)
	v31.reaches(c, v11)

	c.run(a.Namespace, "ip link del cable")
	c.eventually("the segment to be whole again", func(ctx context.Context) error {
		m, err := c.blocked(ctx)
		if err == nil {
			return fmt.Errorf("%s is still blocked", m)
		}
		return nil
	})
	c.joined(c.members...)
	// The other node does not go on looking behind its own bridge for who was there by way of the cable.
	from, to := v11, v21
	if blocked == a {
		from, to = v21, v11
	}
	c.within(5*time.Second, "what the cable carried to go over the segment again", func(ctx context.Context) error {
		return pong(ctx, from.Pod, to.Pod)
	})
	v11.reaches(c, v21, v31)
	v21.reaches(c, v31)
}

// blocked is the one node whose segment is.
func (c *cluster) blocked(ctx context.Context) (found *member, err error) {
	for _, m := range c.members {
		s, err := m.segment(ctx)
		if err != nil {
			return nil, err
		}
		if s.State != control.SegmentBlocked {
			continue
		}
		if found != nil || s.Reason == "" {
			return nil, fmt.Errorf("%s is blocked too, or does not say why: %q", m, s.Reason)
		}
		found = m
	}
	if found == nil {
		return nil, errors.New("nobody is blocked")
	}
	return found, nil
}

// onUnderlay is how many packets all members have sent so far.
func (c *cluster) onUnderlay() (n uint64) {
	c.t.Helper()
	for _, m := range c.members {
		eth0, err := m.Handle().LinkByName("eth0")
		if err != nil {
			c.t.Fatal(err)
		}
		n += eth0.Attrs().Statistics.TxPackets
	}
	return n
}

// A machine that broadcasts without end gets its node's share of flooding and no more, and unicast goes on beside it.
func TestSegmentStorm(t *testing.T) {
	t.Parallel()
	const limit = 1000 // frames a second
	c := segmented(t, 2, fmt.Sprintf("{name: office, vni: 100, bridge: br0, flood: %d}", limit))
	c.startSegments()
	a, b := c.members[0], c.members[1]
	loud, v12, v21 := c.vm(a.Node, officeBridge, 11), c.vm(a.Node, officeBridge, 12), c.vm(b.Node, officeBridge, 21)
	v12.reaches(c, v21)
	tcp := c.stream(v12.Pod, v21.Pod)
	tcp.goesOn("before the storm")

	before, said, there := a.drops(), c.segmentOf(a), v21.listen(t)
	storm := []byte("storm")
	const rate, lasts = 10_000, 2 * time.Second
	begin, sent := time.Now(), 0
	from := loud.listen(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for time.Since(begin) < lasts {
		for due := int(time.Since(begin).Seconds() * rate); sent < due; sent++ {
			from.send(t, frame(broadcast(), loud.mac, storm, etherLocal))
		}
		<-tick.C
	}
	took := time.Since(begin).Seconds()
	tcp.goesOn("the storm")
	v12.reaches(c, v21)
	d := a.drops()
	limited := d.Egress.Drops["flood-limit"] - before.Egress.Drops["flood-limit"]
	came := there.count(t, containing(string(storm)))
	t.Logf("of %d frames in %.1f s %d came and %d were dropped", sent, took, came, limited)
	if most := int(limit*took*1.2) + limit/2; came > most || came < limit/2 || limited < uint64(sent/2) {
		t.Errorf("%d came and %d were dropped; want %d at the most to come, and more than half to be dropped", came, limited, most)
	}
	after := c.segmentOf(a)
	if n := after.FloodLimited - said.FloodLimited; n < limited/2 || after.Flooded == said.Flooded {
		t.Errorf("weft segments counts %d of %d frames that were too many, %d flooded", n, limited, after.Flooded-said.Flooded)
	}
}

// segmentOf is what m says of the segment, which it must.
func (c *cluster) segmentOf(m *member) control.Segment {
	c.t.Helper()
	s, err := m.segment(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}
