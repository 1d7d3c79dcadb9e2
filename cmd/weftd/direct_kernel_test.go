//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// routesVia are weft's own of m's kernel by way of other, those of the probes included.
func (m *member) routesVia(other *member) string {
	m.c.t.Helper()
	return m.c.command(m.Namespace, "ip", "route", "show", "table", "all", "proto", "119", "via", other.Addr.String())
}

// startDirect starts every daemon and waits until all send to all directly.
func (c *cluster) startDirect(flags ...string) {
	c.t.Helper()
	for _, m := range c.members {
		m.start(append([]string{"--mode", "auto"}, flags...)...)
	}
	for _, m := range c.members {
		m.usesDirectly(c.members...)
	}
}

func (m *member) usesDirectly(others ...*member) {
	m.c.t.Helper()
	for _, other := range others {
		if m != other {
			m.uses(other, "direct")
		}
	}
}

// says waits until m's log has a line with all of parts.
func (m *member) says(parts ...string) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("the log of %s to say %q", m, parts), func(context.Context) error {
		log, err := m.daemon.Log()
		if err != nil {
			return err
		}
	lines:
		for line := range strings.Lines(log) {
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue lines
				}
			}
			return nil
		}
		return errors.New("no such line")
	})
}

// repairs waits until m's routes via other are want again, and logs how long that took.
func (m *member) repairs(what string, other *member, want string) {
	m.c.t.Helper()
	begin := time.Now()
	m.c.within(2*repairPromised, fmt.Sprintf("%s to repair: %s", m, what), func(context.Context) error {
		if got := m.routesVia(other); got != want {
			return fmt.Errorf("its routes are\n%swant\n%s", got, want)
		}
		return nil
	})
	m.c.t.Logf("%s: repaired after %s", what, time.Since(begin).Round(time.Millisecond))
}

// repairPromised is within when what another program changed is put back.
const repairPromised = 3 * time.Second

// What others do to direct routes is undone, or said. A connection lives through it,
// and a peer that dies loses its routes.
func TestDirectRoutesAreKept(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	a, b, dying := c.members[0], c.members[1], c.members[2]
	c.startDirect()
	s := c.stream(a.pod(10), b.pod(20))
	if err := dying.daemon.Kill(); err != nil {
		t.Fatal(err)
	}

	block, probe := b.block().String(), "10.244.2.0"
	hop := fmt.Sprintf("via %s dev eth0", b.Addr)
	want := a.routesVia(b)
	for _, change := range []struct {
		command string
		says    []string // in one line
	}{
		{"ip route del " + block, []string{"another program changed", "route " + block + " " + hop}},
		{"ip route change " + block + " via " + dying.Addr.String() + " dev eth0 proto 119", []string{"another program changed", "route " + block + " " + hop}},
		{"ip route flush proto 119", nil},
		{"ip route del " + probe, []string{"another program changed", "route " + probe + "/32 " + hop + " proto 119"}},
	} {
		c.command(a.Namespace, strings.Fields(change.command)...)
		a.repairs(change.command, b, want)
		if change.says != nil {
			a.says(change.says...)
		}
		s.goesOn(change.command)
	}

	// A route of somebody else's in its place stays, and is named.
	c.command(a.Namespace, "ip", "route", "replace", block, "via", b.Addr.String(), "dev", "eth0")
	a.says("level=ERROR", block, "not weft's", "ip route del")
	a.warns("the host has the route " + block)
	c.command(a.Namespace, "ip", "route", "del", block, "proto", "boot")
	a.repairs("the foreign route is gone", b, want)
	c.eventually("the warning to end", func(ctx context.Context) error {
		status, err := a.client.Status(ctx)
		if err == nil && len(status.Warnings) > 0 {
			err = fmt.Errorf("there is %q", status.Warnings)
		}
		return err
	})

	c.command(a.Namespace, "ip", "link", "set", "eth0", "down")
	c.command(a.Namespace, "ip", "link", "set", "eth0", "up")
	a.repairs("the underlay was down", b, want)
	s.goesOn("the underlay was down")

	a.waitFor(dying, control.PeerDown)
	c.eventually("the routes of a dead node to go", func(context.Context) error {
		if routes := a.routesVia(dying); routes != "" {
			return errors.New(routes)
		}
		return nil
	})
	s.goesOn("a node died")
}

// warns waits until m's status has a warning with part.
func (m *member) warns(part string) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("%s to warn of %q", m, part), func(ctx context.Context) error {
		status, err := m.client.Status(ctx)
		if err == nil && !strings.Contains(strings.Join(status.Warnings, "\n"), part) {
			err = fmt.Errorf("it warns of %q", status.Warnings)
		}
		return err
	})
}

// Direct peers need no weftd: while it is gone the kernel goes on, and one that starts
// takes over what it finds. One that is told to end leaves nothing.
func TestDirectTakeover(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	// Nobody finds the other dead as long as this takes.
	c.startDirect("--dead-grace", "1m")
	s := c.stream(a.pod(10), b.pod(20))
	s.goesOn("both daemons run")
	monitor, err := b.Start("ip", "monitor", "route")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	c.eventually("the first node to miss the second", func(ctx context.Context) error {
		p, err := a.peer(ctx, b)
		if err == nil && (p.DataPath != control.DataFails || p.Mode != "direct") {
			err = fmt.Errorf("it is %q (%s), data path %s", p.Mode, p.Why, p.DataPath)
		}
		return err
	})
	s.goesOn("one daemon is killed")

	b.start("--mode", "auto", "--dead-grace", "1m")
	c.converged()
	for _, m := range c.members {
		m.usesDirectly(c.members...)
	}
	s.goesOn("it is back")
	log, err := monitor.Log()
	if err != nil {
		t.Fatal(err)
	}
	if gone := regexp.MustCompile(`Deleted 10\.244\.1\.0/24 via .*`).FindString(log); gone != "" {
		t.Errorf("the daemon that took over removed a route first: %s", gone)
	}

	for _, m := range c.members {
		m.stop()
		m.leftNothing()
	}
}
