package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestStateValidate(t *testing.T) {
	good := State{Link: "weft0", Address: netip.MustParsePrefix("10.244.1.0/32"), MTU: 1472,
		Routes: []Route{{Prefix: netip.MustParsePrefix("10.244.0.0/16")}}}
	if err := good.validate(); err != nil {
		t.Errorf("a good state: %v", err)
	}
	for name, spoil := range map[string]func(*State){
		"no link":         func(s *State) { s.Link = "" },
		"no address":      func(s *State) { s.Address = netip.Prefix{} },
		"wide address":    func(s *State) { s.Address = netip.MustParsePrefix("10.244.1.0/24") },
		"IPv6 address":    func(s *State) { s.Address = netip.MustParsePrefix("fd00::1/128") },
		"zero route":      func(s *State) { s.Routes = []Route{{}} },
		"unmasked route":  func(s *State) { s.Routes = []Route{{Prefix: netip.MustParsePrefix("10.244.1.5/24")}} },
		"IPv6 route":      func(s *State) { s.Routes = []Route{{Prefix: netip.MustParsePrefix("fd00::/64")}} },
		"mapped IPv6 one": func(s *State) { s.Routes = []Route{{Prefix: netip.MustParsePrefix("::ffff:10.0.0.0/104")}} },
	} {
		s := good
		spoil(&s)
		if s.validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRunJoinsErrorsAndStopsAtARefusal(t *testing.T) {
	var done []string
	step := func(name string, err error) change {
		return change{name, func() error { done = append(done, name); return err }}
	}
	err := run([]change{step("a", unix.EINVAL), step("b", nil), step("c", unix.ENODEV)})
	if !errors.Is(err, unix.EINVAL) || !errors.Is(err, unix.ENODEV) || strings.Join(done, "") != "abc" {
		t.Errorf("after %v: %v; want all three done and both errors", done, err)
	}
	done = nil
	err = explain(run([]change{step("a", nil), step("b", unix.EPERM), step("c", unix.EPERM)}))
	if strings.Join(done, "") != "ab" || !strings.Contains(fmt.Sprint(err), "b: operation not permitted: weftd needs the capability CAP_NET_ADMIN") {
		t.Errorf("after %v: %v; want a stop at b and the fix", done, err)
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
