//go:build netns

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/cmd/internal/control"
)

// estate gives m what the other programs of a machine have, some of it close to weft's.
const estate = `
	ip link add name br9 type bridge; ip link set br9 up; ip link set br9 alias weft
	ip link add name veth9 type veth peer name peer9; ip link set veth9 up; ip link set peer9 up
	ip tuntap add tun9 mode tun; ip link set tun9 up
	ip address add 10.99.0.1/24 dev br9; ip address add fd00:99::1/64 dev br9 nodad
	for proto in 1 2 3 4 11 12 16 17 42 118 120 186 187 188 189 192 254; do
		ip route add 10.98.$proto.0/24 via 198.51.100.9 proto $proto
		ip route add unreachable 10.97.$proto.0/24 proto $proto metric 4278198272
		ip route add 10.96.$proto.0/24 dev br9 proto $proto table 119
		ip -6 route add fd00:98:$proto::/64 dev br9 proto $proto
	done
	ip rule add from 10.96.0.0/16 lookup 119 priority 119
	ip rule add fwmark 0x100e/0x100e lookup 77 priority 118 protocol 120
	ip -6 rule add from fd00:98::/32 lookup 119 priority 119
	nft 'table inet weft2 { chain c { type filter hook forward priority 0; ct state established accept; }; }'
	nft 'table ip weft { set own4 { type ipv4_addr; elements = { 10.99.0.7 }; }; }'
	nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; ip saddr 10.99.0.0/24 accept comment "weft"; }; }'
	nft 'table netdev veth9 { chain in { type filter hook ingress device "veth9" priority 0; }; }'
	sysctl -w net.ipv4.conf.eth0.rp_filter=1 net.ipv4.conf.br9.forwarding=1 net.ipv4.conf.all.accept_redirects=0
	sysctl -w net.ipv6.conf.eth0.accept_ra=1 net.ipv6.conf.br9.accept_ra=0 net.ipv6.conf.veth9.forwarding=1`

// belongings are all links, addresses, routes, rules, nftables, sysctls and files that m has, one to
// a line.
func (m *member) belongings(folders ...string) []string {
	m.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// Counters that the kernel keeps in sysctls, and what differs from reading to reading.
	const moving = `nf_conntrack_count|stable_secret|\.neigh\.|route\.flush|ns_last_pid`
	out, err := m.Run(ctx, "sh", "-ec", `
		ip -o link; ip -o address | sed 's/valid_lft.*//'
		ip route show table all; ip -6 route show table all; ip rule; ip -6 rule
		nft -s list ruleset; sysctl -a --pattern '^net' 2>/dev/null | grep -Ev '`+moving+`'
		for folder in `+strings.Join(folders, " ")+`; do if [ -e $folder ]; then find $folder; fi; done`)
	if err != nil {
		m.c.t.Fatal(err)
	}
	return strings.Split(out, "\n")
}

// removal runs a command of weft's that has weftd do the work on m.
func (m *member) removal(command string, flags ...string) (said string, err error) {
	m.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := m.Command(ctx, append([]string{weftBinary, command, "--config", m.config}, flags...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestDownAndUninstallLeaveTheMachineAsItWas has weftd on a machine that others use too, and go from
// it in every way.
func TestDownAndUninstallLeaveTheMachineAsItWas(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	if err := a.EnableIPv6(); err != nil {
		t.Fatal(err)
	}
	c.command(a.Namespace, "sh", "-ec", estate)
	conf, bin, state := filepath.Join(c.Dir(), "net.d"), filepath.Join(c.Dir(), "bin"), filepath.Join(c.Dir(), "n1.state")
	for _, folder := range []string{conf, bin} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range c.members {
		file, err := os.OpenFile(m.config, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		text := "firewall: manage\n"
		if m == a {
			text += "cniConfDir: " + conf + "\ncniBinDir: " + bin + "\n"
		}
		_, err = file.WriteString(text)
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	var before []string
	c.eventually("the kernel's own addresses and routes to settle", func(context.Context) error {
		last := before
		before = a.belongings(conf, bin, a.socket)
		if !slices.Equal(before, last) || strings.Contains(strings.Join(before, "\n"), "tentative") {
			return errors.New("not yet")
		}
		return nil
	})
	dual := []string{"--mode", "auto", "--pod-network", "10.244.0.0/16,fd00:10:244::/48"}
	b.start(append(dual, "--pod-cidr", "10.244.2.0/24,fd00:10:244:2::/64")...)

	for _, end := range []struct {
		what string
		stop func()
	}{
		{"down while it runs", func() {}},
		{"uninstall after a kill", func() {
			if err := a.daemon.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = a.daemon.Wait() // it was killed
		}},
	} {
		a.start(append(dual, "--pod-cidr", "10.244.1.0/24,fd00:10:244:1::/64")...)
		c.converged()
		c.eventually("it to be ready", func(ctx context.Context) error { return a.stands(ctx, control.StateReady, "") })
		c.eventually("the network to be told", func(context.Context) error { return readable(conf) })
		between := a.belongings(conf, bin, a.socket)
		if kept := keptOf(before, between); len(kept) > 0 {
			t.Errorf("%s: while weftd runs others lack\n%s", end.what, strings.Join(kept, "\n"))
		}
		end.stop()
		command, _, _ := strings.Cut(end.what, " ")
		said, err := a.removal(command)
		if err != nil {
			t.Fatalf("%s: %v\n%s", end.what, err, said)
		}
		if d := cmp.Diff(before, a.belongings(conf, bin, a.socket)); d != "" {
			t.Errorf("%s (-before +after):\n%s\nit said\n%s", end.what, d, said)
		}
		t.Logf("%s:\n%s", end.what, said)
		if !there(filepath.Join(state, "state.json")) {
			t.Errorf("%s: the state is gone", end.what)
		}
		if said, err := a.removal(command); err != nil || !strings.Contains(said, "there is nothing to remove") {
			t.Errorf("%s, again: %v\n%s", end.what, err, said)
		}
	}
}

// keptOf are the lines of before, other than of sysctls and links' flags, that after does not have.
func keptOf(before, after []string) (missing []string) {
	has := make(map[string]bool, len(after))
	for _, line := range after {
		has[line] = true
	}
	for _, line := range before {
		if !has[line] && !strings.HasPrefix(line, "net.") {
			missing = append(missing, line)
		}
	}
	return missing
}

// A node that is down has its pods and its block again with its next start.
func TestDownKeepsPods(t *testing.T) {
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	from, to := a.pod(10), b.pod(20)
	ping(t, from, to)
	c.command(a.Namespace, "ip", "link", "add", "weftabcdef01234", "type", "veth", "peer", "name", "other")
	if said, err := a.removal("down"); err == nil || !strings.Contains(said, "still attached: a pod on weftabcdef01234") || !strings.Contains(said, "--force") {
		t.Errorf("beside a pod: %v\n%s", err, said)
	}
	ping(t, from, to)
	if said, err := a.removal("down", "--force"); err != nil {
		t.Fatalf("by force: %v\n%s", err, said)
	}
	if err := a.daemon.Wait(); err != nil {
		t.Errorf("weftd ended: %v", err)
	}
	a.leftNothing()
	c.command(a.Namespace, "ip", "link", "show", "weftabcdef01234")
	a.start()
	c.converged()
	ping(t, from, to)
}
