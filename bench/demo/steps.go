//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// An outcome is what a step shows: the end of its line, and lines below it.
type outcome struct {
	detail string
	lines  []string
}

// The story, in order. Every step stands on the ones before it, so the first that fails is
// the last.
func tell(ctx context.Context, s *screen, c *cluster) error {
	steps := []struct {
		title string
		do    func(context.Context, *screen, *cluster) (outcome, error)
	}{
		{"joined, blocks taken", discover},
		{"ping matrix", showMatrix},
		{"iperf3 through the tunnel", showThroughput},
		{"route withdrawn", killLast},
		{"unreachable", showUnreachable},
		{"node restarted, healed", restartLast},
		{"ping matrix again", repeatMatrix},
		{"packets accounted for", showAccounts},
		{"direct, node by node", goDirect},
		{"iperf3 without tunnel", showThroughput},
	}
	for _, step := range steps {
		s.begin(step.title)
		shown, err := step.do(ctx, s, c)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		s.end(step.title, shown, err)
		if err != nil {
			return fmt.Errorf("the step %q has failed", step.title)
		}
	}
	s.printf("\nEverything works, shown in %.1f s.\n", s.elapsed())
	return nil
}

// discover starts the daemons, waits until each has a block and knows the others, and
// adds the pods.
func discover(ctx context.Context, _ *screen, c *cluster) (outcome, error) {
	started := time.Now()
	for _, m := range c.members {
		if err := c.start(m); err != nil {
			return outcome{}, err
		}
	}
	if err := errors.Join(c.waitUntil(ctx, 20*time.Second, c.allotted), c.waitUntil(ctx, 20*time.Second, c.meshed)); err != nil {
		return outcome{}, err
	}
	took := time.Since(started)
	if err := c.addPods(ctx); err != nil {
		return outcome{}, err
	}
	shown := outcome{detail: fmt.Sprintf("%s after the start, from one seed address and a key", seconds(took))}
	for _, m := range c.members {
		shown.lines = append(shown.lines, fmt.Sprintf("%s has %s", m, m.cidr))
	}
	return shown, nil
}

// allotted checks that every member has a block.
func (c *cluster) allotted(ctx context.Context) error {
	for _, m := range c.members {
		answer, err := query[status](ctx, c, m, "status")
		if err != nil {
			return err
		}
		if len(answer.PodCIDRs) != 1 {
			return fmt.Errorf("%s has no block: %s", m, answer.Reason)
		}
		m.cidr = answer.PodCIDRs[0]
	}
	return nil
}

// meshed checks that every member has every other as peer and route.
func (c *cluster) meshed(ctx context.Context) error {
	for _, m := range c.members {
		if err := c.seesUp(ctx, m, c.others(m)); err != nil {
			return err
		}
	}
	return nil
}

func showMatrix(ctx context.Context, s *screen, c *cluster) (outcome, error) {
	return c.measure(ctx).outcome(s)
}

// repeatMatrix shows the cells only if they are worth it.
func repeatMatrix(ctx context.Context, s *screen, c *cluster) (outcome, error) {
	shown, err := c.measure(ctx).outcome(s)
	if err == nil {
		shown.lines = nil
	}
	return shown, err
}

func showThroughput(ctx context.Context, _ *screen, c *cluster) (outcome, error) {
	from, to := c.pods[0], c.pods[podsPerNode]
	result, err := c.measureThroughput(ctx, from, to)
	if err != nil {
		return outcome{}, err
	}
	eth0, err := from.Handle().LinkByName("eth0")
	if err != nil {
		return outcome{}, fmt.Errorf("read the MTU of %s: %w", from.name, err)
	}
	return outcome{detail: fmt.Sprintf("%s to %s: %s, MTU %d", from.name, to.name, result, eth0.Attrs().MTU)}, nil
}

// killLast kills the last node's daemon and waits until the others have no route to it.
func killLast(ctx context.Context, _ *screen, c *cluster) (outcome, error) {
	victim := c.members[len(c.members)-1]
	killed := time.Now()
	if err := c.kill(victim); err != nil {
		return outcome{}, err
	}
	err := c.waitUntil(ctx, 30*time.Second, func(ctx context.Context) error {
		for _, m := range c.others(victim) {
			routed, err := c.hasRoute(ctx, m, victim)
			if err != nil {
				return err
			}
			if routed {
				return fmt.Errorf("%s still has the route to %s of %s", m, victim.cidr, victim)
			}
		}
		return nil
	})
	if err != nil {
		return outcome{}, err
	}
	return outcome{detail: fmt.Sprintf("%s after weftd on %s was killed with SIGKILL", seconds(time.Since(killed)), victim)}, nil
}

