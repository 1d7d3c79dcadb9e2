//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// weft runs the shipped CLI on m's daemon.
func (m *member) weft(args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	text, err := exec.CommandContext(ctx, "../../bin/weft", append([]string{"--socket", m.socket}, args...)...).CombinedOutput()
	return string(text), err
}

// keys asks m for the gossip keys.
func (m *member) keys() control.KeyList {
	m.c.t.Helper()
	l, err := m.client.Keys(context.Background())
	if err != nil {
		m.c.t.Fatal(err)
	}
	return l
}

// sendBy waits until these members, as each of them sees it, all send by a key, read exactly
// keys, and have lost nobody.
func (c *cluster) sendBy(key string, keys []string, members ...*member) {
	c.t.Helper()
	for _, m := range members {
		c.eventually(fmt.Sprintf("%s to see all send by %s of %v", m, key, keys), func(ctx context.Context) error {
			l, err := m.client.Keys(ctx)
			if err != nil {
				return err
			}
			late := l.Without(func(n control.KeyNode) bool {
				return n.Sends(key) && len(n.Keys) == len(keys) || !slices.ContainsFunc(members, func(m *member) bool { return m.String() == n.Name })
			})
			if len(late) > 0 || l.InUse != key || !slices.Equal(l.Keys, keys) {
				return fmt.Errorf("late is %+v, in use %s of %v", late, l.InUse, l.Keys)
			}
			return nil
		})
	}
}

// contact checks that m was always understood, and understood all.
func (m *member) contact() {
	m.c.t.Helper()
	s, err := m.client.Status(context.Background())
	if err != nil {
		m.c.t.Fatal(err)
	}
	if s.Gossip.KeyMismatches != 0 {
		m.c.t.Errorf("%s could not read %d messages", m, s.Gossip.KeyMismatches)
	}
}

// A cluster changes its gossip key while its pods talk, although a node is down at
// first. Then the old key is ended, and keeps out who has no other.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.startAll()
	a, b, late := c.members[0], c.members[1], c.members[2]
	s := c.stream(a.pod(10), b.pod(20))
	if err := late.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	a.waitFor(late, control.PeerDown)

	old := a.keys().InUse
	out, err := a.weft("key", "rotate", "--wait", "5s")
	if err == nil || !strings.Contains(out, "waiting for n3 (down)") || !strings.Contains(out, "2 of 3 have confirmed it, 0 send by it") {
		t.Fatalf("weft key rotate: %v\n%s", err, out)
	}
	newest := a.keys().Keys[0]
	c.sendBy(old, []string{newest, old}, a, b)
	if out, err := b.weft("key", "remove", old); err == nil || !strings.Contains(out, "n3 (down) has not confirmed "+newest) {
		t.Errorf("weft key remove: %v\n%s", err, out)
	}
	s.goesOn("a key that one node lacks")

	late.start()
	c.sendBy(newest, []string{newest, old}, a, b, late)
	c.converged()
	s.goesOn("all have changed to the key")
	if out, err := b.weft("key", "remove", newest); err == nil || !strings.Contains(out, "is the newest") {
		t.Errorf("the newest is removed: %v\n%s", err, out)
	}
	if out, err := b.weft("key", "remove", old); err != nil {
		t.Errorf("weft key remove: %v\n%s", err, out)
	}
	c.sendBy(newest, []string{newest}, a, b, late)
	a.works(b)
	late.works(a)
	s.goesOn("the old key is removed")
	for _, m := range c.members {
		m.contact()
	}

	c.newcomer(a, newest)
	a.stop()
	a.start()
	c.converged()
	if log, err := a.daemon.Log(); err != nil || !strings.Contains(log, "gossipKeyFile is out of date: key "+old) {
		t.Errorf("no warning of the old key in the file: %v", err)
	}
	c.sendBy(newest, []string{newest}, c.members...)
}

// works waits until probes to other are answered.
func (m *member) works(other *member) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("probes of %s to %s to be answered", m, other), func(ctx context.Context) error {
		p, err := m.client.Ping(ctx, other.String())
		if err == nil && p.Lost {
			err = errors.New(p.Reason)
		}
		return err
	})
}

// newcomer adds a node that is kept out with the old key, and let in by the one that of exports.
func (c *cluster) newcomer(of *member, newest string) {
	c.t.Helper()
	m := c.add(4)
	m.start()
	c.eventually("the old key to be refused", func(ctx context.Context) error {
		s, err := m.client.Status(ctx)
		if err != nil {
			return err
		}
		if s.Gossip.KeyMismatches == 0 || s.State != control.StateReady {
			return fmt.Errorf("%s, %d mismatches", s.State, s.Gossip.KeyMismatches)
		}
		return nil
	})
	for _, m := range []*member{m, of} {
		log, err := m.daemon.Log()
		if err != nil || !strings.Contains(log, "a node uses another gossip key: give every node the same gossipKeyFile, as `weft key export` prints it") {
			c.t.Errorf("%s does not say what to do: %v", m, err)
		}
	}
	m.stop()
	file := filepath.Join(c.Dir(), "exported.key")
	of.exportTo(file)
	m.start("--gossip-key-file", file)
	c.converged()
	c.sendBy(newest, []string{newest}, c.members...)
}

// exportTo writes the key in use to a file, as an operator does.
func (m *member) exportTo(file string) {
	m.c.t.Helper()
	key, err := exec.CommandContext(m.c.t.Context(), "../../bin/weft", "--socket", m.socket, "key", "export").Output()
	if err != nil {
		m.c.t.Fatal(err)
	}
	if err := os.WriteFile(file, key, 0o600); err != nil {
		m.c.t.Fatal(err)
	}
}

// A key that a dead node still needs is removed by force: that node is cut off, says what
// to do, and is let in again with the exported key.
func TestKeyRemovedByForce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.startAll()
	a, b, dead := c.members[0], c.members[1], c.members[2]
	if err := dead.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	a.waitFor(dead, control.PeerDown)
	old := a.keys().InUse
	if out, err := a.weft("key", "rotate", "--no-wait"); err != nil {
		t.Fatalf("weft key rotate: %v\n%s", err, out)
	}
	newest := a.keys().Keys[0]
	c.sendBy(old, []string{newest, old}, a, b)
	if out, err := a.weft("key", "remove", old, "--force"); err != nil || !strings.Contains(out, "Cut off") || !strings.Contains(out, "n3 (") {
		t.Fatalf("weft key remove --force: %v\n%s", err, out)
	}
	c.sendBy(newest, []string{newest}, a, b)
	a.works(b)

	dead.start()
	c.eventually("the dead node's key to be refused", func(ctx context.Context) error {
		s, err := a.client.Status(ctx)
		if err == nil && s.Gossip.KeyMismatches == 0 {
			err = errors.New("it is not")
		}
		return err
	})
	c.eventually("it to be ready", func(ctx context.Context) error {
		_, err := dead.client.Status(ctx)
		return err
	})
	dead.stop()
	file := filepath.Join(c.Dir(), "exported.key")
	a.exportTo(file)
	dead.start("--gossip-key-file", file)
	c.converged()
	c.sendBy(newest, []string{newest}, a, b, dead)
}
