//go:build netns

package main

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/cni/ipam"
)

// uninstall runs `weft uninstall` on m, and returns its lines, sorted.
func (m *member) uninstall(fine bool, flags ...string) []string {
	m.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := m.Command(ctx, append([]string{weftBinary, "uninstall", "--config", m.config}, flags...)...)
	out, err := cmd.CombinedOutput()
	if (err == nil) != fine {
		m.c.t.Fatalf("weft uninstall %v: %v\n%s", flags, err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	return lines
}

// TestUninstall has it refuse while it would harm somebody, and then leave nothing, even
// after a weftd that was killed.
func TestUninstall(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	conf, bin, state := filepath.Join(c.Dir(), "net.d"), filepath.Join(c.Dir(), "bin"), filepath.Join(c.Dir(), "n1.state")
	file, err := os.OpenFile(m.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("cniConfDir: " + conf + "\ncniBinDir: " + bin + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	m.start()
	c.eventually("the network to be told", func(context.Context) error { return readable(conf) })
	if said := m.uninstall(false); len(said) != 1 || !strings.Contains(said[0], "in use by another weftd") || !strings.Contains(said[0], "weft leave") {
		t.Errorf("beside a weftd: %q", said)
	}
	if err := m.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := m.daemon.Wait(); err == nil {
		t.Error("a killed daemon ended well")
	}

	// One pod that is on record, and the host end of another.
	a := ipam.Attachment{Network: networkName, Container: "c1", Interface: "eth0", Pod: "default/web", Device: "weft0123456789a"}
	a, err = ipam.Open(filepath.Join(state, attachmentsDir)).Add(t.Context(), a, ipam.Request{Blocks: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	const device = "weftabcdef01234"
	if _, err := m.Run(t.Context(), "ip", "link", "add", device, "type", "veth", "peer", "name", "other"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"weftd: nothing was removed: have their runtimes remove the pods first, or take the network from them by --force",
		"weftd: still attached: a pod on " + device + ", of which there is no record",
		"weftd: still attached: pod default/web with eth0 on weft0123456789a, which has " + a.Addresses[0].String(),
	}
	if said := m.uninstall(false); !slices.Equal(said, want) {
		t.Errorf("beside pods:\n%s", strings.Join(said, "\n"))
	}
	for _, path := range []string{filepath.Join(conf, conflistName), filepath.Join(bin, pluginName), m.socket} {
		if !there(path) {
			t.Errorf("a refusal removed %s", path)
		}
	}
	if out, err := m.Run(t.Context(), "nft", "list tables inet"); err != nil || !strings.Contains(out, "weft") {
		t.Errorf("the killed daemon left no table, so that this tests nothing: %q, %v", out, err)
	}

	kept := "kept " + state + ", which makes this machine the same node again: --purge removes it"
	want = []string{
		kept,
		"removed " + m.socket,
		"removed " + filepath.Join(bin, pluginName),
		"removed " + filepath.Join(conf, conflistName),
		"removed the network of a pod on " + device + ", of which there is no record",
		"removed the network of pod default/web with eth0 on weft0123456789a, which has " + a.Addresses[0].String(),
		"removed interface weft0", "removed nftables table inet weft", "put back sysctl net.ipv4.ip_forward=0",
		"removed route unreachable 10.244.1.0/24 proto 119 metric 4278198272",
	}
	slices.Sort(want)
	if said := m.uninstall(true, "--force"); !slices.Equal(said, want) {
		t.Errorf("by force:\n%s", strings.Join(said, "\n"))
	}
	m.leftNothing()
	if out, err := m.Run(t.Context(), "ip", "-o", "link", "show", "type", "veth"); err != nil || strings.Contains(out, device) {
		t.Errorf("%v, there is\n%s", err, out)
	}
	if got := slices.Concat(names(t, conf), names(t, bin)); len(got) > 0 || there(m.socket) {
		t.Errorf("there are still %v", got)
	}

	if said := m.uninstall(true); !slices.Equal(said, []string{kept, "there is nothing to remove"}) {
		t.Errorf("again:\n%s", strings.Join(said, "\n"))
	}
	write(t, filepath.Join(state, "mine"), "", 0o600)
	want = []string{"removed what is weft's in " + state + ", and kept the rest, such as mine"}
	if said := m.uninstall(true, "--purge"); !slices.Equal(said, want) || !slices.Equal(names(t, state), []string{"mine"}) {
		t.Errorf("with a foreign file: %v\n%s", names(t, state), strings.Join(said, "\n"))
	}
	if err := os.Remove(filepath.Join(state, "mine")); err != nil {
		t.Fatal(err)
	}
	if said := m.uninstall(true, "--purge"); !slices.Equal(said, []string{"removed " + state}) || there(state) {
		t.Errorf("purged:\n%s", strings.Join(said, "\n"))
	}
	if said := m.uninstall(true, "--purge"); !slices.Equal(said, []string{"there is nothing to remove"}) {
		t.Errorf("purged again:\n%s", strings.Join(said, "\n"))
	}
}