// showUnreachable pings a pod that no node owns now, and wants a refusal, not silence.
func showUnreachable(ctx context.Context, _ *screen, c *cluster) (outcome, error) {
	from, to := c.pods[0], c.pods[len(c.pods)-1]
	out, err := from.Run(ctx, "ping", "-n", "-c3", "-i0.3", "-W1", to.addr.String())
	if err == nil {
		return outcome{}, fmt.Errorf("%s of the dead node still answers %s", to.name, from.name)
	}
	line, found := unreachableLine(out)
	if !found {
		return outcome{}, fmt.Errorf("no ICMP unreachable came back: %w", err)
	}
	return outcome{detail: fmt.Sprintf("%s pings %s: %s", from.name, to.name, line)}, nil
}

// unreachableLine finds the first line in ping's output that shows an ICMP error of type 3.
func unreachableLine(out string) (line string, found bool) {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "From ") && strings.Contains(line, "nreachable") {
			return strings.TrimSpace(line), true
		}
	}
	return "", false
}

// restartLast starts the killed daemon again, with the state it had, and waits for the mesh.
func restartLast(ctx context.Context, _ *screen, c *cluster) (outcome, error) {
	m := c.members[len(c.members)-1]
	restarted := time.Now()
	if err := c.start(m); err != nil {
		return outcome{}, err
	}
	if err := c.waitUntil(ctx, 20*time.Second, c.meshed); err != nil {
		return outcome{}, err
	}
	return outcome{detail: fmt.Sprintf("%s after the start of %s", seconds(time.Since(restarted)), m)}, nil
}

// goDirect starts each node again without the mode that the demo began with, so that
// peers on one link are reached without encapsulation, and waits until all are. A ping
// runs meanwhile.
func goDirect(ctx context.Context, _ *screen, c *cluster) (outcome, error) {
	from, to := c.pods[0], c.pods[podsPerNode]
	const count, interval = 50, 100 * time.Millisecond
	var (
		ping sync.WaitGroup
		out  string
	)
	pinging, stop := context.WithTimeout(ctx, time.Minute)
	defer ping.Wait()
	defer stop()
	ping.Go(func() {
		out, _ = from.Run(pinging, "ping", "-n", "-q", fmt.Sprint("-c", count), fmt.Sprint("-i", interval.Seconds()), to.addr.String()) // what got lost is in out
	})
	for _, m := range c.members {
		if err := c.restart(ctx, m, "auto"); err != nil {
			return outcome{}, err
		}
	}
	if err := c.waitUntil(ctx, 20*time.Second, c.direct); err != nil {
		return outcome{}, err
	}
	ping.Wait()
	received, err := pingsReceived(out)
	if err != nil {
		return outcome{}, err
	}
	return outcome{detail: fmt.Sprintf("restarted with mode auto; of %d pings meanwhile, one each %s, %d were answered", count, interval, received)}, nil
}

// showAccounts adds up what happened to every packet. Packets in flight are received but not
// yet accounted for, so the sums may take a moment to meet.
func showAccounts(ctx context.Context, _ *screen, c *cluster) (outcome, error) {
	var (
		total  direction
		kernel int64
	)
	err := c.waitUntil(ctx, 5*time.Second, func(ctx context.Context) error {
		total, kernel = direction{Drops: make(map[string]int64)}, 0
		for _, m := range c.members {
			accounts, err := query[accounts](ctx, c, m, "drops")
			if err != nil {
				return err
			}
			if err := errors.Join(accounts.Egress.check(), accounts.Ingress.check()); err != nil {
				return fmt.Errorf("%s: %w", m, err)
			}
			total.add(accounts.Egress)
			total.add(accounts.Ingress)
			for _, n := range accounts.Kernel {
				kernel += n
			}
		}
		return nil
	})
	return outcome{detail: fmt.Sprintf("%s; %d by the kernel", total, kernel)}, err
}

func (d direction) check() error {
	if d.Received != d.Forwarded+d.sum() {
		return fmt.Errorf("received %d, but forwarded %d and dropped %d", d.Received, d.Forwarded, d.sum())
	}
	return nil
}

func (d *direction) add(other direction) {
	d.Received += other.Received
	d.Forwarded += other.Forwarded
	for reason, n := range other.Drops {
		d.Drops[reason] += n
	}
}

// String shows the sum and the reasons that occurred.
func (d direction) String() string {
	text := fmt.Sprintf("%d received = %d forwarded + %d dropped", d.Received, d.Forwarded, d.sum())
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(d.Drops)) {
		if n := d.Drops[reason]; n > 0 {
			reasons = append(reasons, fmt.Sprintf("%s %d", reason, n))
		}
	}
	if len(reasons) > 0 {
		text += " (" + strings.Join(reasons, ", ") + ")"
	}
	return text
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
