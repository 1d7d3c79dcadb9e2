//go:build netns && podman

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPodman has Podman attach containers on two nodes, with the configuration as weftd writes it.
func TestPodman(t *testing.T) {
	for _, test := range []struct {
		wiring  string
		plugins func(*testing.T) string
	}{
		{"routed", func(*testing.T) string { return debianCNI }},
		{"bridge", latestPlugins},
	} {
		t.Run(test.wiring, func(t *testing.T) { testPodman(t, test.plugins(t), test.wiring) })
	}
}

func testPodman(t *testing.T, plugins, wiring string) {
	top := newTopology(t)
	a, b := newNode(t, top, 1, plugins, wiring), newNode(t, top, 2, plugins, wiring)
	pa, pb := a.startPodman(), b.startPodman()
	outside, err := top.Node("outside")
	if err != nil {
		t.Fatal(err)
	}
	pa.knowsNetwork()

	first, second, far := pa.serve(), pa.serve("--publish", fmt.Sprintf("18080:%d", webPort)), pb.serve("--network", network)
	first.sees(second)
	first.sees(far)
	far.sees(first)
	(&node{Node: outside, t: t}).reaches(netip.AddrPortFrom(a.Addr, 18080))
	pa.must("stop", "--time", "0", second.id)
	for _, p := range []*pod{first, second, far} {
		p.remove(t)
	}
	a.nothingLeft()
	b.nothingLeft()

	pa.chosen()
	pa.chosenMAC(wiring)
	a.crowd(pa, 10)
	pa.killed()
	pa.reboot()
}

// knowsNetwork expects that Podman lists the network, under its name and the plugin's.
func (p *podman) knowsNetwork() {
	p.n.t.Helper()
	if got := p.must("network", "ls", "--format", "{{.Name}} {{.Driver}}"); got != network+" weft-cni" {
		p.n.t.Errorf("the networks are %q", got)
	}
	var networks []struct {
		Name, Driver string
		Internal     bool
	}
	out := p.must("network", "inspect", network)
	if err := json.Unmarshal([]byte(out), &networks); err != nil || len(networks) != 1 || networks[0].Name != network || networks[0].Driver != "weft-cni" || networks[0].Internal {
		p.n.t.Errorf("%v: the network is %s", err, out)
	}
}

// chosen asks for addresses: Podman passes one by CNI_ARGS, and two by runtimeConfig.
func (p *podman) chosen() {
	n := p.n
	n.t.Helper()
	ip, ip6 := "10.244.1.77", "fd00:10:244:1::77"
	for _, wanted := range [][]string{{"--ip", ip}, {"--ip6", ip6}, {"--ip", ip, "--ip6", ip6}} {
		pod := p.serve(wanted...)
		pod.sees(pod)
		for _, address := range []string{ip, ip6} {
			if slices.Contains(wanted, address) != slices.Contains(pod.addrs, netip.MustParseAddr(address)) {
				n.t.Errorf("by %q a container has %v", wanted, pod.addrs)
			}
		}
		pod.remove(n.t)
	}
	for _, foreign := range []string{"10.244.9.7", "10.244.1.1"} {
		if id, err := p.run(n.t.Context(), "--ip", foreign); err == nil || !strings.Contains(err.Error(), foreign) {
			n.t.Errorf("by --ip %s: container %q, %v", foreign, id, err)
		}
	}
	p.must("rm", "--all") // those that could not be attached
	n.nothingLeft()
}

// chosenMAC asks for a hardware address, which Podman passes by CNI_ARGS, and weft-cni leaves to a tuning plugin behind it.
func (p *podman) chosenMAC(wiring string) {
	n := p.n
	n.t.Helper()
	n.configure("1.0.0", wiring, `{"type": "tuning"}`)
	c := p.serve("--network", chainName, "--mac-address", chosenMAC)
	if link := p.must("exec", c.id, "/bin/busybox", "ip", "link", "show", "eth0"); !strings.Contains(link, chosenMAC) {
		n.t.Errorf("by --mac-address %s a container has %s", chosenMAC, link)
	}
	other := p.serve()
	c.sees(other)
	c.remove(n.t)
	other.remove(n.t)
	n.nothingLeft()
}

// killed kills a container, which conmon has Podman detach, and starts it again; then one together with its conmon, which Podman
// takes for running until somebody removes it.
func (p *podman) killed() {
	n := p.n
	n.t.Helper()
	c := p.serve()
	p.kill9(c, "{{.State.Pid}}")
	n.nothingLeft()
	c = p.startAgain(c)
	c.sees(c)
	p.kill9(c, "{{.State.ConmonPid}} {{.State.Pid}}")
	c.remove(n.t)
	n.nothingLeft()
}

// kill9 kills processes of a container.
func (p *podman) kill9(c *pod, processes string) {
	p.n.t.Helper()
	pids := strings.Fields(p.must("inspect", "--format", processes, c.id))
	if _, err := p.inside(p.n.t.Context(), append([]string{"kill", "-KILL"}, pids...)...); err != nil {
		p.n.t.Fatal(err)
	}
}

// reboot has the node lose its namespaces and the kernel's state under two containers. Podman has neither detached: the one it
// starts again, of the other it has nothing to detach.
func (p *podman) reboot() {
	n := p.n
	n.t.Helper()
	again, gone := p.serve(), p.serve()
	p.shutDown()
	n.loseKernelState()
	n.startWeftd()
	p.boot()
	again = p.startAgain(again)
	again.sees(again)
	gone.remove(n.t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	weft, err := filepath.Abs(filepath.Join(binaries, "weft"))
	if err != nil {
		n.t.Fatal(err)
	}
	if out, err := p.inside(ctx, weft, "ipam", "gc", "--socket", n.socket()); err != nil || !strings.Contains(out, gone.id[:12]) {
		n.t.Errorf("%v: %s", err, out)
	}
	again.sees(again)
	again.remove(n.t)
	if err := os.Remove(filepath.Join(n.libDir(), "cni", "results", network+"-"+gone.id+"-eth0")); err != nil { // libcni's, which only DEL removes
		n.t.Error(err)
	}
	n.nothingLeft()
}

// startAgain starts a container that has ended; it may have other addresses then.
func (p *podman) startAgain(c *pod) *pod {
	p.n.t.Helper()
	p.must("start", c.id)
	return p.running(c.id)
}
