//go:build netns

package host

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sysctls are the parameters of the namespace that weft, or the kernel with them, changes.
func sysctls(t *testing.T) map[string]string {
	t.Helper()
	values := make(map[string]string)
	for _, pattern := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/*/*", "net/ipv6/conf/*/*"} {
		files, err := filepath.Glob("/proc/sys/" + pattern)
		must(t, err)
		for _, file := range files {
			path, err := filepath.Rel("/proc/sys", file)
			must(t, err)
			if text, err := os.ReadFile(file); err == nil { // stable_secret may be unset
				values[path] = string(text)
			}
		}
	}
	return values
}

// remember opens another Host with the record in dir.
func remember(t *testing.T, dir string) *Host {
	t.Helper()
	h, err := Open()
	must(t, err)
	t.Cleanup(func() { h.Close() })
	must(t, h.Remember(filepath.Join(dir, "sysctls.json")))
	return h
}

// TestSysctlsArePutBack has hosts with settings of their own, and a record that outlives the Host.
func TestSysctlsArePutBack(t *testing.T) {
	for _, own := range []map[string]string{
		{},
		{"net/ipv4/conf/all/accept_redirects": "0", "net/ipv4/conf/eth0/forwarding": "1", "net/ipv4/conf/eth0/rp_filter": "1"},
		{"net/ipv4/ip_forward": "1", "net/ipv6/conf/eth0/forwarding": "1", "net/ipv6/conf/eth0/accept_ra": "0"},
		{"net/ipv6/conf/all/forwarding": "1", "net/ipv4/conf/all/rp_filter": "1"},
	} {
		h := newNamespace(t)
		newUnderlay(t, h)
		waitForLinkLocal(t, h, "eth0", "eth0p")
		for _, path := range slices.Sorted(maps.Keys(own)) {
			setSysctl(t, path, own[path])
		}
		before, dir := sysctls(t), t.TempDir()

		tun := newTUN(t, "weft0")
		state := testState()
		state.Underlay = "eth0"
		first := remember(t, dir)
		apply(t, first, state)
		if own[forwarding4] == "" { // another program means it, and resets the interfaces' own
			setSysctl(t, forwarding4, "0")
			apply(t, first, state)
		}
		remove(t, first)
		tun.Close()
		tun = newTUN(t, "weft0") // another run, which finds everything in place
		second := remember(t, dir)
		apply(t, second, state)
		remove(t, second)
		tun.Close()
		if d := cmp.Diff(before, sysctls(t)); d == "" {
			t.Fatal("weft changes no sysctl, so that this tests nothing")
		}
		restored, err := remember(t, dir).RestoreSysctls()
		must(t, err)
		if d := cmp.Diff(before, sysctls(t)); d != "" {
			t.Errorf("with %v, restored %q (-before +after):\n%s", own, restored, d)
		}
		if _, err := os.Stat(filepath.Join(dir, "sysctls.json")); !os.IsNotExist(err) {
			t.Errorf("the record is still there: %v", err)
		}
		if restored, err := remember(t, dir).RestoreSysctls(); err != nil || len(restored) > 0 {
			t.Errorf("a second time: %q, %v", restored, err)
		}
	}
}

// What somebody has set since is his, and so is a record of another life of the kernel.
func TestSysctlsOfOthersStay(t *testing.T) {
	h := newNamespace(t)
	newUnderlay(t, h)
	newTUN(t, "weft0")
	setSysctl(t, "net/ipv4/conf/eth0/rp_filter", "1")
	state, dir := testState(), t.TempDir()
	state.Underlay = "eth0"
	keeper := remember(t, dir)
	apply(t, keeper, state)
	setSysctl(t, "net/ipv4/conf/eth0/rp_filter", "0")
	if !keeper.Drifted() {
		t.Error("a changed sysctl is not noticed")
	}
	text, err := os.ReadFile(filepath.Join(dir, "sysctls.json"))
	must(t, err)
	restored, err := keeper.RestoreSysctls()
	must(t, err)
	if got := sysctlValue(t, "net/ipv4/conf/eth0/rp_filter"); got != "0" || !slices.Contains(restored, "sysctl net.ipv4.ip_forward=0") {
		t.Errorf("rp_filter %s, restored %q", got, restored)
	}

	h = newNamespace(t) // another one
	newUnderlay(t, h)
	setSysctl(t, "net/ipv4/ip_forward", "1")
	must(t, os.WriteFile(filepath.Join(dir, "sysctls.json"), text, 0o600))
	if restored, err := remember(t, dir).RestoreSysctls(); err != nil || len(restored) > 0 || sysctlValue(t, "net/ipv4/ip_forward") != "1" {
		t.Errorf("by a record of elsewhere: %q, %v", restored, err)
	}
}

// Pods need forwarding, also where nobody will know what it was.
func TestSysctlsWithoutRoomForTheRecord(t *testing.T) {
	newNamespace(t)
	newTUN(t, "weft0")
	h := remember(t, filepath.Join(t.TempDir(), "missing"))
	if _, err := h.Apply(testState()); err == nil || sysctlValue(t, "net/ipv4/ip_forward") != "1" {
		t.Errorf("Apply = %v, ip_forward %s", err, sysctlValue(t, "net/ipv4/ip_forward"))
	}
}

// A TUN that somebody gave another name gets its own back, with all that it had.
func TestRenamedTUN(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	newUnderlay(t, h)
	waitForLinkLocal(t, h, "eth0", "eth0p")
	apply(t, h, directState())
	before := snapshot(t, h)
	tun := link(t, h, "weft0")
	must(t, h.nl.LinkSetDown(tun))
	must(t, h.nl.LinkSetName(tun, "mine0"))
	must(t, h.nl.LinkSetUp(tun))
	if repaired := apply(t, h, directState()); !slices.Contains(repaired, "interface weft0") {
		t.Errorf("repaired %q", repaired)
	}
	if d := cmp.Diff(before, snapshot(t, h)); d != "" {
		t.Errorf("(-before +after):\n%s", d)
	}
}
