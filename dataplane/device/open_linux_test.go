//go:build netns

package device

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

func TestOpenMakesADevice(t *testing.T) {
	handle := enterNamespace(t)
	dev, err := Open("weft0")
	if err != nil {
		t.Fatal(err)
	}
	if dev.Name() != "weft0" {
		t.Errorf("Name() = %q", dev.Name())
	}
	if dev.BatchSize() != conn.IdealBatchSize {
		t.Errorf("BatchSize() = %d, wireguard/tun splits into %d", dev.BatchSize(), conn.IdealBatchSize)
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
	again, err := Open("weft0")
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	again.Close()
}

// refused opens the device and wants an error that says all words.
func refused(t *testing.T, name string, cause error, words ...string) {
	t.Helper()
	dev, err := Open(name)
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
	handle := enterNamespace(t)
	open(t, handle, "weft0", "10.244.2.9/16")
	refused(t, "weft0", unix.EBUSY, "weft0: an interface of that name exists", "`ip -d link show weft0`", "`tun`")

	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	if err := handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	refused(t, "br0", unix.EBUSY, "br0: an interface of that name exists")
	refused(t, "lo", unix.EBUSY, "lo: an interface of that name exists")
}

func TestOpenRefusesABadName(t *testing.T) {
	enterNamespace(t)
	refused(t, "weft567890123456", unix.EINVAL, "weft567890123456", "at most 15 bytes")
	refused(t, "we/ft", unix.EINVAL, "create TUN device we/ft")
}

func TestOpenWithoutCapability(t *testing.T) {
	enterNamespace(t)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil { // of this thread alone, which ends with the test
		t.Fatal(err)
	}
	refused(t, "weft0", unix.EPERM, "CAP_NET_ADMIN", "`setcap ")
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
	refused(t, "weft0", os.ErrNotExist, "`modprobe tun`", clonePath)
}

func TestCloseEndsRead(t *testing.T) {
	handle := enterNamespace(t)
	for name, end := range map[string]func(*TUN, netlink.Link) error{
		"Close":             func(dev *TUN, _ netlink.Link) error { return dev.Close() },
		"deleting the link": func(_ *TUN, link netlink.Link) error { return handle.LinkDel(link) },
	} {
		dev, link := open(t, handle, "weft0", "10.244.2.9/16")
		ended := make(chan error)
		go func() {
			bufs, sizes := readable(1)
			_, err := dev.Read(bufs, sizes, Headroom)
			ended <- err
		}()
		waitAsleep(t, "device.(*TUN).Read")
		if err := end(dev, link); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s ends the waiting Read with %v", name, err)
		}
		bufs, sizes := readable(1)
		if n, err := dev.Read(bufs, sizes, Headroom); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("after %s: Read = %d %v", name, n, err)
		}
		packets := writable(udp(t, []byte("1")), udp(t, []byte("2")), udp(t, []byte("3")))
		if lost, err := dev.Write(packets, Headroom); lost != 3 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("after %s: Write = %d %v", name, lost, err)
		}
		dev.Close()
	}
}

// A refused Open keeps no descriptor.
func TestOpenLeavesNoDescriptor(t *testing.T) {
	enterNamespace(t)
	first, err := Open("weft0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	before := descriptors(t)
	for range 10 {
		if _, err := Open("weft0"); err == nil {
			t.Fatal("the name was given twice")
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
