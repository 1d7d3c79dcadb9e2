//go:build netns

package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/membership"
)

// A VXLAN device of the kernel's, of whatever network, holds the port for all addresses.
// Without need of it weftd goes on and says so, to people and to the other nodes; where
// VXLAN is what it is to speak, it ends.
func TestVXLANPortIsHeld(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, command := range []string{"ip link add flannel.9 type vxlan id 9 dstport 4789 dev eth0", "ip link set flannel.9 up"} {
		if _, err := a.Run(ctx, strings.Fields(command)...); err != nil {
			t.Fatal(err)
		}
	}

	status, said := a.attempt(nil, "--mode", "vxlan")
	if status != exitFailure || strings.Count(said, "\n") != 1 {
		t.Errorf("exit status %d, said:\n%s", status, said)
	}
	for _, want := range []string{"4789", "vxlanPort", "in use", "ip -d link show type vxlan"} {
		if !strings.Contains(said, want) {
			t.Errorf("weftd does not say %q:\n%s", want, said)
		}
	}
	t.Log(said)

	a.start()
	b.start("--mode", "vxlan")
	c.converged()
	out, err := exec.CommandContext(ctx, "../../bin/weft", "--socket", a.socket, "status").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"does not take vxlan", "4789", "ip -d link show type vxlan"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("weft status does not say %q:\n%s", want, out)
		}
	}
	// Both ways it has to be plain UDP, since VXLAN from b would find the kernel's device,
	// and so would b's answers to probes.
	from, to := a.pod(10), b.pod(20)
	for _, ends := range [][2]*topo.Pod{{from, to}, {to, from}} {
		if err := transfer(t, ends[0], ends[1], 1<<20); err != nil {
			t.Error(err)
		}
	}
	a.uses(b, "udp")
	b.uses(a, "udp")
	log, err := a.daemon.Log()
	if err != nil || strings.Contains(log, "mode=vxlan") {
		t.Errorf("the node without the port sends VXLAN: %v\n%s", err, log)
	}
	a.stop()
	if modes := a.published(t); !slices.Equal(modes, []string{"udp"}) {
		t.Errorf("the node without the port says that it takes %v", modes)
	}
}

// published is what m, which has ended, told the others that it takes.
func (m *member) published(t *testing.T) (modes []string) {
	t.Helper()
	dir := filepath.Join(m.c.Dir(), m.String()+".state")
	identity, err := membership.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	store, _, err := membership.OpenStore(dir, identity, membership.Terms{}, time.Second, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return store.View(time.Now()).Self.Modes
}
