//go:build netns

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// TestBenchBetweenNodes measures by the shipped CLI, and has no pod come in.
func TestBenchBetweenNodes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	a.uses(b, "udp")
	b.uses(a, "udp")
	for _, from := range c.members {
		// A pod gets no answer to what a node would be answered.
		p := from.pod(9)
		for _, to := range []string{"10.244.1.0", "10.244.2.0"} {
			script := fmt.Sprintf("(printf 'weftB\\0\\0\\1\\1\\0\\0\\0\\0\\0\\0\\0aaaaaaaaaaaaaaaa'; sleep 1) | busybox nc -w 3 %s 8285 | wc -c", to)
			if out, err := p.Run(t.Context(), "sh", "-c", script); err != nil || strings.TrimSpace(out) != "0" {
				t.Errorf("a pod of %s at %s: got %q bytes, %v", from, to, out, err)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), weftBinary, "--socket", a.socket, "bench", b.String(), "--json")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("weft bench: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 5 {
		t.Fatalf("weft bench: %d lines\n%s", len(lines), out)
	}
	for i, line := range lines {
		var s control.BenchStep
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		if i == 0 && s.RoundTrips == 0 || i > 0 && s.BitsPerSecond < 1e6 {
			t.Errorf("step %d: %s", i, line)
		}
	}
	peers, err := a.client.Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p := peers.Peers[0]; p.Tx.Bytes < 1e6 || p.Rx.Bytes < 1e6 {
		t.Errorf("it did not go over the overlay: %+v, %+v", p.Tx, p.Rx)
	}
}

// TestDoctorSeesTheMachine breaks what the daemon does not put right.
func TestDoctorSeesTheMachine(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	m := c.members[0]
	m.start("--bootstrap")
	c.eventually("the node to be ready", m.status(control.StateReady))
	codes := func() (all []string) {
		d, err := m.client.Doctor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range d.Findings {
			if f.Code == "" || f.Fix == "" {
				t.Errorf("finding %+v", f)
			}
			all = append(all, f.Code)
		}
		return all
	}
	breaks := [][]string{
		{"ip", "link", "add", "flannel.1", "type", "bridge"},
		{"ip", "link", "set", "flannel.1", "up"},
		{"ip", "route", "add", "10.244.7.0/24", "dev", "flannel.1"},
		{"ethtool", "-K", "eth0", "tx", "off"},
	}
	wants := []string{"W201", "W702", "W703"}
	before := codes()
	for _, want := range wants {
		if slices.Contains(before, want) {
			t.Errorf("%s is found already: %v", want, before)
		}
	}
	for _, args := range breaks {
		if out, err := m.Run(t.Context(), args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	after := codes()
	for _, want := range wants {
		if !slices.Contains(after, want) {
			t.Errorf("%s is not found: %v", want, after)
		}
	}
	m.stop()
	out, err := exec.CommandContext(context.Background(), weftBinary, "--socket", m.socket, "doctor", "--json", "--config", m.config).Output()
	if err == nil || !strings.Contains(string(out), `"code": "W001"`) {
		t.Errorf("weft doctor without weftd: %v\n%s", err, out)
	}
}
