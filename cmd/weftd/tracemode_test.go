//go:build netns

package main

import (
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// A packet is followed by the tunnel that it takes; of one that goes directly it is said that no weftd sees it.
func TestTraceByEachMode(t *testing.T) {
	for mode, arrives := range map[string]string{"vxlan": control.TraceOK, "direct": control.TraceUnknown} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 2)
			for _, m := range c.members {
				m.set("mode", mode)
			}
			c.startAll()
			c.members[0].pod(10)
			c.members[1].pod(20)
			if got := c.members[0].trace("10.244.1.10", "10.244.2.20", arrives); got.Mode != mode || got.Destination.Node != "n2" {
				t.Errorf("%+v", got)
			}
		})
	}
}
