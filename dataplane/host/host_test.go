package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestStateValidate(t *testing.T) {
	via := netip.MustParseAddr("192.0.2.2")
	good := State{Link: "weft0", MTU: 1472,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/32"), netip.MustParsePrefix("fd00::1/128")},
		Routes: []Route{
			{Prefix: netip.MustParsePrefix("10.244.0.0/16"), Source: netip.MustParseAddr("10.244.1.0")},
			{Prefix: netip.MustParsePrefix("fd00::/64"), Unreachable: true},
			{Prefix: netip.MustParsePrefix("10.244.2.0/32"), Via: via, Device: "eth0", Probe: true},
			{Prefix: netip.MustParsePrefix("10.244.3.0/24"), Via: netip.MustParseAddr("2001:db8::3"), Device: "eth0"},
			{Prefix: netip.MustParsePrefix("2001:db8::3/128"), Device: "eth0", MTU: 1280, Marked: true},
		}}
	if err := good.validate(); err != nil {
		t.Errorf("a good state: %v", err)
	}
	routes := func(r ...Route) func(*State) { return func(s *State) { s.Routes = r } }
	block4, block6 := netip.MustParsePrefix("10.244.2.0/24"), netip.MustParsePrefix("fd00:2::/64")
	for name, spoil := range map[string]func(*State){
		"no link":           func(s *State) { s.Link = "" },
		"zero address":      func(s *State) { s.Addresses = []netip.Prefix{{}} },
		"wide address":      func(s *State) { s.Addresses = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")} },
		"wide IPv6":         func(s *State) { s.Addresses[1] = netip.MustParsePrefix("fd00::1/64") },
		"mapped address":    func(s *State) { s.Addresses[1] = netip.MustParsePrefix("::ffff:10.0.0.1/128") },
		"small MTU":         func(s *State) { s.MTU = 1279 },
		"zero route":        routes(Route{}),
		"unmasked route":    routes(Route{Prefix: netip.MustParsePrefix("10.244.1.5/24")}),
		"unmasked IPv6":     routes(Route{Prefix: netip.MustParsePrefix("fd00::1/64")}),
		"mapped route":      routes(Route{Prefix: netip.MustParsePrefix("::ffff:10.0.0.0/104")}),
		"other source":      routes(Route{Prefix: block6, Source: via}),
		"no device":         routes(Route{Prefix: block4, Via: via}),
		"nowhere by MTU":    routes(Route{Prefix: block4, Unreachable: true, MTU: 1280}),
		"nowhere by a way":  routes(Route{Prefix: block4, Unreachable: true, Device: "eth0"}),
		"to two places":     routes(Route{Prefix: block4, Unreachable: true, Via: via, Device: "eth0"}),
		"IPv6 via IPv4":     routes(Route{Prefix: block6, Via: via, Device: "eth0"}),
		"via a zone":        routes(Route{Prefix: block6, Via: netip.MustParseAddr("fe80::1%eth0"), Device: "eth0"}),
		"via mapped":        routes(Route{Prefix: block4, Via: netip.MustParseAddr("::ffff:192.0.2.2"), Device: "eth0"}),
		"probe on the link": routes(Route{Prefix: block4, Device: "eth0", Probe: true}),
		"marked probe":      routes(Route{Prefix: block4, Via: via, Device: "eth0", Probe: true, Marked: true}),
		"one bad of three":  func(s *State) { s.Routes = append(s.Routes, Route{}) },
	} {
		s := good
		s.Addresses = slices.Clone(good.Addresses)
		spoil(&s)
		if s.validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRunJoinsErrorsAndStopsAtARefusal(t *testing.T) {
	var done []string
	step := func(name string, err error) change {
		return change{what: name, do: func() error { done = append(done, name); return err }}
	}
	var l ledger
	err := l.run([]change{step("a", unix.EINVAL), step("b", nil), step("c", unix.ENODEV)})
	if !errors.Is(err, unix.EINVAL) || !errors.Is(err, unix.ENODEV) || strings.Join(done, "") != "abc" {
		t.Errorf("after %v: %v; want all three done and both errors", done, err)
	}
	done = nil
	err = explain(l.run([]change{step("a", nil), step("b", unix.EPERM), step("c", unix.EPERM)}))
	if strings.Join(done, "") != "ab" || !strings.Contains(fmt.Sprint(err), "b: operation not permitted: weftd needs the capability CAP_NET_ADMIN") {
		t.Errorf("after %v: %v; want a stop at b and the fix", done, err)
	}
}

func TestLedgerTellsARepairFromFirstWork(t *testing.T) {
	make1 := func(thing string, err error) change { return change{thing: thing, do: func() error { return err }} }
	l := ledger{before: map[string]bool{"stays": true, "stolen": true, "stuck": true, "given up": true}, after: make(map[string]bool)}
	l.found("stays")
	err := l.run([]change{make1("stolen", nil), make1("stuck", unix.EINVAL), make1("first", nil), make1("", nil)})
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("run = %v, want %v", err, unix.EINVAL)
	}
	if d := cmp.Diff([]Repair{{What: "stolen"}}, l.repaired); d != "" {
		t.Errorf("repaired (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[string]bool{"stays": true, "stolen": true, "first": true}, l.after); d != "" {
		t.Errorf("in place (-want +got):\n%s", d)
	}
}

func TestUnless(t *testing.T) {
	gone := fmt.Errorf("netlink: %w", unix.ESRCH)
	if err := unless(unix.ESRCH, gone); err != nil {
		t.Errorf("what is gone already: %v", err)
	}
	if err := unless(unix.ENODEV, gone); !errors.Is(err, unix.ESRCH) {
		t.Errorf("another error became %v", err)
	}
}

func TestDumpRepeatsWhatWasInterrupted(t *testing.T) {
	interruptions := 2
	list := func() ([]int, error) {
		if interruptions > 0 {
			interruptions--
			return []int{1}, netlink.ErrDumpInterrupted
		}
		return []int{1, 2}, nil
	}
	if got, err := dump(list); len(got) != 2 || err != nil {
		t.Errorf("dump = %v, %v; want the whole list", got, err)
	}
	interruptions = 1000
	if _, err := dump(list); !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Errorf("interrupted for ever: %v, want %v", err, netlink.ErrDumpInterrupted)
	}
}

func TestCheckTUN(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "tun")
	if err := checkTUN(missing); err == nil || !strings.Contains(err.Error(), "modprobe tun") {
		t.Errorf("missing device: %v, want the advice to load the driver", err)
	}
	plain := filepath.Join(t.TempDir(), "tun")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkTUN(plain); err != nil {
		t.Errorf("a device that opens: %v", err)
	}
}

func TestSysctlName(t *testing.T) {
	if got, want := sysctlName("net/ipv4/conf/eth0.100/rp_filter"), "net.ipv4.conf.eth0/100.rp_filter"; got != want {
		t.Errorf("sysctlName = %s, want %s", got, want)
	}
}
