//go:build partition

package main

import (
	"errors"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// memberlist forgets a dead node after 30 s and never dials it again. This
// partition lasts well beyond that, and still ends without anyone's help.
func TestPartitionIsHealed(t *testing.T) {
	t.Parallel()
	const (
		forgotten = 30 * time.Second // memberlist's GossipToTheDeadTime
		partition = 20*time.Second + 2*forgotten
	)
	c := newCluster(t, 3)
	c.startAll()
	a, b, cut := c.members[0], c.members[1], c.members[2]
	podA, podB, podCut := a.pod(10), b.pod(20), cut.pod(30)
	if err := transfer(t, podA, podCut, 1<<20); err != nil {
		t.Fatal(err)
	}

	if err := cut.Unplug(); err != nil {
		t.Fatal(err)
	}
	over := time.After(partition)
	for _, m := range []*member{a, b} {
		m.waitFor(cut, control.PeerDown)
		cut.waitFor(m, control.PeerDown)
	}
	t.Log("both sides have withdrawn the other's routes; waiting until memberlist has forgotten")
	if err := transfer(t, podA, podB, 1<<20); err != nil {
		t.Error(err) // the larger side goes on meanwhile
	}
	<-over
	for _, m := range []*member{a, b} {
		status, err := m.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if status.Gossip.Members != 2 {
			t.Error(errors.New("the partition was none"))
		}
	}

	if err := cut.Plug(); err != nil {
		t.Fatal(err)
	}
	healing := time.Now()
	c.converged()
	t.Logf("healed after %s", time.Since(healing).Round(100*time.Millisecond))
	if err := transfer(t, podCut, podA, 1<<20); err != nil {
		t.Error(err)
	}
	if err := transfer(t, podB, podCut, 1<<20); err != nil {
		t.Error(err)
	}
}
