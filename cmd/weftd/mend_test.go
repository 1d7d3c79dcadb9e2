//go:build netns

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// mendPatience bounds how long what another program changed may stay so: the 2 s that are
// promised, and what a busy machine adds.
const mendPatience = 5 * time.Second

// inKernel is all that weft has in m's kernel.
func (m *member) inKernel(ctx context.Context) (string, error) {
	return m.Run(ctx, "sh", "-c", `
		ip -d -o link show dev weft0 | sed 's/ group .*//; s/^[0-9]*: //'; ip -o address show dev weft0 | sed 's/^[0-9]*: //'
		ip route show proto 119; ip -6 route show proto 119; ip rule; nft -s list table inet weft
		cd /proc/sys/net; grep . ipv4/ip_forward ipv4/conf/weft0/rp_filter ipv4/conf/weft0/accept_local ipv4/conf/eth0/rp_filter`)
}

// repaired is how many repairs m has made of a kind.
func (m *member) repaired(ctx context.Context, kind string) (uint64, error) {
	s, err := m.client.Status(ctx)
	return s.Repairs[kind], err
}

// TestOthersChangesAreMended has other programs take what weft has in the kernel, while pods
// send.
func TestOthersChangesAreMended(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	c.command(a.Namespace, "sysctl", "-w", "net.ipv4.conf.eth0.rp_filter=1") // which weftd loosens
	c.startDirect()
	from, to := a.pod(10), b.pod(20)
	ping(t, from, to)
	want, err := a.inKernel(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	for _, change := range []struct{ what, kind, script string }{
		{"routes flushed", "route", "ip route flush proto 119"},
		{"the direct route", "route", "ip route del 10.244.2.0/24"},
		{"addresses flushed", "address", "ip address flush dev weft0"},
		{"the TUN down", "link", "ip link set weft0 down"},
		{"the TUN's MTU", "link", "ip link set weft0 mtu 1300"},
		{"the TUN's queue", "link", "ip link set weft0 txqueuelen 10"},
		{"the TUN renamed", "link", "ip link set weft0 down; ip link set weft0 name mine0; ip link set mine0 up"},
		{"the TUN renamed while it is up", "link", "ip link set weft0 name mine0"},
		{"no forwarding", "sysctl", "sysctl -w net.ipv4.ip_forward=0"},
		{"a strict TUN", "sysctl", "sysctl -w net.ipv4.conf.weft0.rp_filter=1"},
		{"a strict underlay", "sysctl", "sysctl -w net.ipv4.conf.eth0.rp_filter=1"},
		{"a sysctl whose change nobody announces", "sysctl", "sysctl -w net.ipv4.conf.weft0.accept_local=0"},
		{"no table", "firewall", "nft delete table inet weft"},
		{"an empty chain", "firewall", "nft flush chain inet weft prerouting"},
		{"a rule more", "firewall", "nft insert rule inet weft prerouting ip saddr 203.0.113.0/24 drop"},
		{"a set emptied", "firewall", "nft flush set inet weft own4"},
		{"everything", "route", "ip link set weft0 down; ip address flush dev weft0; nft flush ruleset; sysctl -w net.ipv4.ip_forward=0"},
		{"the TUN deleted", "link", "ip link del weft0"},
	} {
		before, err := a.repaired(t.Context(), change.kind)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Run(t.Context(), "sh", "-ec", change.script); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c.within(mendPatience, change.what, func(ctx context.Context) error {
			if after, err := a.repaired(ctx, change.kind); err != nil || after == before {
				return fmt.Errorf("%d repairs of %s as before, %v", after, change.kind, err)
			}
			if got, err := a.inKernel(ctx); err != nil || got != want {
				return fmt.Errorf("%v, in the kernel is\n%s\nand was\n%s", err, got, want)
			}
			return pong(ctx, from, to)
		})
		t.Logf("%s: mended after %s", change.what, time.Since(began).Round(10*time.Millisecond))
	}

	// By then it is a fight over the table, which is not said without end, but in the status.
	status, err := a.client.Status(t.Context())
	if err != nil || !strings.Contains(strings.Join(status.Warnings, "\n"), "keeps changing what is weft's: nftables table inet weft") {
		t.Errorf("%v, warnings %q", err, status.Warnings)
	}
	log, err := a.daemon.Log()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log, "nftables table inet weft"); n != repairsAtOnce {
		t.Errorf("said %d times, want %d", n, repairsAtOnce)
	}
}

