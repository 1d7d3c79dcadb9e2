//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// longestCut is how long a node is cut off at the most: longer than deadGrace, so that its peers withdraw its
// routes, and shorter than what memberlist remembers.
const longestCut = 25 * time.Second

// An abuse is something that happens to one node. It is undone when do returns, also where ctx has ended
// meanwhile; the cluster must then become whole by itself.
type abuse struct {
	kind string
	do   func(ctx context.Context, m *member, r *rand.Rand) error
	fits func(m *member) bool // nil for any
}

// restarts says whether abuses may end m's process. The second node's lives as long as the soak: what
// its process loses a little at a time shows in no other.
func restarts(m *member) bool { return m != m.c.members[1] }

// abuses are those of which one goes on at a time.
func abuses() []abuse {
	return []abuse{
		{"restart", func(_ context.Context, m *member, _ *rand.Rand) error { return m.restart() }, restarts},
		{"kill -9", func(_ context.Context, m *member, _ *rand.Rand) error { return m.kill() }, restarts},
		{"takeover", takeover, func(m *member) bool { return m.manager == nil }},
		{"partition", partition, nil},
		{"carrier lost", carrier, nil},
		{"link down", linkDown, nil},
		{"underlay MTU", narrow, nil},
		{"routes deleted", command("ip route flush proto 119"), nil},
		{"TUN's address deleted", command("ip addr flush dev weft0"), nil},
		{"TUN down", command("ip link set weft0 down"), nil},
		{"nftables deleted", command("nft flush ruleset"), nil},
		{"forwarding off", command("sysctl -qw net.ipv4.ip_forward=0"), nil},
		{"underlay address deleted", addressDeleted, nil},
		{"reload", reload, nil},
	}
}

func takeover(ctx context.Context, m *member, _ *rand.Rand) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), queryPatience, errors.New("it takes too long"))
	defer cancel()
	return m.takeover(ctx)
}

// partition takes the node off the bridge, carrier and all else as it was.
func partition(ctx context.Context, m *member, r *rand.Rand) error {
	if err := m.Unplug(); err != nil {
		return err
	}
	pause(ctx, between(r, 2*time.Second, longestCut))
	return m.Plug()
}

// carrier flaps the far end of the node's link.
func carrier(ctx context.Context, m *member, r *rand.Rand) error {
	for range 1 + r.IntN(5) {
		if err := runIn(m.c.topology.Underlay(), "ip", "link", "set", m.String(), "down"); err != nil {
			return err
		}
		pause(ctx, between(r, 50*time.Millisecond, 2*time.Second))
		if err := runIn(m.c.topology.Underlay(), "ip", "link", "set", m.String(), "up"); err != nil {
			return err
		}
		pause(ctx, between(r, 50*time.Millisecond, time.Second))
	}
	return nil
}

// linkDown sets the node's own end down, which costs it its default route until somebody sets that again.
func linkDown(ctx context.Context, m *member, r *rand.Rand) error {
	if err := runIn(m.Namespace, "ip", "link", "set", "eth0", "down"); err != nil {
		return err
	}
	pause(ctx, between(r, 50*time.Millisecond, 4*time.Second))
	return errors.Join(runIn(m.Namespace, "ip", "link", "set", "eth0", "up"), m.defaultRoute())
}

func addressDeleted(ctx context.Context, m *member, r *rand.Rand) error {
	if err := runIn(m.Namespace, "ip", "addr", "flush", "dev", "eth0"); err != nil {
		return err
	}
	pause(ctx, between(r, 50*time.Millisecond, 4*time.Second))
	return errors.Join(runIn(m.Namespace, "ip", "addr", "add", m.Addr.String()+"/24", "dev", "eth0"), m.defaultRoute())
}

func (m *member) defaultRoute() error {
	return runIn(m.Namespace, "ip", "route", "replace", "default", "via", "198.51.100.254", "dev", "eth0")
}

// narrow makes the node's link smaller, and large again.
func narrow(ctx context.Context, m *member, r *rand.Rand) error {
	if err := m.SetMTU(1400 + r.IntN(90)); err != nil {
		return err
	}
	pause(ctx, between(r, time.Second, 8*time.Second))
	return m.SetMTU(underlayMTU)
}

// reload changes what can change live. The mode is none that all nodes must have, as direct.
func reload(ctx context.Context, m *member, r *rand.Rand) error {
	modes, levels := []string{"udp", "vxlan", "auto"}, []string{"debug", "info", "warn"}
	s := setting{modes[r.IntN(len(modes))], r.IntN(2) == 0, levels[r.IntN(len(levels))]}
	if err := m.configure(s); err != nil {
		return err
	}
	_, err := m.weft(context.WithoutCancel(ctx), "reload")
	return err
}

// command is what another program, or a person, does to weft's kernel state.
func command(line string) func(context.Context, *member, *rand.Rand) error {
	return func(_ context.Context, m *member, _ *rand.Rand) error {
		return runIn(m.Namespace, "sh", "-c", line)
	}
}

// runIn runs a command that takes no time, and is not given up half-way.
func runIn(ns *topo.Namespace, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), queryPatience)
	defer cancel()
	_, err := ns.Run(ctx, args...)
	return err
}

// happened is an abuse as it was.
type happened struct {
	At    seconds `json:"at"` // since the abuse began
	Kind  string  `json:"kind"`
	Node  string  `json:"node"`
	Took  seconds `json:"took"`  // to do and undo it
	Whole seconds `json:"whole"` // from then until all daemons were ready and saw each other
	Gap   seconds `json:"gap"`   // the longest that a connection had no echo
}

// abuseNodes abuses one node after another until ctx ends. It gives up when the cluster does not become whole.
func abuseNodes(ctx context.Context, c *cluster, f *flows, p plan, rep *report) error {
	r := rand.New(rand.NewPCG(p.seed, 1))
	var bag []abuse // each comes once before any comes again
	for ctx.Err() == nil {
		if len(bag) == 0 {
			bag = abuses()
			r.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		}
		a := bag[0]
		bag = bag[1:]
		m := c.members[r.IntN(nodeCount)]
		for a.fits != nil && !a.fits(m) {
			m = c.members[r.IntN(nodeCount)]
		}
		if err := a.on(ctx, m, f, r, rep); err != nil {
			return err
		}
		pause(ctx, between(r, 500*time.Millisecond, 3*time.Second))
	}
	return nil
}

// on abuses m, and waits until all is as it was.
func (a abuse) on(ctx context.Context, m *member, f *flows, r *rand.Rand, rep *report) error {
	f.gap()
	began := time.Now()
	if err := a.do(ctx, m, r); err != nil {
		return fmt.Errorf("%s on %s: %w", a.kind, m, err)
	}
	took := time.Since(began)
	if err := m.c.whole(ctx, rep.plan.patience); err != nil {
		return fmt.Errorf("after %s on %s: %w", a.kind, m, err)
	}
	whole := time.Since(began) - took
	// What was retransmitted in vain comes with the next attempt.
	err := eventually(ctx, longestGap, func(context.Context) error {
		return f.behind(2 * time.Second)
	})
	rep.note(happened{seconds(began.Sub(rep.begun).Seconds()), a.kind, m.String(), seconds(took.Seconds()), seconds(whole.Seconds()), seconds(f.gap().Seconds())})
	if lost := f.lost(); len(lost) > 0 {
		return fmt.Errorf("after %s on %s %d connections are lost: %q", a.kind, m, len(lost), lost)
	}
	if err != nil {
		return fmt.Errorf("after %s on %s: %w", a.kind, m, err)
	}
	return nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}
