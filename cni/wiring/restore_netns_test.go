//go:build netns

package wiring

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// What somebody flushed is there again, and nothing else is changed.
func TestRestoreGuards(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		a, b, down := n.pod(bridge), n.pod(bridge), n.pod(bridge)
		gone, _ := n.port(bridge)
		ports := []Port{a.Port, b.Port, down.Port, gone}
		restores := func(want ...string) {
			t.Helper()
			if got, err := n.RestoreGuards(ports); err != nil || !slices.Equal(got, want) {
				t.Errorf("RestoreGuards: %q, %v; want %q", got, err, want)
			}
		}
		restores()
		table := "netdev"
		if bridge != "" {
			table = "bridge"
		}
		n.run("nft", "insert", "rule", table, tableName, b.Device, "accept") // which is its owner's doing
		if bridge != "" {
			n.run("nft", "flush", "map", table, tableName, mapPorts+"; add element bridge weft_pods ports { "+b.Device+" : goto "+b.Device+", "+down.Device+" : goto "+down.Device+" }")
		}
		n.run("nft", "delete", "chain", table, tableName, a.Device)
		before := n.run("nft", "list", "chain", table, tableName, b.Device)
		restores(a.Device)
		must(t, n.Check(a.Port))
		if after := n.run("nft", "list", "chain", table, tableName, b.Device); after != before {
			t.Errorf("the guard of b was\n%s\nand is\n%s", before, after)
		}
		n.run("ip", "link", "set", down.Device, "down")
		n.run("nft", "flush", "ruleset")
		restores(a.Device, b.Device)
		restores()
		n.run("ip", "link", "set", down.Device, "up")
		restores(down.Device)
		must(t, n.Check(b.Port))
		bad := gone
		bad.MTU = 0
		ports = []Port{bad, a.Port}
		n.run("nft", "flush", "ruleset")
		if got, err := n.RestoreGuards(ports); err == nil || !slices.Equal(got, []string{a.Device}) {
			t.Errorf("RestoreGuards beside an error: %q, %v", got, err)
		}
	})
}

// A guard that is restored just when its device is detached goes again.
func TestRestoreGuardsOfADeviceThatGoes(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		var other *Wiring
		must(t, inside(n.file, func() (err error) {
			other, err = Open()
			return err
		}))
		t.Cleanup(other.Close)
		for _, last := range []string{"remove device", "end"} { // the step before which Detach is held up
			a := n.pod(bridge)
			n.run("nft", "flush", "ruleset")
			n.Inject(func(name string) error {
				if name == last {
					return errors.New("held up")
				}
				return nil
			})
			other.Inject(func(string) error {
				if err := n.Detach(a.Device); (err != nil) != (last != "end") {
					t.Errorf("Detach: %v", err)
				}
				return nil
			})
			if got, err := other.RestoreGuards([]Port{a.Port}); err != nil || len(got) > 0 {
				t.Errorf("RestoreGuards: %q, %v", got, err)
			}
			if got := n.run("nft", "list", "ruleset"); strings.Contains(got, a.Device) {
				t.Errorf("held up before %q, left is\n%s", last, got)
			}
			n.Inject(func(string) error { return nil })
			must(t, n.Detach(a.Device))
		}
	})
}

// Guards that are restored while their pods come and go leave nothing behind, and none is left out.
func TestRestoreGuardsMeanwhile(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		p, _ := n.port(bridge)
		var ended atomic.Bool
		done := make(chan error)
		go func() {
			for !ended.Load() {
				if _, err := n.RestoreGuards([]Port{p}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		for range 50 {
			_, err := n.Attach(p)
			must(t, err)
			must(t, n.Check(p))
			must(t, n.Detach(p.Device))
		}
		ended.Store(true)
		must(t, <-done)
		if devices, err := n.Devices(); err != nil || len(devices) > 0 {
			t.Errorf("left are %v, %v", devices, err)
		}
	})
}
