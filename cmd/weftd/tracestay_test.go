//go:build netns

package main

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// What stays on a node is followed from pod to pod, and between the pods and the node itself.
func TestTraceOnOneNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	m := c.members[0]
	m.start("--join", "")
	m.ready()
	m.pod(10)
	to := m.pod(20)
	bridged := []string{m.addPod("one", "--bridge", "br-trace")[0].String(), m.addPod("two", "--bridge", "br-trace")[0].String()}
	for _, ends := range [][2]string{
		{"10.244.1.10", "10.244.1.20"}, {"10.244.1.10", "n1"}, {"n1", "10.244.1.20"}, {bridged[0], bridged[1]}, {bridged[0], "10.244.1.20"}, {"10.244.1.10", bridged[1]},
	} {
		if got := m.trace(ends[0], ends[1], control.TraceOK); got.Mode != "" || got.MTU == 0 {
			t.Errorf("%+v", got)
		}
	}

	c.filter(to.Namespace, "inet", "input", traced)
	silent := m.trace("10.244.1.10", "10.244.1.20", control.TraceUnknown)
	if last := silent.Steps[len(silent.Steps)-1]; last.What != "destination" || !strings.Contains(silent.Verdict, "says nothing") {
		t.Errorf("to a pod that takes nothing: %+v", silent)
	}
	c.unfilter(to.Namespace, "inet")

	c.filter(m.Namespace, "inet", "output", traced)
	m.endsAt("10.244.1.10", "10.244.1.20", "n1", "probe")
	c.unfilter(m.Namespace, "inet")
	c.filter(m.Namespace, "netdev", `egress device "p20"`, traced)
	m.endsAt("10.244.1.10", "10.244.1.20", "n1", "kernel, sending")
	c.unfilter(m.Namespace, "netdev")

	c.filter(m.Namespace, "inet", "forward", "ip protocol icmp drop")
	m.endsAt("10.244.1.10", "10.244.1.20", "n1", "answer")
}
