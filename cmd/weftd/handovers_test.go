//go:build netns && handover

package main

import (
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// TestHandovers is 100 takeovers, 100 restarts and 20 kills, under 50,000 small packets a second, and then
// under 1 Gb/s of large ones. It prints the figures that ARCHITECTURE.md has.
func TestHandovers(t *testing.T) {
	for name, l := range map[string]load{
		"50,000 packets a second": {size: 200, burst: 50, every: time.Millisecond},
		"1 Gb/s":                  {size: 1392, burst: 45, every: 500 * time.Microsecond, super: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("takeovers", func(t *testing.T) { takeovers(t, 100, l) })
			t.Run("restarts", func(t *testing.T) { managed(t, 100, 20, l) })
		})
	}
}

func takeovers(t *testing.T, times int, l load) {
	c := newCluster(t, 2)
	c.startAll()
	from, to := c.members[0].pod(10), c.members[1].pod(20)
	ping(t, from, to)
	tcp := c.stream(from, to)
	udp := newPump(t, from, to, l)
	for i := range times {
		m := c.members[i%2]
		before := m.state()
		m.start("--takeover")
		m.replaced(before)
	}
	udp.check(t, "takeovers")
	tcp.goesOn("takeovers")
}

func managed(t *testing.T, restarts, kills int, l load) {
	c := newCluster(t, 2)
	managers := c.manage()
	from, to := c.members[0].pod(10), c.members[1].pod(20)
	ping(t, from, to)
	tcp := c.stream(from, to)
	again := func(times int, what func(*topo.Manager) error) {
		t.Helper()
		for i := range times {
			before := c.members[i%2].state()
			if err := what(managers[i%2]); err != nil {
				t.Fatal(err)
			}
			c.members[i%2].replaced(before)
		}
	}
	udp := newPump(t, from, to, l)
	again(restarts, (*topo.Manager).Restart)
	udp.check(t, "restarts")
	tcp.goesOn("restarts")
	udp = newPump(t, from, to, l)
	again(kills, (*topo.Manager).Replace)
	sent, lost := udp.stop(t)
	t.Logf("kills: %d packets, %d lost; none came for %s at the most", sent, lost, udp.longest)
	tcp.goesOn("kills")
}
