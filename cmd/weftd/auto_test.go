//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/membership"
)

// auto configures m as a node that takes a block by itself.
func (m *member) auto(keys map[string]string) {
	m.c.t.Helper()
	all := map[string]string{
		"nodeName": m.String(), "mode": "udp", "podNetwork": "10.244.0.0/16", "join": "[198.51.100.1]", "gossipKeyFile": m.c.keyFile,
		"socket": m.socket, "stateDir": filepath.Join(m.c.Dir(), m.String()+".state"), "logLevel": "debug",
	}
	for k, v := range keys {
		all[k] = v
	}
	m.configure(all)
}

// held waits until m holds one block, and returns it.
func (m *member) held() (block netip.Prefix) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("%s to hold a block", m), func(ctx context.Context) error {
		s, err := m.client.Status(ctx)
		if err != nil {
			return err
		}
		if s.State != control.StateReady || len(s.PodCIDRs) != 1 {
			return fmt.Errorf("it is %s with %v: %s", s.State, s.PodCIDRs, s.Reason)
		}
		block = s.PodCIDRs[0]
		return nil
	})
	return block
}

// podOf adds pod number host of m's block.
func (m *member) podOf(block netip.Prefix, host byte) *topo.Pod {
	m.c.t.Helper()
	a := block.Addr().As4()
	a[3] = host
	p, err := m.Pod(fmt.Sprintf("p%d", host), netip.AddrFrom4(a))
	if err != nil {
		m.c.t.Fatal(err)
	}
	return p
}

// reach waits until one pod reaches another, of a node that may have taken its block just now.
func (c *cluster) reach(from, to *topo.Pod) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%s to reach %s", from, to), func(ctx context.Context) error {
		if out, err := from.Run(ctx, "ping", "-c", "1", "-W", "1", to.Addr.String()); err != nil {
			return errors.New(out)
		}
		return nil
	})
}

