//go:build netns

package host

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestRemoveLeavesTheHostAsBefore(t *testing.T) {
	h := newNamespace(t)
	eth := newUnderlay(t, h)
	must(t, h.nl.LinkSetAlias(eth, Alias)) // no TUN, so not ours
	newTUN(t, "tun9")
	must(t, h.nl.LinkSetUp(link(t, h, "tun9")))
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("10.8.0.0/16"), LinkIndex: link(t, h, "tun9").Attrs().Index, Protocol: unix.RTPROT_STATIC}))
	waitForLinkLocal(t, h, "eth0", "eth0p", "tun9")
	before := snapshot(t, h)

	newTUN(t, "weft0")
	apply(t, h, directState())
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("10.99.0.0/16"), Gw: net.ParseIP("192.0.2.9"), Protocol: RouteProtocol}))
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("fd00:99::/64"), Gw: net.ParseIP("2001:db8::9"), Protocol: RouteProtocol}))
	leftover := markRule(netlink.FAMILY_V6)
	leftover.Priority = 7
	must(t, h.nl.RuleAdd(&leftover))
	remove(t, h)
	if d := cmp.Diff(before, snapshot(t, h)); d != "" {
		t.Errorf("the host (-before +after):\n%s", d)
	}
	remove(t, h)
}

// waitForLinkLocal waits for the addresses the kernel makes by itself, so that they do not appear between two
// snapshots.
func waitForLinkLocal(t *testing.T, h *Host, names ...string) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for _, name := range names {
		for {
			addrs, err := h.addresses(link(t, h, name), netlink.FAMILY_V6)
			must(t, err)
			if len(addrs) > 0 && link(t, h, name).Attrs().OperState != netlink.OperDown {
				break
			}
			select {
			case <-look.C:
			case <-deadline:
				t.Fatalf("no link-local address on %s", name)
			}
		}
	}
}

func TestRemoveSparesAnotherWeftd(t *testing.T) {
	h := newNamespace(t)
	tun := newTUN(t, "weft0")
	apply(t, h, testState())
	newTUN(t, "weft7")
	before := snapshot(t, h)

	second, err := Open()
	must(t, err)
	defer second.Close()
	state := testState()
	state.Link = "weft7"
	if _, err := second.Apply(state); err == nil {
		t.Error("the second weftd was let in")
	}
	if _, err := second.Remove(); err == nil || !strings.Contains(err.Error(), "another weftd runs") {
		t.Errorf("Remove beside a weftd at work = %v, want an error that says so", err)
	}
	if d := cmp.Diff(before, snapshot(t, h)); d != "" {
		t.Errorf("the first weftd's host (-before +after):\n%s", d)
	}

	// What only persists, nobody holds.
	raw, err := tun.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { must(t, unix.IoctlSetInt(int(fd), unix.TUNSETPERSIST, 1)) }))
	must(t, tun.Close())
	remove(t, second)
	if _, err := h.nl.LinkByName("weft0"); err == nil {
		t.Error("the TUN that the first weftd left is still there")
	}
	if got := routeList(t, h); len(got) != 0 {
		t.Errorf("routes left: %v", got)
	}
}

// remove is a Remove that must succeed.
func remove(t *testing.T, h *Host) (removed []string) {
	t.Helper()
	removed, err := h.Remove()
	must(t, err)
	return removed
}
