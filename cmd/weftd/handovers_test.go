//go:build netns && handover

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// calm is how long packets are carried between two hand-overs, to tell what the machine loses all the same.
const calm = 250 * time.Millisecond

// TestHandovers is 100 takeovers, 100 restarts and 20 kills, under 50,000 small packets a second, and then
// under 1 Gb/s of large ones. It prints the figures that ARCHITECTURE.md has: what was lost of what was sent
// while a hand-over was under way, and of what was sent between, and where.
func TestHandovers(t *testing.T) {
	for name, l := range map[string]load{
		"50,000 packets a second": {size: 200, burst: 53, every: time.Millisecond, ahead: 8000},
		"1 Gb/s":                  {size: 1392, burst: 46, every: 500 * time.Microsecond, super: true, ahead: 20000},
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
	r := c.rehearse(l)
	for i := range times {
		m := c.members[i%2]
		r.handOver(m, "takeover", func() { m.start("--takeover") })
	}
	r.end()
}

func managed(t *testing.T, restarts, kills int, l load) {
	c := newCluster(t, 2)
	managers := c.manage()
	r := c.rehearse(l)
	again := func(times int, what string, do func(*topo.Manager) error) {
		t.Helper()
		for i := range times {
			r.handOver(c.members[i%2], what, func() {
				if err := do(managers[i%2]); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	again(restarts, "restart", (*topo.Manager).Restart)
	again(kills, "kill", (*topo.Manager).Replace)
	r.end()
	for _, m := range managers {
		log, err := m.Log()
		handovers(t, log, err)
	}
}

// rehearsal is a stream under which hand-overs are done, and where packets were dropped meanwhile.
type rehearsal struct {
	c     *cluster
	udp   *pump
	tcp   *stream
	began time.Time
	last  map[string]uint64            // the counters when last looked at
	drops map[string]map[string]uint64 // by what was done, and by counter
	marks []mark
}

// mark is a moment of a stream, from which on it is called what.
type mark struct {
	what string
	from uint64 // number
}

// rehearse begins a stream, and carries it for a while without a hand-over.
func (c *cluster) rehearse(l load) *rehearsal {
	c.t.Helper()
	from, to := c.members[0].pod(10), c.members[1].pod(20)
	ping(c.t, from, to)
	r := &rehearsal{c: c, tcp: c.stream(from, to), udp: newPump(c.t, from, to, l), began: time.Now(), drops: make(map[string]map[string]uint64)}
	r.last = r.counters()
	r.rest(12 * calm)
	return r
}

// rest lets packets be carried for so long.
func (r *rehearsal) rest(d time.Duration) {
	r.c.t.Helper()
	r.marks = append(r.marks, mark{"none", r.udp.sent.Load()})
	until := time.Now().Add(d)
	r.c.eventually("some time to pass", func(context.Context) error {
		if left := time.Until(until); left > 0 {
			return fmt.Errorf("%s are left", left)
		}
		return nil
	})
	r.udp.caughtUp(r.c)
	r.look("none")
}

// handOver does what replaces m's daemon, and lets packets be carried before and after it.
func (r *rehearsal) handOver(m *member, what string, do func()) {
	r.c.t.Helper()
	before := m.state()
	r.marks = append(r.marks, mark{what, r.udp.next.Load()}) // what is under way is in the hands of who is replaced
	do()
	m.replaced(before)
	r.udp.caughtUp(r.c)
	r.look(what)
	r.rest(calm)
}

// look adds what was dropped since the last look to what.
func (r *rehearsal) look(what string) {
	r.c.t.Helper()
	now := r.counters()
	if r.drops[what] == nil {
		r.drops[what] = make(map[string]uint64)
	}
	for where, n := range now {
		if was := r.last[where]; n > was { // a process begins its counters anew
			r.drops[what][where] += n - was
		}
	}
	r.last = now
}

// counters are all that count packets which do not arrive.
func (r *rehearsal) counters() map[string]uint64 {
	r.c.t.Helper()
	all := map[string]uint64{
		"the receiver's socket":      socketDrops(r.c.t, r.udp.in),
		"this machine's net backlog": backlogDrops(r.c.t),
	}
	for _, m := range r.c.members {
		drops, err := m.client.Drops(r.c.t.Context())
		if err != nil {
			r.c.t.Fatal(err)
		}
		all[m.String()+"'s TUN queue"] = drops.Kernel.TunTxDropped
		all[m.String()+"'s data port"] = drops.Kernel.SocketOverflow
		for reason, n := range drops.Egress.Drops {
			all[m.String()+" egress: "+reason] = n
		}
		for reason, n := range drops.Ingress.Drops {
			all[m.String()+" ingress: "+reason] = n
		}
	}
	return all
}

// backlogDrops is how many packets found a CPU's queue full that the kernel has between two of its
// interfaces (netdev_max_backlog): of all programs on this machine.
func backlogDrops(t *testing.T) (n uint64) {
	t.Helper()
	text, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		dropped, err := hex.DecodeString(strings.Fields(line)[1])
		if err != nil || len(dropped) != 4 {
			t.Fatalf("softnet_stat: %q (%v)", line, err)
		}
		n += uint64(dropped[0])<<24 | uint64(dropped[1])<<16 | uint64(dropped[2])<<8 | uint64(dropped[3])
	}
	return n
}

// end ends the stream, and prints what was lost.
func (r *rehearsal) end() {
	t := r.c.t
	t.Helper()
	took := time.Since(r.began)
	sent, lost := r.udp.stop(t)
	t.Logf("%d packets, %.0f a second, %d lost; none came for %s at the most, none was sent for %s, %d bursts were held back",
		sent, float64(sent)/took.Seconds(), lost, r.udp.longest, r.udp.paused, r.udp.held)
	for what, n := range r.lost() {
		t.Logf("hand-over %s: %d lost", what, n)
		for _, where := range slices.Sorted(maps.Keys(r.drops[what])) {
			t.Logf("hand-over %s: %d dropped by %s", what, r.drops[what][where], where)
		}
		if n > 0 && (what == "takeover" || what == "restart") {
			t.Errorf("%d packets were lost in a %s", n, what)
		}
	}
	r.tcp.goesOn("hand-overs")
}

// lost is how many packets got lost by what they were marked with. The stream must have ended.
func (r *rehearsal) lost() map[string]int {
	lost := make(map[string]int)
	for i, m := range r.marks {
		until := r.udp.sent.Load()
		if i+1 < len(r.marks) {
			until = r.marks[i+1].from
		}
		lost[m.what] += 0
		for n := m.from; n < until; n++ {
			if n >= uint64(len(r.udp.seen)) || !r.udp.seen[n] {
				lost[m.what]++
			}
		}
	}
	return lost
}
