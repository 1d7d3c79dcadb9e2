//go:build netns

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVersions runs every verb in every version of the specification that has it.
func TestVersions(t *testing.T) {
	n := newNode(t, newTopology(t), 1, debianCNI, "routed")
	n.configure("1.0.0", "routed")
	first := n.sandbox() // makes what stays for later pods
	first.add()
	n.mustCnitool(nil, "del", chainName, first.path())
	before := n.state()
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			m := *n
			m.t = t
			m.configure(version, "routed")
			s := m.sandbox()
			r := s.add()
			if r.CNIVersion != version {
				t.Errorf("the result is of version %q", r.CNIVersion)
			}
			for _, ip := range r.IPs {
				if ip.Interface == nil || r.Interfaces[*ip.Interface].Name != "eth0" || r.Interfaces[*ip.Interface].Sandbox != s.path() {
					t.Errorf("%s is of no interface of the pod's: %+v", ip.Address, r.Interfaces)
				}
			}
			if version != "0.3.1" { // has no CHECK
				m.mustCnitool(nil, "check", chainName, s.path())
			}
			if version == "1.1.0" {
				m.mustCnitool(nil, "status", chainName, s.path())
				second := m.sandbox()
				second.add()
				second.end()
				m.mustCnitool(nil, "gc", chainName, s.path())
			} else {
				m.mustCnitool(nil, "del", chainName, s.path())
			}
			m.nothingLeft()
		})
	}
	n.unchangedSince(before)
}

// TestWithoutDaemon has weftd stop under a pod.
func TestWithoutDaemon(t *testing.T) {
	for _, wiring := range []string{"routed", "bridge"} {
		t.Run(wiring, func(t *testing.T) {
			n := newNode(t, newTopology(t), 1, debianCNI, wiring)
			n.configure("1.1.0", wiring)
			s, late, lost := n.sandbox(), n.sandbox(), n.sandbox()
			s.add()
			lost.add()
			n.stopWeftd()
			n.mustCnitool(nil, "check", chainName, s.path())
			for _, verb := range []string{"add", "status"} {
				out, err := n.cnitool(t.Context(), verb, chainName, late.path())
				if err == nil || !strings.Contains(err.Error(), "weftd") {
					t.Errorf("%s without weftd: %v %s", verb, err, out)
				}
			}
			n.mustCnitool(nil, "del", chainName, s.path())
			n.mustCnitool(nil, "del", chainName, late.path())
			lost.end()
			n.mustCnitool(nil, "gc", chainName, s.path())
			n.nothingLeft()
		})
	}
}

// TestKilled has the plugin killed ever later, until it is done first. What it has left goes by DEL, or by GC.
func TestKilled(t *testing.T) {
	for _, wiring := range []string{"routed", "bridge"} {
		for _, verb := range []string{"add", "del"} {
			t.Run(wiring+" "+verb, func(t *testing.T) { testKilled(t, wiring, verb) })
		}
	}
}

func testKilled(t *testing.T, wiring, verb string) {
	n := newNode(t, newTopology(t), 1, debianCNI, wiring)
	n.configure("1.1.0", wiring)
	plugin := filepath.Join(n.binDir(), "weft-cni")
	if err := os.Rename(plugin, plugin+".real"); err != nil {
		t.Fatal(err)
	}
	runBy := func(command string) {
		if err := os.WriteFile(plugin, []byte("#!/bin/sh\nexec "+command+" "+plugin+".real\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	killed, left := 0, 0
	for after := 1; ; after += 1 + after/16 { // milliseconds
		s := n.sandbox()
		if verb == "del" {
			runBy("")
			s.add()
		}
		runBy(fmt.Sprintf("timeout --signal=KILL 0.%03d", after))
		_, err := n.cnitool(ctx, verb, chainName, s.path())
		if ctx.Err() != nil {
			t.Fatalf("it is never done first, not in %d ms: %v", after, err)
		}
		if err == nil {
			break
		}
		killed++
		if len(n.leftovers()) > 0 {
			left++
		}
		runBy("")
		if killed%2 == 0 {
			n.mustCnitool(nil, "del", chainName, s.path())
		} else {
			s.end()
			n.mustCnitool(nil, "gc", chainName, s.path())
		}
		n.nothingLeft()
	}
	t.Logf("%d killed, of which %d left something", killed, left)
	if left == 0 {
		t.Errorf("of %d killed none left anything", killed)
	}
}
