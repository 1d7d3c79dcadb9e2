//go:build netns

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cmd/internal/handover"
)

// replaced waits until another process than the one of before carries m's packets.
func (m *member) replaced(started control.Status) control.Status {
	m.c.t.Helper()
	var s control.Status
	m.c.eventually(m.String()+" to be ready again", func(ctx context.Context) (err error) {
		if s, err = m.client.Status(ctx); err != nil {
			return err
		}
		if s.State != control.StateReady || s.Started.Equal(started.Started) {
			return fmt.Errorf("it is %s since %s: %s", s.State, s.Started, s.Reason)
		}
		return nil
	})
	return s
}

// handovers are the lines of a log that tell of hand-overs.
func handovers(t *testing.T, log string, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "are carried on") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// A process takes over from another, on the sender's node and on the receiver's, and no
// packet is lost, none is out of order, and no connection notices.
func TestTakeover(t *testing.T) {
	c := newCluster(t, 2)
	c.startAll()
	from, to := c.members[0].pod(10), c.members[1].pod(20)
	ping(t, from, to)
	tcp := c.stream(from, to)
	udp := newPump(t, from, to, light())
	for i := range 10 {
		m := c.members[i%2]
		before := m.state()
		old := m.daemon
		m.start("--takeover")
		m.replaced(before)
		if err := old.Wait(); err != nil {
			t.Errorf("the weftd before ended: %v", err)
		}
		log, err := m.daemon.Log()
		handovers(t, log, err)
	}
	udp.check(t, "10 takeovers")
	tcp.goesOn("10 takeovers")
	c.converged()
	for _, m := range c.members {
		m.stop()
		m.leftNothing()
	}
}

// Whoever fails to take over leaves the one that runs as it was: for want of a right
// configuration, or dead before it carries packets.
func TestFailedTakeover(t *testing.T) {
	c := newCluster(t, 2)
	c.startAll()
	a := c.members[0]
	from, to := a.pod(10), c.members[1].pod(20)
	ping(t, from, to)
	tcp := c.stream(from, to)
	udp := newPump(t, from, to, light())
	before, running := a.state(), a.daemon
	t.Cleanup(func() {
		if t.Failed() {
			log, err := running.Log()
			t.Logf("log of the weftd that was to be replaced (%v):\n%s", err, log)
		}
	})
	rules := a.generation()
	for _, wrong := range [][]string{{"--workers", "2"}, {"--tun", "weft7"}, {"--data-port", "9000"}, {"--pod-cidr", "10.244.2.0/24"}, {"--state-dir", t.TempDir()}} {
		a.start(append(wrong, "--takeover")...)
		if err := a.daemon.Wait(); err == nil {
			t.Errorf("a takeover with %v succeeded", wrong)
		}
		a.ready()
		if after := a.generation(); after != rules {
			t.Errorf("a takeover with %v was refused, and nftables had %d changes", wrong, after-rules)
		}
	}
	a.daemon = running
	for _, start := range []bool{false, true} {
		a.dieInTakeover(start)
		a.ready()
	}
	if after := a.state(); !after.Started.Equal(before.Started) {
		t.Errorf("the weftd of %s was replaced by one of %s", before.Started, after.Started)
	}
	udp.check(t, "failed takeovers")
	tcp.goesOn("failed takeovers")
	c.converged()
	a.stop()
	a.leftNothing()
}

// generation is of nftables' rules, as NFTA_GEN_ID of nf_tables_getgen (net/netfilter/nf_tables_api.c) has it: each
// transaction on m's node makes another.
func (m *member) generation() (id uint32) {
	m.c.t.Helper()
	err := m.Do(func() error {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
			Data:   make([]byte, 4), // struct nfgenmsg, include/uapi/linux/netfilter/nfnetlink.h
		})
		if err != nil || len(answer) != 1 || len(answer[0].Data) < 12 {
			return fmt.Errorf("nf_tables answers %v: %w", answer, err)
		}
		id = binary.BigEndian.Uint32(answer[0].Data[8:]) // behind a header of 4 bytes, as the first attribute
		return nil
	})
	if err != nil {
		m.c.t.Fatal(err)
	}
	return id
}

