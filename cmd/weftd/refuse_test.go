//go:build netns

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// attempt runs weftd in m's namespace until it ends by itself, and returns its
// exit status and what it said.
func (m *member) attempt(wrap []string, flags ...string) (status int, said string) {
	m.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args := append(wrap, weftdBinary, "--config", m.config, "--log-level", "error")
	cmd := m.Command(ctx, append(args, flags...)...)
	out, err := cmd.CombinedOutput()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		m.c.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.members[0].start()
	c.eventually("the first node to be ready", func(ctx context.Context) error {
		return c.members[0].stands(ctx, control.StateReady, "")
	})
	m := c.members[1]
	openKey := filepath.Join(c.Dir(), "open.key")
	if err := os.WriteFile(openKey, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	var held []net.PacketConn
	if err := m.Do(func() error {
		for _, addr := range []string{"198.51.100.2:9001", "198.51.100.2:9002"} {
			conn, err := net.ListenPacket("udp4", addr)
			if err != nil {
				return err
			}
			held = append(held, conn)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, conn := range held {
		defer conn.Close()
	}
	if err := m.Do(func() error {
		l, err := net.Listen("tcp4", "198.51.100.2:9003")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := m.Run(ctx, "ip", "tuntap", "add", "taken0", "mode", "tun"); err != nil {
		t.Fatal(err)
	}

	for _, r := range []struct {
		name  string
		wrap  []string
		flags []string
		says  []string // each is somewhere in the one line
	}{
		{"pod CIDR of another node", nil, []string{"--pod-cidr", "10.244.1.128/25"},
			[]string{"10.244.1.128/25 overlaps 10.244.1.0/24 of node n1", "--pod-cidr"}},
		{"pod CIDR outside", nil, []string{"--pod-cidr", "10.99.1.0/24"}, []string{"10.99.1.0/24 is outside", "10.244.0.0/16"}},
		{"underlay inside the pod network", nil, []string{"--pod-network", "198.51.0.0/16", "--pod-cidr", "198.51.7.0/24"},
			[]string{"198.51.100.2 is inside the pod network 198.51.0.0/16"}},
		{"no TUN driver", []string{"unshare", "-m", "sh", "-c", `mount -t tmpfs none /dev/net && exec "$@"`, "sh"}, nil,
			[]string{"/dev/net/tun", "modprobe tun"}},
		{"no capability", []string{"setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"}, nil,
			[]string{"CAP_NET_ADMIN", "setcap cap_net_admin+ep"}},
		{"data port in use", nil, []string{"--data-port", "9001"}, []string{"9001", "in use", "dataPort"}},
		{"gossip port in use", nil, []string{"--gossip-port", "9002"}, []string{"9002", "in use", "gossipPort"}},
		{"metrics port in use", nil, []string{"--metrics-address", "198.51.100.2:9003"}, []string{"198.51.100.2:9003 (--metrics-address)", "another program has that port"}},
		{"metrics address of nobody", nil, []string{"--metrics-address", "198.51.100.9:9004"}, []string{"198.51.100.9:9004 (--metrics-address)", "no address of this machine"}},
		{"device name in use", nil, []string{"--tun", "taken0"}, []string{"taken0", "exists", "tun"}},
		{"no such interface", nil, []string{"--underlay", "eht0"}, []string{"eht0", "eth0"}},
		{"MTU too large", nil, []string{"--mtu", "1451"}, []string{"1451", "--mtu", "1450"}},
		{"no key file", nil, []string{"--gossip-key-file", "/nonexistent/key"}, []string{"/nonexistent/key", "weft keygen"}},
		{"key file open to all", nil, []string{"--gossip-key-file", openKey}, []string{openKey, "chmod 600"}},
		{"state directory in use", nil, []string{"--state-dir", filepath.Join(c.Dir(), "n1.state")}, []string{"n1.state", "another weftd"}},
		{"no state directory", nil, []string{"--state-dir", openKey}, []string{openKey, "stateDir"}},
		{"no such offload", nil, []string{"--offload", "maybe"}, []string{"--offload", "maybe", "auto, on nor off"}},
		{"no such part of it", nil, []string{"--offload-except", "gso,lro"}, []string{"--offload-except", "lro", "tso, uso, gso, gro, rco"}},
		{"parts of nothing", nil, []string{"--offload", "off", "--offload-except", "uso,rco"}, []string{"--offload-except", "uso rco", "offload is off", "remove one"}},
		{"too many workers", nil, []string{"--workers", "129"}, []string{"--workers", "129", "128"}},
		{"misspelt flag value", nil, []string{"--log-level", "chatty"}, []string{"--log-level", "debug"}},
	} {
		status, said := m.attempt(r.wrap, r.flags...)
		if status != exitFailure {
			t.Errorf("%s: exit status %d, want %d", r.name, status, exitFailure)
		}
		if strings.Count(said, "\n") != 1 {
			t.Errorf("%s: not one line:\n%s", r.name, said)
		}
		for _, want := range r.says {
			if !strings.Contains(said, want) {
				t.Errorf("%s: does not say %q:\n%s", r.name, want, said)
			}
		}
		t.Logf("%s: %s", r.name, strings.TrimSpace(said))
	}
	if status, said := c.members[0].attempt(nil, "--socket", filepath.Join(c.Dir(), "second.sock"), "--state-dir", filepath.Join(c.Dir(), "second.state"),
		"--tun", "weft1", "--data-port", "9003", "--gossip-port", "9004", "--pod-cidr", "10.244.9.0/24"); status != exitFailure ||
		!strings.Contains(said, "another weftd runs") || strings.Count(said, "\n") != 1 {
		t.Errorf("a second daemon on one machine: exit status %d:\n%s", status, said)
	}

	// None of the failed attempts left anything in the kernel, or was heard of.
	m.leftNothing()
	peers, err := c.members[0].client.Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(peers.Peers) != 0 {
		t.Errorf("a node that was never up is among the peers: %+v", peers.Peers)
	}
}

// leftNothing checks that weftd's routes, rules, firewall table and device are gone from m.
func (m *member) leftNothing() {
	m.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, args := range [][]string{
		{"ip", "route", "show", "table", "all", "proto", "119"}, {"ip", "-6", "route", "show", "table", "all", "proto", "119"},
		{"ip", "rule", "show", "priority", "119"}, {"ip", "-6", "rule", "show", "priority", "119"},
		{"nft", "list tables inet"}, {"ip", "-o", "link", "show", "type", "tun"},
	} {
		out, err := m.Run(ctx, args...)
		if err != nil {
			m.c.t.Error(err)
		}
		if out = strings.TrimSpace(out); out != "" && !strings.Contains(out, "taken0") {
			m.c.t.Errorf("%s still has: %s", m, out)
		}
	}
}

func TestMisspeltKey(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	m.configure(map[string]string{"podCIDDR": "10.244.1.0/24"})
	status, said := m.attempt(nil)
	if status != exitFailure || !strings.Contains(said, "podCIDDR") || !strings.Contains(said, "podCIDR") || !strings.Contains(said, m.config+":1") {
		t.Errorf("exit status %d, said:\n%s", status, said)
	}
}

// A node with another gossip key is kept out, and both sides say so.
func TestWrongKey(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	other := filepath.Join(c.Dir(), "other.key")
	key := base64.StdEncoding.EncodeToString([]byte("fedcba9876543210fedcba9876543210"))
	if err := os.WriteFile(other, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	b.start("--gossip-key-file", other)
	for from, to := range map[*member]*member{a: b, b: a} {
		c.eventually(fmt.Sprintf("%s to count the wrong key of %s", from, to), func(ctx context.Context) error {
			s, err := from.client.Status(ctx)
			if err != nil {
				return err
			}
			if s.Gossip.KeyMismatches == 0 {
				return errors.New("counted none")
			}
			if s.Peers.Known != 0 || s.Gossip.Members != 1 {
				t.Errorf("%s knows %d peers, %d members", from, s.Peers.Known, s.Gossip.Members)
			}
			if s.State != control.StateReady { // the other's attempt may come before the end of our own start
				return fmt.Errorf("it is %s", s.State)
			}
			return nil
		})
		log, err := from.daemon.Log()
		if err != nil {
			t.Fatal(err)
		}
		warned := false
		for line := range strings.Lines(log) {
			warned = warned || strings.Contains(line, "level=WARN") && strings.Contains(line, to.Addr.String()) && strings.Contains(line, "key")
		}
		if !warned {
			t.Errorf("%s does not name %s in a warning about the key", from, to.Addr)
		}
	}
}
