//go:build netns

package host

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// dropNetAdmin takes CAP_NET_ADMIN out of the effective set of the test's thread, which ends with the test.
func dropNetAdmin(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	must(t, unix.Capget(&header, &sets[0]))
	sets[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	must(t, unix.Capset(&header, &sets[0]))
}

func TestWithoutNetAdmin(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	must(t, CheckCapabilities())
	apply(t, h, testState())

	dropNetAdmin(t)
	wrong := testState()
	wrong.MTU, wrong.Routes = 1400, nil
	_, applyErr := h.Apply(wrong)
	_, removeErr := h.Remove()
	for name, err := range map[string]error{
		"CheckCapabilities": CheckCapabilities(),
		"Apply":             applyErr,
		"Remove":            removeErr,
	} {
		if err == nil || !strings.Contains(err.Error(), netAdminFix) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s = %v, want one line with the capability and how to get it", name, err)
		}
	}
	if _, err := h.Apply(testState()); err != nil {
		t.Errorf("Apply of what is there: %v, want no need of a capability", err)
	}
	checkApplied(t, h)
}

func TestReadOnlyProcSys(t *testing.T) {
	h := newNamespace(t)
	setSysctl(t, "net/ipv4/conf/default/rp_filter", "0")
	newTUN(t, "weft0")
	// As a container runtime mounts it; seen by this thread alone.
	must(t, unix.Unshare(unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
	readOnly := func(flag uintptr) {
		t.Helper()
		must(t, unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|flag, ""))
	}
	readOnly(unix.MS_RDONLY)

	_, err := h.Apply(testState())
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.default.rp_filter=2", "net.ipv4.conf.default.accept_local=1"} {
		if i >= len(lines) || !strings.Contains(lines[i], "`sysctl -w "+want+"`") {
			t.Errorf("Apply = %v, want a line with %q", err, want)
		}
	}
	// The rest is done, addrgenmode too, which goes by netlink.
	if got := sysctlValue(t, "net/ipv6/conf/weft0/addr_gen_mode"); got != "1" {
		t.Errorf("addr_gen_mode is %s, want 1", got)
	}

	readOnly(0)
	apply(t, h, testState())
	readOnly(unix.MS_RDONLY)
	apply(t, h, testState())
	checkApplied(t, h)
}
