//go:build netns

package main

import (
	"context"
	"fmt"
	"testing"
)

// A life that begins because the underlay is another opens the data port anew, which systemd kept for the one before,
// and leaves the new one to the next process.
func TestUnderlayChangesWithStore(t *testing.T) {
	c := newCluster(t, 2)
	managers := c.manage()
	a := c.members[0]
	from, to := a.pod(10), c.members[1].pod(20)
	ping(t, from, to)
	tcp := c.stream(from, to)
	if err := a.SetMTU(1450); err != nil {
		t.Fatal(err)
	}
	c.eventually("another life", func(ctx context.Context) error {
		s, err := a.client.Status(ctx)
		if err == nil && (s.Underlay.MTU != 1450 || s.State != "ready") {
			err = fmt.Errorf("it is %s on an underlay with MTU %d: %s", s.State, s.Underlay.MTU, s.Reason)
		}
		return err
	})
	c.converged()
	tcp.goesOn("another underlay")
	before := a.state()
	if err := managers[0].Restart(); err != nil {
		t.Fatal(err)
	}
	a.replaced(before)
	tcp.goesOn("a restart after that")
}
