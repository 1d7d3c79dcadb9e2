//go:build netns

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sync/errgroup"
)

// containerd16 is Debian 12's, which reads cniVersion and knows neither STATUS nor GC.
const containerd16 = "/usr/bin/containerd"

// TestPods has kubelet's work done on two nodes, with the configuration as weftd writes it.
func TestPods(t *testing.T) {
	for _, test := range []struct {
		wiring  string
		plugins func(*testing.T) string
	}{
		{"routed", func(*testing.T) string { return debianCNI }},
		{"bridge", latestPlugins},
	} {
		t.Run(test.wiring, func(t *testing.T) { testPods(t, test.plugins(t), test.wiring, containerd16, containerdConfig) })
	}
}

func testPods(t *testing.T, plugins, wiring, binary, config string) {
	top := newTopology(t)
	a, b := newNode(t, top, 1, plugins, wiring), newNode(t, top, 2, plugins, wiring)
	ra, rb := a.startContainerd(binary, config), b.startContainerd(binary, config)
	outside, err := top.Node("outside")
	if err != nil {
		t.Fatal(err)
	}

	const hostPort = 18080
	first, second, far := ra.serve("first"), ra.serve("second", mapping{hostPort, webPort}), rb.serve("far")
	first.sees(second)
	first.sees(far)
	far.sees(first)
	(&node{Node: outside, t: t}).reaches(netip.AddrPortFrom(a.Addr, hostPort))
	for _, p := range []*pod{first, second, far} {
		p.remove(t)
	}
	a.nothingLeft()
	b.nothingLeft()

	if wiring == "routed" {
		a.crowd(ra, 50)
	} else {
		a.crowd(ra, 20) // fewer, for time: what a crowd may upset is the store, which is the same
	}
	ra.reboot()
}

// sees expects that p reaches other by both families, with its own address.
func (p *pod) sees(other *pod) {
	n := p.n
	n.t.Helper()
	if len(p.addrs) != 2 || !n.has(p.addrs[0]) || !n.has(p.addrs[1]) {
		n.t.Fatalf("%s's pod has %v", n, p.addrs)
	}
	for i, server := range other.addrs {
		n.eventually(fmt.Sprintf("%s to reach %s", p.addrs[i], server), func(ctx context.Context) error {
			shown, err := p.fetch(ctx, netip.AddrPortFrom(server, webPort))
			if err == nil && shown != p.addrs[i] {
				n.t.Fatalf("%s sees %s in place of %s", server, shown, p.addrs[i])
			}
			return err
		})
	}
}

// crowd adds and removes so many pods at once, twice, and expects that they leave nothing.
func (n *node) crowd(r runner, count int) {
	n.t.Helper()
	before := n.state()
	for round := range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		ids := make([]string, count)
		var all errgroup.Group
		for i := range ids {
			all.Go(func() (err error) {
				ids[i], err = r.runSandbox(ctx, fmt.Sprintf("crowd-%d-%d", round, i))
				return err
			})
		}
		if err := all.Wait(); err != nil {
			n.t.Fatal(err)
		}
		holder := make(map[netip.Addr]string)
		for _, id := range ids {
			addrs, err := r.addresses(ctx, id)
			if err != nil {
				n.t.Fatal(err)
			}
			for _, a := range addrs {
				if other, taken := holder[a]; taken || !n.has(a) {
					n.t.Errorf("%s has %s, and so has %q", id, a, other)
				}
				holder[a] = id
			}
		}
		if len(holder) != 2*count {
			n.t.Errorf("%d pods have %d addresses", count, len(holder))
		}
		var none errgroup.Group
		for _, id := range ids {
			none.Go(func() error { return r.removeSandbox(ctx, id) })
		}
		if err := none.Wait(); err != nil {
			n.t.Fatal(err)
		}
		n.nothingLeft()
	}
	n.unchangedSince(before)
}

// reboot has the node lose its namespaces and the kernel's state under three pods. The runtime removes the first, which it
// remembers, without a namespace; the records of the others go by GC.
func (r *containerd) reboot() {
	n := r.n
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var ids []string
	for i := range 3 {
		id, err := r.runSandbox(ctx, fmt.Sprintf("reboot-%d", i))
		if err != nil {
			n.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	r.kill()
	n.loseKernelState()
	if err := os.RemoveAll(n.path("cri.state")); err != nil {
		n.t.Fatal(err)
	}
	if files := n.leftovers(); len(files) < len(ids) {
		n.t.Fatalf("the records did not survive: %q", files)
	}
	n.startWeftd()
	r.start()
	if err := r.removeSandbox(ctx, ids[0]); err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.cnitool(ctx, "gc", network, "/proc/self/ns/net"); err != nil {
		n.t.Fatal(err)
	}
	n.nothingLeft()
	for _, id := range ids[1:] {
		if err := r.removeSandbox(ctx, id); err != nil {
			n.t.Fatal(err)
		}
	}
	after := r.serve("after")
	after.sees(after)
	after.remove(n.t)
	n.nothingLeft()
}
