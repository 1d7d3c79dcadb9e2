package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/membership"
)

func testDaemon(log *strings.Builder) *daemon {
	c := &config.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}}
	return &daemon{
		machine: &machine{
			config: c, settings: inForce(c),
			log: slog.New(slog.NewTextHandler(log, nil)),
		},
		underlay: host.Underlay{Interface: "eth0", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1")}},
		mtu:      1450,
	}
}

func testMember(name, endpoint string, state membership.State, owned ...netip.Prefix) membership.Member {
	m := membership.Member{State: state, Prefixes: owned}
	m.ID = membership.ID([32]byte{name[1]})
	m.Name, m.MTU = name, 1400
	m.Endpoints = []netip.AddrPort{netip.MustParseAddrPort(endpoint)}
	m.Modes, m.VXLANPort, m.VTEPMAC, m.VNI = []string{"vxlan", "udp"}, 4789, "02:00:00:00:00:02", 7
	return m
}

// TestState has a node be ready only when the kernel sends by it.
func TestState(t *testing.T) {
	d := testDaemon(&strings.Builder{})
	view := &membership.View{}
	view.Self.State = membership.StateUp
	is := func(state, why, waiting string) {
		t.Helper()
		if s, reason := d.state(view, waiting); s != state || !strings.Contains(reason, why) || (s == control.StateReady) != (reason == "") {
			t.Errorf("%s: %s; want %s: %s", s, reason, state, why)
		}
	}
	is(control.StateStarting, "looking for", "")
	d.joined.Store(true)
	is(control.StateStarting, "no block", "no block")
	is(control.StateStarting, "routes are not in place", "")
	d.carried.Store(&[]netip.Prefix{})
	is(control.StateStarting, "routes are not in place", "")
	d.carried.Store(&d.config.PodCIDRs)
	is(control.StateReady, "", "")
	d.allotter = new(membership.Allot)
	is(control.StateStarting, "routes are not in place", "")
	view.Self.Prefixes = d.config.PodCIDRs
	is(control.StateReady, "", "")
	d.trouble.say(d.log, troubleHost, errors.New("add route: refused"))
	is(control.StateImpaired, "add route: refused", "")
	d.trouble.say(d.log, troubleUnderlay, errors.New("this host has no default route"))
	is(control.StateImpaired, "no default route", "")
	view.Self.State, view.Self.Reason = membership.StateFenced, "another has it"
	is(control.StateFenced, "another has it", "")
	view.Self.State, view.Self.Reason = membership.StateLeft, "it left"
	is(control.StateLeaving, "it left", "")
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
