package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/dataplane/host"
)

func TestDifference(t *testing.T) {
	is := testDaemon(&strings.Builder{}).underlay
	if other := difference(is, is, nil); other != "" {
		t.Errorf("itself differs: %s", other)
	}
	for _, change := range []func(*host.Underlay){
		func(u *host.Underlay) { u.Interface = "lan0" },
		func(u *host.Underlay) { u.Index++ },
		func(u *host.Underlay) { u.MTU = 1400 },
		func(u *host.Underlay) { u.Addresses = nil },
	} {
		found := is
		if change(&found); difference(is, found, nil) == "" {
			t.Errorf("%+v is the same as %+v", found, is)
		}
	}
	if difference(is, is, fmt.Errorf("none")) != "none" {
		t.Error("an error is the same")
	}
}

func TestPartOfAnUnderlay(t *testing.T) {
	v4, v6 := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")
	both := host.Underlay{Interface: "eth0", Index: 2, MTU: 1500, Addresses: []netip.Addr{v4, v6}}
	for _, c := range []struct {
		index     int
		addresses []netip.Addr
		want      bool
	}{
		{2, []netip.Addr{v4}, true},
		{2, []netip.Addr{v6}, true},
		{2, []netip.Addr{v4, v6}, false},
		{2, nil, false},
		{2, []netip.Addr{netip.MustParseAddr("198.51.100.2")}, false},
		{2, []netip.Addr{v4, netip.MustParseAddr("2001:db8::2")}, false},
		{3, []netip.Addr{v4}, false},
	} {
		found := both
		found.Index, found.Addresses = c.index, c.addresses
		if got := isPart(found, both); got != c.want {
			t.Errorf("%v on %d: %v, want %v", c.addresses, c.index, got, c.want)
		}
	}
}