// pong says whether a ping is answered at once.
func pong(ctx context.Context, from, to *topo.Pod) error {
	if out, err := from.Run(ctx, "ping", "-c", "1", "-W", "1", to.Addr.String()); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestUnderlayMoves has the underlay of a node become another, or none for a time, while pods
// send. All of them come back without anybody's help.
func TestUnderlayMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	from, to := a.pod(10), b.pod(20)
	ping(t, from, to)
	device, err := b.Run(t.Context(), "ip", "-o", "link", "show", "weft0")
	if err != nil {
		t.Fatal(err)
	}
	index, _, _ := strings.Cut(device, ":")

	if _, err := from.Run(t.Context(), "ping", "-q", "-c", "100", "-i", "0.002", "-W", "5", to.Addr.String()); err != nil {
		t.Fatal(err)
	}
	counted := b.drops()

	lives := 0 // but for the first
	const back = "; ip route replace default via 198.51.100.254"
	for _, move := range []struct {
		what, script, underlay string
		impaired               string // before that, where it is to be for a time
		mend                   string
		same                   bool // in all, as far as this node's sockets are concerned
	}{
		{what: "another MTU", script: "ip link set eth0 mtu 1400", underlay: "eth0 [198.51.100.2] 1400"},
		{what: "another name", script: "ip link set eth0 name lan0", underlay: "lan0 [198.51.100.2] 1400"},
		{what: "another address", script: "ip address flush dev lan0; ip address add 198.51.100.77/24 dev lan0" + back, underlay: "lan0 [198.51.100.77] 1400"},
		{what: "a flap", same: true, script: "ip link set lan0 down; ip link set lan0 up" + back, underlay: "lan0 [198.51.100.77] 1400"},
		{what: "no default route", same: true, script: "ip route del default", impaired: "no default route", mend: "true" + back, underlay: "lan0 [198.51.100.77] 1400"},
		{what: "another interface", script: `ip link add link lan0 name lan1 type macvlan mode bridge; ip link set lan1 up
			ip address flush dev lan0; ip address add 198.51.100.88/24 dev lan1` + back, underlay: "lan1 [198.51.100.88] 1400"},
		{what: "the interface made again", script: `ip link del lan1; ip link add link lan0 name lan1 type macvlan mode bridge; ip link set lan1 up
			ip address add 198.51.100.88/24 dev lan1` + back, underlay: "lan1 [198.51.100.88] 1400"},
		{what: "the interface gone", script: "ip link del lan1", impaired: "no default route",
			mend: "ip address add 198.51.100.2/24 dev lan0" + back, underlay: "lan0 [198.51.100.2] 1400"},
	} {
		if _, err := b.Run(t.Context(), "sh", "-ec", move.script); err != nil {
			t.Fatal(err)
		}
		if move.impaired != "" {
			c.within(mendPatience, move.what+" to be noticed", func(ctx context.Context) error { return b.stands(ctx, control.StateImpaired, move.impaired) })
			if _, err := b.Run(t.Context(), "sh", "-ec", move.mend); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if !move.same {
			lives++
		}
		c.within(mendPatience, move.what, func(ctx context.Context) error {
			if log, err := b.daemon.Log(); err != nil || strings.Count(log, errUnderlay.Error()) != lives {
				return fmt.Errorf("%v, not begun anew %d times", err, lives)
			}
			if err := b.stands(ctx, control.StateReady, ""); err != nil {
				return err
			}
			s, err := b.client.Status(ctx)
			if got := fmt.Sprint(s.Underlay.Interface, " ", s.Underlay.Addresses, " ", s.Underlay.MTU); err != nil || got != move.underlay {
				return fmt.Errorf("%v, the underlay is %s", err, got)
			}
			return pong(ctx, from, to)
		})
		now := b.drops()
		if now.Ingress.Forwarded < counted.Ingress.Forwarded || now.Egress.Forwarded < counted.Egress.Forwarded {
			t.Errorf("%s: in %+v, out %+v, which was more before: %+v, %+v", move.what, now.Ingress, now.Egress, counted.Ingress, counted.Egress)
		}
		counted = now
		t.Logf("%s: packets pass after %s", move.what, time.Since(began).Round(10*time.Millisecond))
	}
	if now, err := b.Run(t.Context(), "ip", "-o", "link", "show", "weft0"); err != nil || !strings.HasPrefix(now, index+":") {
		t.Errorf("%v, weft0 was %s and is %s, want the same device", err, device, now)
	}
	c.converged()
	peers, err := a.client.Peers(t.Context())
	if err != nil || len(peers.Peers) != 1 || peers.Peers[0].MTU >= 1400 {
		t.Errorf("%v, peers %+v, want the MTU that b has now", err, peers.Peers)
	}
	for _, m := range c.members {
		s, err := m.client.Status(t.Context())
		if said := strings.Join(s.Warnings, "\n"); err != nil || strings.Contains(said, "two addresses") || strings.Contains(said, troubleUnderlay) {
			t.Errorf("%s: %v, warnings\n%s", m, err, said)
		}
	}
	b.stop()
	b.leftNothing()
}

// stands says whether m is in a state, for that reason.
func (m *member) stands(ctx context.Context, state, reason string) error {
	s, err := m.client.Status(ctx)
	if err != nil {
		return err
	}
	if s.State != state || !strings.Contains(s.Reason, reason) {
		return fmt.Errorf("it is %s: %s", s.State, s.Reason)
	}
	return nil
}
