//go:build netns

package host

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// awaitChange waits for a token.
func awaitChange(t *testing.T, changed <-chan struct{}, of string) {
	t.Helper()
	select {
	case _, ok := <-changed:
		if !ok {
			t.Fatalf("the watch ended before the change of %s", of)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("no token after the change of %s", of)
	}
}

// settle takes tokens until Apply has nothing to do and causes none.
func settle(t *testing.T, h *Host, changed <-chan struct{}) {
	t.Helper()
	quiet := time.NewTimer(5 * time.Second)
	defer quiet.Stop()
	for {
		select {
		case <-changed:
		case <-quiet.C:
			t.Fatal("the namespace never comes to rest")
		default:
			e := watch(t)
			apply(t, h, directState())
			if len(e.take(t)) == 0 && len(changed) == 0 {
				return
			}
		}
	}
}

func TestWatchAndRepair(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	eth := newUnderlay(t, h)
	waitForLinkLocal(t, h, "eth0", "eth0p")
	apply(t, h, directState())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed, err := h.Watch(ctx)
	must(t, err)

	for _, c := range []struct {
		what  string
		spoil func() error
		want  []string // nil where any will do
	}{
		{"an IPv4 route", func() error { return h.nl.RouteDel(&netlink.Route{Dst: hostNet("10.244.2.0/24")}) }, []string{"route " + directRoutes()[0]}},
		{"an IPv6 route", func() error { return h.nl.RouteDel(&netlink.Route{Dst: hostNet("fd00:244:2::/64")}) }, []string{"route " + directRoutes()[1]}},
		{"a probe's route", func() error {
			return h.nl.RouteDel(&netlink.Route{Dst: hostNet("10.244.3.0/32"), Priority: probeMetric})
		}, []string{"route " + directRoutes()[4]}},
		{"a next hop", func() error {
			r := kernelRoute(directState().Routes[4], eth.Attrs().Index)
			r.Gw = netip.MustParseAddr("192.0.2.66").AsSlice()
			return h.nl.RouteReplace(&r)
		}, []string{"route " + directRoutes()[0]}},
		{"a rule", func() error { r := markRule(netlink.FAMILY_V6); return h.nl.RuleDel(&r) },
			[]string{"IPv6 rule priority 119 fwmark 0x100e/0x100e lookup 119"}},
		{"an address", func() error {
			return h.nl.AddrDel(link(t, h, "weft0"), &netlink.Addr{IPNet: hostNet("fd00:244:1::/128")})
		}, nil},
		{"the TUN's MTU", func() error { return h.nl.LinkSetMTU(link(t, h, "weft0"), 1400) }, []string{"mtu 1472 on interface weft0"}},
		{"forwarding", func() error { setSysctl(t, "net/ipv4/conf/all/forwarding", "0"); return nil }, nil},
		{"the underlay, down and up", func() error {
			if err := h.nl.LinkSetDown(eth); err != nil {
				return err
			}
			return h.nl.LinkSetUp(eth)
		}, nil},
	} {
		settle(t, h, changed)
		before := snapshot(t, h)
		socket, err := subscribe(unix.NETLINK_ROUTE, routeGroups()) // one that has heard nothing else
		must(t, err)
		must(t, c.spoil())
		must(t, socket.SetReadDeadline(time.Now().Add(5*time.Second)))
		if _, err := socket.Read(make([]byte, 1)); err != nil {
			t.Errorf("%s: no message of the change: %v", c.what, err)
		}
		socket.Close()
		awaitChange(t, changed, c.what)
		repaired := apply(t, h, directState())
		if d := cmp.Diff(c.want, repaired); c.want != nil && d != "" || len(repaired) == 0 {
			t.Errorf("%s: repaired (-want +got):\n%s", c.what, d)
		}
		waitForLinkLocal(t, h, "eth0", "eth0p")
		if c.what == "the underlay, down and up" {
			continue // its own IPv6 address does not come back
		}
		if d := cmp.Diff(before, snapshot(t, h)); d != "" {
			t.Errorf("%s: after the repair (-before +after):\n%s", c.what, d)
		}
	}

	cancel()
	for deadline := time.After(5 * time.Second); ; {
		select {
		case _, ok := <-changed:
			if !ok {
				return
			}
		case <-deadline:
			t.Fatal("the channel stays open after the end of the context")
		}
	}
}

// An overrun is made before the relay starts to read.
func TestWatchGoesOnAfterAnOverrun(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	must(t, h.nl.LinkSetUp(link(t, h, "weft0")))
	socket, err := subscribe(unix.NETLINK_ROUTE, routeGroups())
	must(t, err)
	raw, err := socket.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { must(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1)) }))
	add := func(i int) {
		t.Helper()
		must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet(fmt.Sprintf("10.%d.%d.0/24", i>>8, i&0xff)), LinkIndex: link(t, h, "weft0").Attrs().Index, Scope: netlink.SCOPE_LINK}))
	}
	for i := range 100 {
		add(i)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := make(chan struct{}, 1)
	go relay(ctx, socket, changed)
	for i := range 10 {
		awaitChange(t, changed, "a route")
		add(1000 + i)
	}
	awaitChange(t, changed, "the last route")
}

func TestWatchRules(t *testing.T) {
	h := newNamespace(t)
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := h.WatchRules(ctx)
	must(t, err)
	for _, change := range []string{"add table inet weft", "add set inet weft s { type ipv4_addr; }", "add element inet weft s { 192.0.2.1 }", "flush ruleset"} {
		if out, err := exec.Command("nft", change).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v\n%s", change, err, out)
		}
		awaitChange(t, changed, change)
		for len(changed) > 0 {
			<-changed
		}
	}
	cancel()
	for range changed { // until it is closed
	}
}
