package main

import (
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// What the service manager hears: why traffic does not flow, once, when it does, and no ping from a
// daemon whose workers are stuck.
func TestService(t *testing.T) {
	var sent []string
	s := &service{send: func(state string) error { sent = append(sent, state); return nil }}
	starting := control.Status{State: control.StateStarting, Reason: "looking for the other nodes"}
	ready := control.Status{State: control.StateReady, Peers: control.PeerCount{Known: 3, Up: 2}}
	ways := map[string]*choice{"a": {mode: modeDirect}, "b": {mode: "udp"}, "c": {mode: ""}}
	for _, step := range []struct {
		status   control.Status
		progress bool
		want     string
	}{
		{starting, true, "WATCHDOG=1\nSTATUS=starting: looking for the other nodes\n"},
		{starting, true, "WATCHDOG=1\n"},
		{ready, true, "WATCHDOG=1\nREADY=1\nSTATUS=ready: 2 of 3 peers up, 1 direct, 1 udp\n"},
		{ready, true, "WATCHDOG=1\n"},
		{ready, false, ""},
		{starting, false, "STATUS=starting: looking for the other nodes\n"},
		{ready, true, "WATCHDOG=1\nSTATUS=ready: 2 of 3 peers up, 1 direct, 1 udp\n"},
	} {
		sent = nil
		if err := s.tell(step.status, ways, step.progress); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(sent, "|"); got != step.want {
			t.Errorf("of %s, progress %v: sent %q, want %q", step.status.State, step.progress, got, step.want)
		}
	}
}

// The unit leaves weftd little to do harm with: systemd's own measure, from 0 to 10.
func TestUnitExposure(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze on this machine")
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "./weftd.service").CombinedOutput()
	if err != nil {
		t.Skipf("this systemd-analyze reads no unit files: %v: %s", err, out)
	}
	level := regexp.MustCompile(`Overall exposure level for weftd.service: ([0-9.]+)`).FindSubmatch(out)
	if level == nil {
		t.Fatalf("no level in:\n%s", out)
	}
	if exposure, err := strconv.ParseFloat(string(level[1]), 64); err != nil || exposure > 3.0 {
		t.Errorf("exposure %s (%v), want 3.0 or less", level[1], err)
	}
}