// Nodes that are told of one other and a key have blocks of their own, and the same ones
// after all of them were killed at once.
func TestAutomaticBlocks(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	for i, m := range c.members {
		m.auto(map[string]string{"bootstrap": fmt.Sprint(i == 0)})
	}
	c.members[0].start()
	c.members[1].start()
	blocks := []netip.Prefix{c.members[0].held(), c.members[1].held()}
	began := time.Now()
	c.members[2].start()
	blocks = append(blocks, c.members[2].held())
	t.Logf("the third node had its block %v after its start", time.Since(began).Round(time.Millisecond))
	pods := make([]*topo.Pod, len(blocks))
	for i, b := range blocks {
		if b.Bits() != 24 || slices.Contains(blocks[:i], b) {
			t.Fatalf("blocks %v", blocks)
		}
		pods[i] = c.members[i].podOf(b, 10)
	}
	c.reach(pods[2], pods[0])
	t.Logf("its pod reached another %v after its start", time.Since(began).Round(time.Millisecond))
	c.reach(pods[2], pods[1])

	for _, m := range c.members {
		if err := m.daemon.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range slices.Backward(c.members) {
		m.start()
	}
	for i, m := range c.members {
		if again := m.held(); again != blocks[i] {
			t.Errorf("%s has %s after a restart of all, and had %s", m, again, blocks[i])
		}
	}
	c.reach(pods[0], pods[2])

	// A departure frees the block, and a newcomer finds one.
	if err := c.members[2].client.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := c.add(4)
	m.auto(nil)
	m.start()
	if b := m.held(); slices.Contains(blocks[:2], b) {
		t.Errorf("the newcomer has %s, which is another's", b)
	}
}

// Nodes that know of each other only begin a cluster as soon as all are there; one that misses
// somebody waits, and says for what.
func TestAutomaticBlocksBeginTogether(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	for _, m := range c.members {
		m.auto(map[string]string{"join": "[198.51.100.1, 198.51.100.2]"})
	}
	c.members[1].start()
	c.eventually("the lone node to say what it waits for", func(ctx context.Context) error {
		s, err := c.members[1].client.Status(ctx)
		if err != nil {
			return err
		}
		if s.State != control.StateStarting || !strings.Contains(s.Reason, "198.51.100.1") || !strings.Contains(s.Reason, "bootstrap: true") {
			return fmt.Errorf("it is %s: %s", s.State, s.Reason)
		}
		return nil
	})
	c.members[0].start()
	if a, b := c.members[0].held(), c.members[1].held(); a == b {
		t.Errorf("both have %s", a)
	}
}

// picked is the block that a node with the identity in dir takes first in an empty network.
func picked(t *testing.T, dir string, network netip.Prefix) netip.Prefix {
	t.Helper()
	id, err := membership.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	terms := membership.Terms{Networks: []netip.Prefix{network}}
	s := membership.NewStore(id, terms, time.Second, func(membership.Snapshot) error { return nil })
	s.Settle()
	d := membership.Description{Name: "n", Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1")}, MTU: 1444}
	if err := s.Publish(d); err != nil {
		t.Fatal(err)
	}
	if _, err := membership.NewAllot(s, 24, 64).Step(time.Now(), membership.Surroundings{Ready: true}); err != nil {
		t.Fatal(err)
	}
	return s.View(time.Now()).Self.Pending[0]
}

// Two clusters that took the same block become one: the loser keeps what its pods have
// in sight until they are gone, and has another block for new ones.
func TestBlockLostToAnother(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	network := netip.MustParsePrefix("10.244.0.0/23")
	dir := func(m *member, try int) string { return filepath.Join(c.Dir(), fmt.Sprintf("%s.state%d", m, try)) }
	block, tryB := picked(t, dir(a, 0), network), 0
	for picked(t, dir(b, tryB), network) != block {
		tryB++
	}
	keys := map[string]string{"podNetwork": network.String(), "bootstrap": "true", "join": "[]"}
	keys["stateDir"] = dir(a, 0)
	a.auto(keys)
	keys["stateDir"] = dir(b, tryB)
	b.auto(keys)
	a.start()
	b.start()
	if x, y := a.held(), b.held(); x != block || y != block {
		t.Fatalf("blocks %s and %s, want %s twice", x, y, block)
	}
	pods := []*topo.Pod{a.podOf(block, 10), b.podOf(block, 10)}
	// Another is on record, and has sent nothing yet.
	quiet := ipam.Attachment{Network: networkName, Container: "quiet", Interface: "eth0", Device: "weft0123456789a"}
	records := []*ipam.Store{ipam.Open(filepath.Join(dir(a, 0), attachmentsDir)), ipam.Open(filepath.Join(dir(b, tryB), attachmentsDir))}
	for _, s := range records {
		if _, err := s.Add(t.Context(), quiet, ipam.Request{Blocks: []netip.Prefix{block}, Wanted: []netip.Addr{block.Addr().Next().Next()}}); err != nil {
			t.Fatal(err)
		}
	}
	b.stop()
	keys["join"] = "[198.51.100.1]"
	b.auto(keys)
	b.start()

	var winner, loser *member
	var other netip.Prefix
	c.eventually("one to have another block, and to show what is left on the first", func(ctx context.Context) error {
		var errs []error
		for i, m := range []*member{a, b} {
			s, err := m.client.Status(ctx)
			if err != nil {
				return err
			}
			winner, loser = c.members[1-i], m
			lost := s.Allocation.Lost
			if len(s.PodCIDRs) == 1 && len(lost) == 1 && lost[0].Prefix == block && lost[0].Winner.Name == winner.String() &&
				len(lost[0].Pods) == 2 && lost[0].Pods[0].Device == quiet.Device && lost[0].Pods[1].Address == pods[i].Addr {
				other = s.PodCIDRs[0]
				return nil
			}
			errs = append(errs, fmt.Errorf("%s is %s, has %v, and lost %+v", m, s.State, s.PodCIDRs, lost))
		}
		return errors.Join(errs...)
	})
	if other == block {
		t.Fatalf("it has %s again", other)
	}
	if x := winner.held(); x != block {
		t.Errorf("the winner has %s", x)
	}
	b = loser
	c.reach(b.podOf(other, 11), winner.podOf(block, 12))
	if _, err := b.Run(t.Context(), "ip", "link", "del", "p10"); err != nil {
		t.Fatal(err)
	}
	c.eventually("the lost block to be kept for the pod on record", func(ctx context.Context) error {
		s, err := b.client.Status(ctx)
		if err == nil && (len(s.Allocation.Lost) != 1 || len(s.Allocation.Lost[0].Pods) != 1) {
			err = fmt.Errorf("it lost %+v", s.Allocation.Lost)
		}
		return err
	})
	for _, s := range records {
		if err := s.Remove(t.Context(), quiet.Key()); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the lost block to be given up with its last pod", func(ctx context.Context) error {
		s, err := b.client.Status(ctx)
		if err != nil {
			return err
		}
		if len(s.Allocation.Lost) != 0 {
			return fmt.Errorf("it still claims %+v", s.Allocation.Lost)
		}
		return nil
	})
}

// Where no block is free, the node says who holds them; forgetting a dead one frees its.
func TestExhaustedAndForgotten(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	for i, m := range c.members {
		m.auto(map[string]string{"podNetwork": "10.244.0.0/23", "bootstrap": fmt.Sprint(i == 0)})
	}
	a, b, late := c.members[0], c.members[1], c.members[2]
	a.start()
	a.held()
	b.start()
	freed := b.held()
	late.start()
	c.eventually("the third node to say who holds both blocks", func(ctx context.Context) error {
		s, err := late.client.Status(ctx)
		if err != nil {
			return err
		}
		if !strings.Contains(s.Reason, "all 2 blocks") || !strings.Contains(s.Reason, "n1, n2") {
			return errors.New(s.Reason)
		}
		return nil
	})
	if _, err := a.client.Forget(t.Context(), b.String()); err == nil || !strings.Contains(err.Error(), "weft leave") {
		t.Errorf("a live node is forgotten: %v", err)
	}
	if err := b.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	a.waitFor(b, control.PeerDown)
	f, err := a.client.Forget(t.Context(), b.String())
	if err != nil || !slices.Equal(f.PodCIDRs, []netip.Prefix{freed}) {
		t.Fatalf("forgot %+v, %v", f, err)
	}
	if got := late.held(); got != freed {
		t.Errorf("the third node has %s, and %s was freed", got, freed)
	}
	// It comes back, and its block is another's.
	b.start()
	c.eventually("the forgotten node to say that no block is left", func(ctx context.Context) error {
		s, err := b.client.Status(ctx)
		if err != nil {
			return err
		}
		if !strings.Contains(s.Reason, "all 2 blocks") {
			return fmt.Errorf("it is %s with %v: %s", s.State, s.PodCIDRs, s.Reason)
		}
		return nil
	})
	if got := late.held(); got != freed {
		t.Errorf("the third node has %s after the second came back", got)
	}
}
