//go:build netns

package host

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newTAP makes a TAP as weft's device package does and returns its only queue.
func newTAP(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	must(t, err)
	request, err := unix.NewIfreq(name)
	must(t, err)
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
	must(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
	tap := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { tap.Close() })
	return tap
}

func newBridge(t *testing.T, h *Host, name string) netlink.Link {
	t.Helper()
	must(t, h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}))
	must(t, h.nl.LinkSetUp(link(t, h, name)))
	return link(t, h, name)
}

func keepSegment(t *testing.T, h *Host, s Segment) []string {
	t.Helper()
	changed, err := h.KeepSegment(s)
	must(t, err)
	return changed
}

func TestKeepSegment(t *testing.T) {
	h := newNamespace(t)
	tap := newTAP(t, "seg-office")
	bridge := newBridge(t, h, "br0")
	newVeth(t, h, "vm0", "vm0p")
	must(t, h.nl.LinkSetHardwareAddr(link(t, h, "vm0"), net.HardwareAddr{2, 0, 0, 0, 0, 2}))
	must(t, h.nl.LinkSetHardwareAddr(link(t, h, "seg-office"), net.HardwareAddr{2, 0, 0, 0, 0, 1})) // the bridge would take it
	must(t, h.nl.LinkSetMaster(link(t, h, "vm0"), bridge))
	address := link(t, h, "br0").Attrs().HardwareAddr

	s := Segment{Device: "seg-office", Bridge: "br0", MTU: 1434, Alias: "segment office"}
	if got := keepSegment(t, h, s); len(got) != 7 || !slices.Contains(got, "master br0 on interface seg-office") || !slices.Contains(got, "mtu 1434 on interface seg-office") {
		t.Errorf("changed %q", got)
	}
	a := link(t, h, "seg-office").Attrs()
	if a.MTU != 1434 || a.Alias != "weft segment office" || a.TxQLen != txQueueLen || a.GSOMaxSegs != gsoMaxSegs || a.MasterIndex != bridge.Attrs().Index || a.Flags&net.FlagUp == 0 {
		t.Errorf("the TAP is %+v", a)
	}
	if got := sysctlValue(t, "net/ipv6/conf/seg-office/addr_gen_mode"); got != "1" {
		t.Errorf("addr_gen_mode is %s", got)
	}
	if addrs, err := h.addresses(link(t, h, "seg-office"), netlink.FAMILY_ALL); err != nil || len(addrs) != 0 {
		t.Errorf("it has addresses: %v (%v)", addrs, err)
	}
	now := link(t, h, "br0").Attrs()
	if now.MTU != 1434 || now.HardwareAddr.String() != address.String() {
		t.Errorf("the bridge has MTU %d and address %s, which was %s", now.MTU, now.HardwareAddr, address)
	}

	watched := watch(t)
	if got := keepSegment(t, h, s); len(got) != 0 {
		t.Errorf("the second time, changed %q", got)
	}
	if got := watched.take(t); len(got) != 0 {
		t.Errorf("the second time, events %v", got)
	}

	must(t, h.nl.LinkSetNoMaster(link(t, h, "seg-office")))
	must(t, h.nl.LinkSetMTU(link(t, h, "seg-office"), 1500))
	must(t, h.nl.LinkSetDown(link(t, h, "seg-office")))
	want := []string{"mtu 1434 on interface seg-office", "master br0 on interface seg-office", "up on interface seg-office"}
	if d := cmp.Diff(want, keepSegment(t, h, s)); d != "" {
		t.Errorf("changed (-want +got):\n%s", d)
	}

	// Of another bridge it is taken out, unless none is configured.
	other := newBridge(t, h, "br1")
	must(t, h.nl.LinkSetMaster(link(t, h, "seg-office"), other))
	s.Bridge = ""
	if got := keepSegment(t, h, s); len(got) != 0 {
		t.Errorf("without a bridge, changed %q", got)
	}
	s.Bridge = "br0"
	if d := cmp.Diff([]string{"master br0 on interface seg-office"}, keepSegment(t, h, s)); d != "" {
		t.Errorf("changed (-want +got):\n%s", d)
	}
	must(t, tap.Close())
}

