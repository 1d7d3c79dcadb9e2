package host

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// netAdminFix ends every error that CAP_NET_ADMIN would have prevented.
const netAdminFix = "needs the capability CAP_NET_ADMIN: start weftd with `sudo`, as a service with `systemctl start weftd`, " +
	"or give it the capability once with `sudo setcap cap_net_admin+ep $(command -v weftd)`"

// CheckCapabilities says whether this process can make a TUN and set up the network: /dev/net/tun must open and
// CAP_NET_ADMIN be in the effective set. It changes nothing.
func CheckCapabilities() error {
	return errors.Join(checkTUN("/dev/net/tun"), checkNetAdmin())
}

// checkTUN opens the device, which makes no interface yet but loads the driver where the system can.
func checkTUN(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return unix.Close(fd)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("open %s: %w: load the TUN driver with `sudo modprobe tun`; "+
			"in a container, pass the device in (`--device /dev/net/tun`)", path, err)
	case refused(err):
		return fmt.Errorf("open %s: %w: start weftd with `sudo` or `systemctl start weftd`; "+
			"in a container, allow the device (`--device /dev/net/tun`)", path, err)
	default:
		return fmt.Errorf("open %s: %w", path, err)
	}
}

func checkNetAdmin() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // pid 0: the calling thread
	var sets [2]unix.CapUserData                                           // capabilities 0 to 31, then 32 to 63
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read the capabilities of this process: %w", err)
	}
	if sets[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New(netAdminFix)
	}
	return nil
}

// refused reports whether the kernel denied a right; files below /proc/sys answer EACCES where netlink answers
// EPERM.
func refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// explain adds to a refusal what would have prevented it.
func explain(err error) error {
	if refused(err) {
		return fmt.Errorf("%w: weftd %s", err, netAdminFix)
	}
	return err
}
