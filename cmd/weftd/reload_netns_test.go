//go:build netns

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/cmd/internal/control"
)

// set changes a line of m's configuration file, or adds it.
func (m *member) set(key, value string) {
	m.c.t.Helper()
	text, err := os.ReadFile(m.config)
	if err != nil {
		m.c.t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, key+":") {
			b.WriteString(line)
		}
	}
	fmt.Fprintf(&b, "%s: %s\n", key, value)
	if err := os.WriteFile(m.config, []byte(b.String()), 0o600); err != nil {
		m.c.t.Fatal(err)
	}
}

// A daemon changes its mode, what it clamps and how much it says without a restart; one whose file
// has become wrong, or asks for what cannot change, goes on as before and says so.
func TestReloadLive(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	a.uses(b, "udp")
	a.holdsLittle()

	a.set("mode", "vxlan")
	a.set("vni", "9")
	got, err := a.client.Reload(t.Context())
	want := control.Reloaded{
		Applied: []control.KeyChange{{Key: "mode", From: "udp", To: "vxlan"}, {Key: "tunnel", From: "udp", To: "vxlan"}},
		Waiting: []control.KeyChange{{Key: "vni", From: "1", To: "9"}},
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("reload: %+v, %v; want %+v", got, err, want)
	}
	b.uses(a, "vxlan") // each sends as the other asks

	a.set("mode", "auto")
	a.set("tunnel", "udp")
	b.set("mode", "auto")
	for _, m := range c.members {
		if err := m.daemon.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	a.uses(b, "direct")
	b.uses(a, "direct")

	a.set("mtu", "12")
	if _, err := a.client.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "mtu") {
		t.Errorf("reload of a file with a mistake: %v", err)
	}
	status, err := a.client.Status(t.Context())
	if err != nil || status.State != control.StateReady || !strings.Contains(strings.Join(status.Warnings, "\n"), troubleReload) {
		t.Errorf("after a mistake: %s, %v, warnings %q", status.State, err, status.Warnings)
	}
	a.uses(b, "direct")
	c.keepsItsKey()
}

// holdsLittle checks that every thread of m's daemon has the capabilities that it uses, and no more, and gains none.
func (m *member) holdsLittle() {
	m.c.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", m.daemon.PID()))
	if err != nil || len(threads) < 2 {
		m.c.t.Fatalf("threads of the daemon: %v, %v", threads, err)
	}
	const allowed = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			m.c.t.Fatal(err)
		}
		seen := 0
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			var caps uint64
			switch name {
			case "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb":
				seen++
				if _, err := fmt.Sscanf(value, "%x", &caps); err != nil || caps&^allowed != 0 {
					m.c.t.Errorf("%s: %s %s (%v)", path, name, value, err)
				}
			case "NoNewPrivs":
				seen++
				if value != "1" {
					m.c.t.Errorf("%s: may gain privileges", path)
				}
			}
		}
		if seen != 6 {
			m.c.t.Errorf("%s: %d of 6 lines about privileges", path, seen)
		}
	}
}

// bundle is what `weft support-bundle` gathers on m, where somebody has written key into what it gathers.
func (m *member) bundle(key []byte) []byte {
	m.c.t.Helper()
	m.c.command(m.Namespace, "ip", "link", "set", "lo", "alias", string(bytes.TrimSpace(key)))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path := filepath.Join(m.c.t.TempDir(), "bundle.tar.gz")
	if out, err := m.Command(ctx, weftBinary, "--socket", m.socket, "support-bundle", "--config", m.config, "-o", path).CombinedOutput(); err != nil {
		m.c.t.Fatalf("support-bundle: %v\n%s", err, out)
	}
	text, err := exec.CommandContext(ctx, "tar", "-xzOf", path).Output()
	if err != nil || !bytes.Contains(text, []byte(filepath.Base(m.c.keyFile))) {
		m.c.t.Fatalf("a bundle of %d bytes, without the configuration (%v)", len(text), err)
	}
	return text
}

// keepsItsKey looks for the cluster's key, in every form in which it might be written, where others can read:
// logs, answers of the API, support bundles, and what /proc tells of each process.
func (c *cluster) keepsItsKey() {
	c.t.Helper()
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		c.t.Fatal(err)
	}
	texts := make(map[string][]byte)
	for _, m := range c.members {
		log, err := m.daemon.Log()
		if err != nil {
			c.t.Fatal(err)
		}
		texts["log of "+m.String()] = []byte(log)
		status, err := m.client.Status(context.Background())
		texts["status of "+m.String()] = fmt.Append(nil, status, err)
		doctor, err := m.client.Doctor(context.Background())
		texts["diagnosis of "+m.String()] = fmt.Append(nil, doctor, err)
		texts["support bundle of "+m.String()] = m.bundle(key)
		for _, file := range []string{"cmdline", "environ", "comm"} {
			path := fmt.Sprintf("/proc/%d/%s", m.daemon.PID(), file)
			if texts[path], err = os.ReadFile(path); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	raw := []byte("0123456789abcdef0123456789abcdef")
	secrets := [][]byte{bytes.TrimSpace(key), raw, fmt.Appendf(nil, "%x", raw), fmt.Append(nil, raw)}
	for what, text := range texts {
		for _, secret := range secrets {
			if bytes.Contains(text, secret) {
				c.t.Errorf("%s has the cluster's key in it, as %.12q...", what, secret)
			}
		}
	}
}
