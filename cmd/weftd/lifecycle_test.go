//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// routeTo returns m's route to other's block, or an error.
func (m *member) routeTo(ctx context.Context, other *member) error {
	routes, err := m.client.Routes(ctx)
	if err != nil {
		return err
	}
	for _, r := range routes.Routes {
		if r.Node == other.String() {
			return nil
		}
	}
	return fmt.Errorf("%s has no route to %s", m, other)
}

// unreachable waits until a ping is answered by an ICMP error instead of silence.
func unreachable(t *testing.T, c *cluster, from, to *topo.Pod) {
	t.Helper()
	c.eventually("an unreachable", func(ctx context.Context) error {
		out, _ := from.Run(ctx, "ping", "-c", "1", "-W", "1", to.Addr.String())
		if !strings.Contains(out, "Unreachable") {
			return errors.New(out)
		}
		return nil
	})
}

func TestDeathAndReturn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.startAll()
	a, dying := c.members[0], c.members[2]
	from, to := a.pod(10), dying.pod(30)
	ping(t, from, to)
	status, err := dying.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	if err := dying.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.members[:2] {
		m.waitFor(dying, control.PeerDown)
		if err := m.routeTo(t.Context(), dying); err == nil {
			t.Errorf("%s still routes to the dead node", m)
		}
	}
	unreachable(t, c, from, to)

	// What the killed daemon left is taken over, and it is the same node again.
	dying.start()
	c.converged()
	ping(t, from, to)
	again, err := dying.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again.Node != status.Node {
		t.Errorf("the node was %v, and is %v after its restart", status.Node, again.Node)
	}
	dying.stop()
	dying.leftNothing()
}

// A restart within the grace period withdraws no route and is no departure.
func TestRestartIsNoDeparture(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	b.stop()
	b.start()
	c.eventually("the restarted node to be back", func(ctx context.Context) error {
		if err := a.routeTo(ctx, b); err != nil {
			t.Error(err)
		}
		_, err := b.client.Status(ctx)
		return err
	})
	c.converged()
	if err := transfer(t, a.pod(10), b.pod(20), 1<<20); err != nil {
		t.Error(err)
	}
}

// A node that comes back alone, with nobody to ask, still knows whom to dial.
func TestPeersAreRemembered(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	b.stop()
	a.stop()
	// The join list of both names the first node alone, which therefore can only
	// have found the second by what it remembers.
	b.start()
	c.eventually("the second node to be there", func(ctx context.Context) error {
		_, err := b.client.Status(ctx)
		return err
	})
	a.start("--join", "")
	c.converged()
}

func TestLeave(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, leaver := c.members[0], c.members[1]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "../../bin/weft", "--socket", leaver.socket, "leave").CombinedOutput(); err != nil {
		t.Fatalf("weft leave: %v\n%s", err, out)
	}
	if err := leaver.daemon.Wait(); err != nil {
		t.Errorf("weftd ended after leave: %v", err)
	}
	leaver.leftNothing()
	a.waitFor(leaver, control.PeerLeft)
	if err := a.routeTo(ctx, leaver); err == nil {
		t.Error("a node that left is still routed to")
	}

	// Its block is free for another.
	heir := c.add(3)
	heir.start("--pod-cidr", "10.244.2.0/24")
	a.waitFor(heir, control.PeerUp)
	if err := a.routeTo(ctx, heir); err != nil {
		t.Error(err)
	}
}

// What another program takes from the kernel's state is brought back.
func TestKernelStateIsBroughtBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	from, to := a.pod(10), b.pod(20)
	ping(t, from, to)
	for _, args := range [][]string{
		{"ip", "link", "set", "weft0", "down"},
		{"ip", "route", "flush", "proto", "119"},
		{"ip", "address", "flush", "dev", "weft0"},
		{"sysctl", "-w", "net.ipv4.ip_forward=0"},
	} {
		if _, err := a.Run(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	ping(t, from, to)
}

// A departure that nobody hears ends the daemon all the same, and says so.
func TestLeaveUnheard(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	leaver, dead := c.members[0], c.members[1]
	if err := dead.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	leaver.waitFor(dead, control.PeerDown)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "../../bin/weft", "--socket", leaver.socket, "leave").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "10.244.1.0/24 reserved") {
		t.Errorf("weft leave: %v\n%s", err, out)
	}
	if err := leaver.daemon.Wait(); err != nil {
		t.Errorf("weftd ended after leave: %v", err)
	}
	leaver.leftNothing()
}

// A machine that was installed anew, with its state directory lost, takes its
// address and its block back from its former self.
func TestReinstalledMachine(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	before, err := b.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(c.Dir(), "n2.state")); err != nil {
		t.Fatal(err)
	}
	b.start()
	c.eventually("the new node to be ready", func(ctx context.Context) error {
		after, err := b.client.Status(ctx)
		if err != nil {
			return err
		}
		if after.State != control.StateReady {
			return fmt.Errorf("it is %s: %s", after.State, after.Reason)
		}
		if after.Node.ID == before.Node.ID {
			t.Error("the node has its old ID, so this test tests nothing")
		}
		return nil
	})
	c.eventually("the old node to be replaced", func(ctx context.Context) error {
		peers, err := a.client.Peers(ctx)
		if err != nil {
			return err
		}
		states := map[string]string{}
		for _, p := range peers.Peers {
			states[p.ID] = p.State
		}
		if len(states) != 2 || states[before.Node.ID] != control.PeerReplaced {
			return fmt.Errorf("the peers are %v", states)
		}
		return nil
	})
	if err := transfer(t, a.pod(10), b.pod(20), 1<<20); err != nil {
		t.Error(err)
	}
}
