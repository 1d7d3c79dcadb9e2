//go:build netns

package device

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

func TestOpenMakesADevice(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		handle := enterNamespace(t)
		dev, err := Open("weft%d", 1, want)
		if err != nil {
			t.Fatal(err)
		}
		if dev.Name() != "weft0" || len(dev.Queues()) != 1 || dev.Features() != want || len(dev.Refused()) != 0 {
			t.Errorf("%q with %d queues has %v and not %v", dev.Name(), len(dev.Queues()), dev.Features(), dev.Refused())
		}
		link, err := handle.LinkByName("weft0")
		if err != nil {
			t.Fatal(err)
		}
		tuntap, ok := link.(*netlink.Tuntap)
		const flags = netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_MULTI_QUEUE
		if !ok || tuntap.Mode != netlink.TUNTAP_MODE_TUN || tuntap.Flags&flags != flags || !tuntap.NonPersist {
			t.Errorf("the kernel made %+v", link)
		}

		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		if err := dev.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
		if link, err := handle.LinkByName("weft0"); err == nil {
			t.Errorf("after Close there still is %+v", link)
		}
		again, err := Open("weft0", 1, want)
		if err != nil {
			t.Fatalf("after Close: %v", err)
		}
		again.Close()
	})
}

// Features of other parts of the packet path say nothing about the device.
func TestOpenWithoutItsFeatures(t *testing.T) {
	enterNamespace(t)
	dev, err := Open("weft0", 1, offload.All.Without(both))
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if _, ok := dev.Queues()[0].(*portable); !ok || dev.Features() != 0 {
		t.Errorf("a %T with %v", dev.Queues()[0], dev.Features())
	}
}

// refused opens the device and wants an error that says all words.
func refused(t *testing.T, name string, queues int, cause error, words ...string) {
	t.Helper()
	dev, err := Open(name, queues, offload.All)
	if dev != nil || !errors.Is(err, cause) {
		t.Fatalf("Open(%q) = %v %v, want %v", name, dev, err, cause)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("Open(%q): %q does not say %q", name, err, w)
		}
	}
}

func TestOpenRefusesATakenName(t *testing.T) {
	for _, queues := range []int{1, 2} {
		handle := enterNamespace(t)
		mustOpen(t, handle, queues, both, theKernel, "10.244.2.9/16")
		refused(t, "weft0", queues, unix.EBUSY, "weft0: an interface of that name exists", "`ip -d link show weft0`", "`tun`")

		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		if err := handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			t.Fatal(err)
		}
		refused(t, "br0", queues, unix.EBUSY, "br0: an interface of that name exists")
		refused(t, "lo", queues, unix.EBUSY, "lo: an interface of that name exists")
	}
}

func TestOpenRefusesABadName(t *testing.T) {
	enterNamespace(t)
	refused(t, "weft567890123456", 1, unix.EINVAL, "weft567890123456", "at most 15 bytes")
	refused(t, "we/ft", 1, unix.EINVAL, "create TUN device we/ft")
}

func TestOpenWithoutCapability(t *testing.T) {
	enterNamespace(t)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil { // of this thread alone, which ends with the test
		t.Fatal(err)
	}
	refused(t, "weft0", 1, unix.EPERM, "CAP_NET_ADMIN", "`setcap ")
}

// A mount namespace of the test's thread shows it another /dev/net.
func TestOpenWithoutDriver(t *testing.T) {
	enterNamespace(t)
	dir := t.TempDir()
	if err := errors.Join(
		unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount(dir, "/dev/net", "", unix.MS_BIND, ""),
	); err != nil {
		t.Fatal(err)
	}
	refused(t, "weft0", 1, os.ErrNotExist, "`modprobe tun`", clonePath)
}

// A refused Open keeps no descriptor, and Close gives all of them back.
func TestOpenAndCloseLeaveNoDescriptor(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		enterNamespace(t)
		none := descriptors(t)
		first, err := Open("weft0", 3, want)
		if err != nil {
			t.Fatal(err)
		}
		before := descriptors(t)
		for range 10 {
			if _, err := Open("weft0", 3, want); err == nil {
				t.Fatal("the name was given twice")
			}
		}
		if after := descriptors(t); after != before {
			t.Errorf("%d descriptors are open, %d were before", after, before)
		}
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		// One may be the Go runtime's poller, made meanwhile.
		if after := descriptors(t); after > none+2 {
			t.Errorf("after Close %d descriptors are open, %d were before", after, none)
		}
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
