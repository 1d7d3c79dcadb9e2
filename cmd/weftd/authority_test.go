//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// local runs the command line client, which asks no daemon.
func (m *member) local(args ...string) string {
	m.c.t.Helper()
	out, err := m.Run(m.c.t.Context(), append([]string{"../../bin/weft"}, args...)...)
	if err != nil {
		m.c.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// With an authority the gossip key alone makes nobody a member: who has no certificate does not start, and
// whom it is not asked of is not heard, whatever block, address or death of others it claims.
func TestAuthority(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	a, b, bare, stranger := c.members[0], c.members[1], c.members[2], c.members[3]
	a.local("ca", "init", "--dir", c.Dir())
	ca, key := filepath.Join(c.Dir(), "ca.pub"), filepath.Join(c.Dir(), "ca.key")
	state := func(m *member) string { return filepath.Join(c.Dir(), m.String()+".state") }
	for m, cidr := range map[*member]string{a: "10.244.1.0/24", b: "10.244.8.0/22"} {
		id := m.local("id", "--state-dir", state(m))
		m.local("ca", "sign", "--ca", key, "--node", id, "--cidr", cidr, "--out", filepath.Join(state(m), "node.cert"))
	}
	a.auto(map[string]string{"clusterCA": ca, "bootstrap": "true"})
	b.auto(map[string]string{"clusterCA": ca})
	bare.auto(map[string]string{"clusterCA": ca})
	a.start()
	if got := a.held(); got != netip.MustParsePrefix("10.244.1.0/24") {
		t.Errorf("%s took %s", a, got)
	}
	b.start()
	block := b.held()
	if !netip.MustParsePrefix("10.244.8.0/22").Overlaps(block) {
		t.Errorf("%s took %s", b, block)
	}
	from, to := a.podOf(netip.MustParsePrefix("10.244.1.0/24"), 10), b.podOf(block, 10)
	c.reach(from, to)

	if status, said := bare.attempt(nil); status != exitFailure || !strings.Contains(said, "weft ca sign") || strings.Count(said, "\n") != 1 {
		t.Errorf("without a certificate: exit status %d, said %q", status, said)
	}
	// The stranger has the gossip key, and asks for no certificates: it claims what b has.
	stranger.auto(map[string]string{"podCIDR": block.String(), "bootstrap": "true", "join": "[]"})
	stranger.start()
	stranger.held()
	stranger.stop()
	stranger.auto(map[string]string{"podCIDR": "auto", "bootstrap": "true"})
	stranger.start()
	c.eventually("the stranger's record to be refused", func(ctx context.Context) error {
		s, err := a.client.Status(ctx)
		if err == nil && s.Gossip.Rejected["authority"] == 0 {
			err = fmt.Errorf("rejected %v", s.Gossip.Rejected)
		}
		return err
	})
	peers, err := a.client.Peers(t.Context())
	if err != nil || len(peers.Peers) != 1 || peers.Peers[0].State != control.PeerUp || !slices.Equal(peers.Peers[0].PodCIDRs, []netip.Prefix{block}) {
		t.Errorf("%s knows %+v, %v", a, peers.Peers, err)
	}
	c.reach(from, to)
	if err := b.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	c.eventually("the stranger to find it dead, and forget it", func(ctx context.Context) error {
		_, err := stranger.client.Forget(ctx, b.String())
		return err
	})
	b.start()
	c.eventually("the one that the stranger forgot to be as before", func(ctx context.Context) error {
		s, err := b.client.Status(ctx)
		if err == nil && (s.State != control.StateReady || !slices.Equal(s.PodCIDRs, []netip.Prefix{block})) {
			err = errors.New(s.State + " " + s.Reason)
		}
		return err
	})
	c.reach(from, to)
}
