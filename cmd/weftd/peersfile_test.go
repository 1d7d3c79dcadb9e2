//go:build netns

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/bench/topo"
)

// Static peers come and go with the file while the daemon runs, and a wrong one changes nothing.
func TestStaticPeersFile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	a := c.members[0]
	n, other := c.linuxNode("linux", 9, false), c.linuxNode("other", 8, false)
	path := filepath.Join(c.Dir(), "peers.yaml")
	a.start(append(a.dualStack(), "--mode", "vxlan", "--join", "", "--static-peers", other.static(), "--static-peers-file", path)...)
	a.ready()
	pods := make(map[*linuxNode]*topo.Pod)
	for _, linux := range []*linuxNode{n, other} {
		linux.vxlan(a, 1, false)
		linux.commands(t, "ethtool -K eth0 tx off")
		pods[linux] = dualPod(t, linux.Node, linux.number, a.mtu())
	}
	here := dualPod(t, a.Node, byte(a.number), a.mtu())
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+"~", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
	}
	entry := "- " + n.static() + "\n"

	unreachable(t, c, here, pods[n]) // there is no such file yet
	ping(t, here, pods[other])

	write(entry)
	a.routesStatic(n, true)
	ping(t, here, pods[n])
	ping(t, overIPv6(pods[n]), overIPv6(here))

	write(entry + "- name=b\n")
	a.warns(path + `:2: "name=b" gives no address`)
	ping(t, here, pods[n])

	write(entry + strings.Replace("- "+other.static()+"\n", "198.51.100.", "198.51.100.1", 1))
	a.warns(path + ":2: other: what staticPeers (")
	ping(t, here, pods[other])
	ping(t, here, pods[n])

	write(entry)
	a.warnsNoMore("staticPeersFile")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	a.routesStatic(n, false)
	unreachable(t, c, here, pods[n])
	ping(t, here, pods[other])
}

// routesStatic waits until m has the blocks of n routed, or has not, for less time than m may do without being told of
// a change.
func (m *member) routesStatic(n *linuxNode, want bool) {
	m.c.t.Helper()
	m.c.within(hostInterval/2, fmt.Sprintf("routes to %s: %v", n, want), func(ctx context.Context) error {
		routes, err := m.client.Routes(ctx)
		if err != nil {
			return err
		}
		count := 0
		for _, r := range routes.Routes {
			if r.Node == n.String() {
				count++
			}
		}
		if count > 0 != want {
			return fmt.Errorf("there are %d", count)
		}
		return nil
	})
}

// warnsNoMore waits until m's status has no warning with part.
func (m *member) warnsNoMore(part string) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("%s to warn of %q no more", m, part), func(ctx context.Context) error {
		status, err := m.client.Status(ctx)
		if err == nil && strings.Contains(strings.Join(status.Warnings, "\n"), part) {
			err = fmt.Errorf("it warns of %q", status.Warnings)
		}
		return err
	})
}