// A TAP without a bridge is an interface of the host, which may make itself addresses.
func TestKeepSegmentWithoutBridge(t *testing.T) {
	h := newNamespace(t)
	newTAP(t, "seg-lab")
	keepSegment(t, h, Segment{Device: "seg-lab", MTU: 1434})
	waitForLinkLocal(t, h, "seg-lab")
	if a := link(t, h, "seg-lab").Attrs(); a.Alias != Alias || a.MasterIndex != 0 || a.MTU != 1434 {
		t.Errorf("the TAP is %+v", a)
	}
}

// Each error says what to do, and what can be done is done.
func TestKeepSegmentRefusals(t *testing.T) {
	h := newNamespace(t)
	newTAP(t, "seg-office")
	newTUN(t, "tun9")
	newVeth(t, h, "vm0", "vm0p")
	for _, c := range []struct {
		s     Segment
		words []string
	}{
		{Segment{Device: "seg-office", Bridge: "br0", MTU: 1434}, []string{"bridge br0 does not exist", "`ip link add br0 up type bridge`"}},
		{Segment{Device: "seg-office", Bridge: "vm0", MTU: 1434}, []string{"vm0 is not a bridge (its type is veth)"}},
		{Segment{Device: "seg-none", MTU: 1434}, []string{"seg-none does not exist"}},
		{Segment{Device: "tun9", MTU: 1434}, []string{"tun9 is not a TAP"}},
		{Segment{Device: "vm0", MTU: 1434}, []string{"vm0 is not a TAP (its type is veth)"}},
		{Segment{Device: "seg-office", MTU: 70000}, []string{"set mtu 70000 on interface seg-office"}},
	} {
		_, err := h.KeepSegment(c.s)
		if err == nil {
			t.Errorf("%+v was kept", c.s)
			continue
		}
		for _, w := range c.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not say %q", err, w)
			}
		}
	}
	if a := link(t, h, "seg-office").Attrs(); a.MTU != 1434 || a.Flags&net.FlagUp == 0 {
		t.Errorf("the TAP is %+v", a)
	}
	if a := link(t, h, "tun9").Attrs(); a.Alias != "" || a.Flags&net.FlagUp != 0 {
		t.Errorf("the TUN of another is %+v", a)
	}
	newBridge(t, h, "br0")
	keepSegment(t, h, Segment{Device: "seg-office", Bridge: "br0", MTU: 1434})
}

// A TAP with the mark is left when nobody has it open, and nothing else is.
func TestSegmentsLeft(t *testing.T) {
	h := newNamespace(t)
	left, works, foreign := newTAP(t, "seg-left"), newTAP(t, "seg-works"), newTAP(t, "tap0")
	tun := newTUN(t, "weft0")
	for _, f := range []*os.File{left, works, foreign, tun} {
		raw, err := f.SyscallConn()
		must(t, err)
		must(t, raw.Control(func(fd uintptr) { must(t, unix.IoctlSetInt(int(fd), unix.TUNSETPERSIST, 1)) }))
	}
	keepSegment(t, h, Segment{Device: "seg-left", MTU: 1434, Alias: "segment left"})
	keepSegment(t, h, Segment{Device: "seg-works", MTU: 1434, Alias: "segment works"})
	must(t, h.nl.LinkSetAlias(link(t, h, "tap0"), "weftless"))
	must(t, h.nl.LinkSetAlias(link(t, h, "weft0"), Alias))
	for _, f := range []*os.File{left, foreign, tun} {
		must(t, f.Close())
	}

	got, err := h.SegmentsLeft()
	must(t, err)
	if d := cmp.Diff([]string{"seg-left"}, got); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
	if _, err := h.Remove(); err == nil || !strings.Contains(err.Error(), "seg-works") {
		t.Errorf("Remove beside one that works: %v", err)
	}
	must(t, works.Close())
	must(t, h.Discard("seg-works"))
	must(t, h.Discard("tap0"))
	if d := cmp.Diff([]string{"interface seg-left", "interface weft0"}, remove(t, h)); d != "" {
		t.Errorf("removed (-want +got):\n%s", d)
	}
	link(t, h, "tap0")
}
