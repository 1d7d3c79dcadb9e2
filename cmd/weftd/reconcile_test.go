package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/membership"
)

func testDaemon(log *strings.Builder) *daemon {
	return &daemon{
		config:   &config.Config{NodeName: "n1", PodCIDR: netip.MustParsePrefix("10.244.1.0/24")},
		log:      slog.New(slog.NewTextHandler(log, nil)),
		underlay: host.Underlay{Address: netip.MustParseAddr("198.51.100.1")},
		mtu:      1472,
	}
}

func testMember(name, endpoint string, state membership.State, owned ...netip.Prefix) membership.Member {
	m := membership.Member{State: state, Prefixes: owned}
	m.ID = membership.ID([32]byte{name[1]})
	m.Name, m.MTU = name, 1400
	m.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:8285"), netip.MustParseAddrPort(endpoint)}
	m.Modes = []string{"vxlan", "udp"}
	return m
}

func TestDesired(t *testing.T) {
	own, theirs := netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("10.244.2.0/24")
	up := testMember("n2", "198.51.100.2:8285", membership.StateUp, theirs)
	vxlanOnly := testMember("n5", "198.51.100.5:4789", membership.StateUp, netip.MustParsePrefix("10.244.5.0/24"))
	vxlanOnly.Modes = []string{"vxlan"}
	view := membership.View{
		Self: testMember("n1", "198.51.100.1:8285", membership.StateUp, own),
		Members: []membership.Member{
			up,
			testMember("n3", "198.51.100.3:8285", membership.StateDown),
			testMember("n4", "[2001:db8::4]:8285", membership.StateUp, netip.MustParsePrefix("10.244.4.0/24")),
			vxlanOnly,
		},
	}
	d := testDaemon(new(strings.Builder))
	got := desired(d, view)
	want := dataplane.Config{
		PodCIDRs:  []netip.Prefix{own},
		Address:   own.Addr(),
		Endpoints: []netip.Addr{d.underlay.Address},
		MTU:       1472,
		Peers: []dataplane.Peer{{
			ID: up.ID.String(), Endpoint: up.Endpoints[1], PodCIDRs: []netip.Prefix{theirs}, MTU: 1400,
		}},
	}
	comparers := cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}
	if diff := cmp.Diff(want, got, comparers); diff != "" {
		t.Errorf("desired (-want +got):\n%s", diff)
	}

	// A fenced node keeps its address, and owns nothing.
	view.Self = testMember("n1", "198.51.100.1:8285", membership.StateFenced)
	if got := desired(d, view); len(got.PodCIDRs) != 0 || len(got.Peers) != 1 {
		t.Errorf("fenced, the node owns %v and has %d peers", got.PodCIDRs, len(got.Peers))
	}
}

func TestTroubleIsSaidOnce(t *testing.T) {
	var log strings.Builder
	d := testDaemon(&log)
	for _, err := range []error{nil, errors.New("full"), errors.New("full"), errors.New("read-only"), nil, nil} {
		d.trouble.say(d.log, troubleSave, err)
		if shown := len(d.trouble.list()) == 1; shown != (err != nil) {
			t.Errorf("with %v, status shows %q", err, d.trouble.list())
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 3 { // full, read-only, works again
		t.Errorf("%d lines, want 3:\n%s", n, log.String())
	}
}

func TestChangesAreSaidOnce(t *testing.T) {
	var log strings.Builder
	d := testDaemon(&log)
	said := make(map[membership.ID]string)
	view := membership.View{
		Self:    testMember("n1", "198.51.100.1:8285", membership.StateUp),
		Members: []membership.Member{testMember("n2", "198.51.100.2:8285", membership.StateUp)},
	}
	d.say(view, said)
	d.say(view, said)
	view.Members[0].State, view.Members[0].Since = membership.StateDown, time.Now()
	d.say(view, said)
	d.say(view, said)
	if n := strings.Count(log.String(), "\n"); n != 3 {
		t.Errorf("%d lines, want 3:\n%s", n, log.String())
	}
}
