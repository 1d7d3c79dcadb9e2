package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/membership"
)

const linux1 = "- name=linux1 address=198.51.100.9 podCIDR=10.244.9.0/24 mode=direct\n"

// loadedWith is the configuration of a node, from a file with these lines besides.
func loadedWith(t *testing.T, lines string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weft.yaml")
	if err := os.WriteFile(path, []byte("podCIDR: 10.244.1.0/24\n"+lines), 0o600); err != nil {
		t.Fatal(err)
	}
	loader, flags := config.NewLoader("n1"), pflag.NewFlagSet("weftd", pflag.ContinueOnError)
	loader.BindFlags(flags)
	if err := flags.Parse([]string{"--config", path}); err != nil {
		t.Fatal(err)
	}
	c, err := loader.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What the file says takes effect when it is right, and what it said before does meanwhile.
func TestStaticsTake(t *testing.T) {
	var log strings.Builder
	var troubles trouble
	path := filepath.Join(t.TempDir(), "peers.yaml")
	if err := os.WriteFile(path, []byte(linux1), 0o600); err != nil {
		t.Fatal(err)
	}
	c := loadedWith(t, "staticPeers: name=own address=198.51.100.8 podCIDR=10.244.8.0/24 mode=direct\nstaticPeersFile: "+path+"\n")
	var s statics
	if err := s.open(c, slog.New(slog.NewTextHandler(&log, nil)), &troubles); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	for i, step := range []struct {
		text    string
		err     error
		names   string
		trouble string // a part of it
	}{
		{linux1, nil, "own linux1", ""},
		{linux1 + "- name=b\n", nil, "own linux1", troubleFile + ": " + path + `:2: "name=b" gives no address`},
		{linux1 + "- x\n- y\n- z\n", nil, "own linux1", path + ":2: \"x\" is not key=value; write for instance name=linux1 address=192.0.2.9 podCIDR=10.244.9.0/24 vtepMAC=02:00:00:00:00:09 (and 2 more)"},
		{"", errors.New("it cannot be read"), "own linux1", troubleFile + ": it cannot be read"},
		{"# none\n", nil, "own", ""},
		{strings.Replace(linux1, "linux1", "own", 1), nil, "own", troubleBoth + ": " + path + ":1: own: what staticPeers ("},
		{linux1, nil, "own linux1", ""},
	} {
		if i > 0 { // the first is what open has read
			s.take([]byte(step.text), step.err)
		}
		var names []string
		for _, p := range *s.merged.Load() {
			names = append(names, p.Name)
		}
		said := strings.Join(troubles.list(), "\n")
		if got := strings.Join(names, " "); got != step.names || (said != "") != (step.trouble != "") || !strings.Contains(said, step.trouble) || strings.Contains(said, "\n") {
			t.Errorf("step %d: peers %s, want %s; trouble %q, want %q", i, got, step.names, said, step.trouble)
		}
		changed := len(s.changed) == 1
		if want := step.trouble == "" || strings.HasPrefix(step.trouble, troubleBoth); changed != want {
			t.Errorf("step %d: a change is told: %v", i, changed)
		}
		if changed {
			<-s.changed
		}
	}
}

// Without the key there is nothing to open, to run or to close.
func TestNoStatics(t *testing.T) {
	var s statics
	if err := errors.Join(s.open(loadedWith(t, ""), nil, nil), s.run(t.Context()), s.close()); err != nil || s.merged.Load() != nil {
		t.Errorf("%v, peers %v", err, s.merged.Load())
	}
}

// A static peer that has what this node has is left out.
func TestStaticPeerClashesWithThisNode(t *testing.T) {
	d := testDaemon(new(strings.Builder))
	self := testMember("n1", "198.51.100.1:8285", membership.StateUp, blocks("10.244.7.0/24")...)
	for want, p := range map[string]config.StaticPeer{
		"static peer x and node n1 both have a part of 10.244.7.128/25, and the node keeps it: correct /etc/weft/peers.yaml:3": {
			Address: addr("198.51.100.9"), PodCIDRs: blocks("10.244.7.128/25"), Source: "/etc/weft/peers.yaml:3"},
		"static peer x and node n1 both have the address 198.51.100.1, and the node keeps it: correct staticPeers (default)": {
			Address: addr("198.51.100.1"), PodCIDRs: blocks("10.244.9.0/24")},
	} {
		p.Name = "x"
		d.config.StaticPeers = []config.StaticPeer{p}
		if all, err := d.remotes(membership.View{Self: self}); len(all) != 0 || err == nil || err.Error() != want {
			t.Errorf("%d remotes, %v; want %s", len(all), err, want)
		}
	}
}

// clash is compared with looking at every pair.
func TestHoldingsClash(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	prefix := func() netip.Prefix {
		if random.IntN(4) == 0 {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 15: byte(random.Uint32())}), 120+random.IntN(9)).Masked()
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.Uint32())}), 24+random.IntN(9)).Masked()
	}
	found := 0
	for round := range 2000 {
		held := newHoldings("n0", nil, nil)
		var apart []netip.Prefix
		for i := range random.IntN(40) {
			if p := prefix(); !slices.ContainsFunc(apart, p.Overlaps) {
				apart = append(apart, p)
				held.add(fmt.Sprint("n", i), []netip.Prefix{p}, nil)
			}
		}
		held.sort()
		r := remote{prefixes: []netip.Prefix{prefix()}}
		name, what := held.clash(&r)
		want := slices.ContainsFunc(apart, r.prefixes[0].Overlaps)
		if (name != "") != want || (what != "") != want {
			t.Fatalf("round %d: %s among %s: %q has %q", round, r.prefixes, apart, name, what)
		}
		if want {
			found++
		}
	}
	if found < 200 || found > 1800 {
		t.Errorf("%d of 2000 clash", found)
	}
}
