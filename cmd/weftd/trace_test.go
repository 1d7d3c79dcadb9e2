//go:build netns

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// trace follows a packet until the way to its node is proven, when want is the outcome.
func (m *member) trace(source, destination, want string) (t control.Trace) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("a packet from %s to %s: %s", source, destination, want), func(ctx context.Context) (err error) {
		if t, err = m.client.Trace(ctx, source, destination); err != nil {
			return err
		}
		if t.Arrives != want {
			return fmt.Errorf("%s: %+v", t.Verdict, t.Steps)
		}
		return nil
	})
	return t
}

// failing is the step at which t ends.
func failing(t control.Trace) (s control.TraceStep) {
	for _, s := range t.Steps {
		if s.Outcome == control.TraceFails {
			return s
		}
	}
	return s
}

func TestTrace(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	n1, n2 := c.members[0], c.members[1]
	n1.pod(10)
	n2.pod(20)

	arrives := n1.trace("10.244.1.10", "10.244.2.20", control.TraceOK)
	if arrives.Mode != "udp" || arrives.MTU == 0 || arrives.Destination.Node != "n2" || !strings.Contains(arrives.Verdict, "answers come back") {
		t.Errorf("%+v", arrives)
	}
	n1.trace("n1", "n2", control.TraceOK)

	nobody := n1.trace("10.244.1.10", "10.244.2.99", control.TraceFails)
	if s := failing(nobody); s.Node != "n2" || s.What != "route on the receiving node" || s.Fix == "" {
		t.Errorf("to an address without a pod: %+v", nobody)
	}
	unowned := n1.trace("10.244.1.10", "10.244.9.9", control.TraceFails)
	if s := failing(unowned); s.Node != "n1" || !strings.Contains(s.Detail, "in no node's block") {
		t.Errorf("to a block without an owner: %+v", unowned)
	}
	if s := failing(n1.trace("10.244.1.77", "10.244.2.20", control.TraceFails)); s.What != "route to the source" {
		t.Errorf("from an address without a pod: %+v", s)
	}
	if _, err := n1.client.Trace(t.Context(), "10.244.2.20", "10.244.1.10"); err == nil || !strings.Contains(err.Error(), "run weft trace there") {
		t.Errorf("from another node's pod: %v", err)
	}

	// What a firewall in front of the far weftd drops is gone between the nodes, since questions have a port of their own.
	if out, err := n2.Run(t.Context(), "nft", "add table inet test; add chain inet test in { type filter hook input priority 0; }; add rule inet test in udp sport 61440-61447 udp dport 8285 drop"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s := failing(n1.trace("10.244.1.10", "10.244.2.20", control.TraceFails)); s.What != "underlay" {
		t.Errorf("behind a firewall: %+v", s)
	}
}