// manage starts all members by managers, and waits until all see all.
func (c *cluster) manage() (managers []*topo.Manager) {
	c.t.Helper()
	for _, m := range c.members {
		manager, err := m.Manage(weftdBinary, "--config", m.config)
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() {
			if c.t.Failed() {
				log, err := manager.Log()
				c.t.Logf("log of %s (%v):\n%s", m, err, log)
			}
			if err := manager.Close(); err != nil {
				c.t.Error(err)
			}
		})
		if err := manager.Start(); err != nil {
			c.t.Fatal(err)
		}
		managers = append(managers, manager)
	}
	c.converged()
	return managers
}

// dieInTakeover takes over from m's daemon, and dies with the descriptors in hand: at start when
// nobody carries packets.
func (m *member) dieInTakeover(start bool) {
	m.c.t.Helper()
	conn, err := (&machine{config: &config.Config{Socket: m.socket}}).dialTakeover()
	if err != nil {
		m.c.t.Fatal(err)
	}
	taker, err := handover.Ask(conn, "a test")
	if err != nil {
		m.c.t.Fatal(err)
	}
	defer taker.Close()
	set, err := taker.Take()
	if err != nil {
		m.c.t.Fatal(err)
	}
	if start {
		err = taker.Start()
	}
	if err := errors.Join(err, set.Close()); err != nil {
		m.c.t.Fatal(err)
	}
}

// Where systemd keeps the descriptors a restart loses nothing, and a kill no more than what the
// process had read.
func TestRestartWithStore(t *testing.T) {
	c := newCluster(t, 2)
	managers := c.manage()
	from, to := c.members[0].pod(10), c.members[1].pod(20)
	ping(t, from, to)
	tcp := c.stream(from, to)
	again := func(times int, what func(*topo.Manager) error) {
		t.Helper()
		for i := range times {
			m := c.members[i%2]
			before := m.state()
			stored := managers[i%2].Stored()
			if err := what(managers[i%2]); err != nil {
				t.Fatal(err)
			}
			m.replaced(before)
			if after := managers[i%2].Stored(); !slices.Equal(stored, after) {
				t.Errorf("systemd has %q, and had %q", after, stored)
			}
		}
	}
	udp := newPump(t, from, to, light())
	again(6, (*topo.Manager).Restart)
	udp.check(t, "6 restarts")
	tcp.goesOn("6 restarts")

	udp = newPump(t, from, to, light())
	again(4, (*topo.Manager).Replace)
	sent, lost := udp.stop(t)
	t.Logf("4 kills: %d packets, %d lost; none came for %s at the most", sent, lost, udp.longest)
	tcp.goesOn("4 kills")
	for _, m := range managers {
		log, err := m.Log()
		handovers(t, log, err)
	}
}

// Without a store the TUN of a process that was killed stays, with its addresses and routes, and
// the next one takes it over.
func TestKilledWithoutStore(t *testing.T) {
	c := newCluster(t, 2)
	c.startAll()
	a := c.members[0]
	tcp := c.stream(a.pod(10), c.members[1].pod(20))
	index := func() string {
		t.Helper()
		out, err := a.Run(t.Context(), "ip", "-o", "link", "show", "weft0")
		if err != nil {
			t.Fatal(err)
		}
		number, _, _ := strings.Cut(out, ":")
		return number
	}
	before := index()
	if err := a.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	routes, err := a.Run(t.Context(), "ip", "route", "show", "proto", "119", "dev", "weft0")
	if err != nil || !strings.Contains(routes, "10.244.0.0/16") {
		t.Errorf("the routes of the killed daemon are %q (%v)", routes, err)
	}
	a.start()
	a.ready()
	if after := index(); after != before {
		t.Errorf("the TUN is interface %s, and was %s", after, before)
	}
	tcp.goesOn("a kill without a store")

	// Another name: what is left of the old one goes.
	if err := a.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	a.start("--tun", "weft7")
	a.ready()
	if out, err := a.Run(t.Context(), "ip", "link", "show", "weft0"); err == nil {
		t.Errorf("the TUN of the former name is still there: %s", out)
	}
	a.stop()
	a.leftNothing()
}

// state is that of m's daemon, which must answer.
func (m *member) state() control.Status {
	m.c.t.Helper()
	s, err := m.client.Status(context.Background())
	if err != nil {
		m.c.t.Fatal(err)
	}
	return s
}
