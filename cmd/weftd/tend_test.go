//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/cni/sandbox"
	"github.com/weft-net/weft/cni/wiring"
)

// TestTend has the guards of pods be put back, and the gateway of a block that the node gave
// up go with the last pod that needs it, so that it hides no other node's block.
func TestTend(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	m := c.members[0]
	records := filepath.Join(c.Dir(), "n1.state", attachmentsDir)
	pod := func(verb string, flags ...string) {
		t.Helper()
		args := append([]string{weftBinary, "--socket", m.socket, "pod", verb, m.podName("tended"), "--data-dir", records}, flags...)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if out, err := m.Command(ctx, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := sandbox.Delete("weft-" + m.podName("tended")); err != nil {
			t.Error(err)
		}
	})
	has := func(there bool, gateway string) func(context.Context) error {
		return func(context.Context) error {
			if out := c.command(m.Namespace, "ip", "-o", "address", "show", "dev", "cni0"); strings.Contains(out, gateway) != there {
				return fmt.Errorf("%s is to be there: %v; there is\n%s", gateway, there, out)
			}
			return nil
		}
	}
	restart := func(block string) {
		t.Helper()
		// With the capabilities that weftd.service gives it.
		m.startBy([]string{"setpriv", "--bounding-set=-all,+net_admin"}, "--pod-cidr", block)
		c.eventually("the node to be ready", m.status("ready"))
	}

	restart("10.244.1.0/24")
	pod("add", "--bridge", "cni0")
	device := wiring.Device("weft-"+m.podName("tended"), "eth0")
	list := func() (string, error) {
		return m.Run(t.Context(), "nft", "list", "chain", "bridge", "weft_pods", device)
	}
	guard, err := list()
	if err != nil {
		t.Fatal(err, guard)
	}
	c.command(m.Namespace, "nft", "delete", "table", "bridge", "weft_pods")
	c.eventually("the guard to be put back", func(context.Context) error {
		now, err := list()
		if err == nil && now != guard {
			err = errors.New("it is another: " + now)
		}
		return err
	})
	m.stop()

	restart("10.244.7.0/24")
	if err := has(true, "10.244.1.1/24")(t.Context()); err != nil {
		t.Errorf("with a pod that needs it: %v", err)
	}
	pod("del")
	c.eventually("the gateway to go after the pod", has(false, "10.244.1.1/24"))
	pod("add", "--bridge", "cni0")
	pod("del")
	if err := has(true, "10.244.7.1/24")(t.Context()); err != nil {
		t.Errorf("of the node's own block: %v", err)
	}
	m.stop()

	restart("10.244.8.0/24")
	if err := has(false, "10.244.7.1/24")(t.Context()); err != nil {
		t.Errorf("after a start with another block: %v", err)
	}
	if s, err := m.client.Status(t.Context()); err != nil || len(s.Warnings) > 0 || s.Attachments != records {
		t.Errorf("%v, records are in %s, and it warns: %q", err, s.Attachments, s.Warnings)
	}
	m.stop()
}
