//go:build netns

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/node"
	"github.com/weft-net/weft/cni/sandbox"
	"github.com/weft-net/weft/cni/wiring"
)

// pods runs `weft pod` or `weft ipam` on m, with its own records.
func (m *member) pods(args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args = append([]string{"../../bin/weft", "--socket", m.socket, args[0], "--data-dir", filepath.Join(m.c.Dir(), m.String()+".attachments")}, args[1:]...)
	text, err := m.Command(ctx, args...).CombinedOutput()
	return string(text), err
}

// podName is one that no other run on this machine has.
func (m *member) podName(name string) string { return fmt.Sprintf("t%d-%s-%s", os.Getpid(), m, name) }

// addPod makes a pod by `weft pod add`, which is gone with the test.
func (m *member) addPod(name string, flags ...string) (addresses []netip.Addr) {
	m.c.t.Helper()
	name = m.podName(name)
	m.c.t.Cleanup(func() {
		if err := sandbox.Delete("weft-" + name); err != nil {
			m.c.t.Error(err)
		}
	})
	out, err := m.pods(append([]string{"pod", "add", name, "--json"}, flags...)...)
	if err != nil {
		m.c.t.Fatal(err, out)
	}
	var pod struct{ Addresses []netip.Addr }
	if err := json.Unmarshal([]byte(out), &pod); err != nil {
		m.c.t.Fatalf("%v: %s", err, out)
	}
	return pod.Addresses
}

// refusesPods expects that a command fails, and why.
func (m *member) refusesPods(why string, args ...string) {
	m.c.t.Helper()
	if out, err := m.pods(args...); err == nil || !strings.Contains(out, why) {
		m.c.t.Errorf("weft %v: %v, %s; want an error with %q", args, err, out, why)
	}
}

// refusesForgeries has a pod send from an address that it does not have: as it is, and while what it sends is limited,
// by way of an ifb, as by the bandwidth plugin.
func (m *member) refusesForgeries(name string, to netip.Addr) {
	m.c.t.Helper()
	out, err := m.pods("pod", "list", "--json")
	var list struct {
		Pods []struct{ Name, Device string }
	}
	if err := errors.Join(err, json.Unmarshal([]byte(out), &list)); err != nil {
		m.c.t.Fatal(err)
	}
	i := slices.IndexFunc(list.Pods, func(p struct{ Name, Device string }) bool { return p.Name == m.podName(name) })
	device := list.Pods[i].Device
	pod := func(args ...string) string {
		out, _ := m.pods(append([]string{"pod", "exec", m.podName(name), "--"}, args...)...)
		return out
	}
	forge := func() { pod("ping", "-c", "3", "-i", "0.2", "-W", "1", "-I", "10.244.1.99", to.String()) }
	pod("ip", "address", "add", "10.244.1.99/32", "dev", "eth0")

	forge()
	if out := m.c.command(m.Namespace, "nft", "list", "chain", "netdev", "weft_pods", device); !strings.Contains(out, "counter packets 3 ") {
		m.c.t.Errorf("3 forged packets were not all dropped at the pod's link:\n%s", out)
	}
	for _, args := range []string{
		"ip link add ifb0 type ifb", "ip link set ifb0 up", "tc qdisc add dev " + device + " ingress",
		"tc filter add dev " + device + " parent ffff: protocol ip u32 match u32 0 0 action mirred egress redirect dev ifb0",
	} {
		m.c.command(m.Namespace, strings.Fields(args)...)
	}
	before := m.drops().Kernel.Spoofed
	forge()
	if n := m.drops().Kernel.Spoofed - before; n != 3 {
		m.c.t.Errorf("of 3 forged packets that came by an ifb %d were dropped", n)
	}
	if out := pod("ping", "-c", "1", "-W", "2", to.String()); !strings.Contains(out, " 0% packet loss") {
		m.c.t.Errorf("by an ifb nothing passes: %s", out)
	}
	m.c.command(m.Namespace, "tc", "qdisc", "del", "dev", device, "ingress")
	pod("ip", "address", "del", "10.244.1.99/32", "dev", "eth0")
}

