//go:build netns

package main

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// dockerRules are what Docker makes of a host's forward chain, in short.
const dockerRules = `table ip filter {
	chain DOCKER {
	}
	chain DOCKER-USER {
		return
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		jump DOCKER-USER
		oifname "docker0" ct state established,related accept
		oifname "docker0" jump DOCKER
		iifname "docker0" accept
	}
}`

// doctor is what `weft doctor` says of m, and its exit status.
func (m *member) doctor() (said string, status int) {
	m.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "../../bin/weft", "--socket", m.socket, "doctor").Output()
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed {
		m.c.t.Fatal(err)
	}
	if failed {
		status = exit.ExitCode()
	}
	return string(out), status
}

// A forward chain that drops everything is found, and let alone. With `firewall: manage`
// pods' packets get through it, directly and by the tunnel, and in the end it is what it was.
func TestForeignFirewall(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	a, b, tunnelled := c.members[0], c.members[1], c.members[2]
	outside, err := c.Node("outside")
	if err != nil {
		t.Fatal(err)
	}
	c.command(a.Namespace, "nft", dockerRules)
	foreign := c.command(a.Namespace, "nft", "list ruleset")
	start := func(flags ...string) {
		a.start(append([]string{"--mode", "auto"}, flags...)...)
		a.uses(b, "direct")
		a.uses(tunnelled, "udp")
	}
	b.start("--mode", "auto")
	tunnelled.start("--mode", "udp")
	start()
	here := a.pod(10)
	others := []*topo.Pod{b.pod(20), tunnelled.pod(30)}

	said, status := a.doctor()
	for _, part := range []string{"problem W401: chain FORWARD of nftables table ip filter drops packets", "its policy is drop", "`firewall: manage`"} {
		if status != 1 || !strings.Contains(said, part) {
			t.Errorf("weft doctor ends with %d and does not say %q:\n%s", status, part, said)
		}
	}
	for _, other := range others {
		if out, err := here.Run(t.Context(), "ping", "-c", "1", "-W", "1", other.Addr.String()); err == nil {
			t.Errorf("a ping passes a chain that drops all:\n%s", out)
		}
	}
	a.stop()
	if got := c.command(a.Namespace, "nft", "list ruleset"); got != foreign {
		t.Errorf("the host's rules were\n%sand are\n%s", foreign, got)
	}

	start("--firewall", "manage")
	for _, other := range others {
		for _, ends := range [][2]*topo.Pod{{here, other}, {other, here}} {
			if err := transfer(t, ends[0], ends[1], 1<<20); err != nil {
				t.Error(err)
			}
		}
	}
	if got := seenAs(t, here.Namespace, outside.Namespace, outside.Addr); got != a.Addr {
		t.Errorf("a pod is seen outside as %s", got)
	}
	if said, status := a.doctor(); status != 0 {
		t.Errorf("weft doctor ends with %d:\n%s", status, said)
	}
	var rest strings.Builder
	for line := range strings.Lines(c.command(a.Namespace, "nft", "list table ip filter")) {
		if !strings.Contains(line, "weft: accept") {
			rest.WriteString(line)
		}
	}
	if rest.String() != foreign {
		t.Errorf("the host's rules were\n%sand are, beside weft's,\n%s", foreign, &rest)
	}
	a.stop()
	a.leftNothing()
	if got := c.command(a.Namespace, "nft", "list ruleset"); got != foreign {
		t.Errorf("the host's rules were\n%sand are\n%s", foreign, got)
	}
	c.flushed(b)
	c.closed(tunnelled)
}

// flushed takes all of m's rules away, as other programs do with everybody's.
func (c *cluster) flushed(m *member) {
	c.t.Helper()
	list := func() (string, error) { return m.Run(context.Background(), "nft", "-s", "list table inet weft") }
	want, err := list()
	if err != nil {
		c.t.Fatal(err)
	}
	c.command(m.Namespace, "nft", "flush ruleset")
	begin := time.Now()
	c.eventually("weft's rules to be back", func(context.Context) error {
		got, err := list()
		if err == nil && got != want {
			err = errors.New(got)
		}
		return err
	})
	c.t.Logf("weft's rules are back %s after a flush", time.Since(begin).Round(time.Millisecond))
}

// closed closes the data port of m by a rule of its host's, which weft doctor says.
func (c *cluster) closed(m *member) {
	c.t.Helper()
	c.command(m.Namespace, "nft", "table inet host { chain input { type filter hook input priority 0; policy drop; iifname lo accept; tcp dport { 22, 7946 } accept; }; }")
	said, status := m.doctor()
	for _, part := range []string{"chain input of nftables table inet host", "8285", "dport 8285 accept"} {
		if status != 1 || !strings.Contains(said, part) {
			c.t.Errorf("weft doctor ends with %d and does not say %q:\n%s", status, part, said)
		}
	}
}