// detaches has weftd remove the device of a pod, as weft-cni does, from the node's namespace and not from another.
func (m *member) detaches(name string, other *topo.Namespace) {
	m.c.t.Helper()
	device := wiring.Device("weft-"+m.podName(name), "eth0")
	there := func() bool {
		_, err := m.Run(m.c.t.Context(), "ip", "link", "show", "dev", device)
		return err == nil
	}
	detach := func() error { return node.New(m.socket).Detach(m.c.t.Context(), device) }
	if err := other.Do(detach); err == nil || !there() {
		m.c.t.Errorf("from another namespace: %v, and the device is there: %v", err, there())
	}
	if err := m.Do(detach); err != nil || there() {
		m.c.t.Errorf("%v, and the device is there: %v", err, there())
	}
}

func TestPods(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	a.refusesPods("weftd is not running", "pod", "add", a.podName("early"))
	c.startAll()
	web := a.addPod("web")[0]
	client := b.addPod("client", "--ip", "10.244.2.77")[0]
	bridged := a.addPod("bridged", "--bridge", "br-pods")[0]
	if !a.block().Contains(web) || client != netip.MustParseAddr("10.244.2.77") {
		t.Errorf("the pods have %s and %s", web, client)
	}
	ping := func(from *member, name string, to netip.Addr) {
		t.Helper()
		if out, err := from.pods("pod", "exec", from.podName(name), "--", "ping", "-c", "2", "-W", "2", to.String()); err != nil {
			t.Errorf("%s does not reach %s: %v %s", name, to, err, out)
		}
	}
	ping(b, "client", web)
	ping(a, "web", client)
	ping(b, "client", bridged)
	ping(a, "web", bridged)
	ping(a, "bridged", web)

	a.refusesPods("already", "pod", "add", a.podName("web"))
	b.refusesPods("is taken", "pod", "add", b.podName("second"), "--ip", "10.244.2.77")
	b.refusesPods("not in a block", "pod", "add", b.podName("second"), "--ip", "10.244.1.77")
	b.refusesPods("there is no pod", "pod", "del", b.podName("second"))
	b.refusesPods("there is no pod", "pod", "exec", b.podName("second"), "--", "true")

	// A namespace that is there is wired, and left there.
	own, err := b.Sandbox("own")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := b.pods("pod", "add", b.podName("own"), "--netns", own.Path()); err != nil {
		t.Fatal(err, out)
	}
	ping(b, "own", web)
	if out, err := b.pods("pod", "del", b.podName("own")); err != nil {
		t.Fatal(err, out)
	}
	if out := c.command(own, "ip", "-o", "link", "show", "up"); strings.Count(out, "\n") != 1 {
		t.Errorf("a pod that was deleted has left in the namespace\n%s", out)
	}

	a.refusesForgeries("web", client)

	// What is killed on the way is half a pod, and can be deleted.
	if err := sandbox.Create("weft-" + b.podName("half")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.pods("pod", "del", b.podName("half")); err != nil || sandbox.Exists("weft-"+b.podName("half")) {
		t.Errorf("half a pod is deleted: %v", err)
	}

	// A restart of the machine: the namespace is gone, the record is not.
	if err := sandbox.Delete("weft-" + b.podName("client")); err != nil {
		t.Fatal(err)
	}
	c.eventually("the record to be stale", func(context.Context) error {
		if out, err := b.pods("ipam", "list"); err != nil || !strings.Contains(out, "stale") {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if out, err := b.pods("ipam", "gc"); err != nil || !strings.Contains(out, "freed 10.244.2.77") {
		t.Errorf("gc: %v, %s", err, out)
	}

	a.detaches("bridged", own)

	a.stop()
	for _, name := range []string{"web", "bridged"} {
		if _, err := a.pods("pod", "del", a.podName(name)); err != nil {
			t.Errorf("without weftd: %v", err)
		}
	}
	for _, m := range c.members {
		if out, err := m.pods("ipam", "list"); err != nil || !strings.Contains(out, "No pod") {
			t.Errorf("%s is left with %s (%v)", m, out, err)
		}
		if out := c.command(m.Namespace, "ip", "-o", "link", "show", "type", "veth"); strings.Count(out, "\n") != 1 {
			t.Errorf("%s is left with the links\n%s", m, out)
		}
	}
}
